"""`mtpkdot report`: tables and figures of studies and runs, in one file."""

from collections.abc import Sequence
from pathlib import Path

from mtpkdot.cli.arguments import Parser
from mtpkdot.errors import ConfigError


def report(argv: Sequence[str]) -> None:
    """Write report.html, report.md and results.csv."""
    parser = Parser(
        prog="mtpkdot report",
        description="Write report.html (one file that needs no network), report.md and results.csv.",
    )
    parser.add_argument("runs", type=Path, nargs="+", help="folders that `mtpkdot crossval` or `fit` has written")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    parser.add_argument(
        "--wandb",
        metavar="PROJECT",
        help="also log tables, figures and files to this W&B project, offline where there is no account or network",
    )
    options = parser.parse_args(list(argv))
    if (options.out / "study.json").exists() or (options.out / "run.json").exists():
        raise ConfigError(
            f"--out {options.out} is the folder of a study or run, whose results.csv the report would replace",
            "Name another one.",
        )
    from mtpkdot.pipeline.notices import quieten
    from mtpkdot.report.build import compose, write

    quieten()
    page, table = compose(options.runs)
    files = write(page, table, options.out)
    for path in files:
        print(path)
    if options.wandb is not None:
        from mtpkdot.pipeline.tracking import Tracking

        settings = {"project": options.wandb, "job_type": "report"}
        tracking = Tracking({"class_path": "WandbLogger", "init_args": settings}, report=True)
        with tracking.opened(options.out, {"runs": [str(path) for path in options.runs]}):
            tracking.report(files, page.figures, table)
    print(f"Next: open {files[0]} in a browser")
