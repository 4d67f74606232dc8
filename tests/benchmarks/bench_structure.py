"""Memory of a structural loss, forward and backward, against the batch: each figure from a process of its own."""

import resource
import subprocess
import sys

import torch

from mtpkdot.losses.structure import StructuralTransport


def added(batch: int) -> float:
    """Bytes that one step adds to the process, per B^2."""
    torch.manual_seed(0)
    student, teacher = torch.randn(batch, 128, requires_grad=True), torch.randn(batch, 128)

    def step(rows: int) -> int:
        terms = StructuralTransport()(student[:rows], teacher[:rows])
        (terms.transport + terms.centroid).backward()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = step(64)
    return (step(batch) - before) * 1024 / batch**2


def bench_memory(benchmark):
    rows = ["| B | bytes / B^2 |", "|---|---|"]

    def table() -> None:
        for batch in (512, 1024, 2048):
            command = [sys.executable, "-m", "tests.benchmarks.bench_structure", str(batch)]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows.append(f"| {batch} | {float(told):.0f} |")

    benchmark.pedantic(table, rounds=1)
    print("\n" + "\n".join(rows))


if __name__ == "__main__":
    print(added(int(sys.argv[1])))
