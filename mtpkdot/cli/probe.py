"""`mtpkdot probe`: what privileged modalities are worth on a data set, in seconds and without training."""

import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from mtpkdot.cli.arguments import Parser, next_step
from mtpkdot.cli.help import answered
from mtpkdot.errors import ConfigError

_DRAWS, _FEW, _LARGE = 4, 2, 200_000  # draws by default, and draws of more features times rows than this

_TEXT = """Estimate by linear models and graphs what each modality knows, what more labels would bring, and whether a
student would gain from teachers, on inner folds over the people of the training and validation parts. The test part is
not used. All options of `mtpkdot fit` work too, such as --data.labelled_subjects 10."""


def probe(argv: Sequence[str]) -> None:
    """Print the findings, and write them to probe.json."""
    if answered("probe", argv):  # Help on a section; otherwise it is the help of this parser.
        return
    options, rest = _parser().parse_known_args(list(argv))
    for name, least in (("folds", 2), ("draws", 1), ("jobs", 1)):
        if (value := getattr(options, name)) is not None and value < least:
            raise ConfigError(f"--{name} is {value}", f"Choose {least} or more.")
    from mtpkdot.pipeline.config import parse
    from mtpkdot.pipeline.notices import quieten
    from mtpkdot.pipeline.probed import PROBE, data_of, labelled_of
    from mtpkdot.pipeline.store import write_json
    from mtpkdot.probe.draws import Plan
    from mtpkdot.probe.findings import Findings, command_after
    from mtpkdot.probe.folds import Sizes
    from mtpkdot.probe.models import Question
    from mtpkdot.probe.reading import read

    quieten()
    started = time.monotonic()
    experiment = parse("probe", rest)
    data, config = experiment.data, experiment.config
    data.seed = config["seed_everything"]
    data.check()
    print(data.summary(), flush=True)
    material = read(data, shlex.join(command_after("unknown", rest)[0]))
    sizes = Sizes.of(material, options.folds)
    plan = Plan(
        material,
        Question.of(data),
        sizes=sizes,
        points=sizes.points(_least(data.targets, material.unit), _numbers(options.labelled)),
        draws=options.draws or (_FEW if material.size > _LARGE else _DRAWS),
        seed=data.seed,
    )
    findings = Findings(plan, plan.scores(options.jobs))
    print(f"\n{findings.text()}\n", flush=True)
    folder = Path(config["pipeline"]["root"]) / (config["pipeline"]["name"] or experiment.source)
    out: Path = options.out or folder / PROBE
    seconds = round(time.monotonic() - started, 1)
    about = {"data": data_of(experiment), "labelled_subjects": labelled_of(experiment), "seconds": seconds}
    write_json(out, {"arguments": rest, **about, **findings.plain()})
    print(f"Written to {out} after {seconds} s")
    command, purpose = command_after(findings.answer, rest)
    next_step(shlex.join(command), purpose)


def _parser() -> Parser:
    parser = Parser(
        prog="mtpkdot probe", usage="mtpkdot probe --config FILE [--KEY VALUE ...] [options]", description=_TEXT
    )
    parser.add_argument("--folds", type=int, default=5, help="number of inner folds over people")
    parser.add_argument(
        "--draws",
        type=int,
        help=f"divisions into folds, with other labelled people in each; by default {_DRAWS}, for many features {_FEW}",
    )
    parser.add_argument("--labelled", default="", help="numbers of labelled people of the curve, e.g. 5,10,20")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    parser.add_argument("--out", type=Path, help="file of the findings; by default probe.json in the folder of the run")
    return parser


def _numbers(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if wrong := [word for word in words if not (word.isdecimal() and int(word) > 0)]:
        raise ConfigError(f"--labelled {wrong[0]} is no number of people", "Write, for example, --labelled 5,10,20.")
    return sorted({int(word) for word in words})


def _least(targets: Sequence[str], unit: str) -> int:
    """Return the smallest number of labelled people by default: every class needs a recording."""
    return 1 if unit == "people" else len(targets)
