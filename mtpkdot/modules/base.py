"""What all stages share: optimiser, logged loss terms, metrics, and teachers that stay what they are."""

from argparse import ArgumentError
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torchmetrics import MetricCollection

from mtpkdot import trust as trusted
from mtpkdot.data.base import BaseData
from mtpkdot.data.batch import Batch
from mtpkdot.errors import ConfigError, RunError
from mtpkdot.losses.gather import row_counts
from mtpkdot.losses.task import Task, output_count
from mtpkdot.metrics.collections import logged_metrics, task_metrics
from mtpkdot.models.backbone import Backbone
from mtpkdot.models.encoder import Steps
from mtpkdot.models.head import Head
from mtpkdot.models.weights import without_pretrained
from mtpkdot.modules.declaration import StageDeclaration
from mtpkdot.modules.means import Means

# jsonargparse takes the square of a list's length to look at its items, and there may be thousands of classes.
if TYPE_CHECKING:
    Names = list[str]
else:
    Names = list

# Lightning's own key, and those of its early versions, which it still reads.
_HYPER_PARAMETERS = ("hyper_parameters", "hparams", "module_arguments")


class StageModule(StageDeclaration, L.LightningModule):
    """Base of the stages.

    A subclass says which loss terms a batch has (`losses`) and what it predicts (`outputs`), and declares what it needs
    of the pipeline (see `StageDeclaration`). Upstream models that a stage only learns from live in `self.frozen`: in
    eval mode, without gradient, in no optimiser and in no checkpoint.

    Where callbacks may swap weights for the validation (`keeps_scored`), `scored` is a copy of those that the last
    validation has scored, and these are what a checkpoint of weights holds.

    A checkpoint carries the `recipe` of its data (`BaseData.recipe`): what the input is made from, and what the output
    means.

    Args:
        task: what is predicted; linked from the data.
        targets: class names or target names; linked from the data.
        modalities: shape of one time step per modality; linked from the data.
        prevalent: the modality of the student; linked from the data.
        rates: recorded frames or samples per second, of the modalities where it is known; linked from the data.
        per_step: targets belong to steps, not to samples; linked from the data.
        lr: learning rate.
        weight_decay: weight decay.
        optimizer: another optimiser, with all of its own settings; null for AdamW with `lr` and `weight_decay`.
        schedule: learning rate over the epochs.
    """

    # Raise it, here or in any class that a stage is made of, where the same settings train something else.
    revision: ClassVar[int] = 0
    uses_unlabelled: bool = True
    monitors_loss: ClassVar[bool] = False
    passing: ClassVar[tuple[str, ...]] = ("frozen.",)

    def __init__(
        self,
        task: Task,
        targets: Names,
        modalities: dict[str, list[int]],
        prevalent: str,
        rates: dict[str, float] | None = None,
        per_step: bool = False,
        lr: float = 1e-3,
        weight_decay: float = 1e-2,
        optimizer: OptimizerCallable | None = None,
        schedule: Literal["constant", "cosine"] = "constant",
    ) -> None:
        super().__init__()
        if lr <= 0 or weight_decay < 0:
            raise ValueError(f"lr must be positive and weight_decay not negative, not {lr} and {weight_decay}")
        self.task, self.targets, self.prevalent = task, targets, prevalent
        self.num_outputs = output_count(task, len(targets))
        self.steps = {name: Steps(tuple(shape), (rates or {}).get(name)) for name, shape in modalities.items()}
        self.per_step = per_step
        self.lr, self.weight_decay, self.optimizer, self.schedule = lr, weight_decay, optimizer, schedule
        self.frozen = nn.ModuleDict()
        self.blueprint: dict[str, Any] = {}
        self.recipe: dict[str, Any] = {}
        self.trained, self.held_out = Means(), Means()
        self.keeps_scored, self.scored = False, dict[str, Tensor]()
        self.name_heads([])

    @property
    def privileged(self) -> list[str]:
        """The modalities that the student never sees."""
        return [name for name in self.steps if name != self.prevalent]

    @property
    def modalities(self) -> list[str]:
        """The modalities that this stage reads."""
        return list(self.steps)

    def frozen_encoders(self, fitting: bool) -> dict[str, list[Backbone]]:
        """Per modality the backbones that read it and are not trained: their features may be computed once, ahead.

        Args:
            fitting: the stage is being trained; otherwise nothing of it is.
        """
        return {}

    def raw_modalities(self, fitting: bool) -> list[str]:
        """The modalities whose raw steps the stage needs even if their features are at hand."""
        return []

    @staticmethod
    def encode(backbone: Backbone, batch: Batch, modality: str, raw: bool = False) -> tuple[Tensor, Tensor]:
        """Return the features of a modality, those at hand or computed now; nobody else looks which a batch holds.

        Args:
            backbone: whose features are wanted.
            batch: with raw steps, with features of a frozen encoder (`encoded`), or with both.
            modality: the modality.
            raw: prefer raw steps where the batch has both: the backbone is trained, or is another one than those whose
                features are at hand (see `frozen_encoders`).

        Returns:
            Feature sequence (B, T', dim) and mask (B, T').
        """
        if modality in batch.encoded and not (raw and modality in batch.inputs):
            return batch.encoded[modality]
        return backbone.features(batch.inputs[modality], batch.masks[modality])

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is the one to minimise, the others are logged beside it.

        Where several processes share a batch, the terms are those of the whole batch, the same on all of them.
        """
        raise NotImplementedError

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """Predictions (N, num_outputs) per head, named by the modalities it sees (`a+b`); empty without heads."""
        return {}

    def fit_heads(self, *heads: Head) -> None:
        """Let regression heads answer in the units of the training targets; called before training."""
        data = getattr(self._trainer, "datamodule", None)
        if self.task == "regression" and isinstance(data, BaseData):
            for head in heads:
                head.fit(*data.target_statistics())

    def frozen_parts(self) -> Iterable[nn.Module]:
        """Parts of this stage's own checkpoint that are not trained."""
        return ()

    def build(self, blueprint: dict[str, Any]) -> None:
        """Add the parts whose sizes only upstream models know.

        Args:
            blueprint: plain data, taken from upstream models before training and from the checkpoint afterwards, so
                that a checkpoint loads without them. An override ends with `super().build(blueprint)`.
        """
        self.blueprint = blueprint

    @classmethod
    def monitors(cls, task: Task) -> list[str]:
        """Logged values that can select the epoch, the default first; see `metrics.collections.best_mode`."""
        judged = [] if cls.monitors_loss else logged_metrics(task)
        return [*(f"val/{name}" for name in [*judged, "loss"]), "train/loss"]

    @classmethod
    def notes(cls, checkpoint: Path) -> list[str]:
        """Return sentences on a trained stage that a user would not expect.

        Args:
            checkpoint: its weights.
        """
        return []

    def reached(self, monitor: str, score: float | None) -> float | None:
        """Return the score of what is handed on, which is that of the best epoch.

        Args:
            monitor: the value that has selected the epoch.
            score: its best value.
        """
        return score

    @classmethod
    def load_from_checkpoint(  # type: ignore[override] # without Lightning's hparams_file
        cls,
        checkpoint_path: str | Path,
        map_location: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = True,
        trust: Sequence[str] = (),
        **kwargs: Any,
    ) -> Self:
        """Load a stage; no class that its checkpoint names is imported unless it is trusted, see `mtpkdot.trust`.

        Args:
            checkpoint_path: the file.
            map_location: as Lightning's.
            strict: as Lightning's.
            weights_only: False unpickles any object, which runs whatever code the file brings.
            trust: packages or classes of others that may be imported.
            kwargs: arguments of the stage that replace those in the checkpoint.

        Raises:
            RunError: the checkpoint names a class that is not trusted.
        """
        if "hparams_file" in kwargs:
            raise TypeError("a stage's checkpoint carries its arguments: leave hparams_file out")
        with trusted.one_call(trust):
            if weights_only is not False:
                # Its tensors are not read here.
                plain = torch.load(checkpoint_path, map_location="meta", weights_only=True)
                for key in _HYPER_PARAMETERS:
                    held = (plain.get(key) if isinstance(plain, dict) else None) or {}
                    trusted.check(held, checkpoint_path, replaced=kwargs)
            loaded: Self = super().load_from_checkpoint(
                checkpoint_path, map_location, strict=strict, weights_only=weights_only is not False, **kwargs
            )
        return loaded

    # Lightning's hooks, in the order of their calls.

    def train(self, mode: bool = True) -> Self:
        """Switch to training, all but the frozen parts."""
        super().train(mode)
        for part in (self.frozen, *self.frozen_parts()):
            part.eval()
        return self

    def on_fit_start(self) -> None:
        """Set the modes: the Trainer leaves them as they are, and parts that are built start in training mode."""
        self.train()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step on all loss terms."""
        terms = self._terms(batch)
        self.trained.add(terms, sum(row_counts(batch.index)))
        return terms["loss"]

    def on_train_epoch_end(self) -> None:
        """Log the mean of every loss term over the rows of the epoch."""
        means = {f"train/{name}": value for name, value in self.trained.take().items()}
        self.log_dict(means, sync_dist=True)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Metrics of every head on the labelled samples, or the loss for stages without heads."""
        if self.keeps_scored and batch_idx == 0 and not self.trainer.sanity_checking:
            # Here, for callbacks may swap weights in any hook before this one.
            self.scored = {name: value.detach().clone() for name, value in self.state_dict().items()}
        if self.monitors_loss:
            self.held_out.add({"loss": self._terms(batch)["loss"]}, sum(row_counts(batch.index)))
            return
        if bool(batch.labelled.any()):
            outputs = self._answers(batch)
            for head, collection in zip(self.heads, self._collections(), strict=True):
                collection.update(outputs[head][batch.labelled], batch.target[batch.labelled])

    def on_validation_epoch_end(self) -> None:
        """Log every metric, averaged over heads and targets; the processes' samples are taken together."""
        if self.monitors_loss:
            self.log_dict({f"val/{name}": value for name, value in self.held_out.take().items()}, sync_dist=True)
            return
        values: dict[str, list[Tensor]] = {}
        for collection in self._collections():
            for metric, value in collection.compute().items():
                values.setdefault(metric, []).append(value.mean())
            collection.reset()
        means = {f"val/{metric}": torch.stack(found).mean() for metric, found in values.items()}
        self.log_dict(self.selecting(means), prog_bar=True, sync_dist=True)

    def selecting(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the metrics that select the epoch, of what would be handed on now."""
        return means

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Predictions per head, and the rows they belong to under `index`."""
        return {"index": batch.index, **self._answers(batch)}

    def _terms(self, batch: Batch) -> dict[str, Tensor]:
        """Return `losses`, with a scalar `loss` among them."""
        terms: Any = self.losses(batch)
        loss = terms.get("loss") if isinstance(terms, Mapping) else None
        if not isinstance(loss, Tensor) or loss.ndim:
            told = f"the terms {', '.join(terms)}" if isinstance(terms, Mapping) else _form(terms)
            raise ConfigError(
                f"{type(self).__name__}.losses returns {told}",
                "It returns scalar terms by name, with `loss` for the one to minimise.",
            )
        found: dict[str, Tensor] = terms
        return found

    def _answers(self, batch: Batch) -> dict[str, Tensor]:
        """Return `outputs`, with (N, num_outputs) for every head."""
        answers, shape = self.outputs(batch), (len(batch), self.num_outputs)
        for head in self.heads:
            if (form := _form(answers.get(head))) != str(shape):
                raise ConfigError(
                    f"{type(self).__name__}.outputs returns {form} for the head {head}",
                    f"It returns (N, num_outputs) for each of {', '.join(self.heads)}, here {shape}.",
                )
        return answers

    def configure_optimizers(self) -> Any:
        """The optimiser over all that is trained."""
        trained = [p for p in self.parameters() if p.requires_grad]
        optimizer = (
            torch.optim.AdamW(trained, self.lr, weight_decay=self.weight_decay, fused=self._fusible())
            if self.optimizer is None
            else self.optimizer(trained)
        )
        if self.schedule == "constant":
            return optimizer
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs or 1)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def _fusible(self) -> bool:
        """Whether the optimiser may run as one kernel: Lightning clips no gradients for it under mixed precision."""
        return self._trainer is None or "mixed" not in str(self._trainer.precision)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Carry what `build` needs, and what has been seen of an epoch that is not finished."""
        trusted.remember(checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY, {}))
        checkpoint["blueprint"] = self.blueprint
        data = getattr(self._trainer, "datamodule", None)
        checkpoint["recipe"] = data.recipe() if isinstance(data, BaseData) else self.recipe
        if "optimizer_states" in checkpoint:
            checkpoint["trained"] = self.trained.state
        elif self.scored:
            checkpoint["state_dict"] = dict(self.scored)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build before the weights come."""
        self.trained.state = checkpoint.get("trained", {})
        self.recipe = checkpoint.get("recipe", {})
        if checkpoint["blueprint"] and not self.blueprint:
            self.build(checkpoint["blueprint"])

    def state_dict(self, *args: Any, prefix: str = "", **kwargs: Any) -> Any:
        """The weights of this stage, without those it learns from."""
        state = super().state_dict(*args, prefix=prefix, **kwargs)
        for key in [k for k in state if k.startswith(f"{prefix}frozen.")]:
            del state[key]
        return state

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Load weights; only the teachers' and what passes with the training may be missing."""
        result = super().load_state_dict(state_dict, strict=False, assign=assign)
        missing = [k for k in result.missing_keys if not k.startswith(self.passing)]
        if strict and (missing or result.unexpected_keys):
            raise RuntimeError(f"the weights do not fit: missing {missing}, unexpected {result.unexpected_keys}")
        return result

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        """What DistributedDataParallel need not send: it is never trained, or the same on all processes.

        Of the buffers only the running statistics of batch normalisation depend on a process's share of the batches.
        """
        shares = {n for n, module in self.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
        same = [name for name, _ in self.named_buffers() if name.rpartition(".")[0] not in shares]
        frozen = [name for name, parameter in self.named_parameters() if not parameter.requires_grad]
        return [*same, *frozen]

    def _collections(self) -> list[MetricCollection]:
        return [collection for collection in self.validation if isinstance(collection, MetricCollection)]

    def name_heads(self, heads: list[str]) -> None:
        """Name the heads of `outputs`, in order; each gets metrics of its own."""
        self.heads = heads
        self.validation = nn.ModuleList(task_metrics(self.task, self.num_outputs) for _ in heads)


def _form(value: Any) -> str:
    """Return the shape of a tensor, or what else a value is."""
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


Upstream = TypeVar("Upstream", bound=StageModule)


def load_upstream(kind: type[Upstream], path: str | None, key: str) -> Upstream:
    """A trained upstream stage, in eval mode and without gradient.

    Args:
        kind: the stage's class.
        path: its checkpoint.
        key: the model argument that names it, for the error.

    Raises:
        RunError: no path, or no such file.
    """
    if path is None or not Path(path).is_file():
        raise RunError(
            f"{key} names {'no checkpoint' if path is None else f'{path}, which does not exist'}",
            f"Train the stage before, or give its checkpoint with --{key}.",
        )
    try:
        return load_stage(kind, path)
    except NoStageError as error:
        raise RunError(f"{key}: {error.what}", f"Give one that the stage before {key} has written.") from error


class NoStageError(RunError):
    """A file that is no checkpoint of a stage."""


def load_stage(kind: type[Upstream], path: str | Path) -> Upstream:
    """Load a trained stage on the processor, in eval mode and without gradient.

    Args:
        kind: the stage's class.
        path: its checkpoint, which exists.

    Raises:
        NoStageError: the file is no checkpoint of such a stage.
        RunError: it names a class that is not trusted.
    """
    try:
        # What is initialised only to be loaded must not decide where the stage itself starts.
        with without_pretrained(), torch.random.fork_rng(devices=[]):
            module = kind.load_from_checkpoint(path, map_location="cpu")
    except (RuntimeError, KeyError, IndexError, TypeError, ValueError, ArgumentError, UnpicklingError) as error:
        raise NoStageError(f"{path} is no checkpoint of {kind.__name__}", "Give one of that stage.") from error
    return module.eval().requires_grad_(False)
