"""Distillation terms of every method, on a batch of one or several processes."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mtpkdot.losses.gather import gather_rows
from mtpkdot.losses.queue import FeatureQueue
from mtpkdot.losses.rivals import Rival, Seen
from mtpkdot.losses.selection import Selection
from mtpkdot.losses.structure import StructuralLoss
from mtpkdot.losses.task import Task, ValueLoss, output_loss
from mtpkdot.losses.weighting import Term

STUDENT = ""  # the student's own name in the queue; no teacher has an empty one


@dataclass(frozen=True)
class Teacher(Seen):
    """Features and outputs of a teacher on a batch.

    Attributes:
        feature: (N, D) features.
        output: (N, C) logits of classes, (N, C - 1) of thresholds (ordinal), or (N, K) values.
        valid: (N,) bool, True where the teacher had an input.
    """

    valid: Tensor


class Distillation(nn.Module):
    """Distillation terms of a method.

    Args:
        task: the task.
        terms: the terms to compute, of `transport`, `centroid`, `output` and `rival`.
        structure: loss that computes the terms `transport` and `centroid`.
        selection: rule that assigns teachers to rows.
        rival: loss of the term `rival`.
        temperature: softening temperature of the term `output`.
        values: loss of values in the term `output`, see `mtpkdot.losses.task.output_loss`.
        queue: past features that the structural terms compare as well.
    """

    def __init__(
        self,
        task: Task,
        terms: Collection[Term],
        structure: StructuralLoss,
        selection: Selection,
        rival: Rival | None = None,
        temperature: float = 2.0,
        values: ValueLoss = "squared",
        queue: FeatureQueue | None = None,
    ) -> None:
        super().__init__()
        self.task, self.terms, self.selection, self.temperature = task, set(terms), selection, temperature
        self.structure, self.rival, self.queue, self.values = structure, rival, queue, values

    def forward(
        self,
        student: Seen,
        teachers: Mapping[str, Teacher],
        seen: Tensor,
        target: Tensor,
        labelled: Tensor,
        scale: Tensor | float = 1.0,
    ) -> tuple[dict[Term, Tensor], dict[str, Tensor]]:
        """Compute the terms of a batch.

        The rows of all processes are gathered, so that the terms are the same on every process.

        Args:
            student: features and outputs of the student, with gradients.
            teachers: features and outputs per teacher; detached.
            seen: (N,) bool, True where the student had an input.
            target: (N,) classes or (N, K) values; entries of unlabelled rows are ignored.
            labelled: (N,) bool.
            scale: (K,) unit of values.

        Returns:
            A scalar per term, and values to log: `teacher_<name>` (the teacher's share of the rows), `trust` (of a
            guarded selection), and the iterations and marginal error of the solver.
        """
        student, teachers, seen, target, labelled = _gathered(
            student, teachers, seen=seen, target=target, labelled=labelled
        )
        valid = torch.stack([teacher.valid & seen for teacher in teachers.values()], dim=1)
        outputs = {name: teacher.output for name, teacher in teachers.items()}
        shares = self.selection(
            self.task, student.output, outputs, valid=valid, target=target, labelled=labelled, scale=scale
        )
        taught = shares.chosen * shares.trust[:, None]
        whole = shares.chosen.sum().clamp_min(1e-12)
        terms: dict[Term, Tensor] = dict.fromkeys(sorted(self.terms), _nothing(student, shares.chosen.dtype))
        record = {f"teacher_{n}": shares.chosen[:, i].sum() / whole for i, n in enumerate(teachers)}
        if self.selection.guarded:
            record["trust"] = taught.sum() / whole
        past = self.queue.past() if self.queue is not None else {}
        for index, (name, teacher) in enumerate(teachers.items()):
            rows = taught[:, index] > 0
            if not bool(rows.any()):
                continue
            factor, weights = taught[:, index].sum() / whole, taught[:, index]
            labels: dict[str, Any] = {"target": target, "labelled": labelled, "scale": scale}
            found = self._of(name, teacher, student=student, rows=rows, weights=weights, past=past, **labels)
            for term, value in found.items():
                if term in terms:
                    terms[term] = terms[term] + factor * value
                elif term != "centroid" and term != "transport":
                    record[term] = torch.maximum(record.get(term, value), value)
        self._remember(student, teachers, valid.all(dim=1))
        return terms, record

    def _remember(self, student: Seen, teachers: Mapping[str, Teacher], both: Tensor) -> None:
        """Queue the features of the rows (N,) that the student and all teachers see, while training."""
        if self.queue is not None and self.training:
            features = {name: teacher.feature[both] for name, teacher in teachers.items()}
            self.queue.push({STUDENT: student.feature[both], **features})

    def _of(
        self,
        name: str,
        teacher: Teacher,
        student: Seen,
        rows: Tensor,
        weights: Tensor,
        target: Tensor,
        labelled: Tensor,
        scale: Tensor | float,
        past: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Compute the terms of one teacher on its rows, and the iterations and marginal error of the solver."""
        found: dict[str, Tensor] = {}
        own, theirs = (
            Seen(student.feature[rows], student.output[rows]),
            Seen(teacher.feature[rows], teacher.output[rows]),
        )
        counts = weights[rows]
        # Equal weights are dropped, so that a batch with one teacher is computed as in the papers.
        shares = None if bool((counts == counts[0]).all()) else counts
        if self.terms & {"transport", "centroid"}:
            earlier = (past[STUDENT], past[name]) if past else None
            solved = self.structure(own.feature, theirs.feature, shares, earlier)
            found |= {
                "transport": solved.transport,
                "centroid": solved.centroid,
                "ot_iterations": counts.new_tensor(float(solved.iterations)),
                "ot_marginal_error": solved.marginal_error,
            }
        if "output" in self.terms:
            found["output"] = output_loss(
                self.task,
                student.output,
                teacher=teacher.output,
                valid=rows,
                temperature=self.temperature,
                scale=scale,
                weights=weights,
                values=self.values,
            )
        if self.rival is not None and "rival" in self.terms:
            found["rival"] = self.rival(own, theirs, target[rows], labelled[rows])
        return found


def _nothing(student: Seen, dtype: torch.dtype) -> Tensor:
    """Return zero with a gradient of zero, for where no teacher sees anything: nothing of the student's is lost."""
    return (student.feature[:0].sum() + student.output[:0].sum()).to(dtype)


def _gathered(
    student: Seen, teachers: Mapping[str, Teacher], seen: Tensor, target: Tensor, labelled: Tensor
) -> tuple[Seen, dict[str, Teacher], Tensor, Tensor, Tensor]:
    flat = [student.feature, student.output, seen, target, labelled]
    for teacher in teachers.values():
        flat += [teacher.feature.detach(), teacher.output.detach(), teacher.valid]
    feature, output, seen, target, labelled, *rest = gather_rows(*flat)
    of_teachers = {name: Teacher(*rest[3 * index : 3 * index + 3]) for index, name in enumerate(teachers)}
    return Seen(feature, output), of_teachers, seen, target, labelled
