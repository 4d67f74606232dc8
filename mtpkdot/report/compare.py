"""Comparison of the methods of a study: values with intervals, paired differences, shares of the gap above the base."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtpkdot.data.batch import StrArray
from mtpkdot.metrics.definitions import METRICS
from mtpkdot.pipeline.evaluation import Split
from mtpkdot.pipeline.stages import BACKBONE, HALLUCINATOR, TEACHER
from mtpkdot.pipeline.study import BASE, ORACLE, Resample
from mtpkdot.report.gather import Gathered, Model
from mtpkdot.report.statistics import (
    ROUNDING,
    Draws,
    bootstrap_p,
    corrected_t,
    holm,
    mean_interval,
    percentile_interval,
    ratio_mean_interval,
    ratio_percentile_interval,
)
from mtpkdot.report.tallies import Array, Tally, metrics

REPLICATES = 2000
Metric = tuple[str, str]
Cells = tuple[tuple[int, int], ...]  # (fold, seed)
_NAN = (float("nan"),) * 3


@dataclass(frozen=True)
class Value:
    """Metric of a method, with its interval.

    Attributes:
        setting: the setting.
        method: the method.
        metric: the metric.
        target: the target; empty for classes.
        value: mean over draws and their starts of the metric on all folds together.
        low: lower end of the interval.
        high: upper end.
        sd: standard deviation over cells (fold and seed).
        cells: number of cells.
        subjects: number of people in the test parts.
        sd_draws: standard deviation over draws, each the mean of its starts; NaN for a single draw.
        sd_starts: standard deviation over the starts of a draw, pooled over draws; NaN for single starts.
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
    sd_draws: float = float("nan")
    sd_starts: float = float("nan")


@dataclass(frozen=True)
class Difference:
    """Paired difference of a method and a reference in the primary metric, on the folds and seeds that both have.

    Attributes:
        setting: the setting.
        method: the method.
        reference: name of the other method; `base` is that of the method's own upstream models, see Comparison.
        value: difference of the values.
        low: lower end of the interval of paired differences.
        high: upper end.
        p_bootstrap: two-sided p value of the bootstrap over subjects, corrected (Holm); NaN if seeds are resampled.
        p_t: two-sided p value of the corrected resampled t-test over folds, or of the t-test over seeds if those are
            resampled, corrected (Holm); NaN for a single fold.
        seeds_low: lower end of Student's t interval over draws, which share the test parts and differ in weights, order
            and labelled people; starts of a draw are averaged. NaN for a single draw, and if draws are resampled, where
            `low` is this end.
        seeds_high: upper end.
        gap_closed: share of the gap between base and teacher; NaN for another reference, or without a clear gap.
        gap_low: lower end of its interval.
        gap_high: upper end.
        oracle_closed: share of the gap between base and oracle, the student that is taught the hidden labels.
        oracle_low: lower end of its interval.
        oracle_high: upper end.
        sd_draws: standard deviation of the difference over draws, see Value.
        sd_starts: standard deviation of the difference over the starts of a draw, see Value.
    """

    setting: str
    method: str
    reference: str
    value: float
    low: float
    high: float
    p_bootstrap: float
    p_t: float
    seeds_low: float = float("nan")
    seeds_high: float = float("nan")
    gap_closed: float = float("nan")
    gap_low: float = float("nan")
    gap_high: float = float("nan")
    oracle_closed: float = float("nan")
    oracle_low: float = float("nan")
    oracle_high: float = float("nan")
    sd_draws: float = float("nan")
    sd_starts: float = float("nan")


class Comparison:
    """Methods of one setting, with the lower bound `base`.

    In every cell, `base` is the better one, on the validation part, of the prevalent backbone and the student without
    teachers. Each set of upstream models with such a student has its own base; students of another set are compared
    with the base of the same prevalent backbone; students that are trained on the validation part as well, with the
    first base. Without any base, the lower bound is the backbone under its own name, and the share of the gap is not
    computed.

    Args:
        gathered: gathered results.
        setting: the setting.
        resample: see Study.
        split: part of the data that is reported: `test`, or `validation` for model selection.
    """

    def __init__(self, gathered: Gathered, setting: str, resample: Resample = "subject", split: Split = "test") -> None:
        self.gathered, self.setting, self.resample, self.split = gathered, setting, resample, split
        name = METRICS[gathered.task][0]
        self.primary: Metric = (name, "mean" if gathered.task == "regression" else "")
        self.students = [variant for of, variant in gathered.upstream if of == setting]
        self.tallies: dict[str, dict[tuple[int, int], Tally]] = {}
        for (of, method, *cell), parts in gathered.tallies.items():
            if of == setting:
                self.tallies.setdefault(method, {})[cell[0], cell[1]] = parts[split]
        self.origins: dict[str, dict[tuple[int, int], str]] = {}  # Model that is the base, by cell.
        alone = [v for v in self.students if (setting, v) in gathered.alone and v in self.tallies]
        for student in alone:
            self._add_base(student)
        self.bases = {variant: self._base(variant, alone) for variant in self.students}
        self.oracles = [v for v in self.students if (setting, v) in gathered.bounds]
        upstream = [method for method in self.tallies if method not in self.students]
        self.methods = [*upstream, *(student for student in self.students if student in self.tallies)]
        everyone = [tally.subjects for tallies in self.tallies.values() for tally in tallies.values()]
        self.subjects = np.unique(np.concatenate(everyone))
        self._draws: dict[int, Draws] = {}
        self._replicates: dict[tuple[str, Cells], dict[Metric, Array]] = {}

    def values(self) -> list[Value]:
        """Return every metric of every method."""
        return [value for method in self.methods for value in self._values(method)]

    def differences(self, references: Sequence[str]) -> list[Difference]:
        """Return the difference of every student and every available reference.

        The p values are corrected for the number of differences of each reference; an oracle is no method and has none.
        If `base` is among the references, students without one are compared with their backbone.
        """
        found = []
        for reference in dict.fromkeys([*references, *(self.backbones if BASE in references else ())]):
            if reference == BASE:
                pairs = {method: base for method, base in self.bases.items() if base in self.origins}
            elif reference in self.backbones:
                pairs = {method: base for method, base in self.bases.items() if base == reference}
            else:
                pairs = dict.fromkeys(self.students, reference)
            pairs = {m: r for m, r in pairs.items() if m != r and r in self.tallies and self.common(m, r)}
            untested = (*self.oracles, ORACLE)
            tests = {m: _NAN[:2] if m in untested else self._tests(m, other) for m, other in pairs.items()}
            p_bootstrap, p_t = (holm({method: test[i] for method, test in tests.items()}) for i in (0, 1))
            for method, other in pairs.items():
                uppers = self._uppers(method) if reference == BASE else ("", "")
                gaps = (*self._gap(method, other, uppers[0]), *self._gap(method, other, uppers[1]))
                p = p_bootstrap[method], p_t[method]
                known = (*self._difference(method, other), *p, *self._over_seeds(method, other), *gaps)
                draws, starts = self._spread(method, other)
                found.append(Difference(self.setting, method, reference, *known, sd_draws=draws, sd_starts=starts))
        return found

    @property
    def backbones(self) -> list[str]:
        """Lower bounds of students without a `base`."""
        return list(dict.fromkeys(base for base in self.bases.values() if base not in self.origins))

    def models(self, method: str) -> list[Model]:
        """Return the models of a method, one per fold and seed."""
        return self._models(method, self.cells(method))

    def _models(self, method: str, cells: Cells) -> list[Model]:
        origin = self.origins.get(method, {})
        return [self.gathered.models[self.setting, origin.get(cell, method), *cell] for cell in cells]

    def cells(self, method: str) -> Cells:
        """Return the folds and seeds of a method."""
        return tuple(sorted(self.tallies[method]))

    def common(self, *methods: str) -> Cells:
        """Return the folds and seeds that all of these methods have."""
        return tuple(sorted(set.intersection(*(set(self.tallies[method]) for method in methods))))

    def teacher(self, student: str) -> str:
        """Return the name of the multimodal teacher among a student's upstream models."""
        return self.gathered.upstream[self.setting, student].get(TEACHER, "")

    def _uppers(self, student: str) -> tuple[str, str]:
        """Return the names of the teacher and of the oracle above a student's lower bound; empty for none."""
        fuller = (self.setting, student) in self.gathered.fuller  # so is its teacher, but not its lower bound
        oracles = [o for o in self.oracles if self.bases[o] == self.bases[student] and student not in self.oracles]
        return "" if fuller else self.teacher(student), next(iter(oracles), "")

    def total(self, method: str) -> Array:
        """Return the sums (n,) of the tallies over all cells of a method."""
        return np.asarray(sum(tally.sums.sum(axis=0) for tally in self.tallies[method].values()))

    def per_subject(self, method: str, cells: Cells | None = None) -> Array:
        """Return the primary metric (S,) of each subject, averaged over seeds; NaN for untested subjects."""
        rows = []
        for sums in self._sums(method, self.cells(method) if cells is None else cells):
            rows.append(np.where(sums.any(axis=1), self._of(sums)[self.primary], np.nan))
        values = np.stack(rows)
        tested = ~np.isnan(values)
        mean = np.nansum(values, axis=0) / np.maximum(tested.sum(axis=0), 1)
        return np.asarray(np.where(tested.any(axis=0), mean, np.nan))

    def _values(self, method: str) -> list[Value]:
        cells = self.cells(method)
        points, resampled = self._points(method, cells), self._resampled(method, cells)
        of_cells = [self._of(self.tallies[method][cell].sums.sum(axis=0)) for cell in cells]
        of_starts = self._of_starts(method, cells)
        people = len(np.unique(np.concatenate([tally.subjects for tally in self.tallies[method].values()])))
        found = []
        for (metric, target), point in points.items():
            by_cell = [of[metric, target] for of in of_cells]
            low, high = self._interval(resampled[metric, target])
            found.append(
                Value(
                    setting=self.setting,
                    method=method,
                    metric=metric,
                    target=target,
                    value=float(point.mean()),
                    low=low,
                    high=high,
                    sd=float(np.std(by_cell, ddof=1)) if len(cells) > 1 else float("nan"),
                    cells=len(cells),
                    subjects=people,
                    sd_draws=_sd(point),
                    sd_starts=_sd_within([values[metric, target] for values in of_starts]),
                )
            )
        return found

    def _difference(self, method: str, reference: str) -> tuple[float, float, float]:
        points, resampled = self._both(method, reference, self.common(method, reference))
        return (float(points.mean()), *self._interval(resampled))

    def _over_seeds(self, method: str, reference: str) -> tuple[float, float]:
        if self.resample == "seed":
            return _NAN[:2]
        return mean_interval(self._both(method, reference, self.common(method, reference))[0])

    def _spread(self, method: str, reference: str) -> tuple[float, float]:
        """Return the standard deviations of a difference in the primary metric, over draws and over starts."""
        cells = self.common(method, reference)
        own, others = self._of_starts(method, cells), self._of_starts(reference, cells)
        gains = [one[self.primary] - other[self.primary] for one, other in zip(own, others, strict=True)]
        return _sd(np.array([gain.mean() for gain in gains])), _sd_within(gains)

    def _both(self, method: str, reference: str, cells: Cells) -> tuple[Array, Array]:
        """Return the differences of the primary metric, (draws,) and resampled."""
        points = self._points(method, cells)[self.primary] - self._points(reference, cells)[self.primary]
        resampled = self._resampled(method, cells)[self.primary] - self._resampled(reference, cells)[self.primary]
        # Differences within rounding are ties.
        return _tied(points), _tied(resampled)

    def _tests(self, method: str, reference: str) -> tuple[float, float]:
        cells = self.common(method, reference)
        points, resampled = self._both(method, reference, cells)
        if self.resample == "seed":
            return float("nan"), corrected_t(points, 0.0)
        # Draws of a fold share its test part and are no independent repetitions, so they are averaged first.
        of_folds: dict[int, list[float]] = {}
        for cell in cells:
            of_folds.setdefault(cell[0], []).append(self._cell(method, cell) - self._cell(reference, cell))
        folds = _tied(np.array([np.mean(values) for values in of_folds.values()]))
        people = len(np.unique(np.concatenate([self.tallies[method][cell].subjects for cell in cells])))
        p = float("nan") if np.isnan(resampled).any() else bootstrap_p(resampled, people)
        return p, corrected_t(folds, self.gathered.to_train[self.setting, self.split])

    def _gap(self, method: str, base: str, upper: str) -> tuple[float, float, float]:
        """Return the share of the gap between the base and an upper model that a method closes, with its interval."""
        if upper not in self.tallies or not self.common(method, base, upper):
            return _NAN
        cells = self.common(method, base, upper)
        (gain, gains), (gap, gaps) = self._both(method, base, cells), self._both(upper, base, cells)
        if not self._interval(gaps)[0] > 0:
            return _NAN
        interval = ratio_mean_interval if self.resample == "seed" else ratio_percentile_interval
        return (float(gain.mean() / gap.mean()), *interval(gains, gaps))

    def _points(self, method: str, cells: Cells) -> dict[Metric, Array]:
        """Return the values (draws,) of each metric, on all folds together; each the mean over its starts."""
        of_draws = self._of_starts(method, cells)
        return {metric: np.array([found[metric].mean() for found in of_draws]) for metric in of_draws[0]}

    def _of_starts(self, method: str, cells: Cells) -> list[dict[Metric, Array]]:
        """Return for each draw the values (starts,) of each metric, on all folds together."""
        found = []
        for draw in self._draw_seeds(method, cells):
            of_starts = [self._of(sums.sum(axis=0)) for sums in self._sums(method, draw)]
            found.append({metric: np.array([values[metric] for values in of_starts]) for metric in of_starts[0]})
        return found

    def _resampled(self, method: str, cells: Cells) -> dict[Metric, Array]:
        """Return the bootstrap replicates (R,) over subjects, averaged over draws; or one value per draw.

        The subjects are those that were tested in these cells. A single subject has no spread, so everything is NaN.
        """
        if self.resample == "seed":
            return self._points(method, cells)
        if (method, cells) not in self._replicates:
            # The same draws for every method, so that differences are paired.
            tested = [of[cell].subjects for of in self.tallies.values() for cell in cells if cell in of]
            people = np.unique(np.concatenate(tested))
            if len(people) not in self._draws:
                self._draws[len(people)] = Draws(len(people), REPLICATES)
            # Starts of a draw are averaged first: a draw counts as one, however often it was started.
            found = []
            for draw in self._draw_seeds(method, cells):
                drawn = [self._of(self._draws[len(people)].sums(sums)) for sums in self._sums(method, draw, people)]
                found.append({metric: np.mean([of[metric] for of in drawn], axis=0) for metric in drawn[0]})
            alone = np.nan if len(people) < 2 else 0.0
            means = {metric: np.asarray(np.mean([of[metric] for of in found], axis=0)) + alone for metric in found[0]}
            self._replicates[method, cells] = means
        return self._replicates[method, cells]

    def _interval(self, resampled: Array) -> tuple[float, float]:
        if self.resample == "seed":
            return mean_interval(resampled)
        return percentile_interval(resampled)

    def _base(self, student: str, alone: Sequence[str]) -> str:
        """Return the name of a student's lower bound."""
        own = self._base_of(student)
        if own in self.origins:
            return own
        if (self.setting, student) in self.gathered.fuller and alone:
            return self._base_of(alone[0])
        backbone = self._backbone(student)
        return next((self._base_of(other) for other in alone if self._backbone(other) == backbone), backbone)

    def _base_of(self, student: str) -> str:
        # The hallucinator is trained on the backbones: students that share it share these too.
        return BASE + self.gathered.upstream[self.setting, student].get(HALLUCINATOR, "").removeprefix(HALLUCINATOR)

    def _backbone(self, student: str) -> str:
        return self.gathered.upstream[self.setting, student].get(f"{BACKBONE}.{self.gathered.prevalent}", "")

    def _add_base(self, student: str) -> None:
        """Add the lower bound of a student without teachers to the methods."""
        base, options = self._base_of(student), [m for m in (self._backbone(student), student) if m in self.tallies]
        if base in self.tallies:
            return
        self.tallies[base], self.origins[base] = {}, {}
        for cell in self.common(*options):
            best = max(options, key=lambda method: self._on_validation(method, cell))
            self.tallies[base][cell], self.origins[base][cell] = self.tallies[best][cell], best

    def _cell(self, method: str, cell: tuple[int, int]) -> float:
        """Return the primary metric of a cell."""
        return float(self._of(self.tallies[method][cell].sums.sum(axis=0))[self.primary])

    def _on_validation(self, method: str, cell: tuple[int, int]) -> float:
        tally = self.gathered.tallies[self.setting, method, *cell]["validation"]
        value = float(self._of(tally.sums.sum(axis=0))[self.primary])
        return -math.inf if math.isnan(value) else value  # NaN is never the better one.

    def _draw_seeds(self, method: str, cells: Cells) -> list[Cells]:
        """Return the cells of each draw."""
        of_draws: dict[int, list[tuple[int, int]]] = {}
        for cell, model in zip(cells, self._models(method, cells), strict=True):
            of_draws.setdefault(model.entry.draw, []).append(cell)
        return [tuple(of_draws[draw]) for draw in sorted(of_draws)]

    def _sums(self, method: str, cells: Cells, subjects: StrArray | None = None) -> list[Array]:
        """Return the sums (S, n) of each seed over its folds, for these subjects or all."""
        tallies, people = self.tallies[method], self.subjects if subjects is None else subjects
        return [
            np.asarray(sum(tallies[cell].aligned(people) for cell in cells if cell[1] == seed))
            for seed in sorted({seed for _, seed in cells})
        ]

    def _of(self, sums: Array) -> dict[Metric, Array]:
        return metrics(sums, self.gathered.task, self.gathered.targets)


def _sd(values: Array) -> float:
    """Return the standard deviation of values (J,); NaN for fewer than two."""
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def _sd_within(groups: Sequence[Array]) -> float:
    """Return the standard deviation within groups of values, pooled; NaN without a group of two."""
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    return math.sqrt(squares / freedom) if freedom else float("nan")


def _tied(differences: Array) -> Array:
    """Set differences within rounding to 0."""
    return np.asarray(np.where(np.abs(differences) < ROUNDING, 0.0, differences))
