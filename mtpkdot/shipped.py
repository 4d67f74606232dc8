"""The files of `configs/`, which travel with the package."""

import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from mtpkdot.errors import ConfigError, nearest

_FOLDER = Path(__file__).parent / "configs"


def config(name: str) -> Path:
    """Return the path of a file of `configs/`, in a checkout or in an installed package.

    Args:
        name: relative to `configs/`, such as `planted.yaml` or `slurm/fit.sbatch`.

    Raises:
        ConfigError: there is no file of that name.
    """
    path = _FOLDER / name
    if not path.is_file():
        known = [str(file.relative_to(_FOLDER)) for file in _FOLDER.rglob("*.*")]
        raise ConfigError(f"mtpkdot ships no configs/{name}", f"{nearest(name, known)}See {_FOLDER}.")
    return path


def located(name: str) -> str:
    """Return the path that a user names, or that of the shipped file if `configs/...` is not in the working directory.

    Args:
        name: a path; in the config of an ablation it may contain `..`.
    """
    relative = Path(os.path.normpath(name))
    if relative.parts[:1] != ("configs",) or Path(name).exists():
        return name
    if relative.exists():
        return str(relative)
    shipped = _FOLDER.joinpath(*relative.parts[1:])
    if not shipped.is_file():
        return name
    _print_once(relative, shipped)
    return str(shipped)


def with_located(arguments: Sequence[str]) -> list[str]:
    """Return a command line whose `--config` arguments are replaced by existing files, see `located`.

    Raises:
        ConfigError: a file neither exists nor is shipped.
    """
    found = list(arguments)
    for place, word in enumerate(found):
        if word.startswith("--config="):
            found[place] = f"--config={_existing(word.removeprefix('--config='))}"
        elif word == "--config" and place + 1 < len(found):
            found[place + 1] = _existing(found[place + 1])
    return found


def _existing(name: str) -> str:
    file = located(name)
    if file.endswith((".yaml", ".yml")) and not Path(file).exists():  # any other text may be the config itself
        meant = nearest(Path(name).stem, [path.stem for path in _FOLDER.glob("*.yaml")])
        raise ConfigError(f"{name} does not exist", f"{meant}`mtpkdot init FOLDER` writes a config for files of yours.")
    return file


@cache
def _print_once(relative: Path, shipped: Path) -> None:
    """Print once which shipped file is used; to stderr, as stdout may be the config itself (`--print_config`)."""
    print(f"{relative} is not in this folder; taking the one that mtpkdot ships: {shipped}", file=sys.stderr)
