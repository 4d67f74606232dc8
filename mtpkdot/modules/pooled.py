"""The teachers of mtpkdot_plus."""

from collections.abc import Collection, Iterable
from dataclasses import asdict, replace

import torch

from mtpkdot.data.batch import Batch
from mtpkdot.losses.distillation import Teacher
from mtpkdot.losses.evidence import Evidence, pool, weigh
from mtpkdot.models.backbone import Backbone
from mtpkdot.modules.adapted import AdaptedModule
from mtpkdot.modules.prepared import Answer, Found, Prepared, compared
from mtpkdot.modules.teacher import JOINT


class PooledTeachers(Prepared):
    """The multimodal and the adapted teachers as one, weighed by held-out evidence against the student that they teach.

    They teach recordings without a label alone: of the others they have seen the labels, which the student sees too.

    Args:
        adapted: the teachers.
        names: those of them that are used; None for all.

    Attributes:
        evidence: None until they are weighed.
    """

    def __init__(self, adapted: AdaptedModule, names: Collection[str] | None = None) -> None:
        super().__init__()
        self.adapted = adapted
        self.names = [name for name in adapted.space_sizes if names is None or name in names]
        self.evidence: Evidence | None = None

    @property
    def space_sizes(self) -> dict[str, int]:
        """One space: all of them side by side."""
        return {JOINT: sum(self.adapted.space_sizes[name] for name in self.names)}

    def frozen_encoders(self, fitting: bool) -> dict[str, list[Backbone]]:
        """Those of the teachers."""
        return self.adapted.frozen_encoders(fitting)

    @torch.no_grad()
    def meet(self, student: Answer, held_out: Iterable[Batch], training: Iterable[Batch], learned: bool) -> Found:
        """The evidence of the held-out part, by the names of `Evidence`."""
        return asdict(weigh(self.adapted.task, *compared(held_out, student, self._members)))

    def adopt(self, found: Found) -> dict[str, float]:
        """Teach by this evidence."""
        super().adopt(found)
        self.evidence = Evidence(**found)
        structure, output = self.evidence.structure, self.evidence.output
        self.trust = {"output": output, "transport": structure, "centroid": structure}
        shares = dict(zip(self.names, self.evidence.shares.tolist(), strict=True))
        told = {f"share_{name}": share for name, share in shares.items()}
        return {**told, "trust_output": output, "trust_structure": structure}

    def spaces(self, batch: Batch) -> dict[str, Teacher]:
        """The one space."""
        evidence = self.evidence
        if evidence is None:
            raise RuntimeError("the teachers have not been weighed: call meet and adopt first")
        space = pool(self.adapted.task, evidence.temperatures, evidence.shares, self._members(batch))
        return {JOINT: replace(space, valid=space.valid & ~batch.labelled)}

    def _members(self, batch: Batch) -> dict[str, Teacher]:
        spaces = self.adapted.spaces(batch)
        return {name: spaces[name] for name in self.names}
