"""`mtpkdot crossval`: methods, or the variants of an ablation, on the same folds and seeds."""

import contextlib
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from mtpkdot.cli.arguments import Parser, next_step, part_of
from mtpkdot.cli.help import answered
from mtpkdot.errors import ConfigError
from mtpkdot.pipeline.stages import STUDENT

FAILED = 1

_TEXT = f"""Compare methods on the same folds, seeds and upstream stages, in parallel processes. Finished
cells are not run again: after an interruption the same command continues. All options of `mtpkdot fit` hold for every
cell: --{STUDENT}.model.lr 1e-3, --pipeline.root OUT ... `mtpkdot fit --help` lists their sections."""


def crossval(argv: Sequence[str]) -> int | None:
    """Run a study and print its tables; return 1 if a cell failed."""
    if answered("crossval", argv):  # Help on a section; otherwise it is the help of this parser.
        return None
    options, rest = _parser().parse_known_args(list(argv))
    if options.jobs < 1 or options.threads < 1:
        raise ConfigError("--jobs and --threads must be 1 or more", "Correct them.")
    if options.submit is None and options.slurm:
        raise ConfigError("--slurm sets options of --submit, which is not given", "Add --submit N.")
    if options.submit is not None and options.submit < 1:
        raise ConfigError(f"--submit is {options.submit}, not a number of jobs", "Give 1 or more.")
    if options.submit is not None and options.part != "1/1":
        raise ConfigError("--submit divides the study itself", "Leave --part out.")
    from mtpkdot.pipeline.crossval import by_reason, check, run
    from mtpkdot.pipeline.notices import quieten
    from mtpkdot.pipeline.planning import Plan
    from mtpkdot.report.summary import summarise

    quieten()
    plan = Plan(
        options.config,
        options.ablation,
        methods=_listed("methods", options.methods),
        folds=options.folds,
        seeds=options.seeds,
        labelled=_listed("labelled", options.labelled),
        protocols=_listed("protocols", options.protocols),
        name=options.name,
        overrides=tuple(rest),
        draws=options.draws,
        starts=options.starts,
        oracle=options.oracle,
    )
    study = plan.study()
    check(study)
    if options.submit is not None:
        _submit(argv, options.submit, options.slurm, study.folder)
        return None
    part = part_of(options.part)
    failures = run(study, options.jobs, options.threads, part)
    whole = part[1] == 1
    print(summarise(study.folder, options.split) if whole else f"Part {options.part} of the study is in {study.folder}")
    for reason, places in by_reason(failures).items():
        print(f"failed: {reason}\n  {', '.join(places)}")
    if whole:
        command = ["mtpkdot", "report", str(study.folder), "--out", f"reports/{study.name}"]
        next_step(shlex.join(command), "tables and figures on one page")
    else:
        print("Next: when all parts are done, the same command without --part makes the tables")
    return FAILED if failures else None


def _parser() -> Parser:
    parser = Parser(prog="mtpkdot crossval", description=_TEXT)
    parser.add_argument("--config", type=Path, help="experiment file; an ablation may name its own")
    parser.add_argument("--ablation", type=Path, help="file with settings and variants, see configs/ablations")
    parser.add_argument(
        "--methods",
        help="names separated by commas, instead of the ablation's variants; by default none,pkdot,mtpkdot",
    )
    parser.add_argument(
        "--folds", help="number of subject folds, loso, or given (the default): folds of the config's split"
    )
    parser.add_argument("--draws", type=int, help="number of choices of the labelled people, each with its own seed")
    parser.add_argument("--starts", type=int, help="trainings of each choice: other initial weights, another order")
    parser.add_argument("--seeds", type=int, help="the older name of --draws")
    parser.add_argument(
        "--oracle", action="store_true", help="add the bound: the student taught the labels that --labelled hides"
    )
    parser.add_argument("--labelled", default="", help="labelled people, separated by commas: all,20,10 or 0.1")
    parser.add_argument("--protocols", default="", help="clean, released or a switch, separated by commas")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    parser.add_argument(
        "--threads", type=int, default=1, help="threads per process; another number may change rounding"
    )
    parser.add_argument(
        "--split",
        choices=("test", "validation"),
        default="test",
        help="part that the tables show: choose settings on validation, report the test part",
    )
    parser.add_argument("--name", help="folder of the study; by default named after its files")
    parser.add_argument(
        "--part", default="1/1", help="run one of several parts of the study, e.g. 3/10, without tables"
    )
    parser.add_argument("--submit", type=int, help="submit this many jobs to Slurm instead, each a part of the study")
    parser.add_argument("--slurm", action="append", default=[], help="KEY=VALUE of submitit, e.g. timeout_min=60")
    return parser


def _submit(argv: Sequence[str], parts: int, pairs: Sequence[str], folder: Path) -> None:
    from mtpkdot.pipeline.submission import submit

    parser = Parser(add_help=False)
    parser.add_argument("--submit")
    parser.add_argument("--slurm", action="append")
    _, arguments = parser.parse_known_args(list(argv))
    jobs = submit(crossval, arguments, parts=parts, folder=folder / "jobs", options=dict(map(_setting, pairs)))
    print(f"Submitted {', '.join(jobs)}; their logs are in {folder / 'jobs'}.")
    print("When they are done, the same command without --submit gathers the tables and runs what is missing.")


def _setting(pair: str) -> tuple[str, str | int | float]:
    key, equals, value = pair.partition("=")
    if not key or not equals:
        raise ConfigError(f"--slurm {pair} is not of the form KEY=VALUE", "Write, for example, --slurm timeout_min=60.")
    if key == "slurm_time":
        raise ConfigError("--slurm slurm_time is set by timeout_min", "Write --slurm timeout_min=MINUTES.")
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return key, number(value)
    return key, value


def _listed(option: str, text: str | None) -> list[str]:
    items = [item.strip() for item in (text or "").split(",") if item.strip()]
    if twice := [item for item in items if items.count(item) > 1]:
        raise ConfigError(f"--{option} names {twice[0]} twice", "Name it once.")
    return items
