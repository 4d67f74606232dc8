"""Scores of models with intervals over people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from mtpkdot.losses.task import Task, class_probabilities, predicted_class
from mtpkdot.probe.models import Question
from mtpkdot.report.statistics import Draws, percentile_interval
from mtpkdot.report.tallies import Array, metrics, tally

REPLICATES = 1000
Key = tuple[int, str]  # number of labelled people, model


@dataclass(frozen=True)
class Estimate:
    """Number with its 95 % interval over people.

    Attributes:
        value: the number, a mean over draws.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float

    def plain(self) -> dict[str, float]:
        """Return the estimate as written to probe.json."""
        return {name: round(value, 6) for name, value in asdict(self).items()}

    def told(self, sign: bool = False) -> str:
        """Return the estimate in words: `0.412 [0.380, 0.445]`, with signs for a difference."""
        form = "+.3f" if sign else ".3f"
        return f"{self.value:{form}} [{self.low:{form}}, {self.high:{form}}]"


class Scores:
    """Primary metric of models on people that are tested once in every draw.

    Args:
        question: the task.
        draws: sums (people, n) over the tested rows of each person, by model, of every draw; see `sums_of`.
    """

    def __init__(self, question: Question, draws: Sequence[Mapping[Key, Array]]) -> None:
        self.question, self.sums = question, draws
        self._bootstrap = Draws(len(next(iter(draws[0].values()))), REPLICATES)
        self._computed: dict[Key, tuple[float, Array]] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self.sums[0]

    def estimate(self, key: Key, minus: Key | None = None) -> Estimate:
        """Return the metric of a model, or its difference from that of another one on the same people."""
        value, replicates = self._of(key)
        if minus is not None:
            other, others = self._of(minus)
            value, replicates = value - other, replicates - others
        return Estimate(value, *percentile_interval(replicates))

    def _of(self, key: Key) -> tuple[float, Array]:
        if key not in self._computed:
            points = [self._metric(sums[key].sum(axis=0)) for sums in self.sums]
            replicates = [self._metric(self._bootstrap.sums(sums[key])) for sums in self.sums]
            self._computed[key] = float(np.mean(points)), np.mean(replicates, axis=0)
        return self._computed[key]

    def _metric(self, sums: Array) -> Array:
        question = self.question
        target = "mean" if question.task == "regression" else ""
        return metrics(sums, question.task, question.targets)[question.metric, target]


def sums_of(question: Question, output: Tensor, truth: Tensor, people: Array, count: int, centre: Array) -> Array:
    """Return the sums (count, n) over rows of each person from which the metrics follow.

    Args:
        question: the task.
        output: (N, K) outputs.
        truth: (N,) classes or (N, K) values.
        people: (N,) number of the person of every row.
        count: number of people.
        centre: (K,) values about which the moments of values are taken.
    """
    names = np.array([f"{number:06d}" for number in range(count)])
    frame = _frame(question.task, question.targets, output, truth)
    frame["subject"] = np.tile(names[people], len(frame) // max(len(output), 1))
    return tally(frame, question.task, question.targets, centre).aligned(names)


def _frame(task: Task, targets: Sequence[str], output: Tensor, truth: Tensor) -> pd.DataFrame:
    """Return predictions as `mtpkdot.report.tallies.tally` reads them, target after target, without subjects."""
    if task == "regression":
        return pd.DataFrame(
            {
                "target": np.repeat(np.array(targets, dtype=object), len(output)),
                "truth": truth.double().T.reshape(-1).numpy(),
                "prediction": output.double().T.reshape(-1).numpy(),
            }
        )
    names = np.array(targets, dtype=object)
    probabilities = class_probabilities(task, output.double()).numpy()
    columns = {f"p_{name}": probabilities[:, place] for place, name in enumerate(targets)}
    answers = {"truth": names[truth.numpy()], "prediction": names[predicted_class(task, output).numpy()]}
    return pd.DataFrame({"target": "", **answers, **columns})
