"""`mtpkdot report`: tables and figures of studies and runs, in one file."""

from collections.abc import Sequence
from pathlib import Path

from mtpkdot.cli.arguments import Parser


def report(argv: Sequence[str]) -> None:
    """Write report.html, report.md and results.csv."""
    parser = Parser(
        prog="mtpkdot report",
        description="Write report.html (one file that needs no network), report.md and results.csv.",
    )
    parser.add_argument("runs", type=Path, nargs="+", help="folders that `mtpkdot crossval` or `fit` has written")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    options = parser.parse_args(list(argv))
    from mtpkdot.pipeline.notices import quieten
    from mtpkdot.report.build import build

    quieten()
    for path in build(options.runs, options.out):
        print(path)
