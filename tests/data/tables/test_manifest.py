"""The manifest: ids that stay text, targets that may be missing, and one clear error for everything else."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtpkdot.data.tables.manifest import Columns, read_manifest
from mtpkdot.data.tables.reading import read_table
from tests.data.helpers import complaint, quick, read_or_rejected, write_table, write_text

COLUMNS = Columns("id", "subject", None, ["y"])
TWO_TARGETS = Columns("id", "subject", None, ["valence", "arousal"])
SUFFIXES = (".csv", ".parquet")


@pytest.fixture
def classes(tmp_path):
    """Read a classification manifest with this target; other columns can be given too."""

    def read(target, suffix=".csv", **columns):
        table = {"id": [f"clip{i}" for i in range(len(target))], "subject": "p0", "y": target} | columns
        return read_manifest(
            write_table(tmp_path / f"manifest{suffix}", pd.DataFrame(table)), COLUMNS, "classification"
        )

    return read


@pytest.fixture
def text(tmp_path):
    """Read a manifest that is written out."""

    def read(content, task="classification", columns=COLUMNS, missing_labels=()):
        return read_manifest(write_text(tmp_path / "manifest.csv", content), columns, task, missing_labels)

    return read


def test_ids_subjects_and_folds_that_look_like_numbers_stay_text_in_csv(text):
    columns = Columns("id", "subject", "fold", ["y"])
    manifest = text("id,subject,fold,y\n007,01,00,a\n7,1,0,b\n1e3,1.0,1,a\n", columns=columns)
    assert manifest.ids.tolist() == ["007", "7", "1e3"]
    assert manifest.subjects.tolist() == ["01", "1", "1.0"]
    assert manifest.split.tolist() == ["00", "0", "1"]


@pytest.mark.parametrize("number", [int, float, np.float32, np.int8, pd.Int64Dtype(), pd.CategoricalDtype()])
def test_ids_and_subjects_that_parquet_holds_as_numbers_read_as_integers(classes, number):
    numbers = pd.Series([7, 8, 10]).astype(number)
    manifest = classes(["a", "b", "a"], ".parquet", id=numbers, subject=numbers)
    assert manifest.ids.tolist() == ["7", "8", "10"]
    assert manifest.subjects.tolist() == ["7", "8", "10"]


def test_ids_that_parquet_holds_as_text_stay_as_they_are(classes):
    assert classes(["a", "b"], ".parquet", id=["007", "7.0"]).ids.tolist() == ["007", "7.0"]


def test_ids_that_parquet_holds_as_bytes_read_as_their_text(classes):
    assert classes(["a", "b"], ".parquet", id=[b"007", b"x"]).ids.tolist() == ["007", "x"]


@pytest.mark.parametrize("name", ["NA", "None", "null", "nan", "N/A"])
def test_ids_and_subjects_that_read_like_missing_values_are_names(text, name):
    manifest = text(f"id,subject,y\n{name},{name},a\nx,p1,b\n")
    assert manifest.ids.tolist() == [name, "x"]
    assert manifest.subjects.tolist() == [name, "p1"]


@pytest.mark.parametrize("name", ["None", "NA", "null", "n/a"])
def test_a_class_may_be_called_none(classes, name):
    manifest = classes(["mild", name, "severe", name])
    assert sorted(manifest.class_names) == sorted(["mild", name, "severe"])
    assert manifest.labelled.all()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_numeric_class_labels_sort_numerically(classes, suffix):
    manifest = classes([10, 9, 2, 10], suffix)
    assert manifest.class_names == ["2", "9", "10"]
    assert manifest.target.tolist() == [2, 1, 0, 2]
    assert manifest.target.dtype == np.int64


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_ordinal_classes_are_ordered_as_numbers(tmp_path, suffix):
    table = pd.DataFrame({"id": list("abcde"), "subject": "p", "y": [10, 9, None, -2, 9]})
    manifest = read_manifest(write_table(tmp_path / f"m{suffix}", table), COLUMNS, "ordinal")
    assert manifest.class_names == ["-2", "9", "10"]
    assert manifest.target.tolist() == [2, 1, -1, 0, 1]
    assert manifest.labelled.tolist() == [True, True, False, True, True]


def test_an_ordinal_class_that_is_not_a_number_is_an_error_that_names_the_line(text):
    message = complaint(lambda: text("id,subject,y\na,p,1\nb,p,\nc,p,high\nd,p,low\n", "ordinal"))
    assert "manifest.csv, line 4" in message
    assert "'high' is not a number" in message
    assert "Number the classes" in message


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_text_class_labels_sort_alphabetically(classes, suffix):
    manifest = classes(["pain", "calm", "pain"], suffix)
    assert manifest.class_names == ["calm", "pain"]
    assert manifest.target.tolist() == [1, 0, 1]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", [float, pd.Int64Dtype()])
def test_integer_classes_beside_unlabelled_rows_keep_their_integer_names(classes, suffix, kind):
    manifest = classes(pd.Series([3, None, 12, 3], dtype=kind), suffix)
    assert manifest.class_names == ["3", "12"]
    assert manifest.labelled.tolist() == [True, False, True, True]
    assert manifest.target[manifest.labelled].tolist() == [0, 1, 0]


def test_classes_that_are_not_integers_keep_their_decimals(classes):
    assert classes([0.5, 1.5, 0.5]).class_names == ["0.5", "1.5"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_true_and_false_are_classes(classes, suffix):
    manifest = classes([True, False, None], suffix)
    assert manifest.class_names == ["False", "True"]
    assert manifest.labelled.tolist() == [True, True, False]


def test_an_empty_text_in_parquet_is_not_a_class(classes):
    manifest = classes(["a", "", "b"], ".parquet")
    assert manifest.class_names == ["a", "b"]
    assert manifest.labelled.tolist() == [True, False, True]


def test_a_rare_text_label_after_very_many_numeric_ones_is_one_more_class(text):
    # pandas guesses the type of a column piece by piece in long files.
    rows = "".join(f"{number},p,{number % 2}\n" for number in range(400_000))
    manifest = text(f"id,subject,y\n{rows}x,p,unsure\n")
    assert sorted(manifest.class_names) == ["0", "1", "unsure"]


def test_a_manifest_without_a_subject_column_has_no_subjects(text):
    manifest = text("id,y\n1,a\n2,b\n", columns=Columns("id", None, None, ["y"]))
    assert manifest.subjects is None
    assert manifest.split is None


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(text):
    manifest = text(b"\xef\xbb\xbfid,subject,y\r\n007,p,a\r\n8,p,b\r\n")
    assert manifest.ids.tolist() == ["007", "8"]
    assert manifest.class_names == ["a", "b"]


def test_a_row_index_of_the_writer_is_ignored(tmp_path):
    table = pd.DataFrame({"id": ["x", "y"], "subject": "p", "y": ["b", "a"]}, index=[5, 3])
    table.to_parquet(tmp_path / "manifest.parquet")
    manifest = read_manifest(tmp_path / "manifest.parquet", COLUMNS, "classification")
    assert manifest.ids.tolist() == ["x", "y"]
    assert manifest.target.tolist() == [1, 0]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_row_with_all_targets_empty_is_unlabelled(tmp_path, suffix):
    table = pd.DataFrame({"id": ["a", "b", "c"], "subject": "p", "valence": [0.5, None, -1], "arousal": [1, None, 0]})
    manifest = read_manifest(write_table(tmp_path / f"m{suffix}", table), TWO_TARGETS, "regression")
    assert manifest.labelled.tolist() == [True, False, True]
    np.testing.assert_array_equal(manifest.target[[0, 2]], np.array([[0.5, 1], [-1, 0]], dtype=np.float32))
    assert manifest.class_names == []


def test_half_empty_targets_are_an_error_that_names_the_line(text):
    content = "id,subject,valence,arousal\na,p,0.5,1\nb,p,,\nc,p,0.5,\n"
    message = complaint(lambda: text(content, "regression", TWO_TARGETS))
    assert "manifest.csv, line 4" in message
    assert "some targets are empty" in message


def test_a_line_is_named_right_even_after_blank_lines(text):
    content = "id,subject,valence,arousal\na,p,0.5,1\n\n\nc,p,0.5,\n"
    message = complaint(lambda: text(content, "regression", TWO_TARGETS))
    assert "line 5" in message or "'c'" in message


@pytest.mark.parametrize("value", ["inf", "-inf", "1e39", "-1e400"])
def test_a_target_that_is_not_finite_in_single_precision_is_an_error_that_names_the_line(text, value):
    message = complaint(lambda: text(f"id,subject,y\na,p,0.5\nb,p,{value}\n", "regression"))
    assert "manifest.csv, line 3" in message
    assert "'y'" in message


def test_an_infinite_class_label_is_an_error(text):
    assert "line 3" in complaint(lambda: text("id,subject,y\na,p,1\nb,p,inf\nc,p,2\n"))


def test_text_in_a_numeric_target_is_an_error_that_names_line_column_and_text(text):
    message = complaint(lambda: text("id,subject,y\na,p,0.5\nb,p,\nc,p,high\n", "regression"))
    assert "manifest.csv, line 4" in message
    assert "'y' is 'high'" in message


@pytest.fixture(params=["dates", "lists"])
def odd_targets(request, tmp_path):
    """A Parquet manifest whose target is neither number nor text."""
    dates, lists = pd.to_datetime(["2020-01-01", "2020-01-02"]), [[1.0, 2.0], [3.0, 4.0]]
    table = pd.DataFrame({"id": ["a", "b"], "subject": "p", "y": dates if request.param == "dates" else lists})
    return write_table(tmp_path / "manifest.parquet", table)


def test_regression_targets_that_are_dates_or_lists_are_an_error_that_names_the_column(odd_targets):
    message = complaint(lambda: read_manifest(odd_targets, COLUMNS, "regression"))
    assert "manifest.parquet" in message
    assert "'y'" in message


def test_class_labels_that_are_dates_or_lists_are_two_classes_or_an_error(odd_targets):
    manifest = read_or_rejected(lambda: read_manifest(odd_targets, COLUMNS, "classification"))
    assert manifest is None or len(manifest.class_names) == 2


def test_decimal_numbers_in_parquet_are_numbers(tmp_path):
    table = pd.DataFrame({"id": ["a", "b"], "subject": "p", "y": [Decimal("0.25"), Decimal("1.5")]})
    manifest = read_manifest(write_table(tmp_path / "manifest.parquet", table), COLUMNS, "regression")
    np.testing.assert_array_equal(manifest.target[:, 0], np.array([0.25, 1.5], dtype=np.float32))


def test_a_target_named_twice_is_an_error(text):
    columns = Columns("id", "subject", None, ["y", "y"])
    assert "'y'" in complaint(lambda: text("id,subject,y\na,p,1\nb,p,2\n", "regression", columns))


@pytest.mark.parametrize(("suffix", "place"), [(".csv", "line 4"), (".parquet", "row 3")])
def test_a_duplicate_id_is_an_error_that_names_the_id_and_the_row(classes, suffix, place):
    message = complaint(lambda: classes(["a", "b", "a"], suffix, id=["007", "x", "007"]))
    assert f"manifest{suffix}, {place}" in message
    assert "'007' occurs twice" in message


@pytest.mark.parametrize("column", ["id", "subject", "fold"])
def test_an_empty_name_is_an_error_that_names_row_and_column(text, column):
    row = {"id": "b", "subject": "p1", "fold": "2", "y": "n"} | {column: ""}
    content = "id,subject,fold,y\na,p,1,m\n" + ",".join(row.values()) + "\n"
    message = complaint(lambda: text(content, columns=Columns("id", "subject", "fold", ["y"])))
    assert f"manifest.csv, line 3: the column {column!r} is empty" in message


@pytest.mark.parametrize(
    "ids",
    [
        pd.Series(["a", None]),
        pd.Series([1.0, None]),
        pd.Series([1, None], dtype="Int64"),
        pd.Series(["a", None], dtype="string"),
        pd.Series(["a", ""]),
    ],
    ids=["null", "float", "nullable integer", "nullable text", "empty text"],
)
def test_an_empty_id_in_parquet_is_an_error_that_names_the_row(classes, ids):
    message = complaint(lambda: classes(["a", "b"], ".parquet", id=ids))
    assert "manifest.parquet, row 2: the column 'id' is empty" in message


@pytest.mark.parametrize("column", ["id", "subject", "y"])
def test_a_missing_column_is_an_error_that_names_it_and_those_there_are(text, column):
    content = "id,subject,y,extra\na,p,m,1\n".replace(column, f"{column}_")
    message = complaint(lambda: text(content))
    assert f"no column {column!r}" in message
    assert f"{column}_" in message
    assert "extra" in message


def test_a_manifest_without_rows_is_an_error(text):
    assert "has no rows" in complaint(lambda: text("id,subject,y\n"))


@pytest.mark.parametrize("labels", ["a,a", "a,", ","])
def test_fewer_than_two_classes_are_an_error(text, labels):
    first, second = labels.split(",")
    message = complaint(lambda: text(f"id,subject,y\n1,p,{first}\n2,p,{second}\n"))
    assert "manifest.csv" in message
    assert "two classes" in message


@pytest.mark.parametrize("targets", [[], ["valence", "arousal"]])
@pytest.mark.parametrize("task", ["classification", "ordinal"])
def test_classes_want_exactly_one_target(text, targets, task):
    content = "id,subject,valence,arousal\na,p,1,0\nb,p,0,1\n"
    message = complaint(lambda: text(content, task, Columns("id", "subject", None, targets)))
    assert f"not {len(targets)}" in message


def test_regression_without_a_target_is_an_error(text):
    columns = Columns("id", "subject", None, [])
    assert "target" in complaint(lambda: text("id,subject,y\na,p,1\n", "regression", columns))


def test_rows_with_more_cells_than_the_header_do_not_shift_the_columns(text):
    content = "id,subject,y\na,p0,m,\nb,p1,n,\n"
    manifest = read_or_rejected(lambda: text(content))
    if manifest is None:
        assert "header" in complaint(lambda: text(content))
    else:
        assert manifest.ids.tolist() == ["a", "b"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        bytes(range(256)) * 8,
        b"\x00\x01" * 100,
        "id,subject,y\nx,Jörg,a\n".encode("latin-1"),
        b'id,"y\na,b',
    ],
    ids=["empty", "blank", "garbage", "zeros", "latin-1", "open quote"],
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_not_a_table_is_an_error_that_names_it(tmp_path, content, suffix):
    path = write_text(tmp_path / f"manifest{suffix}", content)
    assert str(path) in complaint(lambda: read_manifest(path, COLUMNS, "classification"))


def test_a_parquet_file_cut_short_anywhere_is_an_error(tmp_path):
    table = pd.DataFrame({"id": ["a", "b"], "subject": "p", "y": ["m", "n"]})
    whole = write_table(tmp_path / "whole.parquet", table).read_bytes()
    for length in range(0, len(whole), 97):
        path = write_text(tmp_path / "cut.parquet", whole[:length])
        assert "cut.parquet" in complaint(lambda path=path: read_manifest(path, COLUMNS, "classification"))


@pytest.mark.parametrize("name", ["absent.csv", "absent.parquet", ""])
def test_a_missing_manifest_is_an_error_that_names_it(tmp_path, name):
    path = tmp_path / name
    assert str(path) in complaint(lambda: read_table(path))


@quick
@given(rows=st.lists(st.lists(st.text('ab1.,-"\n\r\x00 é', max_size=3), min_size=1, max_size=4), max_size=5))
@pytest.mark.parametrize("task", ["classification", "ordinal", "regression"])
def test_no_table_of_whatever_cells_ends_in_a_traceback(tmp_path_factory, rows, task):
    content = "id,subject,y\n" + "\n".join(",".join(row) for row in rows)
    path = write_text(tmp_path_factory.getbasetemp() / "fuzzed.csv", content)
    manifest = read_or_rejected(lambda: read_manifest(path, COLUMNS, task))
    assert manifest is None or len(manifest.ids) == len(set(manifest.ids.tolist())) == len(manifest.labelled)


# --- words for a missing label ------------------------------------------------------------------------------------

WORDS = ["NA", "N/A", "null", "None", "nan", "-", "#N/A", "-nan(ind)", "<NA>", "?", "."]


@pytest.mark.parametrize("task", ["classification", "ordinal", "regression"])
@pytest.mark.parametrize("word", WORDS)
def test_a_word_for_a_missing_value_among_numbers_is_reported_and_can_be_taken_as_missing(tmp_path, word, task):
    path = write_text(tmp_path / "manifest.csv", f"id,subject,y\na,p,1\nb,p,\nc,p,{word}\nd,p,2\ne,p,{word}\n")
    message = complaint(lambda: read_manifest(path, COLUMNS, task))
    assert f"the target 'y' is {word!r} in 2 rows (first in line 4) and a number elsewhere" in message
    assert f'missing_labels to ["{word}"]' in message
    manifest = read_manifest(path, COLUMNS, task, [word])
    assert manifest.labelled.tolist() == [True, False, False, True, False]
    assert manifest.class_names == ([] if task == "regression" else ["1", "2"])
    assert manifest.without == {word: 2}


def test_a_word_for_a_missing_value_among_true_and_false_is_reported(classes):
    message = complaint(lambda: classes(["TRUE", "FALSE", "NA", "TRUE"]))
    assert "'NA' in 1 rows" in message


@pytest.mark.parametrize("label", ["none", "NA", "-"])
def test_among_text_the_same_words_are_classes_unless_they_are_named(tmp_path, label):
    table = pd.DataFrame({"id": list("abcd"), "subject": "p", "y": ["joy", label, "anger", "joy"]})
    path = write_table(tmp_path / "m.csv", table)
    assert sorted(read_manifest(path, COLUMNS, "classification").class_names) == sorted(["anger", "joy", label])
    manifest = read_manifest(path, COLUMNS, "classification", [label])
    assert manifest.class_names == ["anger", "joy"]
    assert manifest.labelled.tolist() == [True, False, True, True]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("task", ["classification", "ordinal", "regression"])
def test_a_number_can_stand_for_no_label(tmp_path, suffix, task):
    table = pd.DataFrame({"id": list("abcd"), "subject": "p", "y": [0.0, -9.0, 1.0, None]})
    manifest = read_manifest(write_table(tmp_path / f"m{suffix}", table), COLUMNS, task, [-9])
    assert manifest.labelled.tolist() == [True, False, True, False]
    assert manifest.without == {"-9": 1}


def test_several_targets_are_missing_together_whatever_they_hold(text):
    content = "id,subject,valence,arousal\na,p,0.5,1\nb,p,NA,\nc,p,-,NA\n"
    path = "manifest.csv: the target 'valence' is "
    assert f"{path}'NA' in 1 rows, '-' in 1 rows" in complaint(lambda: text(content, "regression", TWO_TARGETS))


def test_spaces_around_a_word_are_ignored(text):
    content = "id,subject,y\na,p,1\nb,p, NA\nc,p,NA \nd,p,2\n"
    assert "'NA' in 2 rows (first in line 3)" in complaint(lambda: text(content))
    assert text(content, missing_labels=["NA"]).labelled.tolist() == [True, False, False, True]


def test_cells_of_spaces_alone_are_missing_labels(classes):
    manifest = classes(["a", " ", "b", "  "])
    assert manifest.class_names == ["a", "b"]
    assert manifest.labelled.tolist() == [True, False, True, False]


@quick
@given(st.lists(st.sampled_from(["0", "1", "", *WORDS]), min_size=4, max_size=12))
def test_labelled_samples_have_a_number(tmp_path_factory, labels):
    rows = "".join(f"s{row},p,{label}\n" for row, label in enumerate(["0", "1", *labels]))
    path = write_text(tmp_path_factory.getbasetemp() / "words.csv", f"id,subject,y\n{rows}")
    manifest = read_manifest(path, COLUMNS, "classification", WORDS)
    assert manifest.labelled.tolist() == [label in ("0", "1") for label in ["0", "1", *labels]]
    assert sum(manifest.without.values()) == sum(label in WORDS for label in labels)
    if {*labels} & {*WORDS}:
        complaint(lambda: read_manifest(path, COLUMNS, "classification"))


def test_targets_that_are_not_numbers_are_counted(text):
    message = complaint(lambda: text("id,subject,y\na,p,high\nb,p,1\nc,p,low\n", "regression"))
    assert "line 2: the target 'y' is 'high', not a finite number (2 such rows)" in message


# --- names ----------------------------------------------------------------------------------------------------------


def test_names_and_classes_are_read_in_one_form_of_unicode(text):
    manifest = text("id,subject,y\no\u0308,u\u0308,e\u0301\nx,\u00fc,\u00e9\nz,\u00fc,b\n")
    assert manifest.ids.tolist() == ["\u00f6", "x", "z"]
    assert set(manifest.subjects.tolist()) == {"\u00fc"}
    assert manifest.class_names == ["b", "\u00e9"]


def test_an_id_in_two_forms_of_unicode_occurs_twice(text):
    message = complaint(lambda: text("id,subject,y\no\u0308,p,a\nx,p,b\n\u00f6,p,a\n"))
    assert (
        "line 4: the id '\u00f6' occurs twice (the other one is in line 2; they differ by the Unicode form" in message
    )


@pytest.mark.parametrize("header", ["id,subject, y", "id,subject,Y", "id,subject,y\u200b", "id,\u0455ubject,y"])
def test_a_column_with_a_similar_name_is_reported_as_different(text, header):
    message = complaint(lambda: text(f"{header}\na,p,1\nb,p,2\n"))
    assert "has no column" in message
    assert "is another name: they differ by" in message


def test_a_manifest_whose_id_is_the_index_is_read(tmp_path):
    table = pd.DataFrame({"id": ["x", "y"], "subject": "p", "y": ["b", "a"]}).set_index(["subject", "id"])
    table.to_parquet(tmp_path / "manifest.parquet")
    manifest = read_manifest(tmp_path / "manifest.parquet", COLUMNS, "classification")
    assert manifest.ids.tolist() == ["x", "y"]
    assert manifest.subjects.tolist() == ["p", "p"]
