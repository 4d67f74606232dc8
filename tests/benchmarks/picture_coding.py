"""Measures how far the JPEG coding of a prepared store moves a student's predictions.

`python -m tests.benchmarks.picture_coding FOLDER` trains the demo's student on generated people (configs/demo.yaml) in
FOLDER, unless its run is there, and reads the videos of all clips of two classes with and without the coding.
"""

import sys
from pathlib import Path

import numpy as np
import torch

import mtpkdot
from mtpkdot.cli.main import main
from mtpkdot.data.media.recipe import Recipe

CONFIG = Path(__file__).parent.parent.parent / "configs" / "demo.yaml"


def run(folder: Path, clips: int = 200) -> None:
    """Train if need be, compare, and print."""
    root, runs = folder / "people", folder / "runs"
    if not (runs / "demo" / "run.json").is_file():
        assert main(["data", "synthesize", "biovid", str(root), "--subjects", "24", "--clips", "10"]) == 0
        words = [
            "fit",
            "--config",
            str(CONFIG),
            f"--data.root={root}",
            f"--pipeline.root={runs}",
            "--pipeline.name=demo",
        ]
        assert main(words) == 0
    student = mtpkdot.load(runs / "demo")
    recipe = Recipe.of(student.recipe)
    paths = sorted(
        path for path in (root / "PartA" / "video").rglob("*.mp4") if "BL1" in path.name or "PA4" in path.name
    )
    apart, changed, pixels = [], [], []
    for path in paths[:: max(1, len(paths) // clips)]:
        plain, coded = recipe.read(path), recipe.read(path, coded=True)
        with torch.no_grad():
            before, after = (student(x.x, x.mask)[1].softmax(dim=1) for x in (coded, plain))
        apart.append(float((before - after).abs().max()))
        changed.append(bool((before.argmax(1) != after.argmax(1)).any()))
        pixels.append(float((plain.x.int() - coded.x.int()).abs().float().mean()))
    print(
        f"{len(apart)} clips: pixels {np.mean(pixels):.2f} of 255 apart in the mean, probabilities "
        f"{np.mean(apart):.4f} in the mean and {np.max(apart):.4f} at most, {sum(changed)} classes changed"
    )


if __name__ == "__main__":
    run(Path(sys.argv[1]))
