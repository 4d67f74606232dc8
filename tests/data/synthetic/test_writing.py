"""Writing: a tree appears whole or not at all; parallel work is the same work; media hold what was given."""

import math
import os
import subprocess
import sys
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from mtpkdot.data.synthetic.writing import in_parallel, new_tree, random_for, write_jpeg, write_video
from mtpkdot.errors import DataError


def test_a_tree_appears_when_it_is_whole(tmp_path):
    out = tmp_path / "deep" / "out"
    with new_tree(out) as tree:
        (tree / "file").write_text("here")
        assert not out.exists()
        assert tree.parent.parent == out.parent
    assert (out / "file").read_text() == "here"
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_failed_run_leaves_nothing(tmp_path):
    def fail():
        with new_tree(tmp_path / "out") as tree:
            (tree / "file").write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled_and_a_full_one_refused(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with new_tree(out) as tree:
        (tree / "file").touch()
    with pytest.raises(DataError, match=r"out exists and is not empty\. Remove it"), new_tree(out):
        pytest.fail("must not be entered")
    assert [path.name for path in out.iterdir()] == ["file"]
    with pytest.raises(DataError, match="not empty"), new_tree(out / "file"):
        pytest.fail("must not be entered")


def test_randomness_belongs_to_names():
    draw = random_for(0, "a", "b").random()
    assert draw == random_for(0, "a", "b").random()
    others = {random_for(*key).random() for key in [(1, "a", "b"), (0, "b", "a"), (0, "ab"), (0, "a")]}
    assert draw not in others
    assert len(others) == 4


# Functions of the standard library: worker processes then start without importing torch.
@pytest.mark.parametrize("workers", [1, 2])
def test_results_keep_the_order_of_the_jobs(workers):
    seen = []
    assert in_parallel(math.sqrt, [9, 1, 4], workers, lambda *now: seen.append(now)) == [3, 1, 2]
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failing_job_ends_the_work(workers):
    with pytest.raises(ValueError, match="math domain error"):
        in_parallel(math.sqrt, [4, -1, 9], workers, None)


def test_zero_workers_are_an_error():
    with pytest.raises(DataError, match="0 workers"):
        in_parallel(math.sqrt, [1], 0, None)


def test_a_jpeg_keeps_its_colours(tmp_path):
    frame = np.zeros((32, 32, 3), dtype=np.uint8)
    frame[:, :16] = (200, 40, 30)
    write_jpeg(tmp_path / "a.jpg", frame)
    back = cv2.cvtColor(cv2.imread(str(tmp_path / "a.jpg")), cv2.COLOR_BGR2RGB)
    np.testing.assert_allclose(back[8, 4], (200, 40, 30), atol=8)


def grey_blocks():
    """20 frames in blocks of 7, each of one grey: 10, 20, ... 200."""
    levels = np.arange(1, 21, dtype=np.uint8) * 10
    frames = np.broadcast_to(levels[:, None, None, None], (20, 48, 64, 3))
    return [frames[:7], frames[7:14], frames[14:]]


def decode(path):
    with av.open(str(path)) as container:
        frames = [(float(f.pts * f.time_base), f.to_ndarray(format="rgb24").mean()) for f in container.decode(video=0)]
        return np.array(frames), container.streams.video[0]


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "h264"), (".avi", "mpeg4")])
def test_every_frame_is_there_in_its_order_at_its_time(tmp_path, suffix, codec):
    path = tmp_path / f"a{suffix}"
    write_video(path, grey_blocks(), None, Fraction(30000, 1001))
    frames, stream = decode(path)
    assert stream.codec_context.name == codec
    assert (stream.width, stream.height) == (64, 48)
    assert float(stream.average_rate) == pytest.approx(30000 / 1001, rel=1e-4)
    np.testing.assert_allclose(frames[:, 0], np.arange(20) * 1001 / 30000, atol=1e-4)
    np.testing.assert_allclose(frames[:, 1], np.arange(1, 21) * 10, atol=4)


def test_times_of_a_varying_rate_are_kept(tmp_path):
    times = np.cumsum([0, *[1 / 30] * 9, *[1 / 15] * 10])
    write_video(tmp_path / "a.mp4", grey_blocks(), times.tolist(), Fraction(30))
    np.testing.assert_allclose(decode(tmp_path / "a.mp4")[0][:, 0], times, atol=1e-4)


@pytest.mark.parametrize(
    ("suffix", "codec", "name", "rate"),
    [
        (".mp4", "aac", "aac", 44100),
        (".avi", "libmp3lame", "mp3float", 44100),
        (".avi", "pcm_s16le", "pcm_s16le", 16000),
    ],
)
def test_sound_is_heard_as_it_was_given(tmp_path, suffix, codec, name, rate):
    path, seconds = tmp_path / f"a{suffix}", 2.0
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate).astype(np.float32)
    blocks = [tone[:1000], tone[1000:rate], tone[rate:]]
    write_video(path, grey_blocks(), None, Fraction(10), iter(blocks), codec, rate)
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        assert (stream.codec_context.name, stream.rate, stream.channels) == (name, rate, 1)
        parts = [frame.to_ndarray().astype(np.float64).ravel() for frame in container.decode(audio=0)]
    heard = np.concatenate(parts) / (32768 if codec == "pcm_s16le" else 1)
    assert len(heard) / rate == pytest.approx(seconds, abs=0.1)
    power = np.abs(np.fft.rfft(heard))
    assert np.fft.rfftfreq(len(heard), 1 / rate)[power.argmax()] == pytest.approx(440, abs=2)
    assert heard.std() == pytest.approx(0.5 / np.sqrt(2), rel=0.1)  # encoders add silence
    assert len(decode(path)[0]) == 20


def test_a_video_without_frames_is_our_mistake(tmp_path):
    with pytest.raises(ValueError, match="a video needs a frame"):
        write_video(tmp_path / "a.mp4", [], None, Fraction(25))


_ENCODE = """
import sys
from fractions import Fraction
from pathlib import Path
from mtpkdot.data.biovid import twin as biovid
from mtpkdot.data.synthetic import faces, writing
act = biovid.perform(biovid.Clip(biovid.subject_ids(3)[1], "BL1", 5, "PartA", 0.6, 3))
blocks = list(faces.render_blocks(act.look, act.expression, act.pose, 160, writing.random_for(3, "a")))
for path in sys.argv[1:]:
    writing.write_video(Path(path), blocks, None, Fraction(25))
"""


@pytest.mark.slow
def test_the_bytes_of_a_video_do_not_depend_on_what_lay_in_memory(tmp_path):
    written = {".mp4": set(), ".avi": set()}
    for filling in ("1", "85"):  # glibc fills fresh memory with it; elsewhere the test is only weaker
        paths = [tmp_path / f"{filling}{suffix}" for suffix in written]
        environment = {**os.environ, "MALLOC_PERTURB_": filling}
        subprocess.run([sys.executable, "-c", _ENCODE, *map(str, paths)], check=True, env=environment)
        for path in paths:
            written[path.suffix].add(path.read_bytes())
    assert {suffix: len(files) for suffix, files in written.items()} == {".mp4": 1, ".avi": 1}
