"""What the transport costs beside other solvers, and how far each is from the converged solution.

`make bench`. Forward and backward of the divergence between two anchored similarity matrices (k = 30, eps = 0.01) in
float32. A row's `error` is that of the value, `gradient` that of the gradient, both relative to a solution in float64
that is converged to 1e-11. `python -m tests.benchmarks.bench_transport OUT.png` draws cost and memory against B.
"""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import ot
import pytest
import torch
from geomloss import SamplesLoss
from torch import Tensor

from mtpkdot.losses import SinkhornDivergence, anchored, choose_anchors, cosine_matrix
from mtpkdot.losses.transport import half_squared_distances

EPS, K = 0.01, 30


def clouds(batch: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Anchored similarities of a student that resembles its teacher."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(batch, 16, generator=generator)
    teacher = shared @ torch.randn(16, 64, generator=generator)
    student = shared @ torch.randn(16, 64, generator=generator) + 2 * torch.randn(batch, 64, generator=generator)
    of_teacher, of_student = cosine_matrix(teacher), cosine_matrix(student)
    return anchored(of_teacher, of_student, choose_anchors(of_teacher, K))


def native(x: Tensor, y: Tensor) -> Tensor:
    return SinkhornDivergence(EPS)(x, y).value


def geomloss(x: Tensor, y: Tensor) -> Tensor:
    return SamplesLoss("sinkhorn", p=2, blur=EPS**0.5)(x, y)


def pot_autodiff(x: Tensor, y: Tensor) -> Tensor:
    """POT with the loop recorded; at its default tolerance it never converges in float32."""
    return pot(x, y, "autodiff")


def pot_envelope(x: Tensor, y: Tensor) -> Tensor:
    """POT with the gradient of the converged solution."""
    return pot(x, y, "envelope")


def pot(x: Tensor, y: Tensor, grad: str) -> Tensor:
    def one(a: Tensor, b: Tensor) -> Tensor:
        cost = half_squared_distances(a, b)
        return ot.solve(cost, reg=EPS, method="sinkhorn_log", grad=grad, max_iter=100, tol=1e-5).value

    return one(x, y) - (one(x, x) + one(y, y)) / 2


SOLVERS = {"native": native, "geomloss": geomloss, "pot_envelope": pot_envelope, "pot_autodiff": pot_autodiff}


def forward_backward(solver: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    y = y.clone().requires_grad_()
    value = solver(x, y)
    value.backward()
    assert y.grad is not None
    return value.detach(), y.grad


def errors(solver: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> dict[str, str]:
    exact = SinkhornDivergence(EPS, tol=1e-11, max_iter=5000)
    value, gradient = forward_backward(lambda a, b: exact(a, b).value, x.double(), y.double())
    theirs, slope = forward_backward(solver, x, y)
    return {
        "error": f"{abs(float(theirs) - float(value)) / float(value):.1e}",
        "gradient": f"{float((slope - gradient).norm() / gradient.norm()):.1e}",
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("batch", [128, 512])
def bench_forward_and_backward(benchmark, batch):
    """Rounds of all solvers in turn, so that what else the machine does meets all of them alike."""
    x, y = clouds(batch)
    times: dict[str, list[float]] = {name: [] for name in SOLVERS}

    def turn() -> None:
        for name, solver in SOLVERS.items():
            start = time.perf_counter()
            forward_backward(solver, x, y)
            times[name].append(time.perf_counter() - start)

    benchmark.pedantic(turn, rounds=40 if batch == 128 else 10, warmup_rounds=2)
    rows = [
        "| solver | median | fastest | median of native's | error of the value | of the gradient |",
        "|---" * 6 + "|",
    ]
    medians = {name: statistics.median(found[2:]) for name, found in times.items()}
    for name, median in medians.items():
        told = errors(SOLVERS[name], x, y)
        cells = f"{median * 1e3:.1f} ms", f"{min(times[name]) * 1e3:.1f} ms", f"{median / medians['native']:.1f}"
        rows.append("| " + " | ".join((name, *cells, *told.values())) + " |")
    print(f"\nB = {batch}\n" + "\n".join(rows))


def measure(name: str, batch: int) -> tuple[float, float]:
    """Median seconds, and the MiB that one step adds to the process."""
    x, y = clouds(batch)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(5 if batch > 1000 else 15):
        start = time.perf_counter()
        forward_backward(SOLVERS[name], x, y)
        times.append(time.perf_counter() - start)
    added = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return sorted(times)[len(times) // 2], added / 1024


def bench_cost_against_the_batch(benchmark):
    """A table: each figure from a process of its own."""
    rows = ["| B | native | memory | geomloss | memory |", "|---|---|---|---|---|"]

    def table() -> None:
        for batch in (32, 64, 128, 256, 512, 1024, 2048):
            cells = [f"{seconds * 1e3:.1f} ms | {added:.0f} MiB" for seconds, added in map_processes(batch)]
            rows.append(f"| {batch} | {' | '.join(cells)} |")

    benchmark.pedantic(table, rounds=1)
    print("\n" + "\n".join(rows))


def map_processes(batch: int) -> list[tuple[float, float]]:
    found = []
    for name in ("native", "geomloss"):
        command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.bench_transport", name, str(batch)]
        seconds, added = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-2:]
        found.append((float(seconds), float(added)))
    return found


def draw(path: str) -> None:
    """Cost and memory against B, with the slope of B^2."""
    import matplotlib.pyplot as plt

    sizes = [32, 64, 128, 256, 512, 1024, 2048]
    figures = [map_processes(batch) for batch in sizes]
    _, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for axis, index, label, unit in ((axes[0], 0, "forward and backward (ms)", 1e3), (axes[1], 1, "memory (MiB)", 1)):
        for column, (name, mark) in enumerate((("native", "o-"), ("geomloss", "s--"))):
            axis.loglog(sizes, [max(row[column][index] * unit, 0.1) for row in figures], mark, label=name)
        last = figures[-1][0][index] * unit
        axis.loglog(sizes, [last * (size / sizes[-1]) ** 2 for size in sizes], ":", color="grey", label="B²")
        axis.set_xlabel("batch size B")
        axis.set_ylabel(label)
        axis.legend()
    plt.savefig(path, dpi=150)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        draw(sys.argv[1])
    else:
        torch.set_num_threads(1)
        print(*measure(sys.argv[1], int(sys.argv[2])))
