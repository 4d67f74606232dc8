"""Feature files of every kind: the same numbers from each, and one clear error for a file that cannot be used."""

import io
import zipfile

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

from mtpkdot.data.tables.feature_files import read_features
from tests.data.helpers import (
    ARRAY_SUFFIXES,
    complaint,
    quick,
    read_or_rejected,
    write_arrays,
    write_features,
    write_table,
    write_text,
)

IDS = ["007", "7", "b", "a"]
VALUES = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
CLIPS = np.random.default_rng(1).normal(size=(4, 5, 2)).astype(np.float32)
EVERY_SUFFIX = (".csv", ".parquet", ".npy", *ARRAY_SUFFIXES)


def safetensors_types():
    """Names of the types of tensors that can be written, and torch's."""
    from safetensors.torch import _TYPES

    return _TYPES


@pytest.fixture
def npz(tmp_path):
    """Read an .npz file of these arrays."""

    def read(**arrays):
        np.savez(tmp_path / "video.npz", **arrays)
        return read_features(tmp_path / "video.npz", "id")

    return read


@pytest.fixture
def h5(tmp_path):
    """Read an .h5 file of these data sets."""

    def read(**items):
        with h5py.File(tmp_path / "video.h5", "w") as file:
            for name, item in items.items():
                file[name] = item
        return read_features(tmp_path / "video.h5", "id")

    return read


@pytest.fixture
def csv(tmp_path):
    """Read a .csv file of this text."""
    return lambda text: read_features(write_text(tmp_path / "video.csv", text), "id")


@pytest.mark.parametrize("suffix", EVERY_SUFFIX)
def test_every_kind_of_file_gives_the_same_features(tmp_path, suffix):
    file = read_features(write_features(tmp_path / f"video{suffix}", IDS, VALUES), "id")
    np.testing.assert_array_equal(file.values, VALUES[:, None, :])
    assert file.values.dtype == np.float32
    assert file.mask.shape == (4, 1)
    assert file.mask.all()
    assert file.ids is None if suffix == ".npy" else file.ids.tolist() == IDS
    assert len(file.columns) == 3


@pytest.mark.parametrize("suffix", [".npy", *ARRAY_SUFFIXES])
def test_arrays_over_time_keep_their_steps(tmp_path, suffix):
    file = read_features(write_arrays(tmp_path / f"video{suffix}", CLIPS), "id")
    np.testing.assert_array_equal(file.values, CLIPS)
    assert file.mask.shape == (4, 5)
    assert file.mask.all()
    assert file.ids is None


@pytest.mark.parametrize("suffix", ARRAY_SUFFIXES)
@pytest.mark.parametrize("kind", [np.bool_, np.uint8])
def test_a_mask_marks_the_recorded_steps(tmp_path, suffix, kind):
    mask = np.random.default_rng(2).random((4, 5)) < 0.5
    file = read_features(write_arrays(tmp_path / f"video{suffix}", CLIPS, IDS, mask.astype(kind)), "id")
    np.testing.assert_array_equal(file.mask, mask)
    assert file.mask.dtype == np.bool_


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int64, np.uint8, np.bool_])
def test_numbers_of_any_kind_become_single_precision(npz, kind):
    values = np.array([[1, 0], [0, 1]], dtype=kind)
    file = npz(features=values)
    assert file.values.dtype == np.float32
    np.testing.assert_array_equal(file.values[:, 0], values.astype(np.float32))


@pytest.mark.parametrize(
    "ids",
    [np.array([7, 8, 10]), np.array([7.0, 8.0, 10.0]), np.array([b"7", b"8", b"10"]), np.array(["7", "8", "10"])],
    ids=["integers", "floats", "bytes", "text"],
)
def test_ids_of_arrays_read_as_text_of_integers(npz, ids):
    assert npz(features=VALUES[:3], ids=ids).ids.tolist() == ["7", "8", "10"]


def test_integer_ids_can_be_a_tensor(tmp_path):
    save_file({"features": VALUES, "ids": np.array([7, 8, 9, 10])}, tmp_path / "video.safetensors")
    assert read_features(tmp_path / "video.safetensors", "id").ids.tolist() == ["7", "8", "9", "10"]


def test_ids_of_a_csv_table_stay_as_written(csv):
    assert csv("id,f\n007,1\n7,2\n1e3,3\nNA,4\nNone,5\n").ids.tolist() == ["007", "7", "1e3", "NA", "None"]


def test_the_only_array_may_have_any_name(npz):
    np.testing.assert_array_equal(npz(embedding=VALUES, ids=np.array(IDS)).values[:, 0], VALUES)


def test_the_array_called_features_is_chosen_among_several(npz):
    np.testing.assert_array_equal(npz(other=VALUES[:, :1], features=VALUES).values[:, 0], VALUES)


def test_several_arrays_none_of_them_called_features_are_an_error_that_lists_them(npz):
    message = complaint(lambda: npz(face=VALUES, voice=VALUES))
    assert "video.npz" in message
    assert "face, voice" in message


def test_a_file_with_ids_only_is_an_error(npz):
    assert "video.npz" in complaint(lambda: npz(ids=np.array(IDS)))


def test_groups_of_an_h5_file_are_not_searched(h5):
    assert "video.h5" in complaint(lambda: h5(**{"group/features": VALUES}))


@pytest.mark.parametrize(
    "values",
    [np.ones(4), np.ones((2, 2, 2, 2)), np.array(1.0), np.ones((0, 3)), np.ones((3, 0)), np.ones((3, 0, 2))],
    ids=lambda values: str(values.shape),
)
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_features_of_another_shape_are_an_error_that_names_the_shape(tmp_path, suffix, values):
    message = complaint(lambda: read_features(write_arrays(tmp_path / f"video{suffix}", values), "id"))
    assert f"video{suffix}" in message
    assert str(values.shape) in message


@pytest.mark.parametrize(
    "values", [np.ones((2, 2), complex), np.array([["a", "b"]]), np.array([["2020-01-01"]], "M8[D]")]
)
def test_features_that_are_not_numbers_are_an_error_that_names_their_type(npz, values):
    assert str(values.dtype) in complaint(lambda: npz(features=values))


def test_pickled_objects_are_never_loaded(npz):
    assert "video.npz" in complaint(lambda: npz(features=np.array([[1, None]], dtype=object)))


def test_ids_saved_as_objects_are_an_error_that_does_not_blame_the_file(npz):
    message = complaint(lambda: npz(features=VALUES, ids=np.array(IDS, dtype=object)))
    assert "may be incomplete" not in message


@pytest.mark.parametrize("mask", [np.ones(4), np.ones((4, 4)), np.ones((5, 4)), np.ones((4, 5, 2))])
def test_a_mask_of_another_shape_is_an_error_that_names_both_shapes(npz, mask):
    message = complaint(lambda: npz(features=CLIPS, mask=mask))
    assert str(mask.shape) in message
    assert "(4, 5)" in message


@pytest.mark.parametrize("ids", [["a", "b"], ["a", "b", "c", "d", "e"], "a"])
def test_ids_of_another_number_are_an_error(npz, ids):
    message = complaint(lambda: npz(features=VALUES, ids=np.array(ids)))
    assert "video.npz" in message
    assert "4 samples" in message


def test_ids_in_a_column_are_either_ids_or_an_error(npz):
    file = read_or_rejected(lambda: npz(features=VALUES, ids=np.array(IDS)[:, None]))
    assert file is None or file.ids.tolist() == IDS


def test_ids_that_are_not_unicode_are_an_error(npz):
    assert "video.npz" in complaint(lambda: npz(features=VALUES[:2], ids=np.array([b"J\xf6rg", b"b"])))


@pytest.mark.parametrize("name", ["features", "ids", "mask"])
@pytest.mark.parametrize("item", ["some text", h5py.Empty("f"), 1.0], ids=["text", "empty", "scalar"])
def test_an_h5_data_set_that_is_not_an_array_is_an_error(h5, name, item):
    assert "video.h5" in complaint(lambda: h5(**({"features": VALUES} | {name: item})))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", *ARRAY_SUFFIXES])
def test_a_duplicate_id_is_an_error_that_names_file_sample_and_id(tmp_path, suffix):
    path = write_features(tmp_path / f"video{suffix}", ["a", "b", "c", "b"], VALUES)
    message = complaint(lambda: read_features(path, "id"))
    assert f"video{suffix}, sample 4" in message
    assert "'b' occurs twice" in message


def test_text_in_a_feature_column_is_an_error_that_names_column_text_and_place(csv):
    message = complaint(lambda: csv("id,f,g\nx,1,1\ny,2,2\nz,3,oops\n"))
    assert "video.csv" in message
    assert "'g'" in message
    assert "oops" in message
    assert "line 4" in message or "'z'" in message


@pytest.mark.parametrize("values", [pd.to_datetime(["2020-01-01"] * 2), [[1.0], [2.0]], [b"1", b"2"]])
def test_a_parquet_column_that_is_not_a_number_is_an_error_that_names_it(tmp_path, values):
    path = write_table(tmp_path / "video.parquet", pd.DataFrame({"id": ["a", "b"], "f": [1, 2], "when": values}))
    message = complaint(lambda: read_features(path, "id"))
    assert "video.parquet" in message
    assert "'when'" in message


@pytest.mark.parametrize("kind", ["Int64", "Float32", "boolean"])
def test_missing_numbers_of_parquet_are_nan(tmp_path, kind):
    table = pd.DataFrame({"id": ["a", "b"], "f": pd.array([1, None], dtype=kind)})
    file = read_features(write_table(tmp_path / "video.parquet", table), "id")
    np.testing.assert_array_equal(file.values[:, 0, 0], [1, np.nan])


@pytest.mark.parametrize("text", ["id,f,g\n", "id\na\nb\n"])
def test_a_table_without_rows_or_without_features_is_an_error(csv, text):
    assert "no feature columns or no rows" in complaint(lambda: csv(text))


def test_a_table_without_the_id_column_is_an_error_that_names_it(csv):
    message = complaint(lambda: csv("sample,f\na,1\n"))
    assert "video.csv has no column 'id'" in message
    assert "sample" in message


@pytest.mark.parametrize("text", ["id,f\n,1\nb,2\n", "id,f\na,1\n,2\n,3\n"])
def test_a_row_without_an_id_is_an_error_that_says_so(csv, text):
    message = complaint(lambda: csv(text))
    assert "video.csv" in message
    assert "empty" in message


def test_a_row_index_written_beside_the_features_is_not_a_feature(csv):
    assert "row index" in complaint(lambda: csv(",id,f\n0,a,1\n1,b,2\n"))


def test_rows_with_more_cells_than_the_header_do_not_shift_the_columns(csv):
    file = read_or_rejected(lambda: csv("id,f,g\nx,1,2,\ny,3,4,\n"))
    assert file is None or file.ids.tolist() == ["x", "y"]


@pytest.mark.parametrize("suffix", EVERY_SUFFIX)
def test_a_missing_file_is_an_error_that_names_it(tmp_path, suffix):
    message = complaint(lambda: read_features(tmp_path / f"video{suffix}", "id"))
    assert str(tmp_path / f"video{suffix}") in message
    assert "does not exist" in message


def test_a_folder_is_not_a_feature_file(tmp_path):
    assert str(tmp_path) in complaint(lambda: read_features(tmp_path, "id"))


@pytest.mark.parametrize("name", ["video.mat", "video.pkl", "video"])
def test_an_unknown_kind_of_file_is_an_error_that_lists_the_known_ones(tmp_path, name):
    message = complaint(lambda: read_features(write_text(tmp_path / name, "x"), "id"))
    assert name in message
    assert ".safetensors" in message


@pytest.mark.parametrize("suffix", EVERY_SUFFIX)
def test_a_file_cut_short_anywhere_is_read_or_rejected_and_never_ends_in_a_traceback(tmp_path, suffix):
    whole = write_features(tmp_path / f"whole{suffix}", IDS, VALUES).read_bytes()
    for length in np.unique(np.linspace(0, len(whole) - 1, 60).astype(int)):
        path = write_text(tmp_path / f"cut{suffix}", whole[:length])
        if suffix == ".csv":
            read_or_rejected(lambda path=path: read_features(path, "id"))
        else:
            assert f"cut{suffix}" in complaint(lambda path=path: read_features(path, "id"))


@pytest.mark.parametrize("suffix", [".csv", ".npy", ".npz", ".safetensors"])
def test_a_file_with_a_flipped_byte_is_read_or_rejected_and_never_ends_in_a_traceback(tmp_path, suffix):
    whole = write_features(tmp_path / f"whole{suffix}", IDS, VALUES).read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 150)):
        flipped = bytearray(whole)
        flipped[place] ^= 0x55
        path = write_text(tmp_path / f"flipped{suffix}", bytes(flipped))
        read_or_rejected(lambda path=path: read_features(path, "id"))


def test_a_compressed_file_with_a_flipped_byte_is_an_error(tmp_path):
    np.savez_compressed(tmp_path / "whole.npz", features=np.random.default_rng(0).normal(size=(40, 30)))
    flipped = bytearray((tmp_path / "whole.npz").read_bytes())
    flipped[len(flipped) // 2] ^= 0x55
    path = write_text(tmp_path / "flipped.npz", bytes(flipped))
    assert "flipped.npz" in complaint(lambda: read_features(path, "id"))


@pytest.mark.parametrize("suffix", EVERY_SUFFIX)
@pytest.mark.parametrize("content", [b"", b"\n", bytes(range(256)) * 8], ids=["empty", "blank", "garbage"])
def test_a_file_of_anything_else_is_an_error(tmp_path, suffix, content):
    path = write_text(tmp_path / f"video{suffix}", content)
    assert f"video{suffix}" in complaint(lambda: read_features(path, "id"))


@pytest.mark.parametrize("suffix", EVERY_SUFFIX)
@pytest.mark.parametrize("wrong", EVERY_SUFFIX)
def test_a_file_under_the_suffix_of_another_kind_is_read_or_rejected(tmp_path, suffix, wrong):
    content = write_features(tmp_path / f"right{suffix}", IDS, VALUES).read_bytes()
    path = write_text(tmp_path / f"wrong{wrong}", content)
    file = read_or_rejected(lambda: read_features(path, "id"))
    assert file is None or np.array_equal(file.values[:, 0], VALUES)


@quick
@given(rows=st.lists(st.lists(st.text('ab1.,-"\n\r\x00 é', max_size=3), min_size=1, max_size=4), max_size=5))
def test_no_table_of_whatever_cells_ends_in_a_traceback(tmp_path_factory, rows):
    content = "id,f,g\n" + "\n".join(",".join(row) for row in rows)
    path = write_text(tmp_path_factory.getbasetemp() / "fuzzed.csv", content)
    file = read_or_rejected(lambda: read_features(path, "id"))
    assert file is None or file.values.shape == (len(file.ids), 1, 2)


@pytest.mark.parametrize("member", ["features", "features.txt", "folder/", "features.npy.bak"])
def test_a_member_of_an_npz_that_is_not_an_array_is_one_line(member, tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, ids=np.arange(3))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, b"no array")
    assert "is not a .npy array" in complaint(lambda: read_features(path, "id"))


def test_arrays_of_a_thousand_gigabytes_are_refused_before_they_are_made(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_2_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)})
    (tmp_path / "x.npy").write_bytes(header.getvalue())
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("features.npy", header.getvalue())
    with (tmp_path / "x.safetensors").open("wb") as file:
        file.truncate(4 * 10**12)  # of nothing: it takes no room
    for name in ("x.npy", "x.npz", "x.safetensors"):
        told = complaint(lambda name=name: read_features(tmp_path / name, "id"))
        assert "declares arrays of 4000000000" in told
        assert "MTPKDOT_MAX_BYTES=" in told


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".safetensors", ".parquet"])
def test_the_limit_of_arrays_holds_for_every_kind_and_can_be_raised(suffix, tmp_path, monkeypatch):
    path = write_features(tmp_path / f"x{suffix}", IDS, VALUES)
    monkeypatch.setenv("MTPKDOT_MAX_BYTES", "20")
    assert "more than the limit of 20" in complaint(lambda: read_features(path, "id"))
    monkeypatch.setenv("MTPKDOT_MAX_BYTES", "1e6")
    assert len(read_features(path, "id").values) == len(VALUES)


# --- how files are written --------------------------------------------------------------------------------------

TYPES = {name: kind for name, kind in sorted(safetensors_types().items()) if name != "BOOL"}


@pytest.mark.parametrize("name", TYPES)
def test_tensors_of_every_type_are_read_or_refused_in_one_line(tmp_path, name):
    numbers = torch.tensor([[1.0, 0.0], [0.5, 2.0]]).to(TYPES[name])
    save_tensors({"features": numbers}, tmp_path / "video.safetensors")
    if numbers.is_complex():
        assert "complex64" in complaint(lambda: read_features(tmp_path / "video.safetensors", "id"))
    else:
        file = read_features(tmp_path / "video.safetensors", "id")
        np.testing.assert_array_equal(file.values[:, 0], numbers.float().numpy())
        assert file.values.dtype == np.float32


def test_a_tensor_of_a_type_that_torch_does_not_have_is_one_line(tmp_path):
    save_tensors({"features": torch.ones(4, 4, dtype=torch.uint8)}, tmp_path / "video.safetensors")
    content = (tmp_path / "video.safetensors").read_bytes().replace(b'"U8"', b'"F9"')
    path = write_text(tmp_path / "video.safetensors", content)
    assert "video.safetensors cannot be read (" in complaint(lambda: read_features(path, "id"))


INDICES = {
    "set_index": lambda table: table.set_index("id"),
    "groupby": lambda table: table.groupby("id", sort=False).mean(),
    "with the subject": lambda table: table.assign(subject="p").set_index(["subject", "id"]),
    "with a number": lambda table: table.assign(frame=range(len(table))).set_index(["id", "frame"]),
    "categories": lambda table: table.assign(id=table["id"].astype("category")).set_index("id"),
}


@pytest.mark.parametrize("suffix", [".parquet", ".PARQUET"])
@pytest.mark.parametrize("kind", INDICES)
def test_the_id_may_be_the_index_of_a_parquet_file(tmp_path, kind, suffix):
    table = pd.DataFrame(VALUES, columns=list("abc")).assign(id=IDS)
    INDICES[kind](table).to_parquet(tmp_path / f"video{suffix}")
    file = read_features(tmp_path / f"video{suffix}", "id")
    assert file.ids.tolist() == IDS
    assert file.columns == ["a", "b", "c"]
    np.testing.assert_array_equal(file.values[:, 0], VALUES)


def test_a_row_index_that_another_program_has_made_a_column_of_is_not_a_feature(tmp_path):
    table = pd.DataFrame({"id": ["a", "b"], "f": [1.0, 2.0], "__index_level_0__": [0, 1]})
    path = write_table(tmp_path / "video.parquet", table)
    assert "row index" in complaint(lambda: read_features(path, "id"))


@pytest.mark.parametrize("suffix", [".CSV", ".Parquet", ".NPZ", ".H5", ".SafeTensors"])
def test_suffixes_in_capitals_are_the_same_kind(tmp_path, suffix):
    path = write_features(tmp_path / f"video{suffix.lower()}", IDS, VALUES).rename(tmp_path / f"video{suffix}")
    np.testing.assert_array_equal(read_features(path, "id").values[:, 0], VALUES)


@pytest.mark.parametrize("text", ["id,f,\na,1,\nb,2,\n", "id,f,g,,\na,1,2,,\nb,3,4,,\n", "id,f,\na,1\nb,2\n"])
def test_trailing_separators_are_named_as_the_cause_of_a_column_without_a_name(csv, text):
    message = complaint(lambda: csv(text))
    assert "video.csv has a column without a name" in message
    assert "trailing separator" in message


def test_a_column_without_a_name_that_holds_something_has_two_causes(csv):
    message = complaint(lambda: csv("id,f,\na,1,0\nb,2,\n"))
    assert "row index" in message
    assert "trailing" in message


def test_an_id_column_with_a_similar_name_is_reported_as_different(csv):
    message = complaint(lambda: csv("ID ,f\na,1\n"))
    assert "has no column 'id' to join on, only ID , f...; its 'ID ' is another name: they differ by" in message


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_equal_ids_in_two_forms_of_unicode_occur_twice(tmp_path, suffix):
    path = write_features(tmp_path / f"video{suffix}", ["a", "o\u0308", "b", "\u00f6"], VALUES)
    message = complaint(lambda: read_features(path, "id"))
    assert "sample 4: the id '\u00f6' occurs twice (the other is sample 2; they differ by the Unicode form" in message


def test_all_cells_that_are_not_numbers_are_counted(csv):
    message = complaint(lambda: csv("id,f\nx,high\ny,1\nz,low\nw,#N/A\n"))
    assert "sample 'x': 'f' is 'high', not a number (2 cells of the column are not)" in message
