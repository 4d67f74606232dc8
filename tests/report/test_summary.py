import re

import pandas as pd

from mtpkdot.report.summary import few, summarise
from tests.report import fake


def test_the_summary_has_a_row_per_method_and_a_column_per_reference(tmp_path):
    made = fake.study(tmp_path / "s", ("none", "pkdot", "selftraining", "mtpkdot"))
    fake.write(made, {"mtpkdot": 0.8}, skip={"all/mtpkdot/fold0-seed0"})
    text = summarise(made.folder)
    assert text == (made.folder / "summary.md").read_text()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    assert lines[0] == [
        *("method", "accuracy", "95 %", "sd"),
        *(f"vs {name} [95 %], p" for name in ("base", "pkdot", "selftraining")),
        "gap closed",
    ]
    rows = {line[0]: line[1:] for line in lines[1:]}
    assert list(rows)[-5:] == ["base", "none", "pkdot", "selftraining", "mtpkdot"]
    assert re.fullmatch(r"[+-]0\.\d{4} \[[+-]0\.\d{4}, [+-]0\.\d{4}\], [01]\.\d{3}", rows["mtpkdot"][3])
    assert re.fullmatch(r"-?\d+% \[-?\d+%, -?\d+%\]", rows["mtpkdot"][6])
    assert rows["pkdot"][4] == rows["teacher"][3] == ""
    assert "3 folds, 2 seeds" in text
    assert "Not finished: 1 cells: s/all/mtpkdot/fold0-seed0" in text


def test_numbers_are_in_files_as_well(tmp_path):
    made = fake.study(tmp_path / "s")
    fake.write(made)
    summarise(made.folder)
    values, differences = (pd.read_csv(made.folder / f"{name}.csv") for name in ("results", "comparisons"))
    assert set(values["metric"]) == {"accuracy", "macro_f1", "balanced_accuracy", "ece"}
    assert set(differences["reference"]) == {"base", "pkdot"}
    assert {"p_bootstrap", "p_t", "gap_closed", "gap_low", "gap_high"} <= set(differences)


def test_many_names_are_the_first_and_a_number():
    assert few([str(i) for i in range(22)]).endswith("19 and 2 more")
    assert few(["a", "b"]) == "a, b"
