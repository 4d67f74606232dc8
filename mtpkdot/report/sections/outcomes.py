"""Section on outcomes: predictions of models on the test parts."""

from collections.abc import Sequence

import pandas as pd

from mtpkdot.report.compare import Comparison
from mtpkdot.report.figures import outcomes
from mtpkdot.report.page import Block, Figure, Heading, Text
from mtpkdot.report.tallies import MOST_CONFUSED, calibration, confusion

_MOST = 6  # Models in one figure.


def answers(comparison: Comparison, students: Sequence[str]) -> list[Block]:
    """Return confusion and calibration of classes, or predictions and traces of values."""
    gathered = comparison.gathered
    first = students[0] if students else ""
    outer = [comparison.bases[first], comparison.teacher(first)] if first else comparison.methods
    shown = [
        method for method in dict.fromkeys([*outer[:1], *students[:4], *outer[1:]]) if method in comparison.tallies
    ]
    shown = shown[:_MOST]
    left = [name for name in students if name not in shown]
    if gathered.task == "regression":
        return _values(comparison, shown, left)
    count = len(gathered.targets)
    sums = {method: comparison.total(method) for method in shown}
    bins = {method: calibration(of, count) for method, of in sums.items()}
    errors = {m: abs(b[:, 1] - b[:, 2]).sum() / max(b[:, 0].sum(), 1) for m, b in bins.items()}
    blocks: list[Block] = [Heading("Confusion of the classes", 3), *_undrawn("confusion and calibration", left)]
    if count <= MOST_CONFUSED:
        counts = {method: confusion(of, count) for method, of in sums.items()}
        text = "; ".join(f"{m}: {c.trace() / max(c.sum(), 1):.0%} of the answers are right" for m, c in counts.items())
        blocks.append(
            Figure(
                outcomes.confusion(counts, gathered.targets),
                f"Confusion matrices. {text}",
                "Answers per true class in per cent, over all folds and seeds; rows are truths, columns answers.",
            )
        )
    else:
        blocks.append(Text(f"{count} classes are too many for a confusion matrix."))
    return [
        *blocks,
        Heading("Calibration", 3),
        Figure(
            outcomes.calibration(bins),
            "Calibration. Expected calibration error, all folds and seeds together: "
            + "; ".join(f"{method} {error:.4f}" for method, error in errors.items()),
            "Share of right answers at each confidence, and how many answers are given with it; 15 bins of equal "
            "width, all folds and seeds together. On the diagonal a model is as often right as it is sure.",
        ),
    ]


def _undrawn(what: str, methods: Sequence[str]) -> list[Block]:
    return [Text(f"For lack of space, {what} are not drawn for {', '.join(methods)}.")] if methods else []


def _values(comparison: Comparison, shown: Sequence[str], left: Sequence[str]) -> list[Block]:
    tables = {method: predictions(comparison, method) for method in shown[:3]}
    targets = comparison.gathered.targets
    some = f" The first 4 of {len(targets)} targets." if len(targets) > 4 else ""
    blocks: list[Block] = [
        Heading("Predictions and truths", 3),
        *_undrawn("predictions and traces", [*shown[3:], *left]),
        Figure(
            outcomes.scatter(tables, targets),
            f"Predictions against truths, of {', '.join(tables)} on {', '.join(targets[:4])}",
            f"Predictions against truths on the test parts of the first seed; on the line they are equal.{some}",
        ),
    ]
    clip = _longest(next(iter(tables.values())))
    if clip:
        of_clip = {method: _frames(table, clip) for method, table in tables.items()}
        blocks += [
            Heading("Traces over the frames", 3),
            Figure(
                outcomes.traces(of_clip, targets, clip),
                f"Truth and predictions over the frames of {clip}",
                f"Truth and predictions over the frames of {clip}, the longest clip of a test part.",
            ),
        ]
    return blocks


def predictions(comparison: Comparison, method: str) -> pd.DataFrame:
    """Return a method's predictions on the test parts of its first seed."""
    seed = min(seed for _, seed in comparison.cells(method))
    tables = []
    for (_, of), model in zip(comparison.cells(method), comparison.models(method), strict=True):
        if of == seed:
            wanted = [("stage", "==", model.stage), ("split", "==", "test")]
            tables.append(pd.read_parquet(model.entry.folder / "predictions.parquet", filters=wanted))
    return pd.concat(tables, ignore_index=True)


def _longest(table: pd.DataFrame) -> str:
    """Return the clip with most frames, if ids are `<clip>/<frame>` and clips have several; else an empty name."""
    parts = table["id"].astype(str).str.extract(r"^(.*)/(\d+)$")
    counts = parts.dropna()[0].value_counts()
    return str(counts.index[0]) if len(counts) and counts.iloc[0] >= 8 * table["target"].nunique() else ""


def _frames(table: pd.DataFrame, clip: str) -> pd.DataFrame:
    parts = table["id"].astype(str).str.extract(r"^(.*)/(\d+)$")
    chosen = parts[0] == clip
    return table[chosen].assign(frame=parts[1][chosen].astype(int))
