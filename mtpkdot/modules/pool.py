"""Pool of teachers of several kinds, fitted in one pass: linear models and graphs beside the trained networks."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from mtpkdot.data.base import BaseData
from mtpkdot.data.batch import Batch
from mtpkdot.models.attention import reduce_steps
from mtpkdot.models.backbone import Backbone
from mtpkdot.modules.adapted import AdaptedModule
from mtpkdot.modules.base import StageModule, load_upstream
from mtpkdot.modules.teacher import JOINT
from mtpkdot.teachers import GraphTeacher, LinearTeacher, MemberFactory, Pool, Rows
from mtpkdot.teachers.pool import Answers
from mtpkdot.teachers.trial import try_member

_TEACHERS = "adapted"  # name in `frozen`


class PoolModule(StageModule):
    """Pool of teachers; its answers on the training part are computed once and stored by row.

    Its members are the trained networks (the backbones, the adapted and the multimodal teacher), and models that are
    fitted in one go on every modality and on all together. These read the mean and the standard deviation over the
    steps of a recording where the steps are vectors, and otherwise the mean of the backbone's features. All see the
    training part alone; people that select the epoch calibrate and weigh them.

    Args:
        adapted_ckpt: checkpoint of the adapted teachers; set by the pipeline.
        teacher_ckpt: checkpoint of the multimodal teacher; set by the pipeline.
        members: constructors of the fitted members, by name; null for `linear` and `graph`.
        networks: whether the trained networks are members.
        members_see: `all` modalities, or `prevalent` for a control without privileged knowledge.
        rounds: number of rounds; from the second on, members learn from the pool's answers as well.
        power: exponent of the probabilities, renormalised, that further rounds learn from.
        most_rows: largest number of training rows that members are fitted on, spread evenly.
        options: see StageModule.

    Attributes:
        pool: the fitted pool; None before it is fitted.
        table: answers by the row of the data set, on the training part and on the part that selects the epoch.
        people: (n,) number of the person by the row of the data set.
    """

    section: ClassVar[str] = "pool"
    shared: ClassVar[bool] = False
    on_demand: ClassVar[bool] = True
    fit_defaults: ClassVar[Mapping[str, Any]] = {"max_epochs": 1}
    uses_unlabelled = False

    def __init__(
        self,
        adapted_ckpt: str | None = None,
        teacher_ckpt: str | None = None,
        members: dict[str, MemberFactory] | None = None,
        networks: bool = True,
        members_see: Literal["all", "prevalent"] = "all",
        rounds: int = 2,
        power: float = 2.0,
        most_rows: int = 100_000,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.save_hyperparameters()
        if rounds < 1 or most_rows < 1 or power <= 0:
            raise ValueError("pool.model needs rounds and most_rows of 1 or more and a power above 0")
        for build in (members or {}).values():
            try_member(build, self.task, self.num_outputs)
        self.adapted_ckpt, self.teacher_ckpt = adapted_ckpt, teacher_ckpt
        self.members = members or {"linear": LinearTeacher, "graph": GraphTeacher}
        self.networks, self.alone, self.most_rows = networks, members_see == "prevalent", most_rows
        names = [self.prevalent] if self.alone else list(self.steps)
        groups = [[name] for name in names] + ([names] if len(names) > 1 else [])
        self.pool = Pool(self.task, self.num_outputs, self.members, groups, rounds=rounds, power=power)
        self.table: Answers | None = None
        self.people = torch.zeros(0, dtype=torch.int64)
        # Lightning saves a checkpoint only after a step of an optimiser.
        self.step = nn.Parameter(torch.zeros(()))
        self.name_heads(["+".join(names)])

    def setup(self, stage: str) -> None:
        """Load the networks."""
        if _TEACHERS in self.frozen:
            return
        adapted = load_upstream(AdaptedModule, self.adapted_ckpt, "pool.model.adapted_ckpt")
        adapted.teacher_ckpt = self.teacher_ckpt
        adapted.setup("predict")
        self.frozen[_TEACHERS] = adapted

    @property
    def adapted(self) -> AdaptedModule:
        """Frozen networks."""
        adapted = self.frozen[_TEACHERS]
        assert isinstance(adapted, AdaptedModule)
        return adapted

    def frozen_encoders(self, fitting: bool) -> dict[str, list[Backbone]]:
        """Return the encoders of the networks; see StageModule."""
        return self.adapted.frozen_encoders(fitting=False)

    def raw_modalities(self, fitting: bool) -> list[str]:
        """Return the modalities whose steps are vectors; see StageModule."""
        return [name for name, steps in self.steps.items() if _is_vector(steps.shape)]

    @torch.no_grad()
    def read(self, batch: Batch) -> tuple[Rows, dict[str, Answers]]:
        """Return the rows of a batch for the fitted members, on the CPU, and the answers of the networks.

        Args:
            batch: the batch, with raw steps of the modalities of `raw_modalities`.
        """
        features, masks = self.adapted.joint_teacher.sequences(batch)
        values, present, networks = {}, {}, {}
        spaces = self.adapted.spaces(batch) if self.networks and not self.alone else {}
        for name, backbone in self.adapted.joint_teacher.named_backbones():
            if self.alone and name != self.prevalent:
                continue
            present[name] = batch.present(name).cpu()
            if _is_vector(self.steps[name].shape):
                values[name] = moments_of_steps(batch.inputs[name], batch.masks[name], self.per_step).float().cpu()
            else:
                values[name] = reduce_steps(features[name], masks[name], self.per_step).float().cpu()
            if self.networks:
                output = backbone.read(features[name], masks[name])[1]
                networks[f"backbone.{name}"] = Answers(output.cpu(), present[name])
        for name, space in spaces.items():
            title = name if name == JOINT else f"adapted.{name}"
            networks[title] = Answers(space.output.cpu(), space.valid.cpu())
        rows = Rows(values, present, target=batch.target.cpu(), labelled=batch.labelled.cpu(), people=batch.index.cpu())
        return rows, networks

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """Return the answers of the pool."""
        answers = self.pool.answers(*self.read(batch))
        return {self.heads[0]: answers.output.to(self.step)}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return a constant: nothing is learned from batches."""
        return {"loss": 0.0 * self.step}

    def on_fit_start(self) -> None:
        """Fit the members on the training part, weigh them, and keep their answers.

        Raises:
            ValueError: the datamodule is not a `BaseData`.
        """
        super().on_fit_start()
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, BaseData):
            raise ValueError("the pool reads its data before the training: fit it with a BaseData as datamodule")
        if self.table is None:
            state = self._fitted(data) if self.trainer.is_global_zero else {}
            self._restore(self.trainer.strategy.broadcast(state))

    def _fitted(self, data: BaseData) -> dict[str, Any]:
        """Fit the pool, and return its state."""
        training, on_training, index = self._collected(data.evaluation_loader("train"), data)
        held_out, on_held_out, held_index = self._collected(data.selecting_loader(), data)
        rows = len(training)
        chosen = _spread(rows, self.most_rows)
        if len(chosen) < rows:
            print(f"pool: its members are fitted on {len(chosen):,} of {rows:,} training rows (pool.model.most_rows)")
        some = {name: Answers(a.output[chosen], a.valid[chosen]) for name, a in on_training.items()}
        of_some, of_held_out = self.pool.fit(training.keep(chosen), held_out, some, on_held_out)
        answers = [of_some if len(chosen) == rows else self.pool.answers(training, on_training), of_held_out]
        where = torch.cat([index, held_index])
        size = len(data.samples) * (data.samples.labelled.shape[1] if data.per_step else 1)
        people = np.unique(data.samples.subjects, return_inverse=True)[1]
        return {
            "pool": self.pool.state(),
            "output": torch.zeros(size, self.num_outputs).index_copy(
                0, where, torch.cat([answer.output for answer in answers]).float()
            ),
            "valid": torch.zeros(size, dtype=torch.bool).index_copy(
                0, where, torch.cat([answer.valid for answer in answers])
            ),
            "people": torch.from_numpy(people.astype(np.int64)).repeat_interleave(size // max(len(people), 1)),
        }

    def _collected(self, batches: Iterable[Batch], data: BaseData) -> tuple[Rows, dict[str, Answers], Tensor]:
        """Return the rows of a part, the answers of the networks on them, and their numbers in the data set (N,)."""
        strategy, convert = self.trainer.strategy, self.trainer.precision_plugin.convert_input
        parts = [self.read(strategy.batch_to_device(convert(batch))) for batch in batches]
        index = torch.cat([rows.people for rows, _ in parts])
        _, people = np.unique(data.samples.rows(index.numpy()).subjects, return_inverse=True)
        rows = Rows(
            {name: torch.cat([rows.values[name] for rows, _ in parts]) for name in parts[0][0].values},
            {name: torch.cat([rows.present[name] for rows, _ in parts]) for name in parts[0][0].present},
            target=torch.cat([rows.target for rows, _ in parts]),
            labelled=torch.cat([rows.labelled for rows, _ in parts]),
            people=torch.from_numpy(people.astype(np.int64)),
        )
        networks = {
            name: Answers(
                torch.cat([answers[name].output for _, answers in parts]),
                torch.cat([answers[name].valid for _, answers in parts]),
            )
            for name in parts[0][1]
        }
        return rows, networks, index

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.pool.restore(state["pool"])
        self.table, self.people = Answers(state["output"], state["valid"]), state["people"]
        self.state = dict(state)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the fitted pool and its answers."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["pool"] = self.state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the fitted pool and its answers."""
        super().on_load_checkpoint(checkpoint)
        self._restore(checkpoint["pool"])


def _is_vector(shape: tuple[int, ...]) -> bool:
    return len(shape) == 1


def moments_of_steps(x: Tensor, mask: Tensor, per_step: bool) -> Tensor:
    """Return rows of steps (B, T, D): the steps (B * T, D), or mean and standard deviation over the real ones (B, 2 D).

    Of a single step there is no deviation, and the mean alone is returned (B, D).
    """
    mean = reduce_steps(x.float(), mask, per_step)
    if per_step or x.shape[1] == 1:
        return mean
    square = reduce_steps((x.float() - mean[:, None]).square(), mask, per_step)
    return torch.cat([mean, square.sqrt()], dim=1)


def _spread(rows: int, most: int) -> Tensor:
    """Return at most `most` positions, spread evenly over the rows."""
    count = min(rows, most)
    return torch.arange(count) * rows // max(count, 1)
