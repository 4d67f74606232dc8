"""The demo over seeds of its generated people: does the student stand between its lower bound and the teacher?

    python -m tests.benchmarks.demo_seeds [--seeds 10] [--folder FOLDER] [--figure FILE]

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
from mtpkdot.report.figures.style import legend, mark, panels, svg


def run() -> None:
    """Run the demo with every seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=Path("demo_seeds"), help="what is finished is not run again")
    parser.add_argument("--first", type=int, default=0, help="seed to begin with")
    parser.add_argument("--figure", type=Path, help="also draw all seeds into this SVG file")
    options = parser.parse_args()
    figure = options.figure and options.figure.resolve()
    options.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(options.folder)
    rows: list[tuple[float, float, float]] = []
    seeds: list[int] = []
    print("seed  lower bound  student  teacher    gain  wall s   CPU s")
    for seed in range(options.first, options.first + options.seeds):
        wall, cpu = time.perf_counter(), sum(os.times()[:4])
        with contextlib.redirect_stdout(io.StringIO()):
            code = main(["demo", "--seed", str(seed)])
        wall, cpu = time.perf_counter() - wall, sum(os.times()[:4]) - cpu
        if code:
            print(f"{seed:4d}  failed with exit code {code}", flush=True)
            continue
        low, student, teacher = scores(Path("runs", "demo" if seed == 0 else f"demo-{seed}"))
        rows.append((low, student, teacher))
        seeds.append(seed)
        gain = student - low
        print(f"{seed:4d} {low:12.4f} {student:8.4f} {teacher:8.4f} {gain:+7.4f} {wall:7.0f} {cpu:7.0f}", flush=True)
    above = sum(student > low for low, student, _ in rows)
    below = sum(student < teacher for _, student, teacher in rows)
    p = sum(comb(len(rows), k) for k in range(above, len(rows) + 1)) / 2 ** len(rows)
    print(f"student above its lower bound in {above} of {options.seeds} (p {p:.3f}), below the teacher in {below}")
    gains = [student - low for low, student, _ in rows]
    if len(gains) > 1:
        print(f"gain {fmean(gains):+.4f}, standard error {stdev(gains) / len(gains) ** 0.5:.4f}")
    if figure:
        draw(seeds, rows, figure)


def scores(folder: Path) -> tuple[float, float, float]:
    """Return the test accuracy of the lower bound, the student and the teacher."""
    found = {
        (row["stage"], row["modality"]): row["value"]
        for row in json.loads((folder / "results.json").read_text())
        if (row["split"], row["metric"]) == ("test", "accuracy")
    }
    return found["backbone", "video"], found["student", "video"], found["teacher", "video+gsr"]


def draw(seeds: list[int], rows: list[tuple[float, float, float]], path: Path) -> None:
    """Write all seeds as an SVG file, on white so that it can be read on any page."""
    with panels(1, 1, 2.4) as (figure, [[axes]]):
        for index, name in enumerate(
            ("lower bound: face, labelled people", "student: face", "teacher: face and signal")
        ):
            axes.plot(seeds, [row[index] for row in rows], label=name, **{**mark(index), "linestyle": ""})
        axes.vlines(seeds, [row[0] for row in rows], [row[1] for row in rows], color="#bbbbbb", zorder=0)
        axes.axhline(0.5, color="#7f7f7f", linewidth=0.8, linestyle=":")
        axes.set(xlabel="seed of the generated people", ylabel="test accuracy", xticks=seeds, ylim=(0.45, 1.0))
        legend(figure, axes, 3)
        path.write_text(svg(figure) + "\n")


if __name__ == "__main__":
    run()
