"""`mtpkdot init FOLDER`: a first config for the user's own features."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from mtpkdot.cli.arguments import Parser
from mtpkdot.errors import ConfigError

_TEXT = """Look at a folder of feature files, or at a manifest, and write a commented config. Every guess is printed and
commented in the file; options set what cannot be guessed, or is guessed wrongly."""


def init(argv: Sequence[str]) -> None:
    """Write the config, and print the next commands."""
    options = _parser().parse_args(list(argv))
    place: Path = options.place
    from mtpkdot.data.tables.guess import Wishes, guess
    from mtpkdot.files import write_whole
    from mtpkdot.pipeline.first_config import first_config
    from mtpkdot.pipeline.store import SHARED

    name = (place if place.is_dir() else place.parent).resolve().name or "mine"
    if name in SHARED:  # A name that no run can have.
        name = f"my_{name}"
    out: Path = options.out or Path(f"{name}.yaml")
    if out.exists():
        raise ConfigError(f"{out} exists", "Remove it, or name another file with --out FILE.")
    wishes = Wishes(
        options.manifest,
        _named(options.features),
        prevalent=options.prevalent,
        id=options.id,
        subject=options.subject,
        split=options.split,
        target=options.target,
        task=options.task,
    )
    text = first_config(guess(place, wishes), name, shlex.join(["mtpkdot", "init", *argv]))
    write_whole(out, text.encode())
    print(f"{text}\nWritten to {out}")
    print(f"Next: `mtpkdot data check --config {shlex.quote(str(out))}` (reads all files)")
    print(f"then: `mtpkdot fit --config {shlex.quote(str(out))}` (trains every stage)")


def _parser() -> Parser:
    parser = Parser(prog="mtpkdot init", description=_TEXT)
    parser.add_argument(
        "place", type=Path, metavar="FOLDER", help="folder of the feature files, or the manifest beside them"
    )
    parser.add_argument("--out", type=Path, help="file of the config; by default FOLDER.yaml, here")
    parser.add_argument("--manifest", type=Path, help="table with a row per sample")
    parser.add_argument("--features", nargs="+", default=[], metavar="NAME=FILE", help="a file per modality")
    parser.add_argument("--prevalent", metavar="NAME", help="the modality that the student sees")
    parser.add_argument(
        "--target", nargs="+", default=[], metavar="COLUMN", help="target column; several for a regression"
    )
    parser.add_argument("--task", choices=("classification", "ordinal", "regression"), help="what is predicted")
    parser.add_argument("--id", metavar="COLUMN", help="sample id, in the manifest and in tables of features")
    parser.add_argument("--subject", metavar="COLUMN", help="column of the person")
    parser.add_argument("--split", metavar="COLUMN", help="train, validation and test, or numbered folds")
    return parser


def _named(pairs: Sequence[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for pair in pairs:
        name, _, file = pair.partition("=")
        if not name or not file:
            raise ConfigError(
                f"--features {pair} is not of the form NAME=FILE", "Write, for example, face=data/face.npz."
            )
        if name in files:
            raise ConfigError(f"--features names {name} twice", "Give each file a name of its own.")
        files[name] = Path(file)
    return files
