"""Compares the results of two commits on every config: `python -m tests.benchmarks.same_results COMMIT [CONFIG ...]`.

Every config is trained with the settings of its test (tests/test_configs.py), once by the sources and the config at
COMMIT and once by those of the working tree, on the same data. Printed are, per config, the largest difference of any
number in predictions.parquet, and what differs beside numbers.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from mtpkdot.cli.main import main as mtpkdot
from tests.test_configs import CONFIGS, IMPORTS, SHARED, SHRINKING, SMALL, SMALLER, TWINS, sections

HERE = Path(__file__).parent.parent.parent
KEYS = ["stage", "split", "id", "target"]


def prepared(path: Path, folder: Path) -> list[str]:
    """Make the data of a config below a folder; returns the overrides of its test."""
    config = yaml.safe_load(path.read_text())
    epochs = "1" if path.stem in TWINS else "2"
    shrink = [f"--{section}.fit.max_epochs={epochs}" for section in sections(config)]
    if path.stem in TWINS:
        root = folder / f"{config['data']['init_args']['root']}-{path.stem}"
        name, *options = TWINS[path.stem]
        if not root.exists():
            assert mtpkdot(["data", "synthesize", name, str(root), *options]) == 0
        return [f"--data.init_args.root={root}", *SMALL, *SMALLER.get(path.stem, []), *shrink]
    name = IMPORTS[path.stem]
    if name is not None and not (folder / "data" / name).exists():
        source = ["bundled"] if name == "digits" else [f"{SHARED}/{name}"]
        more = ["--train", "800"] if name == "digits" else []
        assert mtpkdot(["data", "import", name, *source, str(folder / "data" / name), *more]) == 0
    return shrink


def predicted(sources: Path, path: Path, folder: Path, runs: str, words: list[str]) -> pd.DataFrame:
    """Train the config of some sources by them; returns its predictions."""
    if not (sources / "mtpkdot" / "pipeline" / "renamed.py").is_file():  # before classes were named in configs
        words = [word.replace("--student.model.structure.", "--student.model.") for word in words]
    config = sources / "configs" / path.name
    command = [sys.executable, "-W", "ignore", "-m", "mtpkdot", "fit", "--config", str(config), *words]
    command += [f"--pipeline.root={runs}", "--pipeline.name=run"]
    environment = {**os.environ, "PYTHONPATH": str(sources), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{path.stem} by {sources}: {done.stdout[-500:]}{done.stderr[-2000:]}")
    return pd.read_parquet(folder / runs / "run" / "predictions.parquet")


def difference(old: pd.DataFrame, new: pd.DataFrame) -> str:
    """Return what differs between two tables of predictions."""
    if len(old) != len(new) or list(old.columns) != list(new.columns):
        return f"{len(old)} rows and {len(new)}, columns {set(old.columns) ^ set(new.columns)}"
    old, new = (table.sort_values(KEYS).reset_index(drop=True) for table in (old, new))
    largest, other = 0.0, []
    for name in old.columns:
        if pd.api.types.is_float_dtype(old[name]):
            apart = np.abs(old[name].to_numpy() - new[name].to_numpy())
            largest = max(largest, float(np.nanmax(apart, initial=0.0)))
            if (old[name].isna() != new[name].isna()).any():
                other.append(name)
        elif not old[name].equals(new[name]):
            other.append(f"{name} in {(old[name] != new[name]).sum()} rows")
    return f"largest difference {largest:g}" + (f"; also {', '.join(other)}" if other else "")


def run() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commit")
    parser.add_argument("configs", nargs="*", help="names of configs; all by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        base, folder = Path(place) / "base", Path(place) / "work"
        folder.mkdir()
        subprocess.run(["git", "-C", HERE, "worktree", "add", "--quiet", "--detach", base, options.commit], check=True)
        try:
            for path in CONFIGS:
                named = path.stem in options.configs if options.configs else path != SHRINKING
                if not named:
                    continue
                words = prepared(path, folder)
                tables = [
                    predicted(sources, path, folder, f"runs-{path.stem}-{sources.name}", words)
                    for sources in (base, HERE)
                ]
                print(f"{path.stem}: {len(tables[0])} predictions, {difference(*tables)}", flush=True)
        finally:
            subprocess.run(["git", "-C", HERE, "worktree", "remove", "--force", base], check=True)


if __name__ == "__main__":
    run()
