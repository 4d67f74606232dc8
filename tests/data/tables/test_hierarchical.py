"""HDF5 files whose content lies elsewhere."""

import h5py
import numpy as np
import pytest

from mtpkdot.data.tables.feature_files import digest_features, read_features
from mtpkdot.errors import DataError
from tests.data.helpers import complaint

SHAPE = (6, 4)


def write(path, values):
    with h5py.File(path, "w") as file:
        file["features"] = values
        file.create_group("deep")["features"] = values


def virtual(path, *sources, dataset="features"):
    layout = h5py.VirtualLayout(SHAPE, "f4")
    for number, source in enumerate(sources):
        rows = slice(number * 6 // len(sources), (number + 1) * 6 // len(sources))
        layout[rows] = h5py.VirtualSource(source, dataset, SHAPE)[rows]
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("features", layout)


def link(path, target):
    with h5py.File(path, "w") as file:
        file["features"] = target


def through_a_soft_link(path):
    with h5py.File(path, "w") as file:
        file["inner"] = h5py.ExternalLink("inner.h5", "/deep")
        file["features"] = h5py.SoftLink("/inner/features")


def two_deep(path):
    virtual(path.with_name("middle.h5"), "inner.h5")
    virtual(path, "middle.h5")


def raw(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("features", SHAPE, "f4", external=[(str(path.with_name("inner.bin")), 0, 96)])


KINDS = {
    "external link": lambda path: link(path, h5py.ExternalLink("inner.h5", "/features")),
    "soft link": through_a_soft_link,
    "virtual": lambda path: virtual(path, "inner.h5"),
    "virtual of two": lambda path: virtual(path, "steady.h5", "inner.h5"),
    "virtual of virtual": two_deep,
    "link to virtual": lambda path: (
        virtual(path.with_name("middle.h5"), "inner.h5"),
        link(path, h5py.ExternalLink("middle.h5", "/features")),
    ),
    "raw": raw,
}


@pytest.fixture
def values(tmp_path):
    values = np.random.default_rng(0).normal(size=SHAPE).astype("f4")
    for name in ("inner.h5", "steady.h5"):
        write(tmp_path / name, values)
    values.tofile(tmp_path / "inner.bin")
    return values


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_in_an_inner_file_is_another_content(kind, tmp_path, values):
    path = tmp_path / "outer.h5"
    KINDS[kind](path)
    before, outer = digest_features(path), path.read_bytes()
    assert digest_features(path) == before
    assert np.array_equal(read_features(path, "id").values[:, 0], values)
    other = values.copy()
    other[-1, 0] += 1
    write(tmp_path / "inner.h5", other)
    other.tofile(tmp_path / "inner.bin")
    assert path.read_bytes() == outer
    assert digest_features(path) != before
    assert np.array_equal(read_features(path, "id").values[:, 0], other)


@pytest.mark.parametrize("kind", KINDS)
def test_an_inner_file_that_is_gone_is_one_line_and_no_zeros(kind, tmp_path, values):
    path = tmp_path / "outer.h5"
    KINDS[kind](path)
    for name in ("inner.h5", "inner.bin"):
        (tmp_path / name).unlink()
    for read in (digest_features, lambda path: read_features(path, "id")):
        with pytest.raises(DataError, match=r"outer\.h5 cannot be read \("):
            read(path)


def test_a_data_set_that_is_gone_from_an_inner_file_is_one_line(tmp_path, values):
    virtual(tmp_path / "outer.h5", "inner.h5", dataset="other")
    with pytest.raises(DataError, match=r"reads other of inner\.h5"):
        read_features(tmp_path / "outer.h5", "id")


def test_a_name_or_an_address_within_a_file_that_is_damaged_is_one_line(tmp_path, values):
    path = tmp_path / "face.h5"
    with h5py.File(path, "w") as file:
        file["features"], file["ids"] = values, [f"s{row}" for row in range(len(values))]
        address = h5py.h5o.get_info(file["ids"].id).addr.to_bytes(8, "little")
    whole = path.read_bytes()
    for part, other in ((address, (1 << 40).to_bytes(8, "little")), (b"features\0", b"zeatures\0")):
        path.write_bytes(whole.replace(part, other))
        for read in (digest_features, lambda path: read_features(path, "id")):
            message = complaint(lambda read=read: read(path))
            assert str(path) in message
            assert "is damaged" in message


def test_a_circle_of_virtual_data_sets_is_one_line(tmp_path):
    virtual(tmp_path / "a.h5", "b.h5")
    virtual(tmp_path / "b.h5", "a.h5")
    with pytest.raises(DataError, match="nested too deep"):
        read_features(tmp_path / "a.h5", "id")


def test_the_digest_of_a_file_that_holds_all_it_reads_is_that_of_its_bytes(tmp_path, values):
    import hashlib

    link(tmp_path / "own.h5", values)
    with h5py.File(tmp_path / "own.h5", "a") as file:
        file["again"] = h5py.SoftLink("/features")
    assert digest_features(tmp_path / "own.h5") == hashlib.sha256((tmp_path / "own.h5").read_bytes()).hexdigest()


def test_a_declared_size_is_looked_at_before_memory_is_taken(tmp_path, values):
    with h5py.File(tmp_path / "sparse.h5", "w") as file:
        file.create_dataset("features", (10**6, 10**6), "f4", chunks=(100, 100))
    with h5py.File(tmp_path / "outer.h5", "w") as file:
        file["features"] = h5py.ExternalLink("sparse.h5", "/features")
    for name in ("sparse.h5", "outer.h5"):
        with pytest.raises(DataError, match="declares arrays of 4000000000000 bytes"):
            read_features(tmp_path / name, "id")
    with pytest.raises(DataError, match="declares arrays"):
        digest_features(tmp_path / "outer.h5")


# --- what was never written ---------------------------------------------------------------------------------------


def chunked(file, shape, chunks, written, **options):
    """A data set of ones in which these rows alone were written."""
    file.create_dataset("features", shape, "f4", chunks=chunks, **options)
    for rows in written:
        file["features"][rows] = 1


NOT_WRITTEN = {
    "no chunk": lambda file: chunked(file, SHAPE, (2, 4), []),
    "the last chunk": lambda file: chunked(file, SHAPE, (2, 4), [slice(0, 4)]),
    "a chunk at the edge": lambda file: chunked(
        file, SHAPE, (4, 3), [(slice(0, 4), slice(0, 4)), (slice(4, 6), slice(0, 3))]
    ),
    "compressed": lambda file: chunked(file, SHAPE, (3, 4), [slice(3, 6)], compression="gzip"),
    "grown": lambda file: (
        chunked(file, (3, 4), (3, 4), [slice(None)], maxshape=(None, 4)),
        file["features"].resize(SHAPE),
    ),
    "in one piece": lambda file: file.create_dataset("features", SHAPE, "f4"),
    "another fill value": lambda file: chunked(file, SHAPE, (2, 4), [slice(2, 6)], fillvalue=-1),
}


@pytest.mark.parametrize("kind", NOT_WRITTEN)
def test_chunks_that_were_never_written_are_one_line_and_no_zeros(kind, tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        NOT_WRITTEN[kind](file)
    with pytest.raises(DataError, match=r"x\.h5: \d of 6 samples have parts of 'features' that were never written"):
        read_features(tmp_path / "x.h5", "id")


@pytest.mark.parametrize("name", ["ids", "mask"])
def test_ids_and_masks_that_were_never_written_are_one_line(name, tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["features"] = np.ones((6, 5, 2), "f4")
        file.create_dataset(name, (6,) if name == "ids" else (6, 5), "i8")
    with pytest.raises(DataError, match=f"parts of '{name}' that were never written"):
        read_features(tmp_path / "x.h5", "id")


def test_steps_that_the_mask_leaves_out_need_not_be_written(tmp_path):
    mask = np.arange(4)[None] < np.array([[4], [2], [4]])
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["mask"] = mask
        file.create_dataset("features", (3, 4, 2), "f4", chunks=(1, 2, 2))
        for row, step in np.argwhere(mask):
            file["features"][row, step] = row + 1
        file.create_dataset("unused", (3, 3), "f4", chunks=(1, 3))
    file = read_features(tmp_path / "x.h5", "id")
    np.testing.assert_array_equal(file.mask, mask)
    np.testing.assert_array_equal(file.values[mask], np.repeat([[1, 1], [2, 2], [3, 3]], [4, 2, 4], axis=0))
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file["mask"][1, 2] = True
    with pytest.raises(DataError, match="1 of 3 samples"):
        read_features(tmp_path / "x.h5", "id")


def test_values_that_read_as_nan_where_nothing_was_written_follow_the_setting_for_nan(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        chunked(file, SHAPE, (3, 4), [slice(0, 3)], fillvalue=np.nan)
    assert np.isnan(read_features(tmp_path / "x.h5", "id").values).sum() == 12


@pytest.mark.parametrize("chunks", [None, (2, 4), (4, 3), (6, 4)])
def test_zeros_that_were_written_are_read(chunks, tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("features", SHAPE, "f4", chunks=chunks)[:] = 0
    assert not read_features(tmp_path / "x.h5", "id").values.any()


def test_rows_of_a_virtual_data_set_that_nothing_is_mapped_to_are_one_line(tmp_path, values):
    layout = h5py.VirtualLayout(SHAPE, "f4")
    layout[::2] = h5py.VirtualSource("inner.h5", "features", SHAPE)[:3]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_virtual_dataset("features", layout)
    with pytest.raises(DataError, match="3 of 6 samples have parts of 'features' that were never written"):
        read_features(tmp_path / "x.h5", "id")


def test_a_virtual_data_set_of_a_source_with_a_hole_is_one_line(tmp_path, values):
    with h5py.File(tmp_path / "inner.h5", "w") as file:
        chunked(file, SHAPE, (2, 4), [slice(2, 6)])
    virtual(tmp_path / "outer.h5", "inner.h5")
    with pytest.raises(DataError, match="never written"):
        read_features(tmp_path / "outer.h5", "id")
