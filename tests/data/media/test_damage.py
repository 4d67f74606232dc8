"""A twin that is damaged at random is named, or what is read of it is what was there; never a traceback."""

import re
import shutil

import numpy as np
import pytest

from mtpkdot.data import AffWild2, BioVid
from mtpkdot.data.media.check import check
from mtpkdot.data.media.pictures import PictureSettings
from mtpkdot.errors import DataError
from tests.data.media_helpers import copied, put

SEEDS = range(12)


def biovid(root, store, **options):
    pictures = PictureSettings(size=32)
    return BioVid(root=str(root), store=str(store), pictures=pictures, prepare_workers=1, frames=4, **options)


def affwild2(root, store, **options):
    options = {"frames": 4, "frame_step": 2, "clips": 3, "sound_seconds": 0.25, **options}
    return AffWild2(root=str(root), store=str(store), prepare_workers=1, **options)


def overwritten(path, root, random):
    data = bytearray(path.read_bytes())
    begin = int(random.integers(len(data)))
    length = int(random.integers(1, 64))
    data[begin : begin + length] = random.bytes(min(length, len(data) - begin))
    put(path, bytes(data))


def truncated(path, root, random):
    put(path, path.read_bytes()[: int(random.integers(path.stat().st_size))])


def deleted(path, root, random):
    path.unlink()


def renamed(path, root, random):
    path.rename(path.with_name(path.stem[:-1] + str(int(random.integers(10))) + path.suffix))


def swapped(path, root, random):
    others = [other for other in sorted(root.rglob(f"*{path.suffix}")) if other != path and other.is_file()]
    put(path, others[int(random.integers(len(others)))].read_bytes() if others else b"")


def lines_taken(path, root, random):
    lines = path.read_bytes().splitlines(keepends=True)
    begin = int(random.integers(len(lines)))
    put(path, b"".join(lines[:begin] + lines[begin + int(random.integers(1, 40)) :]))


def lines_doubled(path, root, random):
    lines = path.read_bytes().splitlines(keepends=True)
    begin = int(random.integers(len(lines)))
    put(path, b"".join(lines[: begin + 20] + lines[begin:]))


ANY = [overwritten, truncated, deleted, renamed, swapped]
TEXT = [*ANY, lines_taken, lines_doubled]


def read(data):
    """Everything that training would read: per sample id the target and every modality."""
    samples = data.samples
    positions = np.arange(len(samples))
    found = {}
    for name, values in samples.features.items():
        clips = values.read(positions, np.zeros_like(positions))
        for id, clip, mask in zip(samples.ids.tolist(), clips, samples.masks[name], strict=True):
            found.setdefault(id, {})[name] = clip.numpy(), mask
    for id, target in zip(samples.ids.tolist(), samples.target, strict=True):
        found[id]["target"] = (np.asarray(target),)
    return found


def same(one, other):
    return one.keys() == other.keys() and all(
        np.array_equal(a, b, equal_nan=True) for name in one for a, b in zip(one[name], other[name], strict=True)
    )


@pytest.fixture(scope="module", params=["biovid", "affwild2"])
def whole(request, tmp_path_factory):
    """A way to make the data, its raw files, and all that is read of them."""
    made = {"biovid": biovid, "affwild2": affwild2}[request.param]
    root = request.getfixturevalue(f"{request.param}_twin")
    store = tmp_path_factory.mktemp("whole") / "store"
    data = made(root, store)
    return made, root, store, read(data)


@pytest.mark.parametrize("seed", SEEDS)
def test_damage_is_named_or_harmless(whole, tmp_path, seed):
    made, twin, known_store, known = whole
    random = np.random.default_rng(seed)
    root = copied(twin, tmp_path / "raw")
    kinds = sorted({path.suffix for path in root.rglob("*") if path.is_file()})
    suffix = kinds[int(random.integers(len(kinds)))]
    files = sorted(path for path in root.rglob(f"*{suffix}") if path.is_file())
    path = files[int(random.integers(len(files)))]
    choices = TEXT if suffix in (".csv", ".txt") else ANY
    change = choices[int(random.integers(len(choices)))]
    change(path, root, random)
    what = f"{change.__name__} {path.relative_to(root)}"
    # What is stored of the other recordings is taken over, as it would be on a user's machine.
    store = tmp_path / "store"
    shutil.copytree(known_store, store)
    try:
        report = check(made(root, store))
    except DataError:
        with pytest.raises(DataError):
            read(made(root, store))
        return
    if report.fatal:
        with pytest.raises(DataError):
            read(made(root, store))
    else:
        read(made(root, store))
    after = read(made(root, store, on_error="skip"))
    changed = [id for id in known if id not in after or not same(known[id], after[id])]
    added = after.keys() - known.keys()
    named = [problem.path for problem in report.inventory.problems]
    # Files of one recording may be named for each other: its signals by its video.
    recording = re.sub("_(bio|left|right)$", "", path.stem)
    about = any(other in {path, *path.parents} or other.stem.startswith(recording[:-1]) for other in named)
    if (changed or added) and not about:
        # Other codes that are as valid may change pictures and sound of the recording itself, and nothing else; a crop
        # that is not there is a frame without a face.
        assert change in (overwritten, swapped) or suffix == ".jpg", (what, changed, named)
        assert not added, (what, added)
        for id in changed:
            assert id in after, (what, id)
            for name in known[id]:
                if name == "target" and suffix in (".csv", ".txt"):
                    continue
                for before, now in list(zip(known[id][name], after[id][name], strict=True))[1:]:
                    np.testing.assert_array_equal(before, now, err_msg=what)
        assert len({id.rsplit("-", 1)[0] for id in changed}) <= 2, (what, changed)
