"""Teachers of mtpkdot_plus."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import ClassVar

import torch

from mtpkdot.data.batch import Batch
from mtpkdot.losses.distillation import Teacher
from mtpkdot.losses.evidence import Evidence as Shares
from mtpkdot.losses.evidence import pool, weigh
from mtpkdot.modules.teacher import JOINT
from mtpkdot.modules.teaching.base import Answer, Evidence, compared
from mtpkdot.modules.teaching.joint import AdaptedTeachers


class PooledTeachers(AdaptedTeachers):
    """Pool of the multimodal and the adapted teachers, weighed by held-out evidence against the student.

    It teaches only rows without a label; labelled rows have been in the training of the teachers, and the student has
    their labels as well.

    Args:
        adapted: the trained stage.
        names: names of the spaces to use; None for all.

    Attributes:
        shares: weights of the teachers in the pool, and the trust in the pool; None until they are weighed.
    """

    pooled: ClassVar[bool] = True
    needs_data: ClassVar[bool] = True
    is_weighed: ClassVar[bool] = True
    levels_output: ClassVar[bool] = True
    keeps_better: ClassVar[bool] = True

    shares: Shares | None = None

    @property
    def space_sizes(self) -> dict[str, int]:
        """Feature size of the pool, the sum of those of the teachers."""
        return {JOINT: sum(super().space_sizes.values())}

    @torch.no_grad()
    def weigh_against(
        self, student: Answer, held_out: Iterable[Batch], training: Iterable[Batch], learned: bool
    ) -> Evidence:
        """Return the evidence of the held-out part, the fields of `mtpkdot.losses.evidence.Evidence`."""
        return asdict(weigh(self.adapted.task, *compared(held_out, student, self.members)))

    def use(self, evidence: Evidence) -> dict[str, float]:
        """Use the shares and the trust in the evidence."""
        super().use(evidence)
        self.shares = Shares(**evidence)
        structure, output = self.shares.structure, self.shares.output
        self.trust = {"output": output, "transport": structure, "centroid": structure}
        shares = dict(zip(self.names, self.shares.shares.tolist(), strict=True))
        logged = {f"share_{name}": share for name, share in shares.items()}
        return {**logged, "trust_output": output, "trust_structure": structure}

    def spaces(self, batch: Batch) -> dict[str, Teacher]:
        """Return the space of the pool, valid on rows without a label.

        Raises:
            RuntimeError: the teachers have not been weighed.
        """
        if self.shares is None:
            raise RuntimeError("the teachers have not been weighed: call weigh_against and use first")
        space = pool(self.adapted.task, self.shares.temperatures, self.shares.shares, self.members(batch))
        return {JOINT: replace(space, valid=space.valid & ~batch.labelled)}
