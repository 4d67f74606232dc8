"""Writing of generated data sets: complete or not at all, in parallel, and independent of the number of processes."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mtpkdot.errors import DataConfigError, DataError
from mtpkdot.workers import completed

Job = TypeVar("Job")
Made = TypeVar("Made")
Progress = Callable[[int, int], None]


@contextmanager
def new_tree(out: Path) -> Iterator[Path]:
    """Yield a folder to write into that becomes `out` only if the block ends without an error.

    Raises:
        DataError: `out` exists and is not an empty folder.
    """
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataConfigError(f"{out} exists and is not empty", "Remove it, or choose another folder.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        made = Path(folder) / "made"  # Not the folder itself, which has restrictive permissions.
        made.mkdir()
        yield made
        made.replace(out)


def random_for(seed: int, *names: str) -> np.random.Generator:
    """Return a generator of its own for everything that has a name, so that no order of work can change its numbers."""
    return np.random.default_rng([seed, *(crc32(name.encode()) for name in names)])


def in_parallel(
    make: Callable[[Job], Made], jobs: Sequence[Job], workers: int, progress: Progress | None
) -> list[Made]:
    """Run independent jobs.

    Args:
        make: function of a module, so that other processes can import it.
        jobs: arguments of the calls; must be picklable.
        workers: number of processes; 1 runs the jobs in this one.
        progress: called with (done, all) after each job.

    Returns:
        The results in the order of `jobs`.
    """
    if workers < 1:
        raise DataConfigError(f"{workers} workers cannot work", "Ask for 1 or more.")
    killed = DataError("a process was killed, perhaps for lack of memory", "Run it again with fewer --workers.")
    results: dict[int, Made] = {}
    for position, result in completed(make, jobs, workers, killed):
        results[position] = result
        if progress:
            progress(len(results), len(jobs))
    return [results[position] for position in range(len(jobs))]


def write_jpeg(path: Path, frame: NDArray[np.uint8], quality: int = 92) -> None:
    """Write one RGB frame [height, width, 3]."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RuntimeError(f"{path}: OpenCV cannot encode a frame of shape {frame.shape}")
    path.write_bytes(data.tobytes())  # instead of cv2.imwrite, which does not report a full disk


def write_video(
    path: Path,
    blocks: Iterable[NDArray[np.uint8]],
    times: Sequence[float] | None,
    rate: Fraction,
    sound: Iterable[NDArray[np.float32]] | None = None,
    sound_codec: str = "aac",
    sound_rate: int = 44100,
) -> None:
    """Write a video: H.264 in `.mp4`, MPEG-4 part 2 in `.avi`.

    Args:
        path: the file.
        blocks: RGB frames [frames, height, width, 3] with even sides, in blocks.
        times: seconds at which each frame is shown; None for a constant rate. `.mp4` only.
        rate: average frames per second.
        sound: mono sound in [-1, 1], in blocks; None for a silent video.
        sound_codec: `aac`, `libmp3lame` or `pcm_s16le`.
        sound_rate: samples per second.
    """
    # The MP3 encoder starts before zero; shifting everything by that would cost an .avi its even frame times.
    options = {"avoid_negative_ts": "disabled"} if path.suffix == ".avi" else {}
    with av.open(str(path), "w", options=options) as container:
        voice: AudioStream | None = None
        picture: VideoStream | None = None
        heard = _sound_frames(sound, sound_codec, sound_rate) if sound is not None else iter(())
        shown, seconds = 0, 0.0
        for block in blocks:
            for pixels in block:
                if picture is None:
                    picture = _video_stream(
                        container, path.suffix == ".avi", shape=pixels.shape[:2], rate=rate, varying=times is not None
                    )
                    if sound is not None:
                        voice = container.add_stream(sound_codec, rate=sound_rate, layout="mono")  # type: ignore[assignment]
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                unit = 1 / rate if times is None else _TICK
                frame.time_base = unit
                frame.pts = shown if times is None else round(times[shown] / unit)
                container.mux(picture.encode(frame))
                shown += 1
            # Sound is interleaved with the pictures, so that a player need not search the file for it.
            while voice is not None and seconds * rate < shown and (part := next(heard, None)) is not None:
                container.mux(voice.encode(part))
                seconds += part.samples / sound_rate
        if picture is None:
            raise ValueError(f"{path}: a video needs a frame")
        container.mux(picture.encode(None))
        if voice is not None:
            for part in heard:
                container.mux(voice.encode(part))
            container.mux(voice.encode(None))


_TICK = Fraction(1, 90000)


def _video_stream(container: Any, avi: bool, shape: tuple[int, int], rate: Fraction, varying: bool) -> VideoStream:
    # x264 weighs macroblocks (mbtree) by memory that it never wrote: the same frames give other pixels each time.
    options = {} if avi else {"preset": "veryfast", "crf": "20", "bf": "0", "mbtree": "0"}
    stream: VideoStream = container.add_stream("mpeg4" if avi else "libx264", rate=rate, options=options)
    stream.height, stream.width = shape
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1  # More threads encode to other bytes.
    if avi:
        stream.bit_rate = 12 * shape[0] * shape[1]
    if varying:
        stream.codec_context.time_base = _TICK
    return stream


def _sound_frames(sound: Iterable[NDArray[np.float32]], codec: str, rate: int) -> Iterator[av.AudioFrame]:
    done = 0
    for block in sound:
        if codec == "pcm_s16le":
            frame = av.AudioFrame.from_ndarray(np.rint(block * 32767).astype(np.int16)[None], "s16", "mono")
        else:
            frame = av.AudioFrame.from_ndarray(block[None], "fltp", "mono")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), done
        done += len(block)
        yield frame
