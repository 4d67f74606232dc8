"""Cells of tables: numbers, words for a missing value, and the index of a Parquet file."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtpkdot.data.tables.reading import as_numbers, column_names, read_table
from tests.data.helpers import quick, read_or_rejected

MISSING = [
    "",
    " ",
    "NA",
    "N/A",
    "n/a",
    "NaN",
    "-nan",
    "nan(ind)",
    "-nan(ind)",
    "NULL",
    "None",
    "<NA>",
    "-",
    "--",
    ".",
    "?",
]
MISSING += [
    "#N/A",
    "#N/A N/A",
    "#NV",
    "#DIV/0!",
    "#VALUE!",
    "#WERT!",
    "#NAME?",
    "#REF!",
    "-1.#IND",
    "1.#QNAN",
    "1.#SNAN",
]
MISSING += ["-1.#IND00", "\\N", "\u2013"]


@pytest.mark.parametrize("word", MISSING)
def test_a_word_for_a_missing_value_is_nan(word):
    numbers, wrong = as_numbers(pd.Series(["1.5", word, None]))
    np.testing.assert_array_equal(numbers, [1.5, np.nan, np.nan])
    assert not wrong.any()


@pytest.mark.parametrize(
    ("word", "sign"), [("inf", 1), ("-Inf", -1), ("Infinity", 1), ("1.#INF", 1), ("-1.#INF00", -1)]
)
def test_a_word_for_infinity_is_infinite(word, sign):
    numbers, wrong = as_numbers(pd.Series(["1.5", word, "#N/A"]))
    assert numbers.tolist()[:2] == [1.5, sign * np.inf]
    assert not wrong.any()


@pytest.mark.parametrize("cell", ["high", "1,5", "#1", "nanny", "NAN3", "1.#", b"1", [1.0], pd.Timestamp("2020-01-01")])
def test_anything_else_is_wrong(cell):
    assert as_numbers(pd.Series(["1.5", cell, None], dtype=object))[1].tolist() == [False, True, False]


@quick
@given(st.lists(st.floats(width=32) | st.integers(-99, 99) | st.booleans() | st.none(), min_size=1))
def test_numbers_survive_as_text_and_as_objects(cells):
    wanted = [np.nan if cell is None else float(cell) for cell in cells]
    texts = [None if cell is None else repr(cell if isinstance(cell, float) else int(cell)) for cell in cells]
    decimals = [None if text is None else Decimal(text) for text in texts]
    for given_as in (cells, texts, decimals):
        numbers, wrong = as_numbers(pd.Series(given_as, dtype=object))
        np.testing.assert_array_equal(numbers.to_numpy(dtype=float), wanted)
        assert not wrong.any()


@pytest.fixture
def parquet(tmp_path):
    def write(table):
        table.to_parquet(tmp_path / "t.parquet")
        return tmp_path / "t.parquet"

    return write


def test_levels_of_an_index_that_have_a_name_are_columns_where_all_is_text(parquet):
    path = parquet(pd.DataFrame({"s": ["p", "q"], "i": [7, 8], "y": [1.0, 2.0]}).set_index(["s", "i"]))
    assert column_names(path) == ["y", "s", "i"]
    assert read_table(path).to_dict("list") == {"s": ["p", "q"], "i": ["7", "8"], "y": ["1", "2"]}


def test_only_named_columns_of_an_index_are_read_beside_numbers(parquet):
    path = parquet(pd.DataFrame({"id": ["a", "b"], "frame": [0, 1], "f": [1.0, 2.0]}).set_index(["id", "frame"]))
    assert read_table(path, ["id"]).to_dict("list") == {"id": ["a", "b"], "f": [1.0, 2.0]}


@pytest.mark.parametrize("index", [pd.RangeIndex(3, 5), pd.Index([9, 4]), pd.Index(["x", "y"])])
def test_an_index_without_a_name_is_left_out(parquet, index):
    path = parquet(pd.DataFrame({"id": ["a", "b"], "f": [1.0, 2.0]}, index=index))
    assert column_names(path) == ["id", "f"]
    assert list(read_table(path).columns) == list(read_table(path, ["id"]).columns) == ["id", "f"]


@pytest.mark.parametrize("index", [pd.RangeIndex(2, name="id"), pd.Index([0, 1], name="id")])
def test_an_index_that_is_the_id_is_read_whatever_its_kind(parquet, index):
    assert read_table(parquet(pd.DataFrame({"f": [1.0, 2.0]}, index=index)), ["id"])["id"].tolist() == ["0", "1"]


@pytest.mark.parametrize("key", [b"index_columns", b"pandas_type", b"numpy_type", b"unicode", b"column_indexes"])
def test_damaged_notes_of_pandas_in_a_parquet_file_are_one_line_or_without_effect(tmp_path, key):
    table = pd.DataFrame({"id": ["a", "b"], "level": [1.0, 2.0]})
    path = tmp_path / "face.parquet"
    stored = pa.Table.from_pandas(table.set_index("id"))
    notes = stored.schema.metadata[b"pandas"]
    assert key in notes
    pq.write_table(stored.replace_schema_metadata({"pandas": notes.replace(key, key[:2] + b"h" + key[3:])}), path)
    read = read_or_rejected(lambda: read_table(path, ["id"]))
    assert read is None or read.to_dict("list") == table.to_dict("list")
