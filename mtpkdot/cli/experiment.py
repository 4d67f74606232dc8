"""The verbs that reach Lightning: fit, stage, validate, test."""

import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

from mtpkdot.errors import ConfigError, RunError
from mtpkdot.pipeline.config import parse
from mtpkdot.pipeline.runner import Run


def fit(argv: Sequence[str]) -> None:
    """`mtpkdot fit --config FILE [--KEY VALUE ...]`."""
    _quieten()
    Run(parse("fit", argv)).fit()


def stage(argv: Sequence[str]) -> None:
    """`mtpkdot stage NAME --config FILE [--KEY VALUE ...]`."""
    if argv and argv[0] in ("-h", "--help"):
        print(_HELP["stage"])
        return
    if not argv or argv[0].startswith("-"):
        raise ConfigError("the stage is not named", "Call `mtpkdot stage NAME --config FILE`, e.g. `stage student`.")
    _quieten()
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
    folder = Path(argv[0])
    config = folder / "config.yaml"
    if not (folder / "run.json").is_file() or not config.is_file():
        raise RunError(f"{folder} is not a run", f"Name a folder that `mtpkdot fit` has written: `mtpkdot {verb} RUN`.")
    _quieten()
    # The run may have been moved together with its root since it was trained.
    stages = list(json.loads((folder / "run.json").read_text())["stages"])
    place = [
        f"--pipeline.stages=[{','.join(stages)}]",
        f"--pipeline.root={folder.parent}",
        f"--pipeline.name={folder.name}",
    ]
    Run(parse(f"{verb} RUN", [f"--config={config}", *argv[1:], *place])).evaluate_again((split,))


_HELP = {
    "stage": "usage: mtpkdot stage NAME --config FILE [--KEY VALUE ...]\n\nNAME is backbone, backbone.<modality>, "
    "teacher, adapted, hallucinator or student; the keys are those of `mtpkdot fit --help`.",
    "validate": "usage: mtpkdot validate RUN\n\nRUN is the folder of a run, e.g. runs/demo.",
    "test": "usage: mtpkdot test RUN\n\nRUN is the folder of a run, e.g. runs/demo.",
}


def _quieten() -> None:
    """Lightning's notices on devices and loaders say nothing about an experiment."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    # Features lie in memory: loader processes would only copy them.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # The size of an epoch says nothing about how often a user wants to log.
    warnings.filterwarnings("ignore", message=".*number of training batches.*is smaller than the logging interval.*")
    # Teachers and frozen backbones are in eval mode by design.
    warnings.filterwarnings("ignore", message=".*module\\(s\\) in eval mode at the start of training.*")
    # Lightning 2.6.6 calls a function of PyTorch that PyTorch has renamed.
    warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")
    # A resumed stage trains in the folder of its first attempt by design.
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
