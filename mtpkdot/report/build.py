"""Building of a report: reads the runs, writes report.html, report.md and results.csv."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from mtpkdot.extras import require
from mtpkdot.pipeline.store import write_text
from mtpkdot.report.compare import Comparison, Difference, Value
from mtpkdot.report.gather import gather
from mtpkdot.report.page import Block, Heading, Page, Table, Text
from mtpkdot.report.sections.outcomes import answers
from mtpkdot.report.sections.probed import predicted
from mtpkdot.report.sections.provenance import absent, ran
from mtpkdot.report.sections.results import Found, labels, people, results
from mtpkdot.report.sections.structures import seen
from mtpkdot.report.sections.training import Trainings, learnt, trainings
from mtpkdot.report.sources import Source, sources
from mtpkdot.report.summary import REFERENCES, note, side_by_side

_OURS = ("mtpkdot_plus", "mtpkdot", "pkdot")  # Students that come first.
_DRAWN = 4  # Settings of a study that are drawn in full.


def build(runs: Sequence[Path], out: Path) -> list[Path]:
    """Write the report on runs and studies into the folder `out`: `compose` and `write` in one."""
    return write(*compose(runs), out)


def compose(runs: Sequence[Path]) -> tuple[Page, pd.DataFrame]:
    """Return the report on runs and studies, not yet written.

    Args:
        runs: folders of the runs and studies.

    Returns:
        The page, and the table of all values and differences.

    Raises:
        UserError: a folder is neither a run nor a study, or Matplotlib is not installed.
    """
    require("matplotlib")
    found = sources(runs)
    page = Page("Report of " + ", ".join(source.name for source in found))
    tables = []
    for source in found:
        blocks, table = _of_source(source)
        page.blocks += [Heading(source.name), *blocks]
        tables.append(table.assign(source=source.name))
    whole = pd.concat(tables, ignore_index=True)
    return page, whole[["source", *(name for name in whole.columns if name != "source")]]


def write(page: Page, whole: pd.DataFrame, out: Path) -> list[Path]:
    """Write the result of `compose` into the folder `out`; return the files."""
    files = {"report.html": page.html(), "report.md": page.markdown(), "results.csv": whole.to_csv(index=False)}
    for name, text in files.items():
        write_text(out / name, text)
    return [out / name for name in files]


def _of_source(source: Source) -> tuple[list[Block], pd.DataFrame]:
    gathered = gather(source.entries)
    if gathered is None:
        return [Text("Nothing is finished."), *absent(source.entries)], pd.DataFrame()
    comparisons = [Comparison(gathered, setting, source.resample) for setting in gathered.settings]
    found: dict[str, Found] = {c.setting: (c.values(), c.differences(REFERENCES)) for c in comparisons}
    blocks: list[Block] = [Text(note(source.resample, *gathered.repetitions))]
    single = len(comparisons) == 1
    if not single:
        values = [value for of, _ in found.values() for value in of]
        blocks += [Heading("Settings side by side", 3), Table(*side_by_side(values, comparisons[0].primary))]
    for comparison in comparisons:
        blocks += [Heading("Results" if single else f"Results: {comparison.setting}", 3)]
        blocks += results(comparison, found[comparison.setting])
    blocks += labels(comparisons, found)
    blocks += predicted(comparisons, found)
    of_settings = {comparison.setting: trainings(comparison) for comparison in comparisons}
    for number, comparison in enumerate(comparisons):
        drawn = _drawn(comparison, of_settings[comparison.setting], whole=number < _DRAWN)
        blocks += drawn if single else [_of_setting(block, comparison.setting) for block in drawn]
    if left := [comparison.setting for comparison in comparisons[_DRAWN:]]:
        text = f"Answers, gains per subject and spaces are drawn for the first {_DRAWN} settings only, not for "
        blocks.append(Text(f"{text}{', '.join(left)}; tables and results.csv have all."))
    blocks += [*ran(gathered, of_settings), *absent(source.entries, of_settings)]
    return blocks, _table(found)


def _drawn(comparison: Comparison, found: Trainings, whole: bool) -> list[Block]:
    students = _in_order(comparison)
    if not whole:
        return learnt(found, students)
    return [
        Heading("Gains per subject", 3),
        *people(comparison, students[:6]),
        *answers(comparison, students),
        *learnt(found, students),
        *seen(comparison, students),
    ]


def _of_setting(block: Block, setting: str) -> Block:
    return Heading(f"{block.text}: {setting}", 3) if isinstance(block, Heading) else block


def _in_order(comparison: Comparison) -> list[str]:
    """Return the students with results, those of this project first."""
    known = [student for student in comparison.students if student in comparison.tallies]
    return sorted(known, key=lambda name: _OURS.index(name) if name in _OURS else len(_OURS))


def _table(found: dict[str, Found]) -> pd.DataFrame:
    """Return a table of values followed by differences, which have a reference."""
    values: list[Value] = [value for of, _ in found.values() for value in of]
    differences: list[Difference] = [difference for _, of in found.values() for difference in of]
    first = pd.DataFrame([asdict(value) for value in values]).assign(reference="")
    second = pd.DataFrame([asdict(difference) for difference in differences])
    return pd.concat([first, second], ignore_index=True) if len(second) else first
