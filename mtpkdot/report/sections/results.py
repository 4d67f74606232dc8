"""Section on results: tables with intervals, gains, subjects one by one, and the value of labels."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from mtpkdot.pipeline.stages import TEACHER
from mtpkdot.pipeline.study import BASE, ORACLE
from mtpkdot.report.compare import Comparison, Difference, Value
from mtpkdot.report.costs import costs
from mtpkdot.report.figures import gains
from mtpkdot.report.page import Block, Figure, Heading, Table, Text
from mtpkdot.report.sources import labelled_of
from mtpkdot.report.statistics import ROUNDING
from mtpkdot.report.summary import OF_SECONDS, SECONDS, beside, interval, number, oracle_share, remarks, share, spread
from mtpkdot.report.tallies import Array

_CONTROLS = (BASE, TEACHER, "selftraining", "labelprop", ORACLE)
Found = tuple[Sequence[Value], Sequence[Difference]]


def results(comparison: Comparison, found: Found) -> list[Block]:
    """Return tables and intervals of one setting."""
    values, differences = found
    metric = comparison.primary[0]
    primary = [value for value in values if (value.metric, value.target) == comparison.primary]
    of = ", mean over the targets" if comparison.primary[1] else ""
    main = [["method", metric, "95 % interval", "sd", "runs", "subjects"]]
    for value in primary:
        ends = interval(value.low, value.high)
        main.append([value.method, number(value.value), ends, number(value.sd), str(value.cells), str(value.subjects)])
    blocks: list[Block] = [
        Table(
            beside(main, SECONDS, costs(comparison)),
            f"Results on the test parts: {metric}{of}. {OF_SECONDS}",
        ),
        *_compared(comparison, differences),
        Figure(
            gains.intervals(primary, differences, metric, BASE),
            f"{metric} of every method with its interval, and its difference from {BASE}: "
            + "; ".join(f"{value.method} {number(value.value)}" for value in primary),
            f"Values of {metric}, and what students gain over the base, with 95 % intervals. Round: students. Square: "
            "upstream models and the base.",
        ),
        Table(_everything(values), "Every metric; in brackets the 95 % interval."),
        *([Text(_origins(comparison))] if comparison.origins else []),
        *(Text(remark) for remark in remarks(comparison) if remark),
    ]
    return blocks


def _compared(comparison: Comparison, differences: Sequence[Difference]) -> list[Block]:
    if not differences:
        return []
    kind = "t-test over draws" if comparison.resample == "seed" else "corrected resampled t-test over folds"
    seeds = any(not np.isnan(d.seeds_low) for d in differences)
    bound = any(oracle_share(d) for d in differences)
    starts = any(spread(d) for d in differences)
    lines = [["method", "against", "difference", "95 % interval", "p, bootstrap", f"p, {kind}", "gap closed"]]
    lines[0] += ["oracle gap closed"] * bound + ["over draws"] * seeds + ["sd over starts / draws"] * starts
    for d in differences:
        ends = "" if np.isnan(d.low) else f"{d.low:+.4f} to {d.high:+.4f}"
        over = "" if np.isnan(d.seeds_low) else f"{d.seeds_low:+.4f} to {d.seeds_high:+.4f}"
        line = [d.method, d.reference, f"{d.value:+.4f}", ends, _p(d.p_bootstrap), _p(d.p_t), share(d)]
        lines.append([*line, *[oracle_share(d)] * bound, *[over] * seeds, *[spread(d)] * starts])
    caption = (
        f"Paired differences in {comparison.primary[0]}; p corrected for the number of methods (Holm). Gap closed: "
        "share of the difference between base and teacher, where that is clearly above 0."
    )
    if seeds:
        caption += (
            " Over draws: Student's 95 % interval of what other draws (weights, orders, labelled people) would show on "
            "the same test parts."
        )
    return [Table(lines, caption)]


def people(comparison: Comparison, students: Sequence[str]) -> list[Block]:
    """Return gains per subject of one setting."""
    if comparison.resample == "seed":
        return [Text("Every draw has people of its own: there are no gains per subject.")]
    found: dict[str, Array] = {}
    bounds: list[str] = []
    for method in students:
        base = comparison.bases[method]
        if base in comparison.tallies and (cells := comparison.common(method, base)):
            gain = comparison.per_subject(method, cells) - comparison.per_subject(base, cells)
            found[method] = np.where(abs(gain) < ROUNDING, 0.0, gain)
            bounds.append(base)
    if not found:
        return []
    over, names = " or ".join(dict.fromkeys(bounds)), [str(name) for name in comparison.subjects]
    return [
        Figure(
            gains.per_subject(found, names, comparison.primary[0]),
            f"Gain over {over} for every subject: "
            + "; ".join(f"{method} better for {(gain > 0).sum()} of {len(names)}" for method, gain in found.items()),
            f"Gain in {comparison.primary[0]} over {over}, subject by subject (mean over draws), sorted by the first "
            "method. Means are over subjects, those of the tables over samples. Where subjects are unknown, every "
            "sample counts as one.",
        )
    ]


def labels(comparisons: Sequence[Comparison], found: Mapping[str, Found]) -> list[Block]:
    """Return curves of gain against the number of labelled people, for settings that differ in nothing else."""
    groups: dict[str, dict[str, Comparison]] = {}
    for comparison in comparisons:
        keys = [key for key in comparison.gathered.models if key[0] == comparison.setting]
        labelled, rest = labelled_of(comparison.gathered.models[keys[0]].record)
        groups.setdefault(rest, {})[labelled] = comparison
    blocks: list[Block] = []
    for group in groups.values():
        if len(group) > 1:
            blocks.append(_curve(dict(sorted(group.items(), key=lambda item: _samples(item[1]))), found))
    return [Heading("Gain against the number of labelled people", 3), *blocks] if blocks else []


def _curve(group: Mapping[str, Comparison], found: Mapping[str, Found]) -> Figure:
    values: dict[str, dict[str, Value | Difference]] = {}
    gained: dict[str, dict[str, Value | Difference]] = {}
    counts = {}
    some = next(iter(group.values()))
    wanted = [*_CONTROLS, *(student for student in some.students if student not in _CONTROLS)]
    for labelled, comparison in group.items():
        of_setting, differences = found[comparison.setting]
        for value in of_setting:
            if value.method in wanted and (value.metric, value.target) == comparison.primary:
                values.setdefault(value.method, {})[labelled] = value
        for difference in differences:
            if difference.reference == BASE and difference.method in wanted:
                gained.setdefault(difference.method, {})[labelled] = difference
        counts[labelled] = f"{labelled}\n({_samples(comparison):.0f} samples)"
    text = "; ".join(
        f"{method}: " + ", ".join(f"{_people(labelled)} {point.value:+.4f}" for labelled, point in points.items())
        for method, points in gained.items()
    )
    controls = [name for name in _CONTROLS if name in values]
    return Figure(
        gains.by_labels(values, gained, counts=counts, metric=some.primary[0], lines=controls),
        f"Gains over the base by the number of labelled people. {text}",
        f"Left: {some.primary[0]}; right: gain over the base, with 95 % intervals, against the number of labelled "
        f"people ({', '.join(comparison.setting for comparison in group.values())}). Grey: controls.",
    )


def _samples(comparison: Comparison) -> float:
    """Return the number of labelled training samples, averaged over folds and seeds."""
    records = [model.record for key, model in comparison.gathered.models.items() if key[0] == comparison.setting]
    return float(np.mean([record["labelled"]["train"] for record in records]))


def _people(labelled: str) -> str:
    return f"{float(labelled):.0%} of the people" if "." in labelled else f"{labelled} people"


def _everything(values: Sequence[Value]) -> list[list[str]]:
    columns = list(dict.fromkeys((value.metric, value.target) for value in values))
    # A table of every target would be wide; they are in results.csv.
    columns = [column for column in columns if column[1] in ("", "mean")] if len(columns) > 9 else columns
    of = {(value.method, value.metric, value.target): value for value in values}
    lines = [["method", *(" ".join(column).strip() for column in columns)]]
    for method in dict.fromkeys(value.method for value in values):
        cells = [of[method, *column] for column in columns]
        lines.append([method, *(_with_interval(value) for value in cells)])
    return lines


def _with_interval(value: Value) -> str:
    ends = interval(value.low, value.high).replace(" to ", ", ")
    return f"{value.value:.4f}" + (f" [{ends}]" if ends else "")


def _p(p: float) -> str:
    return "" if np.isnan(p) else f"{p:.3f}"


def _origins(comparison: Comparison) -> str:
    text = []
    for base, origin in comparison.origins.items():
        counts = {method: list(origin.values()).count(method) for method in dict.fromkeys(origin.values())}
        text.append(f"{base} is {json.dumps(counts)[1:-1].replace(chr(34), '')} (folds and seeds)")
    return f"{'; '.join(text)}."
