"""Signal files in every state: the numbers as written, or an error that names the line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtpkdot.data.biovid.layout import read_signals
from tests.data.helpers import complaint, quick, read_or_rejected

RATE = 512
SHORT = ["time", "gsr", "ecg", "emg_trapezius"]
LONG = [*SHORT, "emg_corrugator", "emg_zygomaticus"]


def table(columns=SHORT, rows=20):
    values = np.random.default_rng(0).normal(size=(rows, len(columns)))
    values[:, 0] = np.round(np.arange(rows) / RATE * 1e6)
    return values


def text(values=None, columns=SHORT, separator="\t", end="\n"):
    values = table(columns) if values is None else values
    return end.join([separator.join(columns), *(separator.join(repr(float(v)) for v in row) for row in values)]) + end


def signals(tmp_path, content):
    path = tmp_path / "clip_bio.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_signals(path)


@pytest.mark.parametrize("columns", [SHORT, LONG, [*LONG, "temperature"]])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_signals_are_read_as_written(tmp_path, columns, end):
    values = table(columns, rows=2816)
    got = signals(tmp_path, text(values, columns, end=end) + end * 3)
    assert list(got.columns) == columns[1:]
    for place, name in enumerate(columns[1:], start=1):
        np.testing.assert_allclose(got.columns[name], values[:, place], rtol=1e-12)
        assert got.columns[name].dtype == np.float64
    assert got.rate == pytest.approx(RATE, rel=1e-6)
    np.testing.assert_allclose(got.times, np.arange(2816) / RATE, atol=1e-6)


@quick
@given(st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=2, max_size=20))
def test_numbers_survive_the_way_through_a_file(tmp_path_factory, numbers):
    values = np.column_stack([np.arange(len(numbers)) * 1e6 / RATE, numbers])
    got = signals(tmp_path_factory.mktemp("signals"), text(values, ["time", "gsr"]))
    np.testing.assert_allclose(got.columns["gsr"], numbers, rtol=1e-12)


def test_a_byte_order_mark_is_not_part_of_the_header(tmp_path):
    assert list(signals(tmp_path, b"\xef\xbb\xbf" + text().encode()).columns) == SHORT[1:]


def damage(line, new):
    lines = text().splitlines()
    lines[line - 1] = new(lines[line - 1])
    return "\n".join(lines) + "\n"


def cell(place, value):
    def change(line):
        cells = line.split("\t")
        cells[place] = value
        return "\t".join(cells)

    return change


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("\r\n \n", "is empty"),
        ("\t".join(SHORT), "holds a header and no rows"),
        ("\n".join(text().splitlines()[:2]), "only one row"),
        ("\n".join(text().splitlines()[1:]), "line 1 holds numbers where the header"),
        (text(separator=","), "is separated by commas, not by tabs"),
        (text(separator=";"), "is separated by semicolons, not by tabs"),
        (text(columns=["zeit", "gsr"]), "line 1 is 'zeit"),
        (text(columns=["time", "gsr", "gsr"]), "names a column twice"),
        (text(columns=["time"]), "has no signals"),
        (damage(7, cell(1, "0,123")), "line 7 holds '0,123' in the column 'gsr': a decimal comma"),
        (damage(7, cell(2, "abc")), "line 7 holds 'abc' in the column 'ecg', which is not a number"),
        (damage(7, cell(2, "")), "line 7 has an empty cell in the column 'ecg'"),
        (damage(7, cell(2, "NaN")), "line 7 holds 'NaN' in the column 'ecg'"),
        (damage(7, cell(3, "-inf")), "line 7 holds '-inf' in the column 'emg_trapezius'"),
        (damage(7, cell(3, '"1')), "line 7 holds '\"1' in the column"),
        (damage(7, lambda line: ""), "line 7 is empty"),
        (damage(7, lambda line: line + "\t1"), "line 7 has 5 cells where the header has 4"),
        (text().replace("\n", "\t1\n").replace("\t1", "", 1), "line 2 has 5 cells where the header has 4"),
        (damage(7, lambda line: line[:4]), "line 7 has 1 cells where the header has 4"),
        (damage(21, lambda line: line[:4]), "line 21 has 1 cells where the header has 4"),
        (damage(7, cell(0, "0")), "line 7: time does not increase"),
        (damage(7, cell(0, "9790")), "line 7 comes 0.001978 s after the line before"),
        (damage(7, lambda line: line.replace("1", "\0")), "zero bytes"),
        (text().encode("utf-16"), "zero bytes"),
        (b"time\tgsr\xff\n1\t2\n", "not text in UTF-8"),
        (text(table() * [1e-6, 1, 1, 1]), "does not seem to be in microseconds"),
    ],
)
def test_a_damaged_signal_file_is_refused_with_its_line(tmp_path, content, words):
    line = complaint(lambda: signals(tmp_path, content))
    assert "clip_bio.csv" in line
    assert words in line


def test_jitter_within_one_per_cent_is_accepted(tmp_path):
    values = table()
    values[5, 0] += 15
    assert signals(tmp_path, text(values)).rate == pytest.approx(RATE, rel=1e-3)


def test_a_missing_signal_file_is_a_user_error(tmp_path):
    assert "cannot be read (No such file" in complaint(lambda: read_signals(tmp_path / "absent.csv"))


@quick
@given(data=st.data())
def test_a_signal_file_cut_or_changed_anywhere_is_read_or_refused(tmp_path_factory, data):
    content = bytearray(text().encode())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("damage")
    got = read_or_rejected(lambda: signals(folder, bytes(content)))
    assert got is None or all(np.isfinite(column).all() for column in got.columns.values())


def test_all_damaged_lines_of_a_signal_file_are_reported(tmp_path):
    lines = text().splitlines()
    for number in (4, 7, 9, 12):
        lines[number - 1] = lines[number - 1] + "\t1" if number == 7 else "x" + lines[number - 1]
    line = complaint(lambda: signals(tmp_path, "\n".join(lines) + "\n"))
    assert "4 lines are damaged: line 4 holds 'x" in line
    assert "; line 7 has 5 cells where the header has 4; line 9 holds 'x" in line
    assert "; and 1 more. " in line


def test_all_jumps_of_the_time_are_reported(tmp_path):
    lines = text().splitlines()
    del lines[14], lines[7]
    line = complaint(lambda: signals(tmp_path, "\n".join(lines) + "\n"))
    assert "2 lines are damaged: line 8 comes " in line
    assert "; line 14 comes " in line
