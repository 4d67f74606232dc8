"""The tables of a study, as text and as a file of numbers."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from mtpkdot.pipeline.store import write_text
from mtpkdot.pipeline.study import Study
from mtpkdot.report.compare import Comparison, Difference, Value
from mtpkdot.report.gather import BASE, gather

REFERENCES = (BASE, "pkdot", "selftraining")


def summarise(folder: Path) -> str:
    """Gather a study, write `summary.md`, `results.csv` and `comparisons.csv` into its folder, and return the first.

    Raises:
        RunError: the folder holds no study.
    """
    study = Study.read(folder)
    gathered = gather(study)
    if gathered is None:
        return f"{folder}: no cell is finished."
    values: list[Value] = []
    differences: list[Difference] = []
    parts = [f"# {study.name}", ""]
    for setting in (s for s in study.settings if gathered.methods(s)):
        comparison = Comparison(gathered, setting, study.resample)
        of_setting = comparison.values()
        against = comparison.differences([m for m in REFERENCES if m in comparison.methods or m == BASE])
        values += of_setting
        differences += against
        parts += [f"## {setting}", "", *_lines(comparison, of_setting, against), ""]
    parts += [_note(study)]
    if gathered.missing:
        parts += ["", f"Not finished: {len(gathered.missing)} cells: {_few(gathered.missing)}"]
    text = "\n".join(parts) + "\n"
    write_text(folder / "summary.md", text)
    write_text(folder / "results.csv", pd.DataFrame([asdict(v) for v in values]).to_csv(index=False))
    write_text(folder / "comparisons.csv", pd.DataFrame([asdict(d) for d in differences]).to_csv(index=False))
    return text


def _lines(comparison: Comparison, values: Sequence[Value], differences: Sequence[Difference]) -> list[str]:
    metric = comparison.primary[0]
    primary = {v.method: v for v in values if (v.metric, v.target) == comparison.primary}
    references = list(dict.fromkeys(d.reference for d in differences))
    of = {(d.method, d.reference): d for d in differences}
    header = ["method", metric, "95 %", "sd", *(f"vs {r} [95 %], p" for r in references), "gap closed"]
    rows = [header]
    for method, value in primary.items():
        cells = [method, _number(value.value), f"{_number(value.low)} to {_number(value.high)}", _number(value.sd)]
        cells += [_against(of.get((method, reference))) for reference in references]
        rows.append([*cells, _share(of.get((method, references[0])) if references else None)])
    return table(rows)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table, the first row being its header."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [f"| {' | '.join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))} |" for row in rows]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def _against(difference: Difference | None) -> str:
    if difference is None:
        return ""
    d = difference
    p = d.p_t if math.isnan(d.p_bootstrap) else d.p_bootstrap
    return f"{d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}], {p:.3f}"


def _share(difference: Difference | None) -> str:
    if difference is None or math.isnan(difference.gap_closed):
        return ""
    return f"{difference.gap_closed:.0%} [{difference.gap_low:.0%}, {difference.gap_high:.0%}]"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def _note(study: Study) -> str:
    about = (
        "Intervals: bootstrap over subjects, paired between methods; p: the same, corrected for the number of methods "
        "(Holm). The corrected resampled t-test is in comparisons.csv."
        if study.resample == "subject"
        else "Intervals and p: Student's t over seeds, paired between methods; p is corrected for their number (Holm)."
    )
    return (
        f"{len(study.folds)} folds, {len(study.seeds)} seeds. Values are means over seeds, sd is over folds and seeds. "
        f"base: in every fold and seed the better one, on validation, of the prevalent backbone and the student "
        f"without teachers. {about}"
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
