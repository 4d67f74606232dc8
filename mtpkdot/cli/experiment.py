"""The verbs that import Lightning: fit, stage, validate, test."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from mtpkdot.cli.arguments import next_step
from mtpkdot.cli.help import answered
from mtpkdot.errors import ConfigError, RunError


def fit(argv: Sequence[str]) -> None:
    """Run `mtpkdot fit --config FILE [--KEY VALUE ...]`."""
    if not answered("fit", argv):
        _fit("fit", argv)


def stage(argv: Sequence[str]) -> None:
    """Run `mtpkdot stage NAME --config FILE [--KEY VALUE ...]`."""
    if answered("stage NAME", argv):
        return
    if not argv or argv[0].startswith("-"):
        raise ConfigError("the stage is not named", "Call `mtpkdot stage NAME --config FILE`, e.g. `stage student`.")
    _fit("stage NAME", [*argv[1:], f"--pipeline.stages=[{argv[0]}]"])


def validate(argv: Sequence[str]) -> None:
    """Run `mtpkdot validate RUN`."""
    _again("validate", argv, "validation")


def test(argv: Sequence[str]) -> None:
    """Run `mtpkdot test RUN`."""
    _again("test", argv, "test")


def _fit(verb: str, argv: Sequence[str]) -> None:
    from mtpkdot.pipeline.config import parse
    from mtpkdot.pipeline.notices import quieten
    from mtpkdot.pipeline.probed import advice
    from mtpkdot.pipeline.runner import Run

    quieten()
    run = Run(parse(verb, argv))
    if run.ranks.first and (recommended := advice(run.experiment)):
        print(recommended, flush=True)
    run.fit()
    if run.ranks.first:
        _suggest_report(run.folder)


def _suggest_report(folder: Path) -> None:
    if (folder / "results.json").is_file():
        command = ["mtpkdot", "report", str(folder), "--out", f"reports/{folder.resolve().name}"]
        next_step(shlex.join(command), "tables and figures on one page")
    else:
        next_step("mtpkdot fit --config FILE", "the other stages, which are evaluated")


def _again(verb: str, argv: Sequence[str], split: str) -> None:
    if answered(verb, argv):
        return
    if not argv or argv[0].startswith("-"):
        raise ConfigError("the run is not named", f"Call `mtpkdot {verb} RUN` with a run's folder, e.g. runs/demo.")
    folder = Path(argv[0]).resolve()
    if not (folder / "run.json").is_file() or not (folder / "config.yaml").is_file():
        raise RunError(f"{folder} is not a run", f"Name a folder that `mtpkdot fit` has written: `mtpkdot {verb} RUN`.")
    from mtpkdot.pipeline.config import parse_run
    from mtpkdot.pipeline.notices import quieten
    from mtpkdot.pipeline.records import RUN, read_record
    from mtpkdot.pipeline.runner import Run
    from mtpkdot.pipeline.store import root_of
    from mtpkdot.pipeline.study import CELL

    quieten()
    # The run may have been moved together with its root since training.
    root = root_of(folder)
    place = [f"--pipeline.root={root}", f"--pipeline.name={folder.relative_to(root)}"]
    # A cell of a study evaluates only the models of its own config: the others have cells of their own.
    if not (folder / CELL).is_file():
        stages = read_record(folder / "run.json", RUN, "Call `mtpkdot fit` again.")["stages"]
        place.append(f"--pipeline.stages=[{','.join(stages)}]")
    run = Run(parse_run(f"{verb} RUN", folder, argv[1:], place), trains=False)
    run.evaluate_again((split,))
    if run.ranks.first:
        _suggest_report(Path(argv[0]))
