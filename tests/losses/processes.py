"""Losses on the rows of one or many processes: what test_gather starts its processes for."""

import datetime
import importlib
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mtpkdot.losses.gather import gather_rows
from mtpkdot.losses.rivals import RIVALS, Seen
from mtpkdot.losses.structure import StructuralTransport
from mtpkdot.losses.transport import SinkhornDivergence
from tests.losses.reference import random

ROWS = 11
# Rows per process: uneven as in a last batch, and with a process that has none.
LAYOUTS = {2: ((7, 4), (0, 11)), 4: ((5, 0, 2, 4), (3, 3, 3, 2))}
# Single precision, and all cases, where the rows are cut in the first way.
DTYPES = (("float64", "float32"), ("float64",))
OUTPUTS = {"classification": 4, "ordinal": 3, "regression": 2}

KERNELS, ANCHORS = ("cosine", "centred", "rbf"), ("least", "most", "all")
# Every two values of mode, kernel and anchors meet.
SETTINGS = [
    *(
        (("rows", "paired")[(i + j) % 2], kernel, anchors)
        for i, kernel in enumerate(KERNELS)
        for j, anchors in enumerate(ANCHORS)
    ),
    *((mode, kernel, "least") for mode in ("gromov", "fused") for kernel in KERNELS),
]
STRUCTURES = {"-".join(setting): dict(zip(("mode", "kernel", "anchors"), setting, strict=True)) for setting in SETTINGS}
DIVERGENCES = {"euclidean": {}, "cosine": {"cost": "cosine"}, "relative": {"relative": True}, "reach": {"reach": 0.5}}
# Those that compare outputs do so differently for every task; of the others the task decides nothing.
RIVAL_CASES = [
    f"{name}-{task}"
    for number, (name, rival) in enumerate(RIVALS.items())
    for task in (rival.tasks if name in ("kd", "lupi") else (rival.tasks[number % len(rival.tasks)],))
]
# Of these the gradients are compared; `weighted` ones have weights that are 0 for a sample of the first process.
CASES = [
    *(f"{name}-even" for name in STRUCTURES),
    *(f"{name}-weighted" for name in STRUCTURES if name.endswith("least")),
    *(f"divergence-{name}-{kind}" for name in DIVERGENCES for kind in ("even", "weighted")),
    *(f"rival-{name}" for name in RIVAL_CASES),
    "past",
    "sum of two",
    "squares",
]


def cases_of(number):
    """Those that are computed with the rows cut in one of two ways."""
    return [case for case in CASES if number == 0 or not case.endswith("even")]


@dataclass(frozen=True)
class Outcome:
    """A loss, and the gradients of all that is shared."""

    value: torch.Tensor
    gradients: list[torch.Tensor]


class Model(nn.Module):
    """What the processes share: a linear map to a feature and another to an output."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        self.feature, self.output = nn.Linear(5, 4), nn.Linear(4, outputs)

    def forward(self, x):
        feature = self.feature(x)
        return feature, self.output(feature)


def seeded(make, dtype):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().to(dtype)


def share(rows, dtype):
    """Inputs, the teacher's features, and weights of some of the rows."""
    weights = torch.tensor([1.0, 0.0, 2.0, 0.5, 1.0, 1.0, 3.0, 1.0, 0.2, 1.0, 1.0])
    everything = random(ROWS, 5, seed=1, dtype=dtype) + 0.2, random(ROWS, 4, seed=2, dtype=dtype) + 0.3, weights
    return [x[rows] for x in everything]


def structural(name, model, rows, dtype):
    *setting, kind = name.rsplit("-", 1)
    x, teacher, weights = share(rows, dtype)
    loss = StructuralTransport(top_k=4, **STRUCTURES[setting[0]])
    structure = loss(model(x)[0], teacher, weights if kind == "weighted" else None)
    return structure.transport + structure.centroid


def divergence(name, model, rows, dtype):
    setting, kind = name.split("-")
    x, teacher, weights = share(rows, dtype)
    student, teacher, weights = gather_rows(model(x)[0], teacher, weights)
    weights = weights if kind == "weighted" else None
    return SinkhornDivergence(eps=0.1, **DIVERGENCES[setting])(student, teacher, weights, weights).value


def rival(name, model, rows, dtype, module):
    task = name.split("-")[1]
    outputs = OUTPUTS[task]
    x, teacher, _ = share(rows, dtype)
    answers = random(ROWS, outputs, seed=3, dtype=dtype)
    target = answers + 0.3 if task == "regression" else torch.arange(ROWS) * 7 % 4
    labelled = torch.arange(ROWS) != 2
    target[2] = torch.nan if task == "regression" else -100
    flat = gather_rows(*model(x), teacher, answers[rows], target[rows], labelled[rows])
    return module(Seen(*flat[:2]), Seen(*flat[2:4]), *flat[4:])


def loss_of(case, model, rows, dtype, module):
    x, teacher, _ = share(rows, dtype)
    if case == "past":
        past = random(3, 4, seed=5, dtype=dtype), random(3, 4, seed=6, dtype=dtype)
        return StructuralTransport(top_k=4)(model(x)[0], teacher, None, past).transport
    if case == "sum of two":
        # Autograd hands both summands one and the same gradient.
        return (
            (torch.add(*gather_rows(model.feature(x), 2 * model.feature(x))) - gather_rows(teacher)[0]).square().sum()
        )
    if case == "squares":
        return gather_rows(model(x)[0])[0].square().sum()
    if case.startswith("divergence-"):
        return divergence(case.removeprefix("divergence-"), model, rows, dtype)
    if case.startswith("rival-"):
        return rival(case.removeprefix("rival-"), model, rows, dtype, module)
    return structural(case, model, rows, dtype)


def outcome(case, rows, dtype):
    """One case on some of the rows, together with all processes of the group if there is one."""
    task = case.split("-")[-1]
    model = seeded(lambda: Model(OUTPUTS.get(task, 2)), dtype)
    kind = case.split("-")[1] if case.startswith("rival-") else None
    module = nn.Module() if kind is None else seeded(lambda: RIVALS[kind](task, 4, 4), dtype)
    value = loss_of(case, model, rows, dtype, module)
    value.backward()
    shared = (*model.parameters(), *module.parameters())
    return Outcome(value.detach(), [torch.zeros_like(x) if x.grad is None else x.grad for x in shared])


def replicated(mode, rows, dtype):
    """A step of DistributedDataParallel itself, which takes the mean of the gradients."""
    model = seeded(Model, dtype)
    x, teacher, weights = share(rows, dtype)
    wrapped = DistributedDataParallel(model) if dist.is_initialized() else model
    feature, output = wrapped(x)
    structure = StructuralTransport(top_k=4, mode=mode)(feature, teacher, weights)
    value = structure.transport + structure.centroid + gather_rows(output)[0].square().mean()
    value.backward()
    return Outcome(value.detach(), [parameter.grad for parameter in model.parameters()])


def at_random(mode, rank, rows):
    """Random anchors where every process draws from a generator of its own."""
    model = seeded(Model, torch.float64)
    x, teacher, _ = share(rows, torch.float64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rank)
        value = StructuralTransport(top_k=3, mode=mode, anchors="random")(model(x)[0], teacher).transport
    value.backward()
    return Outcome(value.detach(), [model.feature.weight.grad])


def kinds(rows):
    """Tensors of several types and shapes, some of their rows."""
    whole = {
        "integers": torch.arange(ROWS) * 2**40,
        "small integers": torch.arange(ROWS, dtype=torch.int32),
        "bytes": torch.arange(ROWS, dtype=torch.uint8),
        "booleans": torch.arange(ROWS) % 3 == 0,
        "table of booleans": random(ROWS, 3, seed=1) > 0,
        "volume": random(ROWS, 2, 3, 4, seed=2),
        "half": random(ROWS, 3, seed=3).half(),
        "brain half": random(ROWS, 3, seed=4).bfloat16(),
        "transposed": random(3, ROWS, seed=5).T,
        "nothing": torch.zeros(ROWS, 0),
    }
    return {name: tensor[rows] for name, tensor in whole.items()}


def run(rank, folder):
    """Compute everything in a group of four and then in one of two processes, and save what came out."""
    torch.set_num_threads(1)
    for world, layouts in sorted(LAYOUTS.items(), reverse=True):
        if rank >= world:
            return
        dist.init_process_group(
            "gloo",
            init_method=f"file://{Path(folder) / f'group-{world}'}",
            rank=rank,
            world_size=world,
            timeout=datetime.timedelta(seconds=100),
        )
        for number, layout in enumerate(layouts):
            start = sum(layout[:rank])
            rows = slice(start, start + layout[rank])
            found = {}
            for name in DTYPES[number]:
                dtype = getattr(torch, name)
                found |= {(case, name): outcome(case, rows, dtype) for case in cases_of(number)}
                found |= {(f"replicated {mode}", name): replicated(mode, rows, dtype) for mode in ("rows", "fused")}
            found |= {f"random {mode}": at_random(mode, rank, rows) for mode in ("rows", "paired")}
            of_kinds = kinds(rows)
            found["kinds"] = dict(zip(of_kinds, gather_rows(*of_kinds.values()), strict=True))
            torch.save(found, Path(folder) / f"{world}-{number}-{rank}.pt")
        dist.destroy_process_group()


def start(folder):
    """Start the processes. They are forked from this one, so that what is slow to import is imported once."""
    importlib.import_module("torch._dynamo")  # of which replicas and checkpoints ask something
    mp.start_processes(run, (folder,), nprocs=max(LAYOUTS), start_method="fork")
