"""Features are computed once, read back as they were, and never read damaged."""

import errno
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
import textwrap
from argparse import Namespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mtpkdot.data.batch import SampleDataset
from mtpkdot.data.cache import CachedFeatures, cached, cached_by_all
from mtpkdot.errors import DataError
from tests.data.fake_clips import FakeData

N = 7
FEATURES = np.random.default_rng(0).normal(size=(N, 2, 3)).astype(np.float32)
MASK = np.random.default_rng(1).random((N, 2)) < 0.7


class Encoder:
    """Computes blocks, and counts how often it is asked to."""

    def __init__(self, features=FEATURES, fail_after=None):
        self.features, self.fail_after, self.calls = features, fail_after, 0

    def __call__(self):
        self.calls += 1
        for number, positions in enumerate((np.array([4, 0, 2]), np.array([1, 6, 5, 3]))):
            if number == self.fail_after:
                raise KeyboardInterrupt
            yield positions, self.features[positions], MASK[positions]


def read_all(folder):
    return CachedFeatures([folder]).read(np.arange(N), np.zeros(N, np.int64))


@pytest.fixture
def folder(tmp_path):
    """A whole cache."""
    return cached(tmp_path, "video", {"weights": "a"}, N, Encoder())


def test_features_are_computed_once_and_come_back_bit_for_bit(tmp_path, folder):
    encoder = Encoder()
    assert cached(tmp_path, "video", {"weights": "a"}, N, encoder) == folder
    assert encoder.calls == 0
    features, mask = read_all(folder)
    assert np.array_equal(features.numpy(), FEATURES)
    assert np.array_equal(mask.numpy(), MASK)


def test_samples_without_a_block_are_zero_and_masked(tmp_path):
    def some():
        yield np.array([2]), FEATURES[[2]], np.ones((1, 2), np.bool_)

    features, mask = read_all(cached(tmp_path, "video", {}, N, some))
    assert mask.any(dim=1).tolist() == [i == 2 for i in range(N)]
    assert not features[~mask].any()


def test_a_key_that_is_not_plain_data_is_an_error(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        cached(tmp_path, "video", {"settings": {"a": Namespace(b=1)}}, N, Encoder())


def test_every_key_counts_and_so_does_the_modality(tmp_path, folder):
    others = [
        ("video", {"weights": "b"}),
        ("video", {"weights": "a", "view": 1}),
        ("video", {}),
        ("sound", {"weights": "a"}),
    ]
    found = {cached(tmp_path, modality, keys, N, Encoder()) for modality, keys in others}
    assert len(found | {folder}) == 5
    turned = cached(tmp_path, "video", {"view": 1, "weights": "a"}, N, Encoder(fail_after=0))
    assert turned in found


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def record(change):
    def damage(folder):
        path = folder / "record.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps(change(content)))

    return damage


def other_size(content):
    content["checks"]["features.npy"][0] += 1
    return content


def shorter(folder):
    """A whole file of fewer samples, as another data set would have."""
    np.save(folder / "features.npy", FEATURES[:-1])


DAMAGE = {
    "truncated": lambda f: os.truncate(f / "features.npy", (f / "features.npy").stat().st_size - 5),
    "empty": lambda f: (f / "features.npy").write_bytes(b""),
    "a bit of the values": lambda f: flip(f / "features.npy", -1),
    "a bit of the header": lambda f: flip(f / "features.npy", 20),
    "a bit of the mask": lambda f: flip(f / "mask.npy", -1),
    "longer": lambda f: (f / "mask.npy").write_bytes((f / "mask.npy").read_bytes() + b"\0"),
    "no mask": lambda f: (f / "mask.npy").unlink(),
    "no features": lambda f: (f / "features.npy").unlink(),
    "no record": lambda f: (f / "record.json").unlink(),
    "half a record": lambda f: os.truncate(f / "record.json", 30),
    "a record of zeros": lambda f: (f / "record.json").write_bytes(b"\0" * 50),
    "a record of another kind": record(lambda _: [1, 2]),
    "a record without checksums": record(lambda content: {"keys": content["keys"]}),
    "an empty checksum": record(lambda content: {**content, "checks": {"features.npy": [], "mask.npy": []}}),
    "a record of other sizes": record(other_size),
    "features of fewer samples": shorter,
    "an empty folder": lambda f: [path.unlink() for path in f.iterdir()],
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_cache_is_computed_again_and_never_read(name, tmp_path, folder, capsys):
    DAMAGE[name](folder)
    encoder = Encoder()
    assert cached(tmp_path, "video", {"weights": "a"}, N, encoder) == folder
    assert encoder.calls == 1
    assert "damaged" in capsys.readouterr().out
    features, mask = read_all(folder)
    assert np.array_equal(features.numpy(), FEATURES)
    assert np.array_equal(mask.numpy(), MASK)
    again = Encoder()
    cached(tmp_path, "video", {"weights": "a"}, N, again)
    assert again.calls == 0


def test_damage_is_seen_although_the_process_has_read_the_file_before(tmp_path, folder):
    assert read_all(folder)
    before = (folder / "features.npy").stat().st_mtime_ns
    flip(folder / "features.npy", -1)
    assert (folder / "features.npy").stat().st_mtime_ns != before
    encoder = Encoder()
    cached(tmp_path, "video", {"weights": "a"}, N, encoder)
    assert encoder.calls == 1


def test_an_interrupted_computation_leaves_nothing_that_counts_and_is_started_anew(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, "video", {}, N, Encoder(fail_after=1))
    left = list((tmp_path / "video").iterdir())
    assert any(path.name.endswith(".partial") for path in left)
    assert not [path for path in left if not path.name.startswith(".")]
    partial = next(path for path in left if path.name.endswith(".partial"))
    (partial / "features.npy").write_bytes(b"rubbish of a killed writer")
    features, _ = read_all(cached(tmp_path, "video", {}, N, Encoder()))
    assert np.array_equal(features.numpy(), FEATURES)
    assert not partial.exists()


@pytest.mark.slow
def test_two_processes_that_ask_at_once_compute_once(tmp_path):
    program = textwrap.dedent(
        """
        import sys, time, pathlib, numpy as np
        from mtpkdot.data.cache import CachedFeatures, cached
        root = pathlib.Path(sys.argv[1])

        def compute():
            with (root / "computed").open("a") as file:
                file.write("once\\n")
            time.sleep(1)
            yield np.arange(5), np.arange(10, dtype=np.float32).reshape(5, 2, 1), np.ones((5, 2), bool)

        (root / f"ready{sys.argv[2]}").touch()
        while not ((root / "ready0").exists() and (root / "ready1").exists()):
            time.sleep(0.01)
        folder = cached(root, "video", {}, 5, compute)
        print(CachedFeatures([folder]).read(np.arange(5), np.zeros(5, int))[0].sum().item())
        """
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    started = [subprocess.Popen([*command, str(i)], stdout=subprocess.PIPE, text=True) for i in range(2)]
    printed = sorted((process.communicate(timeout=100)[0] for process in started), key=len)
    assert [process.returncode for process in started] == [0, 0]
    assert (tmp_path / "computed").read_text() == "once\n"
    assert printed[0] == "45.0\n"
    assert "another process computes these features" in printed[1]
    assert printed[1].endswith("45.0\n")


def test_a_killed_writer_does_not_hold_up_the_next(tmp_path):
    program = textwrap.dedent(
        """
        import sys, os, pathlib, numpy as np
        from mtpkdot.data.cache import cached

        def compute():
            yield np.arange(3), np.ones((3, 2, 3), np.float32), np.ones((3, 2), bool)
            os.kill(os.getpid(), 9)

        cached(pathlib.Path(sys.argv[1]), "video", {}, 7, compute)
        """
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)]).returncode == -9
    assert list((tmp_path / "video").glob(".*.partial/features.npy"))
    features, _ = read_all(cached(tmp_path, "video", {}, N, Encoder()))
    assert np.array_equal(features.numpy(), FEATURES)


# Shares of several processes


class Alone:
    """The only one of several processes that is there."""

    def __init__(self, rank=0, size=1, failing=False):
        self.rank, self.size, self.failing = rank, size, failing

    def decided(self, decide):
        return decide()

    def on_any(self, mine):
        return mine or self.failing


def test_a_share_is_put_together_as_it_was_computed_alone(tmp_path):
    expected = read_all(cached(tmp_path / "alone", "video", {}, N, Encoder()))
    for _ in range(2):
        encoder = Encoder()
        found = read_all(cached_by_all(tmp_path / "all", "video", {}, N, encoder, N, Alone()))
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert encoder.calls == 0
    assert not list((tmp_path / "all" / "video").glob(".*.partial"))


def test_a_missing_share_is_reported_and_not_replaced_by_zeros(tmp_path):
    with pytest.raises(DataError, match=f"have {N} samples of {N + 1}"):
        cached_by_all(tmp_path, "video", {}, N, Encoder(), N + 1, Alone(size=2))
    assert not [path for path in (tmp_path / "video").iterdir() if not path.name.startswith(".")]
    features, _ = read_all(cached_by_all(tmp_path, "video", {}, N, Encoder(), N, Alone()))
    assert np.array_equal(features.numpy(), FEATURES)


def test_processes_fail_together(tmp_path):
    def damaged():
        raise DataError("clip7 is torn", "Repair it.")

    with pytest.raises(DataError, match="clip7"):
        cached_by_all(tmp_path, "video", {}, N, damaged, N, Alone())
    with pytest.raises(DataError, match="another process"):
        cached_by_all(tmp_path, "video", {}, N, Encoder(), N, Alone(failing=True))


def test_a_full_disk_is_reported_with_the_file_and_nothing_counts(tmp_path, monkeypatch):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
    try:
        with pytest.raises(DataError, match=r"features.npy cannot be written \(File too large"):
            cached(tmp_path, "video", {}, N, Encoder())
        with pytest.raises(DataError, match=r"000000.npz cannot be written \(File too large"):
            cached_by_all(tmp_path, "video", {}, N, Encoder(), N, Alone())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    # Where a mapped file finds no room the process would die: it is taken before.
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "no room")))
    with pytest.raises(DataError, match=r"features.npy cannot be written \(no room\). Make room"):
        cached(tmp_path, "video", {}, N, Encoder())
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(errno.EOPNOTSUPP, "no")))
    features, _ = read_all(cached(tmp_path, "video", {}, N, Encoder()))
    assert np.array_equal(features.numpy(), FEATURES)


# Reading


@pytest.fixture
def views(tmp_path):
    """Two views of the same samples."""
    folders = [cached(tmp_path, "video", {"view": v}, N, Encoder(FEATURES + 10 * v)) for v in range(2)]
    return CachedFeatures(folders)


@pytest.mark.parametrize("chosen", [[0, 0, 0], [1, 1, 1], [1, 0, 1]])
def test_every_sample_is_read_in_its_own_view_and_in_the_order_asked_for(views, chosen):
    positions = np.array([5, 0, 3])
    features, mask = views.read(positions, np.array(chosen))
    assert np.array_equal(features.numpy(), FEATURES[positions] + 10 * np.array(chosen, np.float32)[:, None, None])
    assert np.array_equal(mask.numpy(), MASK[positions])
    assert (features.dtype, mask.dtype) == (torch.float32, torch.bool)


def test_changing_what_was_read_leaves_the_cache_alone(views):
    for chosen in ([0, 0], [0, 1]):
        features, mask = views.read(np.array([0, 1]), np.array(chosen))
        features.fill_(7)
        mask.fill_(False)
    assert np.array_equal(views.read(np.array([0]), np.array([0]))[0][0].numpy(), FEATURES[0])


def test_the_cache_pickles_as_paths_alone_even_after_reading(tmp_path):
    big = np.zeros((N, 2, 10_000), np.float32)
    features = CachedFeatures([cached(tmp_path, "video", {}, N, Encoder(big))])
    features.read(np.arange(N), np.zeros(N, np.int64))
    pickled = pickle.dumps(features)
    assert len(pickled) < 1000
    assert pickle.loads(pickled).read(np.array([1]), np.array([0]))[0].shape == (1, 2, 10_000)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "processes"), [("fork", 2), ("spawn", 1)])  # a spawned one imports for seconds
def test_loader_processes_read_the_same(how, processes, tmp_path):
    data = FakeData(n=12)
    n, features = len(data.samples), np.random.default_rng(0).normal(size=(2, 12, 3, 5)).astype(np.float32)

    def compute(view):
        return lambda: [(np.arange(n), features[view], np.ones((n, 3), np.bool_))]

    at_hand = CachedFeatures([cached(tmp_path, "signal", {"view": v}, n, compute(v)) for v in range(2)])
    at_hand.read(np.arange(2), np.zeros(2, np.int64))  # opened before the processes start
    pairs = [(i, i % 2) for i in range(n)]
    loader = DataLoader(
        SampleDataset(data.samples, ["video"], {"signal": at_hand}),
        4,
        sampler=pairs,
        num_workers=processes,
        collate_fn=_as_is,
        multiprocessing_context=how,
    )
    batches = list(loader)
    for start, batch in zip(range(0, n, 4), batches, strict=True):
        for row, (position, view) in enumerate(pairs[start : start + 4]):
            assert np.array_equal(batch.encoded["signal"][0][row].numpy(), features[view, position])
            expected = data.samples.features["video"].view(position, view)
            assert np.array_equal(batch.inputs["video"][row].numpy(), expected)


def _as_is(batch):
    return batch


def test_a_moved_cache_is_whole_where_it_is_now(tmp_path, folder):
    shutil.move(tmp_path / "video", tmp_path / "elsewhere" / "video")
    encoder = Encoder()
    cached(tmp_path / "elsewhere", "video", {"weights": "a"}, N, encoder)
    assert encoder.calls == 0
