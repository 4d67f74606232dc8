"""The tables of a study, as text and as a file of numbers."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from mtpkdot.pipeline.store import write_text
from mtpkdot.pipeline.study import Resample, Study
from mtpkdot.report.compare import BASE, Comparison, Difference, Value
from mtpkdot.report.gather import gather, of_study
from mtpkdot.report.page import table

REFERENCES = (BASE, "pkdot", "selftraining", "labelprop")


def summarise(folder: Path) -> str:
    """Gather a study, write `summary.md`, `results.csv` and `comparisons.csv` into its folder, and return the first.

    Raises:
        RunError: the folder holds no study.
    """
    study = Study.read(folder)
    gathered = gather(of_study(study), folder / "predictions.parquet")
    if gathered is None:
        return f"{folder}: no cell is finished."
    values: list[Value] = []
    differences: list[Difference] = []
    parts: list[str] = []
    comparisons = [Comparison(gathered, setting, study.resample) for setting in gathered.settings]
    for comparison in comparisons:
        of_setting, against = comparison.values(), comparison.differences(REFERENCES)
        values += of_setting
        differences += against
        parts += [f"## {comparison.setting}", "", *table(rows(comparison, of_setting, against)), ""]
    if len(comparisons) > 1:
        lines, caption = side_by_side(values, comparisons[0].primary)
        parts = ["## Settings side by side", "", caption, "", *table(lines), "", *parts]
    protocols = sorted({str(model.record["protocol"]) for model in gathered.models.values()})
    parts = [f"# {study.name}", "", f"Protocol: {', '.join(protocols)}.", "", *parts]
    parts += [f"{note(study.resample, len(study.folds), len(study.seeds))} All metrics are in results.csv, and both "]
    parts[-1] += "tests in comparisons.csv."
    if gathered.missing:
        parts += ["", f"Not finished: {len(gathered.missing)} cells: {few(gathered.missing)}"]
    text = "\n".join(parts) + "\n"
    write_text(folder / "summary.md", text)
    write_text(folder / "results.csv", pd.DataFrame([asdict(v) for v in values]).to_csv(index=False))
    write_text(folder / "comparisons.csv", pd.DataFrame([asdict(d) for d in differences]).to_csv(index=False))
    return text


def rows(comparison: Comparison, values: Sequence[Value], differences: Sequence[Difference]) -> list[list[str]]:
    """The primary metric of every method, with its comparisons; the first row is the header."""
    metric = comparison.primary[0]
    primary = {v.method: v for v in values if (v.metric, v.target) == comparison.primary}
    references = list(dict.fromkeys(d.reference for d in differences))
    of = {(d.method, d.reference): d for d in differences}
    header = ["method", metric, "95 %", "sd", *(f"vs {r} [95 %], p" for r in references)]
    closed = any(not math.isnan(d.gap_closed) for d in differences)
    found = [[*header, "gap closed"] if closed else header]
    for method, value in primary.items():
        cells = [method, number(value.value), interval(value.low, value.high), number(value.sd)]
        cells += [_against(of.get((method, reference))) for reference in references]
        found.append([*cells, *([share(of.get((method, BASE)))] if closed else [])])
    return found


def side_by_side(values: Sequence[Value], metric: tuple[str, str]) -> tuple[list[list[str]], str]:
    """One metric (and target) of every method in every setting, with its difference from the first, and the caption.

    The first row is the header.
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
    caption = (
        f"{metric[0]} of every method in every setting; in brackets the difference from {settings[0]}, without an "
        "interval: people and labels may be others."
    )
    return found, caption


def _against(difference: Difference | None) -> str:
    if difference is None:
        return ""
    d = difference
    p = d.p_t if math.isnan(d.p_bootstrap) else d.p_bootstrap
    ends = "" if math.isnan(d.low) else f" [{d.low:+.4f}, {d.high:+.4f}]"
    return f"{d.value:+.4f}{ends}" + ("" if math.isnan(p) else f", {p:.3f}")


def share(difference: Difference | None) -> str:
    """Share of the gap closed, with its interval; nothing where there is none."""
    if difference is None or math.isnan(difference.gap_closed):
        return ""
    ends = "" if math.isnan(difference.gap_low) else f" [{difference.gap_low:.0%}, {difference.gap_high:.0%}]"
    return f"{difference.gap_closed:.0%}{ends}"


def number(value: float) -> str:
    """Four decimals; nothing for NaN."""
    return "" if math.isnan(value) else f"{value:.4f}"


def interval(low: float, high: float) -> str:
    """Both ends; nothing for NaN."""
    return "" if math.isnan(low) else f"{low:.4f} to {high:.4f}"


def note(resample: Resample, folds: int, seeds: int) -> str:
    """How the numbers were made."""
    about = (
        "Intervals: bootstrap over subjects, paired between methods, the seeds being what they are; p: the same, "
        "corrected for the number of methods (Holm), each reference for itself. Resampling raises calibration errors: "
        "their intervals lie high."
        if resample == "subject"
        else "Intervals and p: Student's t over seeds, paired between methods (shares of the gap: Fieller); p is "
        "corrected for the number of methods (Holm), each reference for itself."
    )
    return (
        f"{_count(folds, 'fold')}, {_count(seeds, 'seed')}. Values are means over seeds, each on all folds together; "
        "sd is over folds and seeds. base: in every fold and seed the better one, on validation, of the prevalent "
        f"backbone and the student without teachers. {about}"
    )


def few(names: Sequence[str]) -> str:
    """The first of many names, and how many more there are."""
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
