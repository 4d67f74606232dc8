"""What students and their teachers cost, by the records of their stages."""

import json

import pandas as pd
import pytest

from mtpkdot.report.compare import Comparison
from mtpkdot.report.costs import costs
from mtpkdot.report.gather import gather, of_study
from mtpkdot.report.summary import summarise
from tests.report import fake

SECONDS = {"backbone.video": 10.0, "backbone.audio": 20.0, "hallucinator": 5.0, "teacher": 40.0, "adapted": 7.0}


def kept(folder):
    """A study of which every run names the stages that it needs, and whose stages are kept with their times."""
    made = fake.study(folder, folds=2, seeds=1)
    fake.write(made)
    for cell in made.cells():
        path = made.folder / cell.place / "run.json"
        record = json.loads(path.read_text())
        stages = record["stages"]
        if not cell.first:
            (first,) = [c for c in made.cells() if c.first and (c.fold, c.seed) == (cell.fold, cell.seed)]
            theirs = json.loads((made.folder / first.place / "run.json").read_text())["stages"]
            needs = {"none": [], "pkdot": ["teacher"], "mtpkdot": ["teacher", "adapted"]}[cell.variant]
            stages |= {name: theirs[name] for name in needs}
            stages["student"]["keys"] |= {
                f"upstream.{name}_ckpt": stages[of]["hash"]
                for name, of in [("backbone", "backbone.video"), *((n, n) for n in ("hallucinator", *needs))]
            }
        own = {name: f"upstream.backbone_ckpts.{name.split('.')[-1]}" for name in ("backbone.video", "backbone.audio")}
        stages["hallucinator"]["keys"] |= {key: stages[name]["hash"] for name, key in own.items()}
        path.write_text(json.dumps(record))
        for name, job in stages.items():
            place = folder.parent / "stages" / name / job["hash"]
            place.mkdir(parents=True, exist_ok=True)
            spent = SECONDS.get(name, 1.0 + cell.fold)
            trained = {"monitor": "val/loss", "epochs": 3, "seconds": spent}
            (place / "stage.json").write_text(json.dumps({"trained": trained}))
    return made


def test_a_student_costs_its_training_and_what_only_its_teachers_need(tmp_path):
    made = kept(tmp_path / "s")
    found = costs(Comparison(gather(of_study(made)), "all"))
    times = {name: (cost.seconds, cost.seconds_teachers, cost.cells) for name, cost in found.items()}
    assert times == {"none": (1.5, 0.0, 2), "pkdot": (1.5, 40.0, 2), "mtpkdot": (1.5, 47.0, 2)}
    text, cost = summarise(made.folder).split("\n## Gain and cost\n")
    assert text == (made.folder / "summary.md").read_text()  # without times, which no second run would repeat
    shown = [[cell.strip() for cell in line.strip("|").split("|")] for line in cost.splitlines() if line[:1] == "|"]
    rows = {line[1]: line for line in shown}
    assert rows["method"] == ["setting", "method", "vs base", "seconds, + teachers", "cells"]
    gains = pd.read_csv(made.folder / "comparisons.csv").query("reference == 'base'").set_index("method")["value"]
    assert rows["mtpkdot"] == ["all", "mtpkdot", f"{gains['mtpkdot']:+.4f}", "1.5 + 47.0", "2"]
    assert rows["none"][3] == "1.5"
    table = pd.read_csv(made.folder / "costs.csv").set_index("method")
    assert table.loc["pkdot", ["seconds", "seconds_teachers"]].tolist() == [1.5, 40.0]


@pytest.mark.parametrize("lost", ["student", "teacher"])
def test_a_cell_whose_stages_are_gone_is_left_out_of_the_mean(tmp_path, lost):
    made = kept(tmp_path / "s")
    folders = sorted((tmp_path / "stages" / lost).iterdir())
    (path,) = (folder for folder in folders if "all-pkdot-1" in folder.name or "teacher-all-1" in folder.name)
    (path / "stage.json").unlink()
    found = costs(Comparison(gather(of_study(made)), "all"))
    assert (found["pkdot"].seconds, found["pkdot"].cells) == (1.0, 1)
    assert found["none"].cells == 2


def test_without_kept_stages_there_is_no_table_of_costs(tmp_path):
    made = fake.study(tmp_path / "s")
    fake.write(made)
    assert costs(Comparison(gather(of_study(made)), "all")) == {}
    assert "Gain and cost" not in summarise(made.folder)
