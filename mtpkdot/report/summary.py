"""Tables of a study, as text and as a file of numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from mtpkdot.markdown import escaped, table
from mtpkdot.modules.teaching import BOUND
from mtpkdot.pipeline.evaluation import Split
from mtpkdot.pipeline.store import write_text
from mtpkdot.pipeline.study import BASE, ORACLE, Resample, Study
from mtpkdot.report.compare import Comparison, Difference, Value
from mtpkdot.report.costs import Cost, costs
from mtpkdot.report.gather import Entry, gather, of_study, reason_of
from mtpkdot.report.tallies import constant_targets

REFERENCES = (BASE, "pkdot", "selftraining", "labelprop")
FEW = 10  # Number of subjects.
SECONDS = "seconds, + teachers"
OF_SECONDS = (
    "Seconds of a student's training in a cell, and of the stages that it needs and one without teachers does not."
)
_SPREAD = "sd over starts / draws"
CHOOSING = (
    "Results of the validation parts, for choosing settings. They are too high, since these parts have selected the "
    "epochs. base, the better of two on the same parts, is higher still, and so is mtpkdot_plus, which is weighed on "
    "them and may fall back on the backbone: compare variants of one kind, or with the student without teachers. "
    "Report the choice on test parts, which have had no part in it."
)
ON_TEST = (
    "If the protocol selects the epoch on the test part, the validation parts have selected nothing, and the choice is "
    "not blind."
)


def summarise(folder: Path, split: Split = "test") -> str:
    """Gather a study, write `summary.md` and all numbers as CSV into its folder, and return the text with the cost.

    Args:
        folder: folder of the study.
        split: part of the data in the tables. Those of validation are written to `summary.validation.md` and so on,
            beside the others.

    Raises:
        RunError: the folder holds no study.
    """
    study = Study.read(folder)
    # Tables of both parts follow from the same file.
    entries = of_study(study)
    gathered = gather(entries, folder / "predictions.parquet" if split == "test" else None)
    if gathered is None:
        return f"{folder}: no cell is finished."
    values: list[Value] = []
    differences: list[Difference] = []
    parts: list[str] = []
    comparisons = [Comparison(gathered, setting, study.resample, split) for setting in gathered.settings]
    protocols = sorted({str(model.record["protocol"]) for model in gathered.models.values()})
    alone = [name for name in study.variants if any(name == variant for _, variant in gathered.alone)]
    references = REFERENCES if split == "test" else (BASE, *alone[:1], *REFERENCES[1:])
    for comparison in comparisons:
        of_setting, against = comparison.values(), comparison.differences(references)
        values += of_setting
        differences += against
        parts += [f"## {escaped(comparison.setting)}", "", *table(rows(comparison, of_setting, against)), ""]
        parts += map(escaped, remarks(comparison))
    if len(comparisons) > 1:
        lines, caption = side_by_side(values, comparisons[0].primary)
        parts = ["## Settings side by side", "", escaped(caption), "", *table(lines), "", *parts]
    chosen = [CHOOSING, ""] if split == "validation" else []
    if chosen and any(protocol == "released" or "select_on_test" in protocol for protocol in protocols):
        chosen += [ON_TEST, ""]
    said = [f"Protocol: {', '.join(protocols)}.", "", *chosen, *absent(study, entries)]
    parts = [f"# {escaped(study.name)}", "", *map(escaped, said), *parts]
    of = "" if split == "test" else f".{split}"
    parts += [f"{note(study.resample, *gathered.repetitions)} All metrics are in results{of}.csv, all differences in "]
    parts[-1] += f"comparisons{of}.csv" + (
        ", with intervals over draws as well." if study.resample == "subject" else "."
    )
    text = "\n".join(parts) + "\n"
    write_text(folder / f"summary{of}.md", text)
    write_text(folder / f"results{of}.csv", pd.DataFrame([asdict(v) for v in values]).to_csv(index=False))
    write_text(folder / f"comparisons{of}.csv", pd.DataFrame([asdict(d) for d in differences]).to_csv(index=False))
    if split == "test":
        write_text(folder / "bases.csv", bases(comparisons).to_csv(index=False))
        # Apart from the summary, which is the same whenever and wherever the cells are run.
        times = [cost for comparison in comparisons for cost in costs(comparison).values()]
        write_text(folder / "costs.csv", pd.DataFrame([asdict(cost) for cost in times]).to_csv(index=False))
        text += expenses(times, differences)
    return text


def absent(study: Study, entries: Sequence[Entry]) -> list[str]:
    """Return sentences on the cells that are in no table, each followed by an empty line."""
    missing = [entry for entry in entries if not entry.finished]
    found = [f"Not finished: {len(missing)} cells: {few([entry.place for entry in missing])}"] if missing else []
    if diverged := [entry.place for entry in missing if reason_of(entry).startswith("diverged")]:
        found.append(f"Diverged, and not in these tables: {few(diverged)}")
    if others := study.others:
        found.append(f"Finished earlier but not requested now, so not in these tables: {few(others)}")
    return [line for sentence in found for line in (sentence, "")]


def bases(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Return the model that is the base of each cell: setting, base, fold, seed, method."""
    chosen = [
        (comparison.setting, base, *cell, method)
        for comparison in comparisons
        for base, origin in comparison.origins.items()
        for cell, method in origin.items()
    ]
    return pd.DataFrame(chosen, columns=["setting", "base", "fold", "seed", "method"])


def rows(comparison: Comparison, values: Sequence[Value], differences: Sequence[Difference]) -> list[list[str]]:
    """Return the primary metric of every method with its comparisons; the first row is the header."""
    metric = comparison.primary[0]
    primary = {v.method: v for v in values if (v.metric, v.target) == comparison.primary}
    references = list(dict.fromkeys(d.reference for d in differences))
    of = {(d.method, d.reference): d for d in differences}
    tests = "p" if comparison.resample == "seed" else "p bootstrap / t"
    header = ["method", metric, "95 %", "sd", *(f"vs {r} [95 %], {tests}" for r in references)]
    shares = {"gap closed": share, "oracle gap closed": oracle_share}
    closed = {name: told for name, told in shares.items() if any(told(d) for d in differences)}
    starts = any(not math.isnan(value.sd_starts) for value in primary.values())
    found = [[*header, *closed, *([_SPREAD, f"{_SPREAD}, of the gain"] if starts else [])]]
    for method, value in primary.items():
        gain = of.get((method, BASE))
        cells = [method, number(value.value), interval(value.low, value.high), number(value.sd)]
        cells += [_against(of.get((method, reference)), comparison.resample) for reference in references]
        cells += [told(gain) for told in closed.values()]
        found.append([*cells, *([spread(value), spread(gain)] if starts else [])])
    return found


def expenses(times: Sequence[Cost], differences: Sequence[Difference]) -> str:
    """Return a table of the cost of every student beside its gain over the base; empty if no time is known."""
    gains = {(d.setting, d.method): f"{d.value:+.4f}" for d in differences if d.reference == BASE}
    lines = [[c.setting, c.method, gains.get((c.setting, c.method), ""), str(c), f"{c.cells}"] for c in times]
    header = ["setting", "method", "vs base", SECONDS, "cells"]
    return "\n".join(["", "## Gain and cost", "", *table([header, *lines]), "", OF_SECONDS, ""]) if lines else ""


def beside(lines: list[list[str]], name: str, of: Mapping[str, object]) -> list[list[str]]:
    """Return the lines of a table with one more column, by their first cell; unchanged if it has no value."""
    return [[*line, str(of.get(line[0], "")) if number else name] for number, line in enumerate(lines)] if of else lines


def side_by_side(values: Sequence[Value], metric: tuple[str, str]) -> tuple[list[list[str]], str]:
    """Return one metric (and target) of every method and setting, with its difference from the first, and a caption.

    The first row is the header. The more numerous of settings and methods are the rows, since tables are read on pages.
    """
    values = [value for value in values if (value.metric, value.target) == metric]
    of = {(value.setting, value.method): value.value for value in values}
    settings, methods = (list(dict.fromkeys(key[place] for key in of)) for place in (0, 1))
    found = [["setting", *methods]]
    for setting in settings:
        line = [setting]
        for method in methods:
            value, first = of.get((setting, method), math.nan), of.get((settings[0], method), math.nan)
            change = "" if setting == settings[0] or math.isnan(value - first) else f" ({value - first:+.4f})"
            line.append(f"{number(value)}{change}")
        found.append(line)
    if len(methods) > len(settings):
        found = [list(column) for column in zip(*found, strict=True)]
        found[0][0] = "method"
    caption = (
        f"{metric[0]} of every method in every setting; in brackets the difference from {settings[0]}, without an "
        "interval: people and labels may be others."
    )
    return found, caption


def remarks(comparison: Comparison) -> list[str]:
    """Return warnings about a setting, each followed by an empty line."""
    found = []
    if comparison.resample == "subject" and len(comparison.subjects) < FEW:
        found.append(
            f"Only {len(comparison.subjects)} subjects are tested: a bootstrap over so few has intervals that are too "
            "narrow."
        )
    if comparison.oracles:
        found.append(
            f"{', '.join(comparison.oracles)} has seen the hidden labels: it is {BOUND}. Oracle gap closed: share of "
            "the difference between base and oracle, where that is clearly above 0."
        )
    gathered = comparison.gathered
    if (comparison.setting, ORACLE) in gathered.alone:
        found.append(f"{ORACLE} is the student without teachers here: no label is hidden.")
    if fuller := [student for student in comparison.students if (comparison.setting, student) in gathered.fuller]:
        found.append(
            f"{', '.join(fuller)} and its upstream models are trained on the validation part as well, and keep their "
            "last epoch: what they reach on that part is no choice between them and others."
        )
    if gathered.task == "regression" and comparison.methods:
        one = constant_targets(comparison.total(comparison.methods[0]), gathered.targets)
        if one:
            found.append(f"All truths of {', '.join(one)} have one value: the ccc is 0 whatever is predicted.")
    if backbones := comparison.backbones:
        students = [student for student in comparison.students if comparison.bases[student] in backbones]
        found.append(
            f"No base for {', '.join(students)}: there is no student without teachers (method none) on the same "
            "prevalent backbone. They are compared with that backbone, and no share of a gap is reported."
        )
    return [line for remark in found for line in (remark, "")]


def _against(difference: Difference | None, resample: Resample) -> str:
    if difference is None:
        return ""
    d = difference
    ends = "" if math.isnan(d.low) else f" [{d.low:+.4f}, {d.high:+.4f}]"
    of = (d.p_t,) if resample == "seed" else (d.p_bootstrap, d.p_t)
    tests = " / ".join("-" if math.isnan(p) else f"{p:.3f}" for p in of)
    return f"{d.value:+.4f}{ends}" + (f", {tests}" if tests.strip("-/ ") else "")


def share(difference: Difference | None) -> str:
    """Return the share of the gap that is closed, with its interval; empty if there is none."""
    return "" if difference is None else _share(difference.gap_closed, difference.gap_low, difference.gap_high)


def oracle_share(difference: Difference | None) -> str:
    """Return the share of the gap between base and oracle that is closed, as `share` does."""
    return "" if difference is None else _share(difference.oracle_closed, difference.oracle_low, difference.oracle_high)


def spread(of: Value | Difference | None) -> str:
    """Return the standard deviations over starts and over draws; empty without several starts."""
    if of is None or math.isnan(of.sd_starts):
        return ""
    return f"{number(of.sd_starts)} / {number(of.sd_draws) or '-'}"


def number(value: float) -> str:
    """Return a number with four decimals; empty for NaN."""
    return "" if math.isnan(value) else f"{value:.4f}"


def interval(low: float, high: float) -> str:
    """Return both ends of an interval; empty for NaN."""
    return "" if math.isnan(low) else f"{low:.4f} to {high:.4f}"


def note(resample: Resample, folds: int, draws: int, starts: int) -> str:
    """Return sentences on how the numbers were computed.

    Args:
        resample: see Study.
        folds: number of folds.
        draws: number of draws.
        starts: number of starts of each draw.
    """
    about = (
        "Intervals: bootstrap over subjects, paired between methods, for the given draws and starts; p: the same / the "
        "corrected resampled t-test over folds (- for a single one), both corrected for the number of methods (Holm), "
        "separately for each reference. Resampling raises calibration errors, so that their intervals are too high."
        if resample == "subject"
        else "Intervals and p: Student's t over draws, paired between methods (shares of the gap: Fieller); p is "
        "corrected for the number of methods (Holm), separately for each reference."
    )
    return (
        f"{_count(folds, 'fold')}, {_count(draws * starts, 'seed')}: {_count(draws, 'draw')} (labelled people, weights "
        f"and order), {_count(starts, 'start')} of each (weights and order). Values are means over draws, each the "
        "mean of its starts on all folds together; sd is over folds and seeds. base: in every fold and seed the better "
        f"one, on validation, of the prevalent backbone and the student without teachers. {about}"
    )


def _share(value: float, low: float, high: float) -> str:
    ends = "" if math.isnan(low) else f" [{low:.0%}, {high:.0%}]"
    return "" if math.isnan(value) else f"{value:.0%}{ends}"


def few(names: Sequence[str]) -> str:
    """Return the first of many names, and how many more there are."""
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
