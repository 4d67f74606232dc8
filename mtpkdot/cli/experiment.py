"""The verbs that reach Lightning: fit, stage, validate, test."""

from collections.abc import Sequence
from pathlib import Path

from mtpkdot.errors import ConfigError, RunError
from mtpkdot.pipeline.config import parse, parse_run
from mtpkdot.pipeline.notices import quieten
from mtpkdot.pipeline.records import RUN, read_record
from mtpkdot.pipeline.runner import Run
from mtpkdot.pipeline.store import root_of
from mtpkdot.pipeline.study import CELL


def fit(argv: Sequence[str]) -> None:
    """`mtpkdot fit --config FILE [--KEY VALUE ...]`."""
    quieten()
    Run(parse("fit", argv)).fit()


def stage(argv: Sequence[str]) -> None:
    """`mtpkdot stage NAME --config FILE [--KEY VALUE ...]`."""
    if argv and argv[0] in ("-h", "--help"):
        print(_HELP["stage"])
        return
    if not argv or argv[0].startswith("-"):
        raise ConfigError("the stage is not named", "Call `mtpkdot stage NAME --config FILE`, e.g. `stage student`.")
    quieten()
    Run(parse("stage NAME", [*argv[1:], f"--pipeline.stages=[{argv[0]}]"])).fit()


def validate(argv: Sequence[str]) -> None:
    """`mtpkdot validate RUN`."""
    _again("validate", argv, "validation")


def test(argv: Sequence[str]) -> None:
    """`mtpkdot test RUN`."""
    _again("test", argv, "test")


def _again(verb: str, argv: Sequence[str], split: str) -> None:
    if argv and argv[0] in ("-h", "--help"):
        print(_HELP[verb])
        return
    if not argv or argv[0].startswith("-"):
        raise ConfigError("the run is not named", f"Call `mtpkdot {verb} RUN` with a run's folder, e.g. runs/demo.")
    folder = Path(argv[0]).resolve()
    if not (folder / "run.json").is_file() or not (folder / "config.yaml").is_file():
        raise RunError(f"{folder} is not a run", f"Name a folder that `mtpkdot fit` has written: `mtpkdot {verb} RUN`.")
    quieten()
    # The run may have been moved together with its root since it was trained.
    root = root_of(folder)
    place = [f"--pipeline.root={root}", f"--pipeline.name={folder.relative_to(root)}"]
    # The models of a study's cell are those of its config alone: the others have cells of their own.
    if not (folder / CELL).is_file():
        stages = read_record(folder / "run.json", RUN, "Call `mtpkdot fit` again.")["stages"]
        place.append(f"--pipeline.stages=[{','.join(stages)}]")
    experiment = parse_run(f"{verb} RUN", folder, argv[1:], place)
    Run(experiment, trains=False).evaluate_again((split,))


_RUN = (
    "RUN is the folder of a run, e.g. runs/demo. Of a run that somebody else has made, classes beside those of "
    "mtpkdot, torch and lightning are imported only with --trust my_project."
)
_HELP = {
    "stage": "usage: mtpkdot stage NAME --config FILE [--KEY VALUE ...]\n\nNAME is backbone, backbone.<modality>, "
    "teacher, adapted, hallucinator or student; the keys are those of `mtpkdot fit --help`.",
    **{
        verb: f"usage: mtpkdot {verb} RUN [--KEY VALUE ...]\n\n{_RUN} The keys are those of this machine, e.g. "
        "--trainer.accelerator cpu --trainer.devices 2."
        for verb in ("validate", "test")
    },
}
