"""Studies: students compared in several settings on the same folds, seeds and upstream stages, divided into cells.

A *draw* is a choice of the labelled people, or of data that are generated anew; a *start* is a training on one draw
with initial weights and an order of its own. The seed of the first start is the draw's number, which so decides people,
weights and order at once; the seed of start s is `START * s` more.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow.parquet as pq

from mtpkdot.errors import RunError
from mtpkdot.pipeline.records import ANY, read_record
from mtpkdot.pipeline.stages import DOWNSTREAM, STUDENT, UPSTREAM
from mtpkdot.pipeline.store import write_json

Overrides = dict[str, Any]
Resample = Literal["subject", "seed"]

BASE = "base"  # Name of the lower bound in the tables.
ORACLE = "oracle"  # Name of the bound, as a variant and as a method.
START = 1000  # Distance of the seeds of two starts, and largest number of draws.
LABELLED_SEED = "data.labelled_seed"
RECORD, CELL, FAILED = "study.json", "cell.json", "failed.txt"
_CELL = {"arguments?": [str], "basis?": str, ...: object}
_STUDY = {
    "name": str,
    "arguments": [str],
    "settings": {...: ANY},
    "variants": {...: ANY},
    "folds": [ANY],
    "seeds": [int],
    "starts?": int,
    "root?": str,
    "resample?": {"subject", "seed"},
    "shared?": ANY,
    "basis?": {...: str},
    "downstream?": [str],
}


@dataclass(frozen=True)
class Cell:
    """One training of a student, or of the stages upstream of several students.

    Attributes:
        setting: name of the setting of the data.
        variant: name of the student; `upstream`, or `upstream-<variant>` for one with upstream stages of its own.
        fold: number of the fold.
        seed: `seed_everything`.
        arguments: command line of `mtpkdot fit`.
        upstream: variant of the cell that must be run before; its own for that cell itself.
        start: number of the start on the same draw.
    """

    setting: str
    variant: str
    fold: int
    seed: int
    arguments: tuple[str, ...]
    upstream: str
    start: int = 0

    @property
    def draw(self) -> int:
        """Number of the draw, for which `{seed}` stands in overrides."""
        return self.seed - START * self.start

    @property
    def place(self) -> str:
        """Folder of the cell below that of the study."""
        start = f"-start{self.start}" if self.start else ""
        return f"{self.setting}/{self.variant}/fold{self.fold}-seed{self.draw}{start}"

    @property
    def first(self) -> bool:
        """True if other cells wait for this one."""
        return self.variant == self.upstream


@dataclass(frozen=True)
class Study:
    """A comparison of students.

    Attributes:
        name: folder of the study below the folder of runs.
        arguments: command line of `mtpkdot fit` that all cells share, the experiment file first.
        settings: overrides of each setting, which has upstream stages of its own.
        variants: overrides of each student.
        folds: overrides of each fold.
        seeds: numbers of the draws, which are the values of `seed_everything` of their first starts.
        root: folder of runs.
        resample: unit of resampling for intervals: `subject` for other people in the test parts; `seed` for data that
            are generated anew for each draw.
        shared: overrides of all cells. In all overrides `{seed}` stands for the number of the draw.
        basis: everything that decides the cells beside their arguments, by setting/variant or setting/variant/seed; see
            `mtpkdot.pipeline.basis`.
        starts: number of starts of each draw.
        downstream: sections of the stages that each student has for itself: its own and those that follow from it.
    """

    name: str
    arguments: tuple[str, ...]
    settings: dict[str, Overrides]
    variants: dict[str, Overrides]
    folds: tuple[Overrides, ...]
    seeds: tuple[int, ...]
    root: str = "runs"
    resample: Resample = "subject"
    shared: Overrides = field(default_factory=dict)
    basis: dict[str, str] = field(default_factory=dict)
    starts: int = 1
    downstream: tuple[str, ...] = (STUDENT,)

    @property
    def folder(self) -> Path:
        """Folder of the study."""
        return Path(self.root) / self.name

    def cells(self, part: tuple[int, int] = (1, 1)) -> Iterator[Cell]:
        """Yield all cells, or those of a part; cells that others wait for come first.

        Args:
            part: (i, n), the i-th of n parts, from 1 on. Cells that wait for the same one are in the same part, so that
                parts can be run at the same time.
        """
        which, count = part
        groups = {variant: self.upstream(variant) for variant in self.variants}
        of_starts = product(self.settings, range(len(self.folds)), self.seeds, range(self.starts))
        for number, (setting, fold, draw, start) in enumerate(of_starts):
            if number % count != which - 1:
                continue
            for group in dict.fromkeys(groups.values()):
                yield self._cell(setting, group, fold, draw, start=start, upstream=group)
            for variant, group in groups.items():
                yield self._cell(setting, variant, fold, draw, start=start, upstream=group)

    @property
    def others(self) -> list[str]:
        """Students that earlier calls have run and this study does not name, as `setting/variant`."""
        places = (path.parent.parent for path in self.folder.glob(f"*/*/*/{CELL}"))
        found = {f"{place.parent.name}/{place.name}" for place in places if not place.name.startswith(UPSTREAM)}
        return sorted(found - {f"{setting}/{variant}" for setting, variant in product(self.settings, self.variants)})

    def upstream(self, variant: str) -> str:
        """Return the name of the upstream stages of a student."""
        own = self._of_upstream(self.variants[variant])
        # The first student with the same upstream stages gives them its name.
        for name, overrides in self.variants.items():
            if self._of_upstream(overrides) == own:
                return UPSTREAM if not own else f"{UPSTREAM}-{name}"
        raise AssertionError(variant)

    def _of_upstream(self, overrides: Overrides) -> Overrides:
        """Return the overrides of a student that change stages which students may share."""
        return {key: value for key, value in overrides.items() if key.partition(".")[0] not in self.downstream}

    def _cell(self, setting: str, variant: str, fold: int, draw: int, start: int, upstream: str) -> Cell:
        first = variant == upstream
        of_variant = self.variants.get(variant.removeprefix(f"{UPSTREAM}-"), {}) if variant != UPSTREAM else {}
        if first:
            of_variant = self._of_upstream(of_variant)
        seed = draw + START * start
        own = {**self.settings[setting], **of_variant, **self.folds[fold], "seed_everything": seed}
        own |= {LABELLED_SEED: draw} if start else {}  # the first start chooses by its own seed
        cell = Cell(setting, variant, fold=fold, seed=seed, arguments=(), upstream=upstream, start=start)
        place = {
            "pipeline.root": self.root,
            "pipeline.name": f"{self.name}/{cell.place}",
            "pipeline.stages": f"[{UPSTREAM if first else DOWNSTREAM}]",
        }
        shared, given = (
            tuple(option(key, value, draw) for key, value in overrides.items())
            for overrides in ({k: v for k, v in self.shared.items() if k not in own}, {**own, **place})
        )
        # The last override wins: the command line over the settings of a file.
        config, said = self.arguments[:1], self.arguments[1:]
        return replace(cell, arguments=(*config, *shared, *said, *given))

    def basis_of(self, cell: Cell) -> str:
        """Return everything that decides a cell beside its arguments: its own basis, or that of its upstream stages."""
        places = [f"{cell.setting}/{variant}" for variant in (cell.variant, cell.upstream)]
        keys = [key for place in places for key in (f"{place}/{cell.draw}", place)]
        return next((self.basis[key] for key in keys if key in self.basis), "")

    def is_finished(self, cell: Cell) -> bool:
        """Return whether a cell has been run with these arguments on this basis, even if the study has been moved."""
        folder = self.folder / cell.place
        try:
            written = read_record(folder / CELL, _CELL, "Run it again.")
            pq.read_metadata(folder / "predictions.parquet")
        except (RunError, OSError, ValueError):
            return False  # Missing, damaged, or of another cell: it is run again.
        if not written.get("finished"):
            return False
        same = _lasting(written.get("arguments", [])) == _lasting(cell.arguments)
        return same and written.get("basis", "") == self.basis_of(cell)

    def write(self) -> None:
        """Write `study.json`, by which a report finds the cells.

        Raises:
            RunError: the folder belongs to a single run, whose results would be overwritten.
        """
        if (self.folder / "run.json").is_file():
            raise RunError(f"{self.folder} holds a run", "Choose another name with --name.")
        write_json(self.folder / RECORD, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the study of a folder, even if that has been moved.

        Raises:
            RunError: the folder has no study.
        """
        path = folder / RECORD
        if not path.is_file():
            raise RunError(f"{folder} is not a study", "Name a folder that `mtpkdot crossval` has written.")
        record: dict[str, Any] = read_record(path, _STUDY, "Call its `mtpkdot crossval` again.")
        record |= {key: tuple(record[key]) for key in ("arguments", "folds", "seeds", "downstream") if key in record}
        record |= {"root": str(folder.parent), "name": folder.name}
        return cls(**record)


def _lasting(arguments: Sequence[str]) -> list[str]:
    """Return the arguments that stay valid after the folder has moved; the stages of a cell follow from its name."""
    passing = ("--pipeline.root=", "--pipeline.name=", "--pipeline.stages=")
    return [argument for argument in arguments if not argument.startswith(passing)]


def option(key: str, value: Any, seed: int) -> str:
    """Return an override as an argument: `--key=value`."""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"--{key}={text.replace('{seed}', str(seed))}"
