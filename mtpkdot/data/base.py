"""Base of all data sets: named modalities, parts, loaders in a reproducible order, and a fingerprint."""

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import lightning as L
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from mtpkdot.data.batch import Batch, BoolArray, Clips, Encoded, IntArray, Rows, SampleDataset, Samples, StrArray
from mtpkdot.data.labels import LabelledSubjects, check_labelled_subjects, hide_labels, label_counts
from mtpkdot.data.sampling import EpochSampler, GlobalBatches
from mtpkdot.data.sharing import Sharing
from mtpkdot.data.shuffling import shuffle_privileged
from mtpkdot.data.splits import PARTS, UNSCORED, Split, assign_parts, folds_of
from mtpkdot.data.statistics import step_statistics
from mtpkdot.errors import DataConfigError, DataError
from mtpkdot.losses.task import Task

Part = Literal["train", "validation", "test", "submission"]


class BaseData(Sharing, L.LightningDataModule):
    """Base class of the DataModules. A subclass implements `load` and `contents`.

    Args:
        prevalent: modality that exists at test time; all others are privileged.
        task: `classification`, `ordinal` for classes with an order, or `regression` for numbers.
        split: division of the data into parts.
        labelled_subjects: training subjects whose labels are used: `all`, a number of subjects, or a share of them
            (0.1; of the samples, if subjects are unknown), drawn anew for every fold and seed. The recordings of the
            others are training material without labels.
        labelled_seed: seed of that choice, for trainings on one choice that differ in `seed` alone; null for `seed`.
        validation_labels: use of the people held out from training: `select` the epoch, or `train` with the others; the
            last epoch is then kept, for nobody is left to select one. A control: methods with a pool of teachers use
            the labels of these people beyond the selection.
        shuffle_privileged: give every training recording the privileged modalities of another one of the same person: a
            control, in which all that teachers know of a recording comes from the prevalent modality and the person.
        batch_size: samples per batch, on all devices together.
        num_workers: number of loader processes. Not part of a stage's identity.
        views: views per training sample for stages with frozen encoders: 1 for the sample itself, more for the sample
            and its augmentations, of which one is drawn in every epoch. More than one requires data that can be
            augmented. Stages that train all of their encoders see a new augmentation in every epoch.
        standardize: standardise every feature by the training part, inside the model.
        std_floor: lower bound of a feature's standard deviation, relative to its root mean square.
        seed: seed of the order of samples, and of the choice of labelled subjects unless `labelled_seed` is given;
            taken from `seed_everything`.
        clip_splits: protocol switch: split by clip, not by subject.
        select_on_test: protocol switch: choose the epoch on the test part.
        train_on_all: protocol switch: train on every part (set for backbones).
        drop_last: protocol switch: validation drops its last partial batch.

    Example:
        >>> data = mtpkdot.data.PlantedData(subjects=5, samples_per_subject=4, batch_size=2)
        >>> data.setup("test")
            >>> batch = next(iter(data.test_dataloader()))
        >>> batch.inputs["video"].shape
        torch.Size([2, 4, 32])
    """

    unhashed: ClassVar[frozenset[str]] = frozenset({"num_workers"})
    # Methods whose results `contents` digests, so that their code need not decide a stage.
    covered_by_contents: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        prevalent: str,
        task: Task = "classification",
        split: Split | None = None,
        labelled_subjects: LabelledSubjects = "all",
        labelled_seed: int | None = None,
        validation_labels: Literal["select", "train"] = "select",
        shuffle_privileged: bool = False,
        batch_size: int = 128,
        num_workers: int = 0,
        views: int = 1,
        standardize: bool = True,
        std_floor: float = 1e-3,
        seed: int = 0,
        clip_splits: bool = False,
        select_on_test: bool = False,
        train_on_all: bool = False,
        drop_last: bool = False,
    ) -> None:
        super().__init__()
        check_labelled_subjects(labelled_subjects)
        if labelled_seed is not None and labelled_seed < 0:
            raise ValueError(f"labelled_seed is 0 or more, not {labelled_seed}")
        self.labelled_subjects: LabelledSubjects = labelled_subjects
        self.labelled_seed, self.shuffle_privileged = labelled_seed, shuffle_privileged
        self.prevalent, self.task, self.split, self.seed = prevalent, task, split or Split(), seed
        self.validation_labels, self.batch_size, self.num_workers = validation_labels, batch_size, num_workers
        self.views, self.standardize, self.std_floor = views, standardize, std_floor
        self.clip_splits, self.select_on_test = clip_splits, select_on_test
        self.train_on_all, self.drop_last = train_on_all, drop_last

    @abstractmethod
    def load(self) -> Samples:
        """Read or generate the whole data set; raise a `DataError` if it cannot be used."""

    @abstractmethod
    def contents(self) -> dict[str, str]:
        """Return the digest of every file that decides a result, by role; part of a stage's identity."""

    @property
    @abstractmethod
    def modality_names(self) -> list[str]:
        """Names of the modalities in order, known without reading any file."""

    @property
    def source(self) -> str:
        """Name of the data set in error messages."""
        return type(self).__name__

    @cached_property
    def _loaded(self) -> Samples:
        """The data set with all its labels."""
        return self.load()

    @cached_property
    def samples(self) -> Samples:
        """The data set, with the labels that may be used."""
        samples = self._loaded
        if self.labelled_subjects != "all":
            seed = (self.split.seed, self.split.fold, self.seed if self.labelled_seed is None else self.labelled_seed)
            samples = hide_labels(samples, self.parts, self.labelled_subjects, seed)
        if self.shuffle_privileged:
            samples = shuffle_privileged(samples, self.parts, self.prevalent, self.seed)
        return samples

    @property
    def hidden(self) -> BoolArray:
        """Samples (n,) of the training part that have a label which `labelled_subjects` hides, of a step or all."""
        hidden = self._loaded.labelled & ~self.samples.labelled
        return np.asarray(hidden.any(axis=1) if self.per_step else hidden)

    @cached_property
    def parts(self) -> StrArray:
        """Part (n,) of every sample; independent of hidden labels."""
        return assign_parts(self.split, self._divided, self.source, self.clip_splits)

    @property
    def _divided(self) -> Samples:
        """The samples that are divided into parts: samples with labels can be tested."""
        return self._loaded

    @property
    def modalities(self) -> dict[str, list[int]]:
        """Shape of one time step of each modality."""
        return {name: list(values.shape[2:]) for name, values in self.samples.features.items()}

    @property
    def rates(self) -> dict[str, float]:
        """Recorded frames or samples per second of the modalities for which they are known."""
        return self.samples.rates

    @property
    def per_step(self) -> bool:
        """True if every step has a target of its own."""
        return self.samples.per_step

    @property
    def augments(self) -> bool:
        """True if a sample has other views than itself."""
        return False

    @property
    def targets(self) -> list[str]:
        """Outputs of the model: class names (in their order, if the task is ordinal), or target names."""
        return self.samples.class_names or self.samples.target_names

    @property
    def folds(self) -> list[int]:
        """Possible values of `split.fold`; empty for a fixed split."""
        return folds_of(self.split, self._divided, self.source)

    def recipe(self) -> dict[str, Any]:
        """Return the meaning of a model's input and output as plain data, for its checkpoint.

        Returns:
            Task, names of classes and targets, range of the targets in the training part, unit of the results, the
            prevalent modality, and per modality the shape of a step and the rate. Data of media add how a raw recording
            becomes a sample, see `mtpkdot.data.media.recipe.Recipe`.
        """
        ranges: list[list[float]] = []
        if self.task == "regression":
            train = self.positions("train", labelled_only=True)
            known = self.samples.target[train][self.samples.labelled[train]]
            ranges = [[float(column.min()), float(column.max())] for column in known.T]
        return {
            "task": self.task,
            "classes": list(self.samples.class_names),
            "targets": list(self.samples.target_names),
            "ranges": ranges,
            "unit": self.unit,
            "per_step": self.per_step,
            "prevalent": self.prevalent,
            "standardize": self.standardize,
            "steps": self.modalities,
            "rates": dict(self.rates),
        }

    def check_modalities(self) -> None:
        """Check the names of modalities, without reading a file."""
        for name in self.modality_names:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name) or name in ("joint", "index"):
                raise DataConfigError(
                    f"the modality name {name!r} cannot be a key of the config",
                    "Use letters, digits, _ and -; joint and index are taken.",
                )
        if self.prevalent not in self.modality_names:
            raise DataConfigError(
                f"the prevalent modality {self.prevalent!r} is not among {', '.join(self.modality_names)}",
                "Correct data.init_args.prevalent.",
            )
        if len(self.modality_names) < 2:
            raise DataConfigError(
                f"only the modality {self.prevalent!r} is given, so nothing is privileged",
                "Add the privileged modality to the data section.",
            )

    def check(self) -> None:
        """Read everything once, and raise the errors that training would raise."""
        self.check_modalities()
        for key in ("batch_size", "views"):
            if getattr(self, key) < 1:
                raise DataConfigError(f"{key} is {getattr(self, key)}", f"Set data.init_args.{key} to 1 or more.")
        if self.views > 1 and not self.augments:
            raise DataConfigError(
                f"views is {self.views}, but {self.source} has nothing to augment", "Set data.init_args.views to 1."
            )
        train = (self.parts == "train") & self.samples.known
        if not train.any():
            raise DataError(
                f"{self.source}: no sample of the train part has a target",
                "Give targets to some of them, or change the split.",
            )
        if self.task != "regression":
            seen = set(np.unique(self.samples.target[train][self.samples.labelled[train]]).tolist())
            for index, name in enumerate(self.samples.class_names):
                if index not in seen:
                    step = "Change the split, or remove the samples of that class."
                    if self.labelled_subjects != "all":
                        step = f"Set labelled_subjects higher than {self.labelled_subjects}, or change the split."
                    raise DataError(f"{self.source}: no training sample has the class {name!r}", step)
        for name in self.modality_names:
            steps = self.samples.masks[name].shape[1]
            if self.per_step and steps != self.samples.labelled.shape[1]:
                raise DataError(
                    f"{self.source}: {name!r} has {steps} steps, but {self.samples.labelled.shape[1]} have a target",
                    "Cut every modality into the steps of the targets.",
                )
            if not self.samples.masks[name][train].any():
                raise DataError(
                    f"{self.source}: no labelled training sample has the modality {name!r}",
                    "Check its feature file, or remove it from the data section.",
                )

    def summary(self) -> str:
        """Return one line with the numbers of samples by part, of labels by class, and the modalities."""
        counts = []
        for part in PARTS:
            rows = self.parts == part
            known = int(self.samples.known[rows].sum())
            counts.append(f"{rows.sum()} {part}" + (f" ({known} labelled)" if known < rows.sum() else ""))
        if len(self.submitted):
            counts.append(f"{len(self.submitted)} to submit")
        people = f" of {len(np.unique(self.samples.subjects))} subjects" if self.samples.knows_subjects else ""
        shapes = {name: "x".join(map(str, values.shape[1:])) for name, values in self.samples.features.items()}
        lacking = {name: int((~mask.any(axis=1)).sum()) for name, mask in self.samples.masks.items()}
        modalities = ", ".join(
            f"{name} {shape}" + (f" absent from {lacking[name]} samples" if lacking[name] else "")
            for name, shape in shapes.items()
        )
        labels = f"{counted}; " if (counted := label_counts(self.samples)) else ""
        line = f"{len(self.samples)} samples{people}: {', '.join(counts)}; {labels}{modalities} (steps x features)"
        return "; ".join([line, *self.remarks()])

    def remarks(self) -> list[str]:
        """Return remarks on samples that `summary` counts or leaves out."""
        return []

    @property
    def unit(self) -> str:
        """Unit in which results are counted."""
        return "steps" if self.per_step else "samples"

    def undefined(self) -> list[str]:
        """Return a sentence for every target whose agreement cannot be measured on the validation or test part."""
        found = []
        for part in PARTS[1:]:
            rows = self.parts == part
            known = self.samples.target[rows][self.samples.labelled[rows]]
            columns = known if self.task == "regression" else known[:, None]
            metric = {"regression": "ccc", "ordinal": "qwk"}.get(self.task)
            for name, values in zip(self.samples.target_names, columns.T, strict=True):
                if metric is not None and len(np.unique(values)) < 2:
                    where = f"all {len(values)} labelled rows of the {part} part"
                    found.append(f"{name} has one value in {where}: {metric} is 0 there, whatever is predicted")
        return found

    def use(self, other: Self) -> None:
        """Take over everything that `load` has read; a subclass that stores more extends this method."""
        self._loaded = other._loaded

    def setup(self, stage: str) -> None:
        """Prepare the data for a Trainer."""
        self.attach(None, {})

    def attach(
        self, inputs: Sequence[str] | None, encoded: Mapping[str, Encoded], drawn_views: int | None = None
    ) -> None:
        """Set what the loaders read from now on.

        Args:
            inputs: modalities whose raw steps are read; None for all.
            encoded: features that replace the other modalities.
            drawn_views: number of views from which one is drawn for a training sample; None for a new view in every
                epoch.
        """
        self.drawn_views = drawn_views
        self.dataset = SampleDataset(self.samples, inputs, encoded)

    def statistics(self, modality: str) -> tuple[Tensor, Tensor] | None:
        """Return mean and scale (each of the step shape) of a modality over the recorded steps of the training part.

        The scale is the standard deviation, bounded below. None if `standardize` is off, and for pictures and sound.
        """
        if not self.standardize:
            return None
        values = self.samples.features[modality]
        if isinstance(values, Clips) and values.media:
            return None
        mean, scale = step_statistics(values, self.samples.masks[modality], self.positions("train"), self.std_floor)
        return torch.from_numpy(mean).float(), torch.from_numpy(scale).float()

    def target_statistics(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation (K,) of the regression targets over the labelled training part."""
        train = self.positions("train", labelled_only=True)
        known = torch.from_numpy(self.samples.target[train][self.samples.labelled[train]]).double()
        mean, std = known.mean(dim=0), known.std(dim=0, unbiased=False)
        constant = std <= 1e-6 * (std**2 + mean**2).sqrt()
        return mean.float(), torch.where(constant, torch.ones_like(std), std).float()

    def positions(self, part: Literal["train", "validation", "test"], labelled_only: bool = False) -> IntArray:
        """Return the positions of the samples of a part; the training part includes whoever is trained on with it."""
        rows = self.parts == part
        if part == "train" and self.validation_labels == "train":
            rows = rows | (self.parts == "validation")
        if part == "train" and self.train_on_all:
            rows = np.full(len(rows), True)
        if labelled_only:
            rows = rows & self.samples.known
        return np.flatnonzero(rows)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the training part, in an order of (seed, epoch).

        Unlabelled samples are included only if the stage can use them. A training that is resumed within an epoch
        continues with the remaining batches of it.
        """
        module = self.trainer.lightning_module if self.trainer is not None else None
        positions = self.positions("train", labelled_only=not getattr(module, "uses_unlabelled", True))
        if self.trainer is not None and self.trainer.overfit_batches:  # type: ignore[attr-defined]
            return self._shared_loader(positions.tolist())  # The same batches in every epoch.
        order = EpochSampler(positions, self.seed, self.drawn_views if self.augments else 1)
        epoch, seen = _progress(self.trainer)
        order.set_epoch(epoch)  # The Trainer sets the epoch only after the loader's processes have begun to read.
        return self._shared_loader(order, (epoch, seen))

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the part that selects the epoch, in order."""
        if self.trainer is None or self.trainer.world_size == 1:
            return self.selecting_loader()
        return self._shared_loader(self._evaluated(self._selecting))

    def selecting_loader(self) -> DataLoader[Batch]:
        """Return the loader of the whole part that selects the epoch, in order, for any number of processes."""
        return self.evaluation_loader(self._selecting)

    def revealed_loader(self) -> DataLoader[Batch]:
        """Return the loader of the training part, in order, with the labels that `labelled_subjects` hides.

        For the bound of the method `oracle` alone: nothing that is handed on may read it.
        """
        return self._loader(
            self.dataset.relabelled(self._loaded), batch_size=self.batch_size, sampler=self._evaluated("train")
        )

    @property
    def _selecting(self) -> Part:
        return "test" if self.select_on_test else "validation"

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the test part, in order, every sample once."""
        return self.evaluation_loader("test")

    def evaluation_loader(self, part: Part, rank: int = 0, world: int = 1) -> DataLoader[Batch]:
        """Return the loader of a part, in order.

        Its last partial batch is dropped only if the part is evaluated under the protocol switch.

        Args:
            part: the part.
            rank: number of this process.
            world: number of processes that share the part: each gets every world-th batch of a single process.
        """
        positions = self._evaluated(part)
        # All batches but the last are full, so a plain sampler, which the Trainer knows, gives the same batches.
        batches = range(rank * self.batch_size, len(positions), world * self.batch_size)
        own = [position for start in batches for position in positions[start : start + self.batch_size]]
        return self._loader(batch_size=self.batch_size, sampler=own)

    def _evaluated(self, part: Part) -> list[int]:
        if part == "submission":
            return list(self.submitted.tolist())
        positions: list[int] = self.positions(part).tolist()
        # Dropped here, because the Trainer overrides a loader's own drop_last in prediction. The training part is
        # evaluated as a whole, as it is trained on.
        whole = len(positions) - len(positions) % self.batch_size
        return positions[:whole] if self.drop_last and whole and part != "train" else positions

    @property
    def submitted(self) -> IntArray:
        """Positions of the samples whose predictions the authors of the data set ask for, who keep the labels."""
        return np.flatnonzero(self.parts == UNSCORED)

    @property
    def unsubmitted(self) -> list[str]:
        """Names of requested recordings for which no prediction can be made."""
        return []

    def submission(self, index: IntArray, output: Tensor) -> pd.DataFrame | None:
        """Return the file that the authors of the data set ask for; None if any table of predictions will do.

        Args:
            index: (m,) rows of the submitted samples.
            output: (m, num_outputs) outputs of the model.
        """
        return None

    def compared(self, index: IntArray, output: Tensor) -> tuple[Rows, Tensor]:
        """Return the rows to evaluate, with their outputs.

        Args:
            index: (m,) rows.
            output: (m, num_outputs) outputs of the model.

        Returns:
            The evaluated rows and the output of each: the given ones, unless a data set is evaluated on a finer time
            scale than it is predicted on.
        """
        return self.samples.rows(index), output

    def _shared_loader(
        self, order: Sampler[Any] | Sequence[int], resumed: tuple[int, int] = (0, 0)
    ) -> DataLoader[Batch]:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)
        return self._loader(
            batch_sampler=GlobalBatches(order, self.batch_size, rank=rank, world=world, resumed=resumed)
        )

    def _loader(self, dataset: SampleDataset | None = None, **batches: Any) -> DataLoader[Batch]:
        dataset = dataset or self.dataset
        return DataLoader(
            dataset,
            # Cached features are only copied: a process for that would cost more than it saves.
            num_workers=self.num_workers if dataset.reads_clips else 0,
            collate_fn=_as_is,
            persistent_workers=self.num_workers > 0 and dataset.reads_clips,
            **batches,
        )


def _progress(trainer: L.Trainer | None) -> tuple[int, int]:
    """Return the number of finished epochs, and of finished batches of the current one."""
    if trainer is None or not trainer.training:
        return 0, 0
    epochs = trainer.fit_loop.epoch_progress.current
    within = epochs.started > epochs.processed  # type: ignore[attr-defined]
    batches = trainer.fit_loop.epoch_loop.batch_progress.current
    return epochs.processed, batches.processed if within else 0  # type: ignore[attr-defined]


def _as_is(batch: Any) -> Any:
    """Return the batch, which the dataset has cut already."""
    return batch
