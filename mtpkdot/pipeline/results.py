"""Results of a run: scores, predictions, and the printed table."""

import contextlib
import io
import json
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from mtpkdot.data.base import BaseData
from mtpkdot.data.tables.reading import check_parquet
from mtpkdot.errors import RunError
from mtpkdot.files import write_whole
from mtpkdot.losses.task import Task, class_probabilities, predicted_class
from mtpkdot.markdown import escaped
from mtpkdot.markdown import table as lines_of
from mtpkdot.metrics.collections import score_rows
from mtpkdot.pipeline.records import NUMBER, read_record
from mtpkdot.pipeline.stages import BACKBONE, STUDENT, TEACHER
from mtpkdot.pipeline.store import write_json, write_text

PREDICTIONS = "predictions.parquet"
_BOUND = "lower bound"
_COLUMNS = ("id", "subject", "split", "stage", "target", "truth", "prediction")


@dataclass(frozen=True)
class Score:
    """One number of the results.

    Attributes:
        stage: name of the stage, without a modality.
        modality: modalities of the model, joined by `+`.
        split: validation or test.
        metric: one of `metrics.collections.metric_names`.
        target: the target's name; `mean` over the targets of a regression.
        value: value of the metric.
        n: number of samples.
        note: remark on the model, written to results.json; empty for none.
    """

    stage: str
    modality: str
    split: str
    metric: str
    target: str
    value: float
    n: int
    note: str = ""

    def plain(self) -> dict[str, Any]:
        """Return the score as written to results.json."""
        return {key: value for key, value in asdict(self).items() if key != "note" or value}


def score(data: BaseData, stage: str, modality: str, split: str, index: Tensor, output: Tensor) -> list[Score]:
    """Return the scores of one model on one part; samples without target do not count."""
    rows, output = data.compared(index.numpy(), output)
    labelled, target = torch.from_numpy(rows.labelled), torch.from_numpy(rows.target)
    return [
        Score(stage, modality, split=split, metric=metric, target=name, value=value, n=int(labelled.sum()))
        for metric, name, value in score_rows(data.task, data.samples.target_names, output[labelled], target[labelled])
    ]


def prediction_table(data: BaseData, stage: str, split: str, index: Tensor, output: Tensor) -> pd.DataFrame:
    """Return the predictions of one model on one part, a row per evaluated row (sample, step or frame) and target.

    Columns: id, subject, split, stage, target, truth, prediction, and p_<class> for classes, ordered or not. Truth is
        empty for samples without target; a predicted class is empty where an output is not finite.
    """
    samples = data.samples
    rows, output = data.compared(index.numpy(), output)
    known = rows.labelled
    common = {
        "id": rows.ids.astype(object),
        "subject": rows.subjects.astype(object),
        "split": split,
        "stage": stage,
    }
    if data.task != "regression":
        names = np.array(samples.class_names, dtype=object)
        truth = np.where(known, names[np.where(known, rows.target, 0).astype(int)], None)
        probabilities = class_probabilities(data.task, output).numpy()
        columns = {f"p_{name}": probabilities[:, i] for i, name in enumerate(samples.class_names)}
        finite = output.isfinite().all(dim=1).numpy()
        predicted = np.where(finite, names[predicted_class(data.task, output).numpy()], None)
        return pd.DataFrame(
            {**common, "target": samples.target_names[0], "truth": truth, "prediction": predicted, **columns}
        )
    values = output.float().numpy()
    return pd.concat(
        [
            pd.DataFrame(
                {
                    **common,
                    "target": target,
                    "truth": np.where(known, rows.target[:, column].astype(float), np.nan),
                    "prediction": values[:, column],
                }
            )
            for column, target in enumerate(samples.target_names)
        ],
        ignore_index=True,
    )


def table(scores: Iterable[Score]) -> pd.DataFrame:
    """Return one line per model and one column per part and metric; the mean over several targets.

    The lower bound and the student are named so, because they are what is compared.
    """
    scores = list(scores)
    last = {score.metric: score.target for score in scores}
    frame = pd.DataFrame([asdict(score) for score in scores if score.target == last[score.metric]])
    frame["model"] = frame["stage"] + " (" + frame["modality"] + ")"
    frame["column"] = frame["split"] + " " + frame["metric"]
    wide = frame.pivot(index="model", columns="column", values="value")
    return wide.reindex(index=frame["model"].unique(), columns=frame["column"].unique())


def markdown(
    scores: list[Score], prevalent: str, protocol: str, title: str, notes: Sequence[str] = (), unit: str = "samples"
) -> str:
    """Return the table as Markdown, with the gap between lower bound and teacher that distillation has to close.

    Args:
        scores: scores of the run.
        prevalent: the student's modality.
        protocol: name of the protocol.
        title: heading.
        notes: sentences to add.
        unit: unit of the counts.
    """
    frame = table(scores)
    counts = {score.split: score.n for score in scores}
    cells = [["model", *map(str, frame.columns)]]
    known = {(f"{score.stage} ({score.modality})", f"{score.split} {score.metric}") for score in scores}
    for model in frame.index:
        # A metric that is NaN was computed all the same.
        values = {column: f"{value:.4f}" for column, value in frame.loc[model].items() if (model, column) in known}
        cells.append([str(model), *(values.get(column, "") for column in frame.columns)])
    size = ", ".join(f"{n} labelled {unit} in {split}" for split, n in counts.items())
    said, gaps = escaped(f"Protocol: {protocol}. {size}."), map(escaped, [*_gaps(scores, prevalent), *notes])
    return "\n".join([f"# {escaped(title)}", "", said, "", *lines_of(cells), "", *gaps, ""])


def _gaps(scores: list[Score], prevalent: str) -> list[str]:
    """Return sentences on lower bound, teacher and student in the primary metric, one per part."""
    sentences = []
    for split in dict.fromkeys(score.split for score in scores):
        values = _primary(scores, prevalent, split)
        if {_BOUND, TEACHER, STUDENT} <= set(values):
            low, high, mid = values[_BOUND], values[TEACHER], values[STUDENT]
            sentences.append(
                f"{split}: {_BOUND} {low:.4f} ({prevalent} alone), {TEACHER} {high:.4f} (gap {high - low:+.4f}), "
                f"{STUDENT} {mid:.4f} ({mid - low:+.4f})."
            )
    return sentences


def _primary(scores: Iterable[Score], prevalent: str, split: str) -> dict[str, float]:
    """Return the primary metric of each stage on a part; that of the prevalent backbone is the `lower bound`."""
    scores = list(scores)
    values: dict[str, float] = {}
    for score in scores:
        if score.split == split and score.metric == scores[0].metric:
            values[_BOUND if (score.stage, score.modality) == (BACKBONE, prevalent) else score.stage] = score.value
    return values


def below_bound(scores: Iterable[Score], prevalent: str, method: str) -> list[str]:
    """Return a sentence of advice for each part on which the student is below its lower bound.

    Args:
        scores: scores of the run.
        prevalent: the student's modality.
        method: method of the student.
    """
    scores, below = list(scores), []
    for split in dict.fromkeys(score.split for score in scores):
        values = _primary(scores, prevalent, split)
        if values.get(STUDENT, math.inf) < values.get(_BOUND, -math.inf):
            below.append(f"{split} ({values[STUDENT]:.4f} < {values[_BOUND]:.4f})")
    if not below:
        return []
    others = [
        f"--{STUDENT}.model.method mtpkdot_plus, which keeps the backbone if no epoch is better"
        if method != "mtpkdot_plus"
        else "more labelled people in the validation part, on which teachers are weighed",
        f"a lower --{STUDENT}.model.lr",
        "recordings without a label beside the labelled ones",
    ]
    return [
        f"The {STUDENT} is below its lower bound, {prevalent} alone, on {' and '.join(below)}: its training does "
        f"not help here. Try {', '.join(others[:-1])} or {others[-1]}, and choose by validation."
    ]


def write_results(folder: Path, scores: list[Score], predictions: pd.DataFrame, text: str) -> None:
    """Write results.json, results.md and predictions.parquet, each by one atomic replacement."""
    write_json(folder / "results.json", [score.plain() for score in scores])
    write_text(folder / "results.md", text)
    buffer = io.BytesIO()
    predictions.to_parquet(buffer, index=False)
    write_whole(folder / PREDICTIONS, buffer.getbuffer())


def discard_torn(folder: Path) -> None:
    """Remove unreadable files of an earlier evaluation if all results are computed again."""
    with contextlib.suppress(FileNotFoundError):
        try:
            pq.read_metadata(folder / PREDICTIONS)
        except pa.ArrowInvalid:
            (folder / PREDICTIONS).unlink()
    with contextlib.suppress(FileNotFoundError):
        try:
            json.loads((folder / "results.json").read_text())
        except ValueError:
            (folder / "results.json").unlink()


def read_predictions(folder: Path) -> pd.DataFrame:
    """Return the predictions of an earlier evaluation.

    Raises:
        RunError: the file is not there or damaged.
    """
    path = folder / PREDICTIONS
    try:
        check_parquet(path)
        table = pd.read_parquet(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise RunError(f"{path} cannot be read ({error})", "Remove it, and evaluate the run again.") from error
    if absent := [name for name in _COLUMNS if name not in table.columns]:
        raise RunError(f"{path} has no column {absent[0]!r}", "Remove it, and evaluate the run again.")
    return table


def check_predictions(table: pd.DataFrame, task: Task, targets: Sequence[str], folder: Path) -> None:
    """Check that predictions belong to the task and targets of their run.

    Args:
        table: result of `read_predictions`.
        task: the run's task.
        targets: its class names or target names.
        folder: the run's folder.

    Raises:
        RunError: the table has a class, target or column that the run does not have.
    """
    if task == "regression":
        named = table["target"]
        numbers = [table["truth"], table["prediction"]]
    else:
        named = pd.concat([table["truth"], table["prediction"]]).dropna().astype(str)
        numbers = [table.get(f"p_{name}", named.iloc[:0].astype(object)) for name in targets]
    other = sorted(set(named) - set(targets))
    if other or not all(pd.api.types.is_numeric_dtype(column) for column in numbers):
        what = f"they name {other[0]!r}" if other else "probabilities or values are absent, or no numbers"
        step = "Remove that folder, and run it again."
        raise RunError(f"{folder / PREDICTIONS} does not belong to the run beside it: {what}", step)


def read_scores(folder: Path, stages: Collection[str] | None = None) -> list[Score]:
    """Return the scores of an earlier evaluation, or an empty list.

    Args:
        folder: folder of the run.
        stages: names of the run's stages, without modalities; None takes any.

    Raises:
        RunError: the file is damaged, or names another stage.
    """
    path = folder / "results.json"
    if not path.is_file():
        return []
    form = {
        "stage": str if stages is None else {*stages},
        "modality": str,
        "split": {"validation", "test"},
        "metric": str,
        "target": str,
    }
    step = "Remove it, and evaluate the run again."
    stored: list[dict[str, Any]] = read_record(path, [{**form, "value": NUMBER, "n": int, "note?": str}], step)
    return [Score(**score) for score in stored]
