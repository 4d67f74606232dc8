"""`mtpkdot data import NAME [SRC] OUT`."""

import shlex
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from mtpkdot.cli.arguments import Parser, next_step
from mtpkdot.data.registry import IMPORTERS
from mtpkdot.errors import ConfigError


def convert(argv: Sequence[str]) -> None:
    """Run the verb."""
    parser = Parser(prog="mtpkdot data import", description="Make manifest and feature files from a known data set.")
    parser.add_argument("name", choices=IMPORTERS, help="the data set")
    bundled = ", ".join(name for name, importer in IMPORTERS.items() if importer.source is None)
    paths = f"SRC OUT: its folder and a new one; {bundled}: OUT"
    parser.add_argument("paths", nargs="+", metavar="PATH", help=paths)
    owners = {key: name for name, importer in IMPORTERS.items() for key in importer.options}
    for key, name in owners.items():
        parser.add_argument(f"--{key}", type=int, help=f"{name}: {IMPORTERS[name].options[key]}")
    options = parser.parse_args(argv)
    if len(options.paths) > 2:
        raise ConfigError(f"{len(options.paths)} paths are given", "Call `mtpkdot data import NAME SRC OUT`.")
    extra = {key: value for key in owners if (value := getattr(options, key)) is not None}
    for key in extra:
        if owners[key] != options.name:
            raise ConfigError(f"--{key} is an option of {owners[key]} alone", "Remove it.")
    source = Path(options.paths[0]) if len(options.paths) == 2 else None
    if source is not None and IMPORTERS[options.name].source is not None and not source.is_dir():
        raise ConfigError(f"{source} is not a folder", "Name the folder of the downloaded files.")
    _import(options.name, source, Path(options.paths[-1]), extra)


def _import(name: str, source: Path | None, out: Path, extra: dict[str, int]) -> None:
    """Convert into a new folder, which appears completely or not at all."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists and is not empty", "Remove it, or choose another folder.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        made = Path(folder) / "made"
        made.mkdir()
        lines: list[str] = import_module(IMPORTERS[name].module).convert(source, made, **extra)
        made.replace(out)
    print("\n".join([f"{out} is ready.", *lines]))
    if out == Path("data", name):
        next_step(f"mtpkdot fit --config configs/{name}.yaml", "train every stage")
    else:
        next_step(f"mtpkdot init {shlex.quote(str(out))}", f"write a config; configs/{name}.yaml expects data/{name}")
