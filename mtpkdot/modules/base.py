"""Base of all stages: optimiser, logged loss terms, metrics, and frozen upstream models."""

import json
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

# jsonargparse checks the items of a list in quadratic time, and there may be thousands of classes.
if TYPE_CHECKING:
    Names = list[str]
else:
    Names = list

# Lightning's key of the hyperparameters, and those of early versions that it still reads.
_HYPER_PARAMETERS = ("hyper_parameters", "hparams", "module_arguments")


class StageModule(StageDeclaration, L.LightningModule):
    """Base of the stages of the method.

    A subclass implements the loss terms of a batch (`losses`) and its predictions (`outputs`), and declares what it
    needs from the pipeline (see `StageDeclaration`). Upstream models that a stage only learns from are kept in
    `self.frozen`: in eval mode, without gradient, and neither in the optimiser nor in the checkpoint.

    If callbacks may exchange weights for the validation (`keeps_scored`), `scored` is a copy of the weights that were
    validated last, and a checkpoint of weights contains this copy.

    A checkpoint carries the `recipe` of its data (`BaseData.recipe`): what the input is made from, and what the output
    means.

    Args:
        task: the task; linked from the data.
        targets: class names or target names; linked from the data.
        modalities: shape of one time step per modality; linked from the data.
        prevalent: name of the student's modality; linked from the data.
        rates: frames or samples per second (Hz), of the modalities where it is known; linked from the data.
        per_step: True if every step has a target; linked from the data.
        lr: learning rate.
        weight_decay: weight decay.
        optimizer: another optimiser with its own settings; null for AdamW with `lr` and `weight_decay`.
        schedule: schedule of the learning rate over the epochs.

    Raises:
        ValueError: `lr` is not positive, or `weight_decay` is negative.

    Example:
        >>> class Constant(StageModule):
        ...     def __init__(self, **options):
        ...         super().__init__(**options)
        ...         self.value = nn.Parameter(torch.zeros(self.num_outputs))
        ...
        ...     def losses(self, batch):
        ...         return {"loss": (batch.target[batch.labelled] - self.value).square().mean()}
        >>> Constant(task="regression", targets=["valence"], modalities={"video": [4]}, prevalent="video").num_outputs
        1
    """

    # Increase it, here or in any class that a stage consists of, if the same settings train a different model.
    revision: ClassVar[int] = 0
    uses_unlabelled: bool = True
    is_bound: bool = False  # True for a model that has seen hidden labels, which `mtpkdot.load` warns of.
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
        """Names of the modalities that the student does not use."""
        return [name for name in self.steps if name != self.prevalent]

    @property
    def modalities(self) -> list[str]:
        """Names of the modalities that this stage reads."""
        return list(self.steps)

    def frozen_encoders(self, fitting: bool) -> dict[str, list[Backbone]]:
        """Return per modality the backbones that are not trained, whose features may be computed in advance.

        Args:
            fitting: True if the stage is being trained; otherwise no part of it is.
        """
        return {}

    def raw_modalities(self, fitting: bool) -> list[str]:
        """Return the modalities whose raw steps the stage needs even if the batch has their features.

        Args:
            fitting: True if the stage is being trained.
        """
        return []

    @staticmethod
    def encode(backbone: Backbone, batch: Batch, modality: str, raw: bool = False) -> tuple[Tensor, Tensor]:
        """Return the features of a modality, from the batch or computed from its raw steps.

        Args:
            backbone: the backbone that computes the features.
            batch: batch with raw steps, with features of a frozen encoder (`encoded`), or with both.
            modality: name of the modality.
            raw: use raw steps if the batch has both, for a backbone that is trained or not among `frozen_encoders`.

        Returns:
            Feature sequence (B, T', dim) and mask (B, T').
        """
        if modality in batch.encoded and not (raw and modality in batch.inputs):
            return batch.encoded[modality]
        return backbone.features(batch.inputs[modality], batch.masks[modality])

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the loss terms of a batch, scalars; `loss` is minimised, the others are logged.

        If several processes share a batch, the terms are those of the whole batch and the same on all processes.
        """
        raise NotImplementedError

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """Return predictions (N, num_outputs) per head, named by its modalities (`a+b`); empty without heads."""
        return {}

    def fit_heads(self, *heads: Head) -> None:
        """Set regression heads to the units of the training targets; called before training."""
        data = getattr(self._trainer, "datamodule", None)
        if self.task == "regression" and isinstance(data, BaseData):
            for head in heads:
                head.fit(*data.target_statistics())

    def frozen_parts(self) -> Iterable[nn.Module]:
        """Return the parts of the stage that are in its checkpoint and are not trained."""
        return ()

    def build(self, blueprint: dict[str, Any]) -> None:
        """Build the parts whose sizes depend on upstream models.

        Args:
            blueprint: sizes as plain data, taken from upstream models before training and from the checkpoint
                afterwards, so that a checkpoint loads without upstream models. An override ends with
                `super().build(blueprint)`.
        """
        self.blueprint = blueprint

    @classmethod
    def monitors(cls, task: Task) -> list[str]:
        """Return the names of logged values that can select the epoch, the default first."""
        metrics = [] if cls.monitors_loss else logged_metrics(task)
        losses = ["loss", *(["calibrated_loss"] if metrics and task != "regression" else [])]
        return [*(f"val/{name}" for name in [*metrics, *losses]), "train/loss"]

    @classmethod
    def notes(cls, checkpoint: Path) -> list[str]:
        """Return remarks on a trained stage for the user.

        Args:
            checkpoint: checkpoint of the trained stage.
        """
        return []

    def reached(self, monitor: str, score: float | None) -> float | None:
        """Return the score of the final model, by default that of the best epoch.

        Args:
            monitor: name of the logged value that has selected the epoch.
            score: its best value; None if there is none.
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
        """Load a stage, importing only trusted classes that its checkpoint names, see `mtpkdot.trust`.

        Args:
            checkpoint_path: path of the checkpoint.
            map_location: as in Lightning.
            strict: as in Lightning.
            weights_only: False to unpickle any object, which runs any code in the file.
            trust: other packages or classes that may be imported.
            kwargs: arguments of the stage that replace those in the checkpoint.

        Raises:
            RunError: the checkpoint names a class that is not trusted.
        """
        if "hparams_file" in kwargs:
            raise TypeError("a stage's checkpoint carries its arguments: leave hparams_file out")
        with trusted.one_call(trust):
            if weights_only is not False:
                # On the meta device no tensor is read.
                plain = torch.load(checkpoint_path, map_location="meta", weights_only=True)
                for key in _HYPER_PARAMETERS:
                    held = (plain.get(key) if isinstance(plain, dict) else None) or {}
                    trusted.check(held, checkpoint_path, replaced=kwargs)
            loaded: Self = super().load_from_checkpoint(
                checkpoint_path, map_location, strict=strict, weights_only=weights_only is not False, **kwargs
            )
        return loaded

    # Hooks of Lightning, in the order of their calls.

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all parts but the frozen ones, which stay in eval mode."""
        super().train(mode)
        for part in (self.frozen, *self.frozen_parts()):
            part.eval()
        return self

    def on_fit_start(self) -> None:
        """Set the modes, which the Trainer does not: new parts are in training mode, also the frozen ones."""
        self.train()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch and record its terms."""
        terms = self._terms(batch)
        self.trained.add(terms, sum(row_counts(batch.index)))
        return terms["loss"]

    def on_train_epoch_end(self) -> None:
        """Log the mean of every loss term over the rows of the epoch."""
        means = {f"train/{name}": value for name, value in self.trained.take().items()}
        self.log_dict(means, sync_dist=True)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Update the metrics of every head on labelled samples, or the mean loss of a stage without heads."""
        if self.keeps_scored and batch_idx == 0 and not self.trainer.sanity_checking:
            # Copied here, since callbacks may exchange weights in any earlier hook.
            self.scored = {name: value.detach().clone() for name, value in self.state_dict().items()}
        if self.monitors_loss:
            self.held_out.add({"loss": self._terms(batch)["loss"]}, sum(row_counts(batch.index)))
            return
        if bool(batch.labelled.any()):
            outputs = self._answers(batch)
            for head, collection in zip(self.heads, self._collections(), strict=True):
                collection.update(outputs[head][batch.labelled], batch.target[batch.labelled])

    def on_validation_epoch_end(self) -> None:
        """Log every metric over the samples of all processes, averaged over heads and targets."""
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
        """Return the metrics that select the epoch; a subclass may replace them."""
        return means

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the predictions per head, and under `index` the rows of the data set that they belong to."""
        return {"index": batch.index, **self._answers(batch)}

    def _terms(self, batch: Batch) -> dict[str, Tensor]:
        """Return `losses` after a check that they include a scalar `loss`."""
        terms: Any = self.losses(batch)
        loss = terms.get("loss") if isinstance(terms, Mapping) else None
        if not isinstance(loss, Tensor) or loss.ndim:
            returned = f"the terms {', '.join(terms)}" if isinstance(terms, Mapping) else _form(terms)
            raise ConfigError(
                f"{type(self).__name__}.losses returns {returned}",
                "It returns scalar terms by name, with `loss` for the one to minimise.",
            )
        found: dict[str, Tensor] = terms
        return found

    def _answers(self, batch: Batch) -> dict[str, Tensor]:
        """Return `outputs` after a check that every head has the shape (N, num_outputs)."""
        answers, shape = self.outputs(batch), (len(batch), self.num_outputs)
        for head in self.heads:
            if (form := _form(answers.get(head))) != str(shape):
                raise ConfigError(
                    f"{type(self).__name__}.outputs returns {form} for the head {head}",
                    f"It returns (N, num_outputs) for each of {', '.join(self.heads)}, here {shape}.",
                )
        return answers

    def configure_optimizers(self) -> Any:
        """Return the optimiser of all trained parameters, with its schedule."""
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
        """Return whether the optimiser may be fused, for which Lightning cannot clip gradients in mixed precision."""
        return self._trainer is None or "mixed" not in str(self._trainer.precision)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the blueprint, and the means of an unfinished epoch for resuming."""
        trusted.remember(checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY, {}))
        checkpoint["blueprint"] = self.blueprint
        data = getattr(self._trainer, "datamodule", None)
        checkpoint["recipe"] = _plain(data.recipe()) if isinstance(data, BaseData) else self.recipe
        trusted.remember(checkpoint["recipe"])  # which may name a class that reads sound or signals
        if "optimizer_states" in checkpoint:
            checkpoint["trained"] = self.trained.state
        elif self.scored:
            checkpoint["state_dict"] = dict(self.scored)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build the parts before their weights are loaded."""
        self.trained.state = checkpoint.get("trained", {})
        self.recipe = checkpoint.get("recipe", {})
        if checkpoint["blueprint"] and not self.blueprint:
            self.build(checkpoint["blueprint"])

    def state_dict(self, *args: Any, prefix: str = "", **kwargs: Any) -> Any:
        """Return the weights of this stage without those of upstream models."""
        state = super().state_dict(*args, prefix=prefix, **kwargs)
        for key in [k for k in state if k.startswith(f"{prefix}frozen.")]:
            del state[key]
        return state

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Load weights; only those of upstream models and those used in training only (`passing`) may be missing."""
        result = super().load_state_dict(state_dict, strict=False, assign=assign)
        missing = [k for k in result.missing_keys if not k.startswith(self.passing)]
        if strict and (missing or result.unexpected_keys):
            raise RuntimeError(f"the weights do not fit: missing {missing}, unexpected {result.unexpected_keys}")
        return result

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        """Names of parameters and buffers that DistributedDataParallel need not synchronise.

        They are not trained, or the same on all processes: of the buffers only the running statistics of batch
        normalisation depend on a process's share of the batches.
        """
        shares = {n for n, module in self.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
        same = [name for name, _ in self.named_buffers() if name.rpartition(".")[0] not in shares]
        frozen = [name for name, parameter in self.named_parameters() if not parameter.requires_grad]
        return [*same, *frozen]

    def _collections(self) -> list[MetricCollection]:
        return [collection for collection in self.validation if isinstance(collection, MetricCollection)]

    def name_heads(self, heads: list[str]) -> None:
        """Set the names of the heads of `outputs`, in order, and create metrics for each."""
        self.heads = heads
        self.validation = nn.ModuleList(task_metrics(self.task, self.num_outputs) for _ in heads)


def _plain(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe without numpy's types and paths, with which a checkpoint of weights could not be loaded."""

    def made_plain(value: Any) -> Any:
        return value.tolist() if hasattr(value, "tolist") else str(value)

    plain: dict[str, Any] = json.loads(json.dumps(recipe, default=made_plain))
    return plain


def _form(value: Any) -> str:
    """Return the shape of a tensor, or the class of another value."""
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


Upstream = TypeVar("Upstream", bound=StageModule)


def load_upstream(kind: type[Upstream], path: str | None, key: str) -> Upstream:
    """Load a trained upstream stage, in eval mode and without gradient.

    Args:
        kind: class of the stage.
        path: path of its checkpoint.
        key: model argument that names the checkpoint, for the error.

    Raises:
        RunError: there is no path or no such file, or the file is not a checkpoint of the stage.
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
    """File that is not a checkpoint of a stage."""


def load_stage(kind: type[Upstream], path: str | Path) -> Upstream:
    """Load a trained stage on the CPU, in eval mode and without gradient.

    Args:
        kind: class of the stage.
        path: path of its checkpoint, which must exist.

    Raises:
        NoStageError: the file is not a checkpoint of such a stage.
        RunError: the checkpoint names a class that is not trusted.
    """
    try:
        # Loading must not change the random state, which determines the initial weights of the stage in training.
        with without_pretrained(), torch.random.fork_rng(devices=[]):
            module = kind.load_from_checkpoint(path, map_location="cpu")
    except (RuntimeError, KeyError, IndexError, TypeError, ValueError, ArgumentError, UnpicklingError) as error:
        raise NoStageError(
            f"{path} is not a checkpoint of {kind.__name__}", "Give a checkpoint of that stage."
        ) from error
    return module.eval().requires_grad_(False)
