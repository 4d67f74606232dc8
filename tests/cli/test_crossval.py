"""Whole studies through the real entry point."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from mtpkdot.cli.main import main
from mtpkdot.data.batch import SampleDataset
from mtpkdot.losses.rivals import Rival
from mtpkdot.modules import teaching
from mtpkdot.pipeline import runner
from mtpkdot.pipeline.config import parse
from mtpkdot.pipeline.study import Study
from tests.benchmarks import linear_control
from tests.conftest import TINY

VALUES_ALONE = ("m2pkd",)  # methods that are not defined for classes
# Those that treat samples without labels each in a way of their own; the other rivals do as kd.
WITHOUT_LABELS = ["none", "mtpkdot", "mtpkdot_plus", "selftraining", "labelprop", "kd", "dkd", "lupi"]
METHODS = ["backbone.video", "backbone.signal", "teacher", "adapted.video", "adapted.signal", "none", "pkdot"]


class Failing(Rival):
    """A loss that passes every check and fails in training."""

    def forward(self, student, teacher, target, labelled):
        if len(target) > 4:  # a batch, and not the rows on which it is tried before
            raise ZeroDivisionError("as planned")
        return student.output.sum()


def call(config, root, *more, folds="2", seeds="2", name="s"):
    own = ["--folds", folds, "--seeds", seeds, "--jobs", "1", "--name", name]
    return ["crossval", "--config", str(config), *own, "--pipeline.root", str(root), *more]


@pytest.fixture(scope="module")
def root(tiny_config, tmp_path_factory):
    """A folder of runs with a finished study; not to be changed."""
    root = tmp_path_factory.mktemp("runs")
    assert main(call(tiny_config, root, "--methods", "none,pkdot")) == 0
    return root


@pytest.fixture(scope="module")
def table(root):
    return pd.read_parquet(root / "s" / "predictions.parquet")


def test_the_same_command_gives_the_same_table_and_trains_nothing(root, tiny_config, capsys):
    files = [*root.rglob("cell.json"), *root.rglob("model.ckpt")]
    before = {path: path.stat().st_mtime_ns for path in files}
    summary = (root / "s" / "summary.md").read_bytes()
    assert main(call(tiny_config, root, "--methods", "none,pkdot")) == 0
    assert summary.decode() in capsys.readouterr().out
    assert (root / "s" / "summary.md").read_bytes() == summary
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert len([*root.rglob("cell.json")]) == 12


def test_the_validation_parts_can_be_chosen_by_without_a_look_at_the_test_parts(root, tiny_config, table, capsys):
    summary = (root / "s" / "summary.md").read_bytes()
    assert main(call(tiny_config, root, "--methods", "none,pkdot", "--split", "validation")) == 0
    printed = capsys.readouterr().out
    validation = table[(table["split"] == "validation") & (table["method"] == "pkdot")]
    right = (validation["truth"] == validation["prediction"]).groupby(validation["seed"]).mean()
    assert re.search(rf"\| pkdot +\| {right.mean():.4f} ", printed)
    table, _, step = printed.partition("\nNext: ")
    assert table.strip() == (root / "s" / "summary.validation.md").read_text().strip()
    assert step.startswith(f"`mtpkdot report {root / 's'} --out reports/s`")
    assert (root / "s" / "summary.md").read_bytes() == summary


def test_upstream_stages_are_trained_once_per_fold_and_seed(root):
    counts = {path.name: len(list(path.iterdir())) for path in (root / "stages").iterdir()}
    upstream = ("backbone.video", "backbone.signal", "teacher", "adapted", "hallucinator")
    assert counts == dict.fromkeys(upstream, 4) | {"student": 8}


def test_a_linear_model_can_be_set_beside_what_a_study_has_kept(root, table, capsys):
    judged = linear_control.linear(Study.read(root / "s"))
    test = table[(table["split"] == "test") & (table["method"] == "none")]
    keys = ["fold", "seed", "id"]
    assert sorted(judged[keys].itertuples(index=False)) == sorted(test[keys].itertuples(index=False))
    linear_control.main(root / "s")
    told = dict(re.findall(r"linear - (\w+) \((\d\.\d{3})\)", capsys.readouterr().out))
    results = pd.read_csv(root / "s" / "results.csv").query("metric == 'accuracy'").set_index("method")["value"]
    expected = {method: results[method] for method in ("none", "pkdot", "base")}
    assert {method: float(value) for method, value in told.items()} == pytest.approx(expected, abs=6e-4)


def test_every_prediction_is_kept_with_what_it_is_of(table):
    classes = [f"p_state{index}" for index in range(4)]
    columns = ["setting", "method", "stage", "fold", "seed", "split", "id", "subject", "target", "truth", "prediction"]
    assert table.columns.tolist() == columns + classes
    assert set(table["method"]) == set(METHODS)
    test = table[table["split"] == "test"]
    # Everybody is tested once per method and seed.
    assert (test.groupby(["method", "seed", "id"]).size() == 1).all()
    assert test["id"].nunique() == 120
    assert table[classes].sum(axis=1).sub(1).abs().max() < 1e-5


def test_the_printed_table_follows_from_the_predictions_alone(root, table):
    def accuracy(rows):
        return (rows["truth"] == rows["prediction"]).mean()

    test = table[table["split"] == "test"]
    rows = dict(list(test.groupby("method")))
    chosen = []
    for (fold, seed), cell in table[table["split"] == "validation"].groupby(["fold", "seed"]):
        of = cell.groupby("method").apply(accuracy, include_groups=False)
        best = "none" if of["none"] > of["backbone.video"] else "backbone.video"
        chosen.append(rows[best][(rows[best]["fold"] == fold) & (rows[best]["seed"] == seed)])
    rows["base"] = pd.concat(chosen)

    people = sorted(test["subject"].unique())
    drawn = np.random.default_rng(0).multinomial(len(people), np.full(len(people), 1 / len(people)), size=2000)
    values, replicates = {}, {}
    for method, part in rows.items():
        right = part.assign(right=part["truth"] == part["prediction"])
        sums = right.groupby(["seed", "subject"])["right"].agg(["sum", "size"])
        of_seeds = [sums.loc[seed].reindex(people) for seed in (0, 1)]
        values[method] = np.mean([of["sum"].sum() / of["size"].sum() for of in of_seeds])
        replicates[method] = np.mean([drawn @ of["sum"] / (drawn @ of["size"]) for of in of_seeds], axis=0)

    printed = {}
    for line in (root / "s" / "summary.md").read_text().splitlines():
        if line.startswith("| ") and not line.startswith("| method"):
            method, *cells = [cell.strip() for cell in line.strip("|").split("|")]
            printed[method] = cells
    assert set(printed) == {*METHODS, "base"}
    for method, cells in printed.items():
        low, high = np.quantile(replicates[method], [0.025, 0.975])
        of_cells = rows[method].groupby(["fold", "seed"]).apply(accuracy, include_groups=False)
        assert cells[:3] == [f"{values[method]:.4f}", f"{low:.4f} to {high:.4f}", f"{of_cells.std(ddof=1):.4f}"]

    raw = {}
    for method in ("none", "pkdot"):
        gains = replicates[method] - replicates["base"]
        p = 2 * (min((gains <= 1e-12).sum(), (gains >= -1e-12).sum()) + 1) / 2001
        raw[method] = min(1, max(p, 2.0 ** (1 - len(people))))
    smaller, larger = sorted(raw.values())
    for method, p in raw.items():
        gains = replicates[method] - replicates["base"]
        low, high = np.quantile(gains, [0.025, 0.975])
        corrected = min(1, 2 * smaller) if p == smaller else max(min(1, 2 * smaller), larger)
        value = values[method] - values["base"]
        found = re.fullmatch(r"(\S+) \[(\S+), (\S+)\], (\S+) / \S+", printed[method][3])
        assert [float(x) for x in found.groups()] == pytest.approx([value, low, high, corrected], abs=6e-4)


def test_a_failing_cell_is_named_with_its_reason_and_the_others_finish(root, tiny_config, tmp_path, capsys):
    variants = {
        "none": {"student.model.method": "none"},
        "bad": {"student.model.method": "rival", "student.model.rival": "tests.cli.test_crossval.Failing"},
        "pkdot": {"student.model.method": "pkdot"},
    }
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({"variants": variants}))
    more = ["--ablation", str(tmp_path / "a.yaml")]
    assert main(call(tiny_config, root, *more, seeds="1", name="failing")) == 1
    printed = capsys.readouterr().out
    assert "failed: ZeroDivisionError: as planned" in printed
    for fold in (0, 1):
        assert f"failing/all/bad/fold{fold}-seed0" in printed
        assert "Traceback" in (root / f"failing/all/bad/fold{fold}-seed0/failed.txt").read_text()
    assert "| pkdot " in printed
    assert "| bad " not in printed
    assert "Not finished: 2 cells" in printed
    # A library's notices of a later cell went where they belong.
    logs = [path.read_text() for path in (root / "failing").rglob("log.txt")]
    assert not [log for log in logs if "Logging error" in log]


def test_nobody_who_is_tested_reaches_a_stage_of_the_fold(tiny_config, tmp_path, monkeypatch):
    """By the ids of what every stage's own DataModule hands out while the stage is trained."""
    read: dict[str, set[tuple[str, str]]] = {}
    stage: list[str] = []
    getitems, train = SampleDataset.__getitems__, runner.train

    def recording(self, indices):
        for index in indices if stage else ():
            row = index[0] if np.ndim(index) else index
            read.setdefault(stage[-1], set()).add((str(self.samples.ids[row]), str(self.samples.subjects[row])))
        return getitems(self, indices)

    def training(*, config, title, **others):
        method = config["model"].get("method", "")
        stage.append(f"{title} {method}".strip())
        try:
            return train(config=config, title=title, **others)
        finally:
            stage.pop()

    monkeypatch.setattr(SampleDataset, "__getitems__", recording)
    monkeypatch.setattr(runner, "train", training)
    folds = tuple({"data.split.scheme": "kfold", "data.split.folds": 2, "data.split.fold": fold} for fold in (0, 1))
    few = {"few": {"data.labelled_subjects": 2}}
    students = {
        "mtpkdot": {"student.model.method": "mtpkdot", "student.model.weights": {"output": 1.0}},
        **{name: {"student.model.method": name} for name in [*WITHOUT_LABELS, "oracle"] if name != "mtpkdot"},
    }
    made = Study("s", (f"--config={tiny_config}",), few, students, folds, (0,), str(tmp_path))
    for fold in (0, 1):
        read.clear()
        for cell in (cell for cell in made.cells() if cell.fold == fold):
            assert main(["fit", *cell.arguments]) == 0
        folders = [made.folder / f"few/{name}/fold{fold}-seed0" for name in ("upstream", *students)]
        tables = pd.concat([pd.read_parquet(folder / "predictions.parquet") for folder in folders])
        test = tables[tables["split"] == "test"]
        tested = set(test["subject"])
        assert len(tested) == 5
        assert len(read) == 5 + len(students) + 1  # the pool of mtpkdot_plus
        for name, rows in read.items():
            assert rows, name
            assert not {id for id, _ in rows} & set(test["id"]), name
            assert not {subject for _, subject in rows} & tested, name
        # Stages that need labels read those of two people, and of those who select the epoch.
        selecting = set(tables.loc[tables["split"] == "validation", "subject"])
        counts = {name.split(maxsplit=1)[1]: len({who for _, who in rows} - selecting) for name, rows in read.items()}
        assert (counts["backbone.video"], counts["teacher"], counts["hallucinator"]) == (2, 2, 4)
        assert {counts[f"student {method}"] for method in students if method != "none"} == {4}
        assert counts["student none"] == 2


def recordings(folder, random, task="classification", n=480):
    """Twenty people with labels that are chance, and an experiment on them."""
    ids = [f"c{index}" for index in range(n)]
    classes = np.array([f"k{label}" for label in random.permutation(np.arange(n) % 4)])
    target = classes if task == "classification" else random.normal(size=n)
    pd.DataFrame({"id": ids, "subject": np.arange(n) // 24, "y": target}).to_csv(folder / "m.csv", index=False)
    # What identifies a person and a recording is there to be learnt by heart.
    person = np.repeat(random.normal(size=(n // 24, 12)), 24, axis=0)
    for name in ("video", "signal"):
        pd.DataFrame(person + random.normal(size=(n, 12))).assign(id=ids).to_csv(folder / f"{name}.csv", index=False)
    arguments = {
        "manifest": str(folder / "m.csv"),
        "features": {name: str(folder / f"{name}.csv") for name in ("video", "signal")},
        "target": "y",
        "task": task,
        "prevalent": "video",
        "batch_size": 64,
    }
    config = {key: value for key, value in TINY.items() if key not in ("data", "pipeline")}
    config |= {"data": {"class_path": "FeatureData", "init_args": arguments}}
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    return folder / "c.yaml"


LEARNING = [
    f"--{stage}.{key}={value}"
    for stage in ("backbone.video", "backbone.signal", "teacher", "student")
    for key, value in (("fit.max_epochs", 8), ("model.lr", 0.01))
]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("task", "labelled", "methods"),
    [
        ("classification", "4", WITHOUT_LABELS),
        ("classification", "all", ["none", "mtpkdot", "kd"]),
        ("regression", "4", [*METHODS[-2:], "mtpkdot", "mtpkdot_plus", "selftraining", "labelprop", *VALUES_ALONE]),
    ],
    ids=["4 people labelled", "all labelled", "values"],
)
def test_shuffled_labels_give_chance_for_every_stage_and_kind_of_method(tmp_path, task, labelled, methods):
    n = 480
    config = recordings(tmp_path, np.random.default_rng(0), task, n)
    more = ["--methods", ",".join(methods), "--labelled", labelled]
    assert main(call(config, tmp_path / "runs", *more, *LEARNING, seeds="1")) == 0
    test = pd.read_parquet(tmp_path / "runs" / "s" / "predictions.parquet").query("split == 'test'")
    # Four standard deviations of a binomial, or of a correlation: one of 13 models lies outside once in 1200 trials.
    if task == "classification":
        found, bound = (
            (test["truth"] == test["prediction"]).groupby(test["method"]).mean() - 0.25,
            4 * np.sqrt(0.1875 / n),
        )
    else:
        found = test.groupby("method").apply(
            lambda of: np.corrcoef(of["truth"], of["prediction"])[0, 1], include_groups=False
        )
        bound = 4 / np.sqrt(n)
    assert len(found) == 5 + len(methods) + ("mtpkdot_plus" in methods)  # and its pool
    assert len(test) == len(found) * n
    assert found.abs().max() < bound, found


def test_a_leak_would_be_seen_where_labels_are_chance(tmp_path):
    """The same data and bound, with a fault of the released code: backbones that have seen the test clips."""
    config = recordings(tmp_path, np.random.default_rng(0))
    more = ["--methods", "none", "--protocols", "shared_backbone"]
    assert main(call(config, tmp_path / "runs", *more, *LEARNING, seeds="1")) == 0
    test = pd.read_parquet(tmp_path / "runs" / "s" / "predictions.parquet").query("split == 'test'")
    found = (test["truth"] == test["prediction"]).groupby(test["method"]).mean()
    assert found["backbone.video"] - 0.25 > 4 * np.sqrt(0.1875 / 480)


def test_no_weight_depends_on_who_is_tested(tmp_path):
    """Statistics are read past the items of the DataModule: other features and labels of the tested change nothing."""
    config, runs = recordings(tmp_path, np.random.default_rng(0)), []
    methods = ["none", "pkdot", "mtpkdot", "mtpkdot_plus", "selftraining", "labelprop"]
    for name in ("as it is", "changed"):
        root = tmp_path / name
        more = ["--methods", ",".join(methods), "--labelled", "4", "--data.split.scheme", "holdout"]
        assert main(call(config, root, *more, folds="given", seeds="1")) == 0
        folder = root / "s" / "labelled_4"
        records = [json.loads((folder / m / "fold0-seed0" / "run.json").read_text()) for m in ("upstream", *methods)]
        stages = {
            (m, stage): job["hash"]
            for m, r in zip(("", *methods), records, strict=True)
            for stage, job in r["stages"].items()
        }
        runs.append((root, stages))
        table = pd.read_parquet(folder / "upstream" / "fold0-seed0" / "predictions.parquet").query("split == 'test'")
        tested = set(table["id"])
        for path in (tmp_path / f"{file}.csv" for file in ("m", "video", "signal")):
            content = pd.read_csv(path)
            rows = content["id"].isin(tested)
            for column in [column for column in content if column not in ("id", "subject")]:
                content.loc[rows, column] = content.loc[rows, column].sample(frac=1, random_state=1).to_numpy()
                if path.stem != "m":
                    content.loc[rows, column] *= 10
            content.to_csv(path, index=False)
    (first, before), (second, after) = runs
    assert before.keys() == after.keys()
    for (method, stage), value in before.items():
        assert value != after[method, stage]  # trained anew
        states = [
            torch.load(root / "stages" / stage / of[method, stage] / "model.ckpt", weights_only=True)["state_dict"]
            for root, of in ((first, before), (second, after))
        ]
        assert all(torch.equal(weight, states[1][key]) for key, weight in states[0].items()), (method, stage)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--methods", "magic"], ["student.model.method", "magic"]),
        (["--methods", "pkdot", "--teacher.model.fusion.dim", "17"], ["teacher", "17"]),
        (["--methods", "pkdot", "--student.model.structure.eps", "0"], ["student", "eps"]),
        (["--folds", "11"], ["11", "10 subjects"]),
        (["--folds", "many"], ["folds", "many"]),
        (["--labelled", "30"], ["labelled_subjects", "30"]),
        (["--labelled", "50%"], ["50%", "0.5"]),
        (["--methods", "none,pkdot,none"], ["--methods", "none twice"]),
        (["--seeds", "0"], ["seeds is 0"]),
        (["--jobs", "0"], ["--jobs"]),
        (["--protocols", "dirty"], ["protocol", "dirty", "released", "clip_splits"]),
        (["--name", "a/b"], ["a/b"]),
        (["--studnet.lr", "1"], ["studnet"]),
        (["--ablation", "nowhere.yaml"], ["nowhere.yaml"]),
        (["--seeds", "x"], ["--seeds"]),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_trained(more, words, tiny_config, tmp_path, complaint):
    line = complaint(["crossval", "--config", str(tiny_config), "--pipeline.root", str(tmp_path), *more])
    assert all(word in line for word in words), line
    assert not list(tmp_path.iterdir())


def test_finished_cells_that_are_not_requested_again_are_named(root, tiny_config, tmp_path, capsys):
    shutil.copytree(root, tmp_path / "runs")
    assert main(call(tiny_config, tmp_path / "runs", "--methods", "none")) == 0
    assert "Finished earlier but not requested now, so not in these tables: all/pkdot\n" in capsys.readouterr().out
    assert main(call(tiny_config, tmp_path / "runs", "--methods", "none,pkdot")) == 0
    assert "Finished earlier" not in capsys.readouterr().out


def test_another_configuration_under_the_same_name_is_one_line(root, tiny_config, complaint):
    before = (root / "s" / "study.json").read_bytes()
    line = complaint(call(tiny_config, root, "--methods", "none,pkdot", "--student.model.lr", "0.5"))
    assert "student.model.lr was 0.001 and is 0.5" in line
    assert (root / "s" / "study.json").read_bytes() == before


def test_a_configuration_that_was_edited_is_one_line_and_not_its_old_table(root, tiny_config, complaint):
    text, before = tiny_config.read_text(), (root / "s" / "study.json").read_bytes()
    config = yaml.safe_load(text)
    config["teacher"]["model"]["lr"] = 0.5
    try:
        tiny_config.write_text(yaml.safe_dump(config))
        line = complaint(call(tiny_config, root, "--methods", "none,pkdot"))
    finally:
        tiny_config.write_text(text)
    assert "teacher.model.lr was" in line
    assert f"--name, or remove {root / 's'}" in line
    assert (root / "s" / "study.json").read_bytes() == before


def test_a_method_that_was_revised_is_one_line_and_not_its_old_table(root, tiny_config, monkeypatch, complaint):
    monkeypatch.setitem(teaching.METHODS, "pkdot", replace(teaching.METHODS["pkdot"], revision=1))
    line = complaint(call(tiny_config, root, "--methods", "none,pkdot"))
    assert "s/all/pkdot/fold0-seed0 holds a run of another version" in line


def test_a_study_and_a_run_do_not_share_a_folder(root, tiny_config, tmp_path, complaint):
    shutil.copytree(root, tmp_path / "runs")
    place = ["--config", str(tiny_config), "--pipeline.root", str(tmp_path / "runs")]
    assert "holds a study" in complaint(["fit", *place, "--pipeline.name", "s"])
    assert "all trained stages" in complaint(["fit", *place, "--pipeline.name", "stages"])
    (tmp_path / "runs" / "s" / "study.json").rename(tmp_path / "runs" / "s" / "run.json")
    assert "holds a run" in complaint(call(tiny_config, tmp_path / "runs", "--methods", "none,pkdot"))
    assert "stages" in complaint(call(tiny_config, tmp_path / "runs", "--methods", "none,pkdot", name="stages"))


def test_a_torn_cell_is_run_again_and_stages_that_are_gone_are_trained_again(root, tiny_config, tmp_path, capsys):
    shutil.copytree(root, tmp_path / "runs")
    summary = (root / "s" / "summary.md").read_text()
    cells = tmp_path / "runs" / "s" / "all"
    for path in (cells / "pkdot/fold1-seed0/predictions.parquet", cells / "upstream/fold0-seed1/results.json"):
        path.write_bytes(path.read_bytes()[:40])
    (cells / "upstream/fold0-seed1/cell.json").write_text("{")
    shutil.rmtree(cells / "none" / "fold1-seed1")
    shutil.rmtree(tmp_path / "runs" / "stages" / "teacher")
    assert main(call(tiny_config, tmp_path / "runs", "--methods", "none,pkdot")) == 0
    assert summary in capsys.readouterr().out


def test_a_cell_is_tested_again_as_a_run_is(root, tmp_path, capsys):
    shutil.copytree(root, tmp_path / "runs")
    cell = tmp_path / "runs" / "s" / "all" / "pkdot" / "fold1-seed0"
    before = pd.read_parquet(cell / "predictions.parquet")
    (cell / "results.json").unlink()
    assert main(["test", str(cell)]) == 0
    capsys.readouterr()
    # Predictions of the other part stay, whatever has become of the numbers.
    both = (before, pd.read_parquet(cell / "predictions.parquet"))
    pd.testing.assert_frame_equal(*(table.sort_values(["split", "id"], ignore_index=True) for table in both))
    (cell / "predictions.parquet").unlink()
    assert main(["test", str(cell)]) == 0
    assert {row["split"] for row in json.loads((cell / "results.json").read_text())} == {"test"}


@pytest.mark.parametrize("name", ["run.json", "predictions.parquet", "results.json"])
def test_a_damaged_file_of_a_run_is_one_line(root, tmp_path, complaint, name):
    shutil.copytree(root, tmp_path / "runs")
    cell = tmp_path / "runs" / "s" / "all" / "pkdot" / "fold1-seed0"
    (cell / name).write_bytes((cell / name).read_bytes()[:40])
    assert f"{name} cannot be read" in complaint(["test", str(cell)])


def test_a_missing_experiment_is_one_line(complaint):
    assert "--config" in complaint(["crossval"])


def test_draws_and_starts_and_the_oracle_of_a_whole_study(tiny_config, tmp_path, capsys):
    more = ["--methods", "none,mtpkdot_plus", "--labelled", "2", "--data.labelled", "1.0", "--oracle"]
    own = ["--draws", "2", "--starts", "2", "--jobs", "1", "--name", "s"]
    own += ["--data.split.scheme", "holdout", "--data.split.test", "0.4"]
    command = ["crossval", "--config", str(tiny_config), *own, "--pipeline.root", str(tmp_path), *more]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "1 fold, 4 seeds: 2 draws (labelled people, weights and order), 2 starts of each" in printed
    assert "oracle has seen the hidden labels" in printed
    study = Study.read(tmp_path / "s")

    def people(cell):
        run = parse("crossval", cell.arguments).data
        run.seed = cell.seed
        known = (run.parts == "train") & run.samples.known
        return set(run.samples.subjects[known])

    cells = [cell for cell in study.cells() if cell.variant == "none"]
    of = {(cell.draw, cell.start): people(cell) for cell in cells}
    assert of[0, 0] == of[0, 1] != of[1, 0] == of[1, 1]
    table = pd.read_parquet(tmp_path / "s" / "predictions.parquet").query("split == 'test' and method == 'none'")
    answers = {key: rows.sort_values("id")["p_state0"].tolist() for key, rows in table.groupby(["draw", "seed"])}
    assert sorted(answers) == [(0, 0), (0, 1000), (1, 1), (1, 1001)]
    assert answers[0, 0] != answers[0, 1000]
    # The first starts are the cells of a study of two seeds: nothing is trained anew.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("cell.json")}
    assert main([*command, "--starts", "1"]) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("cell.json")} == before
    assert "1 fold, 2 seeds: 2 draws" in capsys.readouterr().out


def test_one_number_of_draws_is_named(tiny_config, tmp_path, complaint):
    line = complaint(call(tiny_config, tmp_path, "--draws", "2"))
    assert "--seeds and --draws both number the choices of the labelled people" in line
