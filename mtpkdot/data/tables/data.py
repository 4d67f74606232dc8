"""Own data without code: a manifest and one feature file per modality."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np

from mtpkdot.data.base import BaseData
from mtpkdot.data.batch import BoolArray, FloatArray, Samples
from mtpkdot.data.ids import alike
from mtpkdot.data.statistics import floored
from mtpkdot.data.tables.feature_files import FeatureFile, digest_features, read_features
from mtpkdot.data.tables.manifest import Columns, Manifest, read_manifest
from mtpkdot.data.tables.published import advice
from mtpkdot.data.tables.remarks import of_dropped, of_filled, of_giveaways, of_labels
from mtpkdot.data.tables.roles import no_features
from mtpkdot.errors import DataConfigError, DataError


class FeatureData(BaseData):
    """Precomputed features of any modalities, joined to a manifest by sample id.

    A sample without target (empty cell) is used wherever training needs no label, and counts in no metric. Feature rows
    that the manifest does not name are ignored.

    Args:
        manifest: CSV or Parquet table with one row per sample.
        features: feature file per modality, in the order of the models' modalities.
        target: target column, or several for regression. Ordinal classes are numbers; only their order counts.
        missing_labels: values of the target, beside empty cells, that stand for no label: `[NA]`, `[-9]`; null for
            none.
        id: column of the sample id, in the manifest and in feature tables.
        subject: column of the subject; null if subjects are unknown.
        split_column: column of the part (split.scheme column) or fold (fold_column).
        missing: handling of a sample that a feature file does not have: stop, drop the sample, or mark the modality
            absent.
        nan: handling of NaN and infinite values, and of `#N/A`, `-nan(ind)` and the like in tables: stop, set to zero
            after standardisation (the training mean), or drop the sample.
        subject_zscore: modalities whose features are z-scored within each subject, without labels, over all of the
            subject's samples. This requires several samples of a person at test time.
        options: see BaseData.

    Example:
        >>> import pandas as pd
        >>> parts, pain = ["train", "validation", "test"] * 2, ["no", "no", "no", "yes", "yes", "yes"]
        >>> table = pd.DataFrame({"id": range(6), "subject": range(6), "split": parts, "pain": pain})
        >>> table.to_csv("manifest.csv", index=False)
        >>> np.save("face.npy", np.random.default_rng(0).normal(size=(6, 4, 16)))
        >>> data = FeatureData("manifest.csv", {"face": "face.npy"}, target="pain", prevalent="face")
        >>> data.modalities, data.targets
        ({'face': [16]}, ['no', 'yes'])
    """

    unhashed: ClassVar[frozenset[str]] = BaseData.unhashed | {"manifest", "features"}

    def __init__(
        self,
        manifest: str,
        features: dict[str, str],
        target: str | list[str],
        id: str = "id",
        subject: str | None = "subject",
        split_column: str = "split",
        missing: Literal["error", "drop", "mask"] = "error",
        nan: Literal["error", "zero", "drop"] = "error",
        subject_zscore: Sequence[str] = (),
        missing_labels: str | list[str | int | float] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.manifest, self.features = Path(manifest), {name: Path(path) for name, path in features.items()}
        self.target = [target] if isinstance(target, str) else list(target)
        self.id, self.subject, self.split_column = id, subject, split_column
        self.missing, self.nan, self.subject_zscore = missing, nan, list(subject_zscore)
        self.missing_labels = [missing_labels] if isinstance(missing_labels, str) else list(missing_labels or [])
        self._remarks: list[str] = []

    @property
    def modality_names(self) -> list[str]:
        """Names of the feature files, in the order of the config."""
        return list(self.features)

    @property
    def source(self) -> str:
        """Path of the manifest."""
        return str(self.manifest)

    def remarks(self) -> list[str]:
        """Return remarks on rows of the files that are no samples, and on values of samples that were not measured."""
        return list(self._remarks)

    def use(self, other: Self) -> None:
        """Take over the samples, and the remarks on them."""
        super().use(other)
        self._remarks = other.remarks()

    @cached_property
    def _contents(self) -> dict[str, str]:
        files = {"manifest": self.manifest, **{f"features.{name}": path for name, path in self.features.items()}}
        return {role: _digest(role, path) for role, path in files.items()}

    def contents(self) -> dict[str, str]:
        """Return the SHA-256 of the manifest and of every feature file, including other files that an .h5 reads."""
        return self._contents

    def load(self) -> Samples:
        """Read, join and check all files."""
        for name in self.subject_zscore:
            if name not in self.features:
                raise DataConfigError(
                    f"subject_zscore names {name!r}; the modalities are {', '.join(self.features)}", "Correct the name."
                )
        if self.subject_zscore and self.subject is None:
            raise DataConfigError(
                "subject_zscore needs to know the subjects", "Set data.init_args.subject to their column."
            )
        split = self.split_column if self.split.scheme in ("column", "fold_column") else None
        columns = Columns(self.id, self.subject, split, self.target)
        manifest = read_manifest(self.manifest, columns, self.task, self.missing_labels)
        self._remarks = of_labels(manifest)
        taken = no_features(manifest.columns, [*self.target, self.subject, self.split_column])
        found = np.ones(len(manifest.ids), dtype=np.bool_)
        features: dict[str, FloatArray] = {}
        masks: dict[str, BoolArray] = {}
        names: dict[str, list[str]] = {}
        for name, path in self.features.items():
            file = read_features(path, self.id, taken)
            features[name], masks[name], here = self._join(path, file, manifest)
            names[name] = file.columns
            if self.missing == "drop":
                found &= here
        finite = np.ones(len(found), dtype=np.bool_)
        for name in self.features:
            finite &= self._finite(
                name, names[name], manifest=manifest, values=features[name], mask=masks[name], used=found
            )
        keep = found & finite
        if not keep.any():
            raise DataError(
                f"{self.manifest}: no sample is left after dropping", "Set nan and missing to error to see."
            )
        self._remarks += of_dropped(self.manifest, manifest.subjects, found, keep)
        samples = self._samples(manifest, features, masks)
        samples = samples if keep.all() else samples.keep(keep)
        for name in self.features:
            self._remarks += of_giveaways(name, names[name], _in_memory(samples, name)[:, 0], samples)
        for name in self.subject_zscore:
            _zscore_by_subject(samples, name, self.std_floor)
        if not self.standardize:
            for name in self.features:
                np.nan_to_num(_in_memory(samples, name), copy=False, nan=0.0)
        return samples

    def _samples(self, manifest: Manifest, features: dict[str, FloatArray], masks: dict[str, BoolArray]) -> Samples:
        return Samples(
            manifest.ids,
            manifest.ids if manifest.subjects is None else manifest.subjects,
            target=manifest.target,
            labelled=manifest.labelled,
            target_names=self.target,
            class_names=manifest.class_names,
            features=features,
            masks=masks,
            split_column=manifest.split,
            knows_subjects=manifest.subjects is not None,
        )

    def _join(self, path: Path, file: FeatureFile, manifest: Manifest) -> tuple[FloatArray, BoolArray, BoolArray]:
        """Return features in the order of the manifest, their mask, and the samples that the file has."""
        if file.ids is None:
            if len(file.values) != len(manifest.ids):
                raise DataError(
                    f"{path} has {len(file.values)} rows and no ids, {self.manifest} has {len(manifest.ids)}",
                    "Write an `ids` array into the file, or rows in the manifest's order.",
                )
            return file.values, file.mask.copy(), np.ones(len(manifest.ids), dtype=np.bool_)
        order = np.argsort(file.ids)
        place = np.searchsorted(file.ids, manifest.ids, sorter=order).clip(max=len(order) - 1)
        rows = order[place]
        found: BoolArray = file.ids[rows] == manifest.ids
        lost, strange = manifest.ids[~found].tolist(), np.setdiff1d(file.ids, manifest.ids).tolist()
        pair = alike(lost, strange)
        hint = f"; it has {pair[1]!r}, the manifest {pair[0]!r}: {pair[2]}" if pair else ""
        if not found.any():
            one, other, how = (pair[1], pair[0], f": {pair[2]}") if pair else (strange[0], lost[0], "")
            raise DataError(
                f"{path} and {self.manifest} have no id in common: the one has {one!r}, the other {other!r}{how}",
                "Write the same ids in both.",
            )
        if self.missing == "error" and lost:
            raise DataError(
                f"{path} has no features of sample {(pair[0] if pair else lost[0])!r} ({len(lost)} of {len(found)} "
                f"samples of {self.manifest} are missing{hint})",
                "Add them, or set data.init_args.missing to mask or drop.",
            )
        if strange:
            self._remarks.append(f"{len(strange)} rows of {path.name} are not in the manifest{hint}")
        values, mask = file.values[rows], file.mask[rows]
        values[~found], mask[~found] = 0.0, False
        return values, mask, found

    def _finite(
        self,
        name: str,
        columns: list[str],
        manifest: Manifest,
        values: FloatArray,
        mask: BoolArray,
        used: BoolArray,
    ) -> BoolArray:
        """Return the samples that may stay; infinite values become NaN, which the models read as the training mean."""
        bad = ~np.isfinite(values) & mask[:, :, None]
        values[~np.isfinite(values) & ~mask[:, :, None]] = 0.0
        finite = np.asarray(~bad.any(axis=(1, 2)))
        if finite.all():
            return finite
        if self.nan == "error":
            row, step, column = (int(index) for index in np.argwhere(bad)[0])
            at = f", step {step}" if values.shape[1] > 1 else ""
            where = f"{self.features[name]}, sample {str(manifest.ids[row])!r}{at}"
            raise DataError(
                f"{where}: {columns[column]!r} is {values[row, step, column]} "
                f"({int((~finite).sum())} samples have such values)",
                "Repair them, or set data.init_args.nan to zero or drop.",
            )
        if self.nan == "drop":
            values[bad] = np.nan
            return finite
        mean = "the training mean" if self.standardize else "0"
        self._remarks += of_filled(name, columns, values=values[used], mask=mask[used], become=mean)
        values[bad] = np.nan
        return np.ones(len(values), dtype=np.bool_)


def _in_memory(samples: Samples, modality: str) -> FloatArray:
    values = samples.features[modality]
    assert isinstance(values, np.ndarray)
    return values


def _zscore_by_subject(samples: Samples, modality: str, std_floor: float) -> None:
    values, mask = _in_memory(samples, modality), samples.masks[modality]
    for subject in np.unique(samples.subjects):
        rows = samples.subjects == subject
        steps = values[rows][mask[rows]].astype(np.float64)
        if not len(steps):
            continue
        known = np.isfinite(steps)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, steps, 0).sum(axis=0) / count
        std = np.sqrt(np.where(known, (steps - mean) ** 2, 0).sum(axis=0) / count)
        scale = floored(std, np.sqrt(std**2 + mean**2), std_floor)
        values[rows] = ((values[rows] - mean) / scale).astype(np.float32)


def _digest(role: str, path: Path) -> str:
    if not path.is_file():
        # The config names the manifest; feature files are part of the data it leads to.
        error = DataConfigError if role == "manifest" else DataError
        raise error(f"{path} does not exist", advice(path))
    return digest_features(path)
