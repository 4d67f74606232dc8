"""`mtpkdot demo`: a first run, from raw video to a report."""

import os
from collections.abc import Sequence
from pathlib import Path

from mtpkdot import shipped
from mtpkdot.cli.arguments import Parser, within_another_verb
from mtpkdot.errors import ConfigError
from mtpkdot.extras import require

_TEXT = """Demonstrate the method on generated data: write a twin of BioVid (raw video and signals of invented
people) into data/demo, train every stage on it, and write a report into reports/demo. It takes two to three minutes on
two processor cores; after an interruption the same command continues."""

# Arguments of `mtpkdot data synthesize biovid`: 16 people are tested, 10 select the epochs, 24 train.
_TWIN = ["--subjects", "50", "--clips", "5", "--classes", "BL1", "PA4", "--size", "96"]
_TWIN += ["--people", "reactive", "--expression", "2"]

_NEXT = """Three commands to try next:
  mtpkdot crossval --config configs/demo.yaml --methods none,selftraining,mtpkdot_plus --folds 3{place}
      compares methods over people, with intervals
  mtpkdot init FOLDER
      writes a config for feature files of your own
  mtpkdot data check biovid FOLDER
      looks at the BioVid that you have been given; affwild2 likewise"""


def demo(argv: Sequence[str]) -> None:
    """Generate, train, evaluate and report.

    Raises:
        ConfigError: the seed is negative.
        UserError: a verb that it calls fails.
    """
    parser = Parser(prog="mtpkdot demo", description=_TEXT)
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the generated people and of the training; each has its own folders"
    )
    seed = parser.parse_args(list(argv)).seed
    if seed < 0:
        raise ConfigError(f"--seed is {seed}", "Choose 0 or more.")
    # Threads slow these tiny models down; must be set before torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    name = "demo" if seed == 0 else f"demo-{seed}"
    place = [] if seed == 0 else [f"--data.root=data/{name}", f"--seed_everything={seed}", f"--pipeline.name={name}"]
    with within_another_verb():
        _run(name, seed, place)
    print(_NEXT.format(place="".join(f" {word}" for word in place[:2])))


def _run(name: str, seed: int, place: Sequence[str]) -> None:
    """Generate, train and report, each in a folder of that name."""
    require("cv2", "av", "matplotlib")
    from mtpkdot.cli.data_synthesize import synthesize
    from mtpkdot.cli.experiment import fit
    from mtpkdot.cli.report import report

    twin = Path("data", name)
    if twin.is_dir():
        print(f"1/3 The generated people are in {twin}", flush=True)
    else:
        print(f"1/3 Generating people into {twin}", flush=True)
        synthesize(["biovid", str(twin), "--seed", str(seed), *_TWIN])
    print(f"2/3 Training: mtpkdot fit {' '.join(['--config=configs/demo.yaml', *place])}", flush=True)
    fit([f"--config={shipped.config('demo.yaml')}", *place])
    out = Path("reports", name)
    print(f"3/3 Writing the report into {out}", flush=True)
    report([str(Path("runs", name)), "--out", str(out)])
