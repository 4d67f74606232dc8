"""Compares the methods of a study: values with intervals, paired differences, share of the teacher's gap."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtpkdot.pipeline.study import Resample
from mtpkdot.report.gather import BASE, TEACHER, Gathered
from mtpkdot.report.statistics import (
    bootstrap_p,
    corrected_t,
    draws,
    holm,
    mean_interval,
    percentile_interval,
    pooled,
)
from mtpkdot.report.tallies import METRICS, Array, Tally, metrics

REPLICATES = 2000
Metric = tuple[str, str]


@dataclass(frozen=True)
class Value:
    """A metric of a method.

    Attributes:
        setting: the setting.
        method: the method.
        metric: the metric.
        target: the target; empty for classes.
        value: mean over seeds, each on all folds together.
        low: lower end of the interval.
        high: upper end.
        sd: standard deviation over cells (fold and seed).
        cells: their number.
        subjects: people tested.
    """

    setting: str
    method: str
    metric: str
    target: str
    value: float
    low: float
    high: float
    sd: float
    cells: int
    subjects: int


@dataclass(frozen=True)
class Difference:
    """A method against another, in the primary metric.

    Attributes:
        setting: the setting.
        method: the method.
        reference: what it is compared with.
        value: difference of the values.
        low: lower end of the interval of paired differences.
        high: upper end.
        p_bootstrap: two-sided, by the bootstrap over subjects, corrected (Holm); NaN if seeds are resampled.
        p_t: two-sided, by the corrected resampled t-test over cells, corrected (Holm).
        gap_closed: share of the gap between base and teacher; NaN for another reference, or without a clear gap.
        gap_low: lower end of its interval.
        gap_high: upper end.
    """

    setting: str
    method: str
    reference: str
    value: float
    low: float
    high: float
    p_bootstrap: float
    p_t: float
    gap_closed: float = float("nan")
    gap_low: float = float("nan")
    gap_high: float = float("nan")


class Comparison:
    """All methods of one setting.

    Args:
        gathered: what the study has found. The lower bound is added to it as the method `base`: in every cell the
            better one, on the validation part, of the prevalent backbone and the student without teachers.
        setting: the setting.
        resample: see Study.
    """

    def __init__(self, gathered: Gathered, setting: str, resample: Resample = "subject") -> None:
        self.gathered, self.setting, self.resample = gathered, setting, resample
        name = METRICS[gathered.task][0]
        self.primary: Metric = (name, "mean" if gathered.task == "regression" else "")
        self._add_base()
        self.methods = gathered.methods(setting)
        names = [gathered.tallies[setting, m, f, s, "test"].subjects for m in self.methods for f, s in self._cells(m)]
        self.subjects = np.unique(np.concatenate(names))
        self.seeds = sorted({seed for method in self.methods for _, seed in self._cells(method)})
        self._draws = draws(len(self.subjects), REPLICATES)
        self._replicates: dict[tuple[str, Metric], Array] = {}

    def values(self) -> list[Value]:
        """Every metric of every method."""
        return [self._value(method, metric) for method in self.methods for metric in self._points(method)]

    def differences(self, references: Sequence[str]) -> list[Difference]:
        """Every student against every reference that is there, corrected for their number."""
        found = []
        for reference in (r for r in references if r in self.methods):
            students = [m for m in self.methods if self.is_student(m) and m != reference]
            tests = {m: self._tests(m, reference) for m in students}
            p_bootstrap, p_t = (holm({m: test[i] for m, test in tests.items()}) for i in (0, 1))
            for method in students:
                value, low, high = self._difference(method, reference)
                gap = self._gap(method) if reference.startswith(BASE) else (float("nan"),) * 3
                found.append(
                    Difference(
                        self.setting, method, reference, value, low, high, p_bootstrap[method], p_t[method], *gap
                    )
                )
        return found

    def is_student(self, method: str) -> bool:
        """Whether it is a variant of the study, and no upstream model."""
        return method in self.gathered.upstream

    def per_cell(self, method: str, metric: Metric) -> Array:
        """(J,) values, one per fold and seed, in order."""
        return np.array([self._metric(self._tally(method, *cell), metric) for cell in sorted(self._cells(method))])

    def per_subject(self, method: str) -> Array:
        """(S,) primary metric of every subject alone, mean over seeds; NaN where it was not tested."""
        rows = []
        for seed in self.seeds:
            sums = self._sums(method, seed)
            values = metrics(sums, self.gathered.task, self.gathered.targets)[self.primary]
            rows.append(np.where(sums.any(axis=1), values, np.nan))
        return np.asarray(np.nanmean(np.stack(rows), axis=0))

    def _value(self, method: str, metric: Metric) -> Value:
        point, cells = self._points(method)[metric], self.per_cell(method, metric)
        low, high = self._interval(self._resampled(method, metric))
        sd = float(cells.std(ddof=1)) if len(cells) > 1 else float("nan")
        return Value(self.setting, method, *metric, float(point.mean()), low, high, sd, len(cells), len(self.subjects))

    def _difference(self, method: str, reference: str) -> tuple[float, float, float]:
        points = self._points(method)[self.primary] - self._points(reference)[self.primary]
        resampled = self._resampled(method, self.primary) - self._resampled(reference, self.primary)
        return (float(points.mean()), *self._interval(resampled))

    def _tests(self, method: str, reference: str) -> tuple[float, float]:
        both = sorted(set(self._cells(method)) & set(self._cells(reference)))
        of_cells = [
            self._metric(self._tally(method, *cell), self.primary)
            - self._metric(self._tally(reference, *cell), self.primary)
            for cell in both
        ]
        independent = self.resample == "seed"
        ratio = 0.0 if independent else self.gathered.test_to_train[self.setting]
        resampled = self._resampled(method, self.primary) - self._resampled(reference, self.primary)
        return float("nan") if independent else bootstrap_p(resampled), corrected_t(np.array(of_cells), ratio)

    def _gap(self, method: str) -> tuple[float, float, float]:
        suffix = self.gathered.upstream[method]
        base, teacher = f"{BASE}{suffix}", f"{TEACHER}{suffix}"
        if teacher not in self.methods or self._difference(teacher, base)[1] <= 0:
            return (float("nan"),) * 3
        value = self._difference(method, base)[0] / self._difference(teacher, base)[0]
        gain, gap = (self._resampled(m, self.primary) - self._resampled(base, self.primary) for m in (method, teacher))
        if self.resample == "seed":
            # Few values: the ratio of sums over resampled seeds.
            chosen = draws(len(gain), REPLICATES)
            gain, gap = chosen @ gain, chosen @ gap
        return (value, *percentile_interval(gain / np.where(gap > 0, gap, np.nan_to_num(np.inf))))

    def _points(self, method: str) -> dict[Metric, Array]:
        """(seeds,) per metric."""
        of_seeds = [self._of(self._sums(method, seed).sum(axis=0)) for seed in self._seeds(method)]
        return {metric: np.array([found[metric] for found in of_seeds]) for metric in of_seeds[0]}

    def _resampled(self, method: str, metric: Metric) -> Array:
        """(R,) replicates of the bootstrap over subjects, or one value per seed."""
        if self.resample == "seed":
            return self._points(method)[metric]
        if (method, metric) not in self._replicates:
            found = [self._of(self._draws @ self._sums(method, seed)) for seed in self._seeds(method)]
            for known in found[0]:
                self._replicates[method, known] = pooled([values[known] for values in found])
        return self._replicates[method, metric]

    def _interval(self, resampled: Array) -> tuple[float, float]:
        return mean_interval(resampled) if self.resample == "seed" else percentile_interval(resampled)

    def _add_base(self) -> None:
        tallies = self.gathered.tallies
        for suffix in dict.fromkeys(self.gathered.upstream.values()):
            backbone = f"backbone.{self.gathered.prevalent}{suffix}"
            alone = next(
                (v for v, s in self.gathered.upstream.items() if s == suffix and v.split("@")[0] == "none"), ""
            )
            for fold, seed in self._cells(backbone):
                options = [m for m in (backbone, alone) if (self.setting, m, fold, seed, "validation") in tallies]
                judged = {
                    m: self._metric(tallies[self.setting, m, fold, seed, "validation"], self.primary) for m in options
                }
                best = max(options, key=lambda m: judged[m])
                for split in ("validation", "test"):
                    key = (self.setting, f"{BASE}{suffix}", fold, seed, split)
                    tallies[key] = tallies[self.setting, best, fold, seed, split]

    def _cells(self, method: str) -> list[tuple[int, int]]:
        return self.gathered.cells(self.setting, method)

    def _seeds(self, method: str) -> list[int]:
        return sorted({seed for _, seed in self._cells(method)})

    def _tally(self, method: str, fold: int, seed: int) -> Tally:
        return self.gathered.tallies[self.setting, method, fold, seed, "test"]

    def _sums(self, method: str, seed: int) -> Array:
        """(S, n) over the folds of a seed."""
        folds = [fold for fold, s in self._cells(method) if s == seed]
        return np.asarray(np.sum([self._tally(method, fold, seed).aligned(self.subjects) for fold in folds], axis=0))

    def _metric(self, of: Tally, metric: Metric) -> float:
        return float(self._of(of.sums.sum(axis=0))[metric])

    def _of(self, sums: Array) -> dict[Metric, Array]:
        return metrics(sums, self.gathered.task, self.gathered.targets)
