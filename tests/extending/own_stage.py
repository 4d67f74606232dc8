"""What a user writes for stages of their own."""

from typing import Any

import torch
from torch import Tensor, nn

from mtpkdot.data import Batch
from mtpkdot.losses.task import task_loss
from mtpkdot.models import Backbone
from mtpkdot.modules import AdaptedModule, StageModule, StudentModule, load_upstream


class Mixture(StageModule):
    """The adapted teachers, mixed with learned shares.

    Args:
        adapted_ckpt: checkpoint of the adapted teachers; filled by the pipeline.
        teacher_ckpt: that of the multimodal teacher they are built on; filled by the pipeline.
        temperature: of the shares.
        options: see StageModule.
    """

    def __init__(
        self,
        adapted_ckpt: str | None = None,
        teacher_ckpt: str | None = None,
        temperature: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.save_hyperparameters()
        self.adapted_ckpt, self.teacher_ckpt, self.temperature = adapted_ckpt, teacher_ckpt, temperature
        self.shares = nn.Parameter(torch.zeros(len(self.steps)))
        self.name_heads(["+".join(self.steps)])

    def setup(self, stage: str) -> None:
        """Load the teachers."""
        if not len(self.frozen):
            adapted = load_upstream(AdaptedModule, self.adapted_ckpt, "adapted_ckpt")
            adapted.teacher_ckpt = self.teacher_ckpt
            adapted.setup("predict")
            self.frozen["adapted"] = adapted

    def frozen_encoders(self, fitting: bool) -> dict[str, list[Backbone]]:
        """Return those of the teachers, whose features may be computed ahead."""
        return self.frozen["adapted"].frozen_encoders(fitting)

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mixed answers (N, num_outputs)."""
        answers = torch.stack(list(self.frozen["adapted"].outputs(batch).values()))
        shares = (self.shares / self.temperature).softmax(dim=0)
        return {self.heads[0]: (shares[:, None, None] * answers).sum(dim=0)}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the task loss."""
        output = self.outputs(batch)[self.heads[0]]
        return {"loss": task_loss(self.task, output, batch.target, batch.labelled)}


class Copied(Mixture):
    """Another class of the same arguments."""


class Corrected(StageModule):
    """A scale on the student's answers: a stage that follows from the student, and from a stage of the user's own.

    Args:
        student_ckpt: checkpoint of the student; filled by the pipeline.
        mixture_ckpt: that of the mixture, whose temperature it starts from; filled by the pipeline.
        options: see StageModule.
    """

    def __init__(self, student_ckpt: str | None = None, mixture_ckpt: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.save_hyperparameters()
        self.student_ckpt, self.mixture_ckpt = student_ckpt, mixture_ckpt
        self.scale = nn.Parameter(torch.ones(()))
        self.name_heads([self.prevalent])

    def setup(self, stage: str) -> None:
        """Load the student, and start from the mixture's temperature."""
        if not len(self.frozen):
            self.frozen["student"] = load_upstream(StudentModule, self.student_ckpt, "student_ckpt")
        if stage == "fit":
            mixture = load_upstream(Mixture, self.mixture_ckpt, "mixture_ckpt")
            nn.init.constant_(self.scale, 1 / mixture.temperature)

    @property
    def modalities(self) -> list[str]:
        """The modality that the student sees."""
        return [self.prevalent]

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """Return the scaled answers (N, num_outputs)."""
        return {self.prevalent: self.scale * self.frozen["student"].outputs(batch)[self.prevalent]}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the task loss."""
        return {"loss": task_loss(self.task, self.outputs(batch)[self.prevalent], batch.target, batch.labelled)}


class Warm(StudentModule):
    """A student that starts from the mixture's shares.

    Args:
        mixture_ckpt: checkpoint of the mixture; filled by the pipeline.
        options: see StudentModule.
    """

    def __init__(self, mixture_ckpt: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.save_hyperparameters()
        self.mixture_ckpt = mixture_ckpt
        self.register_buffer("begun", torch.zeros(len(self.steps)))

    def setup(self, stage: str) -> None:
        """Read the shares before the training."""
        super().setup(stage)
        if stage == "fit":
            self.begun = load_upstream(Mixture, self.mixture_ckpt, "mixture_ckpt").shares.detach().clone()


class Narrow(StageModule):
    """A stage that hands nothing on to its base."""

    def __init__(self, width: int = 3) -> None:
        super().__init__("classification", ["a", "b"], {}, "a")
        self.width = width

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return nothing to learn from."""
        return {}


class Idle(StageModule):
    """A stage without losses."""


class Forgetful(StageModule):
    """A stage that keeps no arguments for its checkpoint."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return nothing to learn from."""
        return {}


class Misshapen(Mixture):
    """A stage with losses and outputs of another form than the base expects."""

    def __init__(self, wrong: str = "losses", **options: Any) -> None:
        super().__init__(**options)
        self.save_hyperparameters()
        self.wrong = wrong

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """Return answers, of one column too few where they are wrong."""
        return {name: x[:, 1:] if self.wrong == "outputs" else x for name, x in super().outputs(batch).items()}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the terms, without the one to minimise where they are wrong."""
        loss = self.shares.square().sum()
        return {"task": loss} if self.wrong == "losses" else {"loss": loss}
