"""Teachers of mtpkdot_plus."""

from collections.abc import Collection, Iterable
from dataclasses import asdict, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from mtpkdot.data.base import BaseData
from mtpkdot.data.batch import Batch
from mtpkdot.errors import RunError
from mtpkdot.losses.distillation import Teacher
from mtpkdot.losses.evidence import Evidence as Shares
from mtpkdot.losses.evidence import pool, weigh
from mtpkdot.modules.adapted import AdaptedModule
from mtpkdot.modules.base import load_upstream
from mtpkdot.modules.pool import PoolModule
from mtpkdot.modules.teacher import JOINT
from mtpkdot.modules.teaching.base import Answer, Evidence, Upstream, compared
from mtpkdot.modules.teaching.joint import AdaptedTeachers
from mtpkdot.teachers.calibration import Calibration, log_likelihood, mean_error


class PooledNetworks(AdaptedTeachers):
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


class PooledTeachers(PooledNetworks):
    """Pool of teachers of several kinds for the outputs, and the networks' pool for the feature space.

    The answers of the pool were computed by the stage `pool` and are read by row, sharpened or spread like the labels
    (`mtpkdot.teachers.Pool.sharpened`). The trust in them is the probability that they are better than the student's,
    from the standard error over held-out people.

    Args:
        adapted: the trained stage of the networks.
        names: names of the networks' spaces to use; None for all.
        pool: the trained stage `pool`.
    """

    needs_unlabelled: ClassVar[bool] = True
    stages: ClassVar[tuple[str, ...]] = (*PooledNetworks.stages, PoolModule.section)

    table: Tensor
    answered: Tensor

    def __init__(self, adapted: AdaptedModule, names: Collection[str] | None, pool: PoolModule) -> None:
        super().__init__(adapted, names)
        assert pool.table is not None
        self.calibrated, self.people = pool.table, pool.people
        taught = pool.pool.sharpened(pool.table)
        self.register_buffer("table", taught.output.float(), persistent=False)
        # Not bool, which Lightning's averages of weights cannot subtract.
        self.register_buffer("answered", taught.valid.float(), persistent=False)

    @classmethod
    def load(cls, upstream: Upstream) -> Self:
        """Load the networks and the answers of the pool."""
        networks = PooledNetworks.load(upstream)
        pool = load_upstream(PoolModule, upstream.checkpoints["pool"], "student.model.pool_ckpt")
        return cls(networks.adapted, upstream.names, pool)

    def check_data(self, data: BaseData) -> None:
        """Check that the pool has answered rows of these data; see Teachers."""
        rows = data.samples.labelled.size
        if len(self.people) != rows:
            raise RunError(
                f"the pool of student.model.pool_ckpt has answered {len(self.people)} rows, and the data have {rows}",
                "Train the stage pool on these data, or leave pool_ckpt out.",
            )

    @torch.no_grad()
    def weigh_against(
        self, student: Answer, held_out: Iterable[Batch], training: Iterable[Batch], learned: bool
    ) -> Evidence:
        """Return the evidence on the networks, with the trust in the answers of the pool."""
        index: list[Tensor] = []

        def noted() -> Iterable[Batch]:
            for batch in held_out:
                index.append(batch.index)
                yield batch

        own, networks, target, labelled = compared(noted(), student, self.members)
        evidence = asdict(weigh(self.adapted.task, own, networks, target=target, labelled=labelled))
        where = torch.cat(index).cpu()
        seen = (labelled & own.valid).cpu() & self.calibrated.valid[where]
        if int(seen.sum()) < 2:
            return evidence
        task, truth = self.adapted.task, target.cpu()[seen]
        output = own.output.cpu()[seen]
        gain = log_likelihood(task, self.calibrated.output[where][seen], truth)
        gain = gain - log_likelihood(task, Calibration.fit(task, output, truth)(output), truth)
        mean, error = mean_error(gain, self.people[where][seen])
        return {**evidence, "output": float(torch.special.ndtr(torch.tensor(mean / max(error, 1e-6))))}

    def spaces(self, batch: Batch) -> dict[str, Teacher]:
        """Return the space of the pool, valid on rows without a label."""
        space = super().spaces(batch)[JOINT]
        output = self.table[batch.index].to(space.output.dtype)
        return {JOINT: replace(space, output=output, valid=space.valid & (self.answered[batch.index] > 0))}
