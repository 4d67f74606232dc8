"""The demo over seeds of its generated people: does the student stand between its lower bound and the teacher?

    python -m tests.benchmarks.demo_seeds [--seeds 10] [--folder FOLDER]

Prints a row per seed, failures too, then how often the student was above its lower bound and below the teacher on the
test part, with the one-sided p of a sign test, and the mean gain with the standard error over seeds.
"""

import argparse
import contextlib
import io
import json
import os
import time
from math import comb
from pathlib import Path
from statistics import fmean, stdev

from mtpkdot.cli.main import main


def run() -> None:
    """Run the demo with every seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=Path("demo_seeds"), help="what is finished is not run again")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(options.folder)
    rows = []
    print("seed  lower bound  student  teacher    gain  wall s   CPU s")
    for seed in range(options.seeds):
        wall, cpu = time.perf_counter(), sum(os.times()[:4])
        with contextlib.redirect_stdout(io.StringIO()):
            code = main(["demo", "--seed", str(seed)])
        wall, cpu = time.perf_counter() - wall, sum(os.times()[:4]) - cpu
        if code:
            print(f"{seed:4d}  failed with exit code {code}", flush=True)
            continue
        low, student, teacher = scores(Path("runs", "demo" if seed == 0 else f"demo-{seed}"))
        rows.append((low, student, teacher))
        gain = student - low
        print(f"{seed:4d} {low:12.4f} {student:8.4f} {teacher:8.4f} {gain:+7.4f} {wall:7.0f} {cpu:7.0f}", flush=True)
    above = sum(student > low for low, student, _ in rows)
    below = sum(student < teacher for _, student, teacher in rows)
    p = sum(comb(len(rows), k) for k in range(above, len(rows) + 1)) / 2 ** len(rows)
    print(f"student above its lower bound in {above} of {options.seeds} (p {p:.3f}), below the teacher in {below}")
    gains = [student - low for low, student, _ in rows]
    if len(gains) > 1:
        print(f"gain {fmean(gains):+.4f}, standard error {stdev(gains) / len(gains) ** 0.5:.4f}")


def scores(folder: Path) -> tuple[float, float, float]:
    """Return the test accuracy of the lower bound, the student and the teacher."""
    found = {
        (row["stage"], row["modality"]): row["value"]
        for row in json.loads((folder / "results.json").read_text())
        if (row["split"], row["metric"]) == ("test", "accuracy")
    }
    return found["backbone", "video"], found["student", "video"], found["teacher", "video+gsr"]


if __name__ == "__main__":
    run()
