"""Pictures come in order, sound lies where it is heard, and a damaged file is an error and not a guess."""

import os
import struct
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mtpkdot.data.media.decode import frame_times, iter_frames, read_sound, video_info
from mtpkdot.errors import DecodeError
from tests.data.helpers import complaint, write_text

CLIPS = Path(os.environ.get("MTPKDOT_TEST_DATA", "")) / "clips"
needs_clips = pytest.mark.skipif(
    not os.environ.get("MTPKDOT_TEST_DATA") or not CLIPS.is_dir(),
    reason="MTPKDOT_TEST_DATA names no folder of real data",
)
SR = 44100
KINDS = {
    "clip.mp4": ("libx264", "aac"),
    "clip.avi": ("mpeg4", "pcm_s16le"),
    "song.avi": ("mpeg4", "mp3"),
    "clip.mpg": ("mpeg1video", "mp2"),
    "clip.mkv": ("libx264", "aac"),
    "clip.ts": ("libx264", "aac"),
}


def ramp(number, height=48, width=64):
    """A picture whose brightness tells its number."""
    return np.full((height, width, 3), 20 + 7 * (number % 30), np.uint8)


def noise(number, height=48, width=64):
    """A picture that no encoder makes small."""
    return np.random.default_rng(number).integers(0, 255, (height, width, 3), np.uint8)


def write(path, pictures, stamps=None, sound=None, heard=0, rotation=0, rate=25, codecs=None, options=None):
    """Write a clip: pictures at `stamps` (ticks of 1 ms) or evenly, sound (C, n) that begins at `heard` seconds."""
    video_codec, sound_codec = codecs or KINDS[path.name]
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream(video_codec, rate=rate)
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = "yuv444p" if video.height % 2 or video.width % 2 else "yuv420p"
        base = Fraction(1, rate) if stamps is None else Fraction(1, 1000)
        video.time_base = video.codec_context.time_base = base
        if rotation:
            video.set_display_rotation(rotation)
        if sound is not None:
            layout = "mono" if len(sound) == 1 else "stereo"
            track = container.add_stream(sound_codec, rate=SR, layout=layout)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number if stamps is None else stamps[number], base
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if sound is not None:
            for start in range(0, sound.shape[1], 1152):
                piece = np.ascontiguousarray(sound[:, start : start + 1152], np.float32)
                frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
                frame.sample_rate, frame.time_base = SR, Fraction(1, SR)
                frame.pts = start + round(heard * SR)
                container.mux(track.encode(frame))
            container.mux(track.encode())
    return path


def tone(seconds, channels=1, frequency=440.0):
    time = np.arange(round(seconds * SR)) / SR
    return np.repeat(0.5 * np.sin(2 * np.pi * frequency * time)[None], channels, 0)


def times(path):
    return [time for time, _ in iter_frames(path)]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi", "clip.mpg", "clip.mkv"])
def test_a_video_with_pictures_above_the_limit_is_one_line(name, tmp_path, monkeypatch):
    path = write(tmp_path / name, [noise(0), noise(1)])
    monkeypatch.setenv("MTPKDOT_MAX_PIXELS", "1000")
    for read in (frame_times, video_info, lambda path: list(iter_frames(path))):
        told = complaint(lambda read=read: read(path))
        assert str(path) in told
        assert "limit of 1000" in told
        assert "MTPKDOT_MAX_PIXELS" in told
    monkeypatch.setenv("MTPKDOT_MAX_PIXELS", "1e9")
    assert len(times(path)) == 2


@pytest.mark.parametrize("name", KINDS)
def test_every_frame_comes_in_order_at_its_time(tmp_path, name):
    path = write(tmp_path / name, [ramp(number) for number in range(30)], sound=tone(1.2, 2))
    frames = list(iter_frames(path))
    assert len(frames) == 30
    levels = [picture.mean() for _, picture in frames]
    np.testing.assert_allclose(levels, [20 + 7 * number for number in range(30)], atol=5)
    seen = np.array([time for time, _ in frames])
    # mpeg4 in AVI has B-frames here and may begin a frame late; streams of MPEG begin with the earlier sound.
    assert 0 <= seen[0] <= 0.05
    assert (np.diff(seen) > 0).all()
    np.testing.assert_allclose(np.diff(seen[1:]), 0.04, atol=0.002)
    info = video_info(path)
    assert (info.width, info.height, info.sound_rate, info.has_sound) == (64, 48, SR, True)
    assert info.average_rate == pytest.approx(25)
    assert info.duration == pytest.approx(1.2, abs=0.1)
    assert info.frames is None or abs(info.frames - 30) <= 1
    sound = read_sound(path, 16000)
    assert sound.dtype == np.float32
    assert len(sound) / 16000 == pytest.approx(1.2, abs=0.06)
    middle = sound[4000:12000]
    assert np.fft.rfft(middle).__abs__().argmax() * 2 == 440
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_uneven_times_are_kept(tmp_path):
    stamps = [200, 233, 300, 310, 700, 701]
    path = write(tmp_path / "clip.mkv", [ramp(number) for number in range(6)], stamps=stamps)
    np.testing.assert_allclose(times(path), np.array(stamps) / 1000, atol=1e-3)


def test_times_that_the_file_lacks_follow_from_its_rate(tmp_path):
    path = write(tmp_path / "clip.h264", [ramp(number) for number in range(9)], codecs=("libx264", None))
    with av.open(str(path)) as container:
        assert all(frame.pts is None for frame in container.decode(video=0))
    np.testing.assert_allclose(times(path), np.arange(9) / 25, atol=1e-6)


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_pictures_are_turned_upright(tmp_path, rotation):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:16, :16] = [255, 0, 0]
    path = write(tmp_path / "clip.mp4", [picture] * 3, rotation=rotation)
    _, shown = next(iter_frames(path))
    expected = np.rot90(picture, rotation // 90)
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 8
    info = video_info(path)
    assert (info.height, info.width) == expected.shape[:2]


def test_a_video_of_odd_size_with_one_frame_and_no_sound_is_read(tmp_path):
    path = write(tmp_path / "clip.mkv", [ramp(5, 33, 47)])
    frames = list(iter_frames(path))
    assert [picture.shape for _, picture in frames] == [(33, 47, 3)]
    assert frames[0][1].mean() == pytest.approx(55, abs=3)
    assert not video_info(path).has_sound
    assert "no sound stream" in complaint(lambda: read_sound(path, 16000))


def test_more_threads_give_the_same_pictures(tmp_path):
    path = write(tmp_path / "clip.mp4", [noise(number) for number in range(12)])
    for (time, one), (same, other) in zip(iter_frames(path), iter_frames(path, threads=2), strict=True):
        assert time == same
        np.testing.assert_array_equal(one, other)


def test_names_that_look_like_addresses_are_files(tmp_path):
    path = write(tmp_path / "clip.mp4", [ramp(0)] * 3).rename(tmp_path / "http:a %d.mp4")
    assert len(times(path)) == 3


@pytest.mark.parametrize("name", KINDS)
def test_times_are_the_same_without_decoding(tmp_path, name):
    path = write(tmp_path / name, [ramp(number) for number in range(30)], sound=tone(1.2, 2))
    np.testing.assert_allclose(frame_times(path), times(path), atol=1e-6)


def test_uneven_times_and_times_of_real_clips_are_read_without_decoding(tmp_path):
    stamps = [200, 233, 300, 310, 700, 701]
    path = write(tmp_path / "clip.mkv", [ramp(number) for number in range(6)], stamps=stamps)
    np.testing.assert_allclose(frame_times(path), np.array(stamps) / 1000, atol=1e-3)
    real = [path for path in CLIPS.rglob("*") if path.suffix in (".mpg", ".mp4", ".mov")] if CLIPS.is_dir() else []
    for clip in sorted(real):
        np.testing.assert_allclose(frame_times(clip), times(clip), atol=1e-6, err_msg=clip.name)


def test_a_cut_video_is_refused_when_its_times_are_read(tmp_path):
    data = write(tmp_path / "clip.avi", [noise(number) for number in range(60)]).read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
    with pytest.raises(DecodeError, match=r"cut\.avi.*breaks after"):
        frame_times(tmp_path / "cut.avi")


def test_memory_does_not_grow_with_the_length(tmp_path):
    def peak(frames):
        path = write(tmp_path / "clip.mpg", [ramp(number, 96, 96) for number in range(frames)])
        tracemalloc.start()
        for _ in iter_frames(path):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(150) < 2 * peak(15)


def flash_and_click(path, at, heard=0.0, **options):
    """Three seconds with one white picture, and a click at the same moment in sound that begins at `heard`."""
    pictures = [np.full((48, 64, 3), 255 if number == round(at * 25) else 0, np.uint8) for number in range(75)]
    sound = np.zeros((2, round((3 - heard) * SR)))
    begin = round((at - heard) * SR)
    sound[:, begin : begin + 220] = 0.9 * np.sin(np.arange(220) * 0.3)
    return write(path, pictures, sound=sound, heard=heard, **options)


def lag(path, rate=16000):
    """Seconds from the flash to the click."""
    flash = max(iter_frames(path), key=lambda frame: frame[1].mean())[0]
    sound = np.abs(read_sound(path, rate))
    return np.flatnonzero(sound > 0.5 * sound.max())[0] / rate - flash


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi", "clip.mpg", "clip.ts"])
def test_a_click_is_heard_when_its_flash_is_seen(tmp_path, name):
    assert abs(lag(flash_and_click(tmp_path / name, 1.6))) < 0.02


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.mpg", "clip.ts"])
def test_sound_that_begins_late_stays_in_place(tmp_path, name):
    path = flash_and_click(tmp_path / name, 1.6, heard=0.9)
    assert abs(lag(path)) < 0.02
    assert np.abs(read_sound(path, 8000)[: round(0.85 * 8000)]).max() == 0


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4"])
def test_sound_that_begins_before_zero_is_cut(tmp_path, name):
    codecs = ("libx264", "pcm_s16le" if name == "clip.mkv" else "aac")
    path = flash_and_click(tmp_path / name, 1.6, heard=-0.5, codecs=codecs, options={"avoid_negative_ts": "0"})
    assert abs(lag(path)) < 0.02
    assert len(read_sound(path, 8000)) / 8000 == pytest.approx(3, abs=0.02)


def sound_with_stamps(path, starts, length=4410):
    """A file of sound only, in blocks of constant level 0.5 that begin at these samples."""
    with av.open(str(path), "w", options={"avoid_negative_ts": "0"}) as container:
        track = container.add_stream("pcm_f32le", rate=SR, layout="mono")
        for start in starts:
            frame = av.AudioFrame.from_ndarray(np.full((1, length), 0.5, np.float32), format="flt", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = SR, Fraction(1, SR), start
            container.mux(track.encode(frame))
        container.mux(track.encode())
    return path


def test_gaps_are_silence_and_small_errors_do_not_add_up(tmp_path):
    sound = read_sound(sound_with_stamps(tmp_path / "a.nut", [0, 4410, 22050]), SR)
    assert len(sound) == 22050 + 4410
    assert (sound[:8820] == 0.5).all()
    assert (sound[8820:22050] == 0).all()
    assert (sound[22050:] == 0.5).all()
    # Every block comes 100 samples (2.3 ms) late: after 40 of them 91 ms would be missing.
    starts = [number * 4510 for number in range(41)]
    drifting = read_sound(sound_with_stamps(tmp_path / "b.nut", starts), SR)
    assert abs(len(drifting) - (starts[-1] + 4410)) <= 0.02 * SR
    overlapping = read_sound(sound_with_stamps(tmp_path / "c.nut", [0, 4410, 6000]), SR)
    assert len(overlapping) == 6000 + 4410


def test_a_wild_time_stamp_does_not_fill_the_memory(tmp_path):
    path = sound_with_stamps(tmp_path / "a.nut", [0, 10_000_000 * SR])
    assert "jumps by 10000000 s" in complaint(lambda: read_sound(path, 16000))


def test_sound_is_the_mean_of_its_channels_and_never_too_loud(tmp_path):
    sound = np.stack([tone(1)[0] * 1.8, np.zeros(SR)])
    heard = read_sound(write(tmp_path / "clip.avi", [ramp(0)] * 25, sound=sound), SR)
    np.testing.assert_allclose(heard[:SR], sound.mean(0), atol=1e-3)
    square = np.sign(tone(1, frequency=900.0))
    loud = read_sound(write(tmp_path / "clip.avi", [ramp(0)] * 25, sound=square), 16000)
    assert np.abs(loud).max() == 1


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 48000])
def test_the_length_follows_from_the_rate(tmp_path, rate):
    path = write(tmp_path / "clip.avi", [ramp(0)] * 25, sound=tone(1))
    assert len(read_sound(path, rate)) == rate


def cut(source, path, first):
    """A copy without the first packets, its times counted from the cut, as programs cut that do not encode again."""
    with av.open(str(source)) as container, av.open(str(path), "w") as out:
        copy, begin = out.add_stream_from_template(container.streams.video[0]), None
        for number, packet in enumerate(container.demux(video=0)):
            if packet.dts is not None and number >= first:
                begin = packet.dts if begin is None else begin
                packet.dts -= begin
                packet.pts = None if packet.pts is None else packet.pts - begin
                packet.stream = copy
                out.mux(packet)
    return path


OPEN = "keyint=25:open-gop=1"
CUTS = {
    "closed.mkv": ("libx264", {"g": "25", "bf": "0"}),
    "open.mkv": ("libx264", {"bf": "2", "x264-params": f"{OPEN}:scenecut=0"}),
    "open.mp4": ("libx264", {"bf": "2", "x264-params": f"{OPEN}:scenecut=0"}),
    "open.ts": ("libx264", {"bf": "2", "x264-params": f"{OPEN}:scenecut=0"}),
    "refresh.mkv": ("libx264", {"x264-params": "intra-refresh=1:keyint=25:bframes=0"}),
    "hevc.mkv": ("libx265", {"x265-params": f"{OPEN}:log-level=none"}),
    "old.mkv": ("mpeg4", {"g": "12", "bf": "2"}),
    "old.avi": ("mpeg4", {"g": "12", "bf": "2"}),
    "h264.avi": ("libx264", {"g": "25", "bf": "2"}),
    "broadcast.ts": ("mpeg2video", {"g": "12", "bf": "2"}),
    "browser.webm": ("libvpx", {"g": "25", "auto-alt-ref": "1", "lag-in-frames": "10"}),
    "browser9.webm": ("libvpx-vp9", {"g": "25", "cpu-used": "8"}),
}


@pytest.mark.parametrize("first", [0, 7, 31])
@pytest.mark.parametrize("name", CUTS)
def test_times_are_those_of_the_pictures_also_after_a_cut(tmp_path, name, first):
    codec, options = CUTS[name]
    whole = tmp_path / f"whole_{name}"
    with av.open(str(whole), "w") as out:
        stream = out.add_stream(codec, rate=25, options=options)
        stream.width = stream.height = 64
        for number in range(75):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 3 * number, np.uint8), "rgb24")))
        out.mux(stream.encode())
    path = cut(whole, tmp_path / name, first) if first else whole
    frames = list(iter_frames(path))
    seen = np.array([time for time, _ in frames])
    np.testing.assert_array_equal(frame_times(path), seen)
    np.testing.assert_allclose(np.diff(seen), 0.04, atol=0.0015)
    # Each picture says by its brightness which one it is: none is lost after the first key picture.
    numbers = np.round([picture.mean() / 3 for _, picture in frames])
    np.testing.assert_allclose(numbers, np.arange(75 - len(frames), 75), atol=2)
    assert len(frames) == 75 if not first else 23 <= len(frames) < 75 - first + 1


@pytest.mark.parametrize("name", ["clip.mkv", "clip.webm", "clip.mp4", "clip.mov", "clip.wmv", "clip.nut", "clip.flv"])
def test_a_whole_file_that_begins_late_is_read_from_its_own_beginning(tmp_path, name):
    codec = {"webm": "libvpx", "wmv": "wmv2", "nut": "mpeg4"}.get(name[5:], "libx264")
    stamps = [1000 + 40 * number for number in range(75)]
    path = write(tmp_path / name, [noise(number) for number in range(75)], stamps=stamps, codecs=(codec, None))
    seen = np.array(times(path))
    np.testing.assert_allclose(seen, np.array(stamps) / 1000, atol=0.002)
    np.testing.assert_array_equal(frame_times(path), seen)
    # Without the slack for a late start: a part of it that is cut off is still noticed.
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert str(path) in complaint(lambda: times(path))


def shown(picture, matrix):
    """Where each stored pixel comes to lie, one by one."""
    (a, b), (c, d) = matrix
    height, width = picture.shape[:2]
    places = {(a * x + c * y, b * x + d * y): picture[y, x] for y in range(height) for x in range(width)}
    left, top = (min(place[axis] for place in places) for axis in (0, 1))
    right, bottom = (max(place[axis] for place in places) for axis in (0, 1))
    return np.array([[places[x, y] for x in range(left, right + 1)] for y in range(top, bottom + 1)])


@pytest.mark.parametrize(
    "matrix",
    [((a, 0), (0, d)) for a in (1, -1) for d in (1, -1)] + [((0, b), (c, 0)) for b in (1, -1) for c in (1, -1)],
)
def test_pictures_are_turned_and_mirrored_as_the_display_matrix_says(tmp_path, matrix):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:16, :16], picture[:8, 32:] = [255, 0, 0], [0, 255, 0]
    path = write(tmp_path / "clip.mp4", [picture] * 3)
    stored = next(iter_frames(path))[1]

    def packed(rows):
        (a, b), (c, d) = rows
        return struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)

    data = path.read_bytes()
    at = data.index(packed(((1, 0), (0, 1))), data.index(b"tkhd"))
    path.write_bytes(data[:at] + packed(matrix) + data[at + 36 :])
    np.testing.assert_array_equal(next(iter_frames(path))[1], shown(stored, matrix))
    info = video_info(path)
    assert (info.height, info.width) == shown(stored, matrix).shape[:2]


DAMAGED = {
    "clip.mp4": ("libx264", {"threads": "1"}),
    "hevc.mp4": ("libx265", {"x265-params": "log-level=none"}),
    "clip.avi": ("mpeg4", {}),
    "stills.avi": ("mjpeg", {}),
    "browser.webm": ("libvpx-vp9", {"cpu-used": "8"}),
    "clip.mkv": ("mpeg1video", {}),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_bytes_that_are_overwritten_inside_a_video_are_noticed(tmp_path, name):
    codec, options = DAMAGED[name]
    pattern = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    path = tmp_path / name
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height = 256, 192
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(75):
            picture = np.kron(np.roll(pattern, number // 3, 1), np.ones((8, 8, 1), np.uint8))
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    whole = [picture for _, picture in iter_frames(path)]
    assert len(whole) == 75
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.pos and packet.size]
    named = 0
    for seed in range(12):
        random = np.random.default_rng(seed)
        begin, size = places[random.integers(5, 60)]
        data = bytearray(path.read_bytes())
        length = min(32, max(4, size // 3))
        data[begin + size // 3 : begin + size // 3 + length] = random.bytes(length)
        torn = tmp_path / f"torn{path.suffix}"
        torn.write_bytes(data)
        try:
            list(iter_frames(torn))
        except DecodeError as error:
            assert str(torn) in str(error)  # noqa: PT017 # most are errors, some damage is a valid other picture
            named += 1
    assert named >= 7


def with_tracks(path, kinds, codec="pcm_s16le"):
    """A file with a track of silence or of a tone for each of (tone, default, channels)."""
    with av.open(str(path), "w") as out:
        tracks = []
        for _, default, channels in kinds:
            track = out.add_stream(codec, rate=16000, layout="mono" if channels == 1 else "stereo")
            track.disposition = av.stream.Disposition.default if default else av.stream.Disposition(0)
            tracks.append(track)
        for track, (loud, _, channels) in zip(tracks, kinds, strict=True):
            wave = (0.5 * loud * np.sin(np.arange(16000) / 5)).astype(np.float32)
            samples = np.repeat(wave[None], channels, 0)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=track.layout.name)
            frame.sample_rate = 16000
            for piece in av.AudioResampler(format=track.format.name).resample(frame):
                out.mux(track.encode(piece))
            out.mux(track.encode())
    return path


@pytest.mark.parametrize(
    "kinds",
    [
        [(0, False, 1), (1, True, 1)],
        [(1, True, 1), (0, False, 2)],
        [(0, False, 1), (1, False, 2)],
        [(1, False, 1), (0, False, 1)],
    ],
    ids=["the default one", "the default one before more channels", "more channels", "the first"],
)
def test_the_track_that_players_choose_is_read(tmp_path, kinds):
    heard = read_sound(with_tracks(tmp_path / "clip.mkv", kinds), 16000)
    assert np.abs(heard).max() > 0.2


@pytest.mark.parametrize("tracks", [1, 2])
def test_a_track_without_decoder_is_passed_over_or_named(tmp_path, tracks):
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25)
        sounds = [out.add_stream("aac", rate=48000, layout="mono") for _ in range(tracks)]
        for number in range(50):
            out.mux(video.encode(av.VideoFrame.from_ndarray(ramp(number, 480, 640), format="rgb24")))
        out.mux(video.encode())
        for sound in sounds:
            wave = (0.5 * np.sin(np.arange(96000) / 20)).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            frame.sample_rate = 48000
            out.mux(sound.encode(frame))
            out.mux(sound.encode())
    data = path.read_bytes()
    path.write_bytes(data.replace(b"mp4a", b"apac", 1).replace(b"esds", b"dapa", 1))
    assert video_info(path).has_sound
    assert len(times(path)) == 50
    if tracks == 1:
        message = complaint(lambda: read_sound(path, 16000))
        assert "no decoder for its audio (codec apac)" in message
        assert video_info(path).sound_rate is None
    else:
        assert np.abs(read_sound(path, 16000)).max() > 0.2
        assert video_info(path).sound_rate == 48000


@pytest.mark.parametrize("action", [times, video_info, frame_times])
def test_a_video_without_decoder_is_one_line_that_names_its_codec(tmp_path, action):
    path = write(tmp_path / "clip.mp4", [ramp(0)] * 5)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz1"))
    assert "no decoder for its video (codec zzz1)" in complaint(lambda: action(path))


def test_channels_that_cancel_each_other_are_remarked(tmp_path):
    for second, cancels in ((-1.0, True), (-0.7, False), (1.0, False), (0.0, False)):
        wave = tone(1)[0]
        path = write(tmp_path / "clip.avi", [ramp(0)] * 25, sound=np.stack([wave, second * wave]))
        remarks = []
        read_sound(path, 16000, remarks.append)
        assert bool(remarks) == cancels, second
        assert not cancels or "cancel each other" in remarks[0]


@pytest.mark.parametrize("name", [*KINDS, "faststart"])
def test_a_video_cut_off_in_the_middle_says_how_far_it_went(tmp_path, name):
    options = {"movflags": "faststart"} if name == "faststart" else None
    path = tmp_path / ("clip.mp4" if name == "faststart" else name)
    write(path, [noise(number) for number in range(75)], sound=tone(3, 2), options=options)
    data = path.read_bytes()
    path.write_bytes(data[: int(0.6 * len(data))])
    seen = []

    def look():
        for _ in iter_frames(path):
            seen.append(1)

    if name == "clip.ts":
        # A transport stream keeps no length, so the part that is left is a whole one.
        look()
        assert 30 < len(seen) < 60
        return
    message = complaint(look)
    assert str(path) in message
    assert "cannot be opened" in message if name == "clip.mp4" else f"breaks after {len(seen)} frames" in message
    assert "clip.mp4" in name or 20 < len(seen) < 60
    assert str(path) in complaint(lambda: read_sound(path, 16000))


def test_a_hole_in_the_middle_is_an_error(tmp_path):
    path = write(tmp_path / "clip.mp4", [noise(number) for number in range(75)], sound=tone(3, 2))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 20000] = bytes(20000)
    path.write_bytes(data)
    assert "frames (Invalid data" in complaint(lambda: times(path))


@pytest.mark.parametrize("codecs", [("mpeg1video", "mp2"), ("mpeg2video", "mp2")])
def test_files_joined_byte_for_byte_are_named_where_their_times_start_again(tmp_path, codecs):
    # Pictures of the second were squeezed into hundredths of a frame, and its sound was left out.
    path = write(tmp_path / "clip.mpg", [ramp(number) for number in range(75)], sound=tone(3), codecs=codecs)
    assert len(times(path)) == 75
    path.write_bytes(2 * path.read_bytes())
    for action in (times, frame_times, lambda path: read_sound(path, 16000)):
        assert "its time stamps go back by" in complaint(lambda action=action: action(path))


class Pipe:
    """What a program writes into that cannot go back to the header."""

    def __init__(self):
        self.data = b""

    def write(self, data):
        self.data += data
        return len(data)


def test_an_avi_written_into_a_pipe_is_whole(tmp_path):
    pipe = Pipe()
    source = write(tmp_path / "clip.avi", [ramp(number) for number in range(50)], sound=tone(2))
    with av.open(str(source)) as container, av.open(pipe, "w", format="avi") as out:
        tracks = [out.add_stream_from_template(stream) for stream in container.streams]
        for packet in container.demux():
            if packet.size:
                packet.stream = tracks[packet.stream.index]
                out.mux(packet)
    path = tmp_path / "piped.avi"
    path.write_bytes(pipe.data)
    assert times(path) == pytest.approx(times(source), abs=1e-9)
    assert len(read_sound(path, 16000)) == len(read_sound(source, 16000))
    assert (video_info(path).frames, video_info(path).duration) == (None, None)


def test_sound_whose_length_is_a_guess_is_whole(tmp_path):
    # By the rate of the silence it would last 30 times as long.
    sound = np.concatenate([np.zeros((1, 2 * SR)), np.random.default_rng(0).uniform(-0.9, 0.9, (1, SR))], axis=1)
    with av.open(str(tmp_path / "a.aac"), "w") as container:
        track = container.add_stream("aac", rate=SR, layout="mono")
        for start in range(0, sound.shape[1], 1024):
            piece = np.ascontiguousarray(sound[:, start : start + 1024], np.float32)
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = SR, Fraction(1, SR), start
            container.mux(track.encode(frame))
        container.mux(track.encode())
    assert len(read_sound(tmp_path / "a.aac", 16000)) / 16000 == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("rate", [1, 2, 25])
def test_the_last_picture_of_a_slow_video_lasts_as_long_as_the_others(tmp_path, rate):
    # FLV keeps no durations of pictures, and its header counts that of the last.
    path = write(tmp_path / "clip.flv", [ramp(number) for number in range(12)], rate=rate, codecs=("flv", None))
    assert times(path) == pytest.approx(np.arange(12) / rate, abs=2e-3)


def test_empty_packets_do_not_end_a_video(tmp_path):
    # Theora writes them for pictures that do not change, and some recorders for those that they had no time for.
    path = write(tmp_path / "clip.mp4", [ramp(number) for number in range(50)], codecs=("mpeg4", None))
    whole, data = times(path), bytearray(path.read_bytes())
    ends = data.index(b"stsz") + 16 + 4 * 50
    data[ends - 40 : ends] = bytes(40)  # sizes of the last ten
    path.write_bytes(data)
    assert set(times(path)) < set(whole)
    assert len(times(path)) == 40
    assert frame_times(path).tolist() == times(path)


@pytest.mark.parametrize("action", [times, video_info, lambda path: read_sound(path, 16000)])
def test_other_files_than_media_are_named(tmp_path, action):
    cases = {"is empty (0 bytes)": b"", "cannot be opened": b"valence,arousal\n0.1,0.2\n" * 50}
    for problem, data in cases.items():
        path = write_text(tmp_path / "a.mp4", data)
        message = complaint(lambda path=path: action(path))
        assert str(path) in message
        assert problem in message
    for path in (tmp_path / "none.mp4", tmp_path):
        assert f"{path} is not a file" in complaint(lambda path=path: action(path))


def test_sound_alone_is_not_a_video(tmp_path):
    path = sound_with_stamps(tmp_path / "a.nut", [0])
    for action in (times, video_info):
        assert "no video stream" in complaint(lambda action=action: action(path))


@needs_clips
def test_real_clips_have_their_known_length():
    for path in sorted((CLIPS / "grid").glob("*.mpg"))[:4]:
        seen = times(path)
        np.testing.assert_allclose(seen, np.arange(75) / 25, atol=1e-6)
        info = video_info(path)
        assert (info.width, info.height, info.sound_rate) == (360, 288, 44100)
        sound = read_sound(path, 16000)
        assert len(sound) / 16000 == pytest.approx(2.978, abs=0.01)
        assert sound.std() > 0.005


@needs_clips
@pytest.mark.parametrize(("name", "frames"), [("single_face.mp4", 72), ("no_face.mp4", 95), ("face_noface.mov", 169)])
def test_clips_from_phones_keep_uneven_times(name, frames):
    path = CLIPS / "faces" / name
    seen = times(path)
    assert len(seen) == frames
    assert (np.diff(seen) > 0).all()
    assert seen[-1] < video_info(path).duration


@needs_clips
def test_the_late_sound_of_a_real_clip_is_padded():
    sound = read_sound(CLIPS / "faces" / "face_noface.mov", 16000)
    assert np.flatnonzero(sound)[0] / 16000 == pytest.approx(107164 / 44100, abs=0.02)
