"""Average of a stage's weights over several epochs."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from mtpkdot.modules import StageModule


class AverageWeights(Callback):
    """Callback that averages the trained weights over about the last epochs.

    The average is what is validated, selected and handed on; the training continues from the weights themselves. It is
    a plain mean of the weights after every optimiser step at first, and exponential afterwards, with the mean age of a
    plain mean over `epochs` epochs. Models that are only read (frozen backbones, teachers) are neither copied nor
    averaged, unlike in Lightning's `WeightAveraging`.

    Args:
        epochs: number of epochs.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs, self.steps, self.average = epochs, 0, dict[str, Tensor]()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *arguments: Any) -> None:
        """Update the average after every optimiser step."""
        if trainer.global_step <= self.steps:
            return
        self.steps = trainer.global_step
        window = max(1.0, self.epochs * float(trainer.num_training_batches) / trainer.accumulate_grad_batches)
        share = max(1 / self.steps, min(1.0, 2 / (window + 1)))
        with torch.no_grad():
            for name, value in _averaged(pl_module):
                if name in self.average:
                    self.average[name].lerp_(value, share)
                else:
                    self.average[name] = value.detach().clone()

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the average in place of the weights."""
        self._swap(pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the weights back."""
        self._swap(pl_module)

    def _swap(self, pl_module: L.LightningModule) -> None:
        with torch.no_grad():
            for name, value in _averaged(pl_module):
                if name in self.average:
                    kept = value.detach().clone()
                    value.copy_(self.average[name])
                    self.average[name] = kept

    def state_dict(self) -> dict[str, Any]:
        """Return the average, for the process that resumes the training."""
        return {"steps": self.steps, "average": dict(self.average)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the average."""
        self.steps, self.average = state_dict["steps"], dict(state_dict["average"])

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Move a restored average to the device of the weights."""
        self.average = {name: value.to(pl_module.device) for name, value in self.average.items()}


def _averaged(module: L.LightningModule) -> list[tuple[str, Tensor]]:
    """Return the trained parameters, and the running statistics of batch normalisation in the parts of the stage."""
    assert isinstance(module, StageModule)
    parameters = [(name, value) for name, value in module.named_parameters() if value.requires_grad]
    fixed = {id(part) for frozen in (module.frozen, *module.frozen_parts()) for part in frozen.modules()}
    statistics = [
        (f"{name}.{key}", value)
        for name, part in module.named_modules()
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm) and id(part) not in fixed
        for key, value in part.named_buffers(recurse=False)
        if value.is_floating_point()
    ]
    return [*parameters, *statistics]
