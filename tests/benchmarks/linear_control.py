"""A linear model beside a study's students: on the prevalent features, the same people, labels and folds.

    python -m tests.benchmarks.linear_control runs/labels_talking_seeds

Logistic regression of every recording's mean over its steps; its regularisation is chosen on the validation part, as
the epoch of a student is. It shows what a base is worth.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mtpkdot.data.base import BaseData
from mtpkdot.pipeline.config import parse
from mtpkdot.pipeline.study import Cell, Study
from mtpkdot.report.statistics import Draws, mean_interval, percentile_interval

STRENGTHS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 10.0)
SAMPLE = ["setting", "fold", "seed", "id", "subject"]


def answers(data: BaseData) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the test part that are judged, and whether the model is right there."""
    data.check()
    samples, mask = data.samples, data.samples.masks[data.prevalent]
    seen = mask.any(axis=1)
    values = np.asarray(samples.features[data.prevalent], dtype=float) * mask[:, :, None]
    x = values.sum(axis=1) / np.maximum(mask.sum(axis=1), 1)[:, None]
    train, select, test = (data.positions(part, labelled_only=True) for part in ("train", "validation", "test"))
    train = train[seen[train]]
    models = [
        make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000)).fit(
            x[train], samples.target[train]
        )
        for strength in STRENGTHS
    ]
    best = max(models, key=lambda model: model.score(x[select], samples.target[select]))
    return test, best.predict(x[test]) == samples.target[test]


def linear(study: Study) -> pd.DataFrame:
    """One row per setting, fold, seed and recording that is tested."""
    found = []
    without: dict[tuple[str, int, int], Cell] = {(c.setting, c.fold, c.seed): c for c in study.cells() if not c.first}
    for (setting, fold, seed), cell in without.items():
        data = parse("crossval", cell.arguments).data
        if data.task == "regression":
            raise SystemExit("A logistic regression is for classes.")
        data.seed = seed
        rows, right = answers(data)
        columns = {"id": data.samples.ids[rows], "subject": data.samples.subjects[rows], "linear": right.astype(float)}
        found.append(pd.DataFrame(columns).assign(setting=setting, fold=fold, seed=seed))
    return pd.concat(found)


def students(folder: Path) -> pd.DataFrame:
    """The same rows of every method of the study, and of its base."""
    table = pd.read_parquet(folder / "predictions.parquet").query("split == 'test'")
    table = table.assign(right=(table["truth"] == table["prediction"]).astype(float))
    wide = table.pivot_table(index=SAMPLE, columns="method", values="right")
    bases = pd.read_csv(folder / "bases.csv").query("base == 'base'")
    of = bases.set_index(["setting", "fold", "seed"])["method"]
    rows = [wide.loc[key, of[key[:3]]] for key in wide.index]
    own = table.loc[table["stage"] == "student", "method"].unique()
    return wide[own].assign(base=rows).reset_index()


def main(folder: Path) -> None:
    """Print how the linear model compares with every method."""
    judged = linear(Study.read(folder))
    both = judged.merge(students(folder), on=SAMPLE, validate="one_to_one")
    assert len(both) == len(judged), "not every recording was tested by both"
    for setting, part in both.groupby("setting", sort=False):
        print(f"{setting}: linear {part['linear'].mean():.3f}")
        for method in part.columns.difference([*SAMPLE, "linear"], sort=False):
            if (known := part[part[method].notna()]).empty:
                continue
            gain = known["linear"] - known[method]
            people = gain.groupby(known["subject"]).agg(["sum", "count"]).to_numpy(dtype=float)
            drawn = Draws(len(people), 2000).sums(people)
            low, high = percentile_interval(drawn[:, 0] / drawn[:, 1])
            seeds = mean_interval(gain.groupby(known["seed"]).mean().to_numpy())
            print(
                f"  linear - {method} ({known[method].mean():.3f}): {100 * gain.mean():+.1f} "
                f"[{100 * low:+.1f}, {100 * high:+.1f}], over seeds [{100 * seeds[0]:+.1f}, {100 * seeds[1]:+.1f}]"
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
