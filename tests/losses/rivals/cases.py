"""Batches that rivals are tried on."""

import math

import torch

from mtpkdot.losses.rivals import RIVALS, Seen
from tests.losses.reference import random

OUTPUTS = {"classification": 4, "ordinal": 3, "regression": 2}
GARBAGE = {"classification": torch.iinfo(torch.int64).min, "ordinal": -100, "regression": math.nan}
CASES = [(name, task) for name, rival in RIVALS.items() for task in rival.tasks]


def rival(name, task="regression", student_dim=6, teacher_dim=5, **settings):
    """A rival whose learned parts are the same in every test."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return RIVALS[name](task, student_dim, teacher_dim, **settings)


def seen(n, dim, outputs, seed, dtype=torch.float32):
    return Seen(random(n, dim, seed=seed, dtype=dtype), random(n, outputs, seed=seed + 1, dtype=dtype))


def labels(task, n, seed=5):
    """Targets of n rows, the second of which is not labelled and must not be read."""
    labelled = torch.arange(n) != 1
    target = random(n, 2, seed=seed) if task == "regression" else torch.arange(n) * 7 % 4
    target[~labelled] = GARBAGE[task]
    return target, labelled


def batch(task, n=7, student_dim=6, teacher_dim=5, dtype=torch.float32):
    """Arguments of a rival: the student with live gradients, the teacher, target and labelled."""
    student = seen(n, student_dim, OUTPUTS[task], 1, dtype)
    live = Seen(student.feature.requires_grad_(), student.output.requires_grad_())
    return live, seen(n, teacher_dim, OUTPUTS[task], 3, dtype), *labels(task, n)


def of_features(student, teacher):
    """Arguments of a rival that reads nothing but features."""
    n = len(student)
    nothing = torch.zeros(n, 2, dtype=student.dtype)
    return Seen(student, nothing), Seen(teacher, nothing), torch.zeros(n, 2), torch.zeros(n, dtype=torch.bool)


def of_outputs(student, teacher, target=None, labelled=None):
    """Arguments of a rival that reads nothing but outputs, and perhaps labels."""
    n = len(student)
    nothing = torch.zeros(n, 3, dtype=student.dtype)
    target = torch.zeros(n, dtype=torch.long) if target is None else target
    labelled = torch.zeros(n, dtype=torch.bool) if labelled is None else labelled
    return Seen(nothing, student), Seen(nothing, teacher), target, labelled
