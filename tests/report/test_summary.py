import re

import pandas as pd
import pytest

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
        *(f"vs {name} [95 %], p bootstrap / t" for name in ("base", "pkdot", "selftraining")),
        "gap closed",
    ]
    rows = {line[0]: line[1:] for line in lines[1:]}
    assert list(rows)[-5:] == ["base", "none", "pkdot", "selftraining", "mtpkdot"]
    assert re.fullmatch(r"[+-]0\.\d{4} \[[+-]0\.\d{4}, [+-]0\.\d{4}\], [01]\.\d{3} / [01]\.\d{3}", rows["mtpkdot"][3])
    assert re.fullmatch(r"-?\d+% \[-?\d+%, -?\d+%\]", rows["mtpkdot"][6])
    assert rows["pkdot"][4] == rows["teacher"][3] == ""
    assert "Protocol: clean." in text
    assert "3 folds, 2 seeds" in text
    assert text.index("Not finished: 1 cells: s/all/mtpkdot/fold0-seed0") < text.index("| method")


def test_the_validation_parts_have_tables_of_their_own_and_leave_those_of_the_test_parts(tmp_path):
    made = fake.study(tmp_path / "s", ("none", "kd"))
    fake.write(made, {"kd": 0.8})
    summarise(made.folder)
    names = ("summary.md", "results.csv", "comparisons.csv", "bases.csv", "predictions.parquet")
    before = {name: (made.folder / name).read_bytes() for name in names}
    text = summarise(made.folder, "validation")
    assert {name: (made.folder / name).read_bytes() for name in names} == before
    assert text == (made.folder / "summary.validation.md").read_text()
    assert "Results of the validation parts" in text
    assert "results.validation.csv" in text
    assert "have selected nothing" not in text
    values = pd.read_csv(made.folder / "results.validation.csv").query("metric == 'accuracy'").set_index("method")
    everything = pd.read_parquet(made.folder / "predictions.parquet").query("split == 'validation' and method == 'kd'")
    of_seeds = everything.assign(right=everything["truth"] == everything["prediction"]).groupby("seed")["right"].mean()
    assert float(values.loc["kd", "value"]) == pytest.approx(of_seeds.mean())
    # The better one of every cell is at least as good as either on the very parts that it is chosen by.
    assert values.loc["base", "value"] >= max(values.loc["none", "value"], values.loc["backbone.video", "value"])
    differences = pd.read_csv(made.folder / "comparisons.validation.csv").set_index(["method", "reference"])
    for reference in ("base", "none"):
        gain = values.loc["kd", "value"] - values.loc[reference, "value"]
        assert float(differences.loc[("kd", reference), "value"]) == pytest.approx(gain)


@pytest.mark.parametrize(("protocol", "told"), [("clean", False), ("select_on_test", True), ("released", True)])
def test_selection_on_the_test_part_leaves_no_part_to_choose_on(tmp_path, monkeypatch, protocol, told):
    of = fake.record
    monkeypatch.setattr(fake, "record", lambda *arguments: of(*arguments) | {"protocol": protocol})
    made = fake.study(tmp_path / "s", ("none", "kd"), folds=1)
    fake.write(made)
    assert ("the validation parts have selected nothing" in summarise(made.folder, "validation")) is told
    assert "the validation parts have selected nothing" not in summarise(made.folder)


def test_folds_that_did_not_run_are_not_counted(tmp_path):
    made = fake.study(tmp_path / "s", ("none", "kd"), folds=3)
    fake.write(made, skip={f"all/{name}/fold2-seed{seed}" for name in ("upstream", "none", "kd") for seed in range(2)})
    assert "2 folds, 2 seeds" in summarise(made.folder)


def test_a_study_without_a_student_that_has_no_teachers_says_so(tmp_path):
    made = fake.study(tmp_path / "s", ("kd", "sp"))
    fake.write(made)
    text = summarise(made.folder)
    assert "vs backbone.video [95 %]" in text
    assert "No base for kd, sp" in text
    assert "vs base" not in text
    assert "gap closed" not in text


def test_few_people_are_reported(tmp_path):
    for people, told in ((6, True), (12, False)):
        made = fake.study(tmp_path / str(people), folds=1)
        fake.write(made, people=people)
        assert ("subjects are tested" in summarise(made.folder)) is told


@pytest.mark.parametrize("many", [False, True])
def test_settings_stand_side_by_side_with_what_they_change(tmp_path, many):
    settings = {"clean": {}, "released": {"protocol": "released"}}
    if many:
        settings |= {f"s{index}": {"data.batch_size": index} for index in range(8)}
    made = fake.study(tmp_path / "s", ("none", "kd"), settings=settings)
    fake.write(made, skip={f"released/kd/fold{fold}-seed{seed}" for fold in range(3) for seed in range(2)})
    text = summarise(made.folder)
    assert text.index("## Settings side by side") < text.index("## clean")
    values = pd.read_csv(made.folder / "results.csv").query("metric == 'accuracy'").set_index(["setting", "method"])
    clean, released = (float(values.loc[(name, "none"), "value"]) for name in ("clean", "released"))
    assert clean != released
    assert "accuracy of every method in every setting; in brackets the difference from clean" in text
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    # The more numerous go down.
    assert lines[0][0] == ("setting" if many else "method")
    rows = lines[: len(settings) + 1] if many else list(zip(*lines[:9], strict=True))  # eight methods
    header, first, second = (dict(zip(rows[0], row, strict=True)) for row in rows[:3])
    assert list(header)[-3:] == ["base", "none", "kd"]
    assert (next(iter(first.values())), first["none"]) == ("clean", f"{clean:.4f}")
    assert (next(iter(second.values())), second["none"]) == ("released", f"{released:.4f} ({released - clean:+.4f})")
    assert second["kd"] == ""


def test_one_setting_stands_alone(tmp_path):
    made = fake.study(tmp_path / "s")
    fake.write(made)
    assert "side by side" not in summarise(made.folder)


def test_numbers_are_in_files_as_well(tmp_path):
    made = fake.study(tmp_path / "s")
    fake.write(made)
    summarise(made.folder)
    values, differences = (pd.read_csv(made.folder / f"{name}.csv") for name in ("results", "comparisons"))
    assert set(values["metric"]) == {"accuracy", "macro_f1", "balanced_accuracy", "ece"}
    assert set(differences["reference"]) == {"base", "pkdot"}
    assert {"p_bootstrap", "p_t", "seeds_low", "seeds_high", "gap_closed", "gap_low", "gap_high"} <= set(differences)
    bases = pd.read_csv(made.folder / "bases.csv")
    assert bases[["fold", "seed"]].to_numpy().tolist() == [[fold, seed] for fold in range(3) for seed in range(2)]
    assert set(bases["base"]) == {"base"}
    assert set(bases["method"]) <= {"none", "backbone.video"}


def test_many_names_are_the_first_and_a_number():
    assert few([str(i) for i in range(22)]).endswith("19 and 2 more")
    assert few(["a", "b"]) == "a, b"


def test_the_tables_have_the_numbers_and_spreads_of_draws_and_starts_and_the_oracles_share(tmp_path):
    made = fake.study(tmp_path / "s", ("none", "pkdot", "oracle"), folds=2, seeds=3, starts=2)
    fake.write(made, {"none": 0.6, "pkdot": 0.75, "oracle": 0.9})
    text = summarise(made.folder)
    assert "2 folds, 6 seeds: 3 draws (labelled people, weights and order), 2 starts of each" in text
    assert "oracle has seen the hidden labels: it is a bound" in text
    header, _, *lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    header = [name.strip() for name in header]
    rows = {line[0].strip(): dict(zip(header, (cell.strip() for cell in line), strict=True)) for line in lines}
    assert re.fullmatch(r"-?\d+% \[-?\d+%, -?\d+%\]", rows["pkdot"]["oracle gap closed"])
    assert rows["oracle"]["oracle gap closed"] == rows["teacher"]["oracle gap closed"] == ""
    assert not rows["oracle"][header[4]].endswith(("0", "1"))  # an interval, and no p
    values = pd.read_csv(made.folder / "results.csv").query("metric == 'accuracy'").set_index("method")
    shown = rows["pkdot"]["sd over starts / draws"]
    assert shown == f"{values.loc['pkdot', 'sd_starts']:.4f} / {values.loc['pkdot', 'sd_draws']:.4f}"
    assert rows["pkdot"]["sd over starts / draws, of the gain"] not in ("", shown)
    assert "draw" in pd.read_parquet(made.folder / "predictions.parquet").columns


def test_an_oracle_without_a_hidden_label_is_told_to_be_none(tmp_path):
    variants = {"none": {"student.model.method": "none"}, "oracle": {"student.model.method": "none"}}
    made = fake.study(tmp_path / "s", variants_of=variants)
    fake.write(made)
    assert "oracle is the student without teachers here: no label is hidden." in summarise(made.folder)
