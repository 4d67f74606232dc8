"""Base of data sets of raw recordings, which are prepared once into a store and read from it."""

import hashlib
import json
import os
import shlex
from abc import abstractmethod
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np

from mtpkdot.data.base import BaseData
from mtpkdot.data.batch import IntArray
from mtpkdot.data.media.pictures import PictureSettings
from mtpkdot.data.media.prepare import Convert, Examine, OnError, Preparation, prepare, prepare_part
from mtpkdot.data.media.recordings import Inventory
from mtpkdot.data.media.store import Store
from mtpkdot.data.media.timeline import USUAL_RATE
from mtpkdot.data.media.transforms import Augment
from mtpkdot.errors import DataConfigError


class MediaData(BaseData):
    """Base class of data sets that consist of video, sound and signal files.

    The raw files are decoded once into a store (see `mtpkdot.data.media.store`), which is updated whenever they, the
    settings or the code of the converter change; training reads the store alone. A subclass finds the recordings
    (`inventory`), decodes one (`converter`, `settings`) and cuts samples from the store (`load`).

    Args:
        root: folder of the raw files; null to use a finished store alone.
        store: folder of the store; null for a folder named `<root>.store`. Each set of settings has a folder of its own
            below it.
        pictures: settings of how frames are cut and stored.
        missing_frames: replacement of absent frames: the frame before, or a masked step.
        on_error: handling of unreadable files: `raise`, or `skip` to leave them out and report their number. A
            recording with a damaged frame, sound track or table of signals is still used; without its video it is left
            out.
        prepare_workers: number of processes that prepare; 0 for all cores.
        augment: augmentation of training samples; null for none.
        options: see BaseData.

    Example:
        >>> from mtpkdot.data.biovid.twin import synthesize
        >>> lines = synthesize(Path("BioVid"), subjects=2, clips=1, size=64, classes=["BL1", "PA4"])
        >>> data = mtpkdot.data.BioVid(root="BioVid", prepare_workers=1)
        >>> len(data.inventory().recordings)
        4
        >>> data.prepared.index["class"].unique().tolist()
        ['BL1', 'PA4']
        >>> data.samples.features["video"].shape
        (4, 10, 3, 112, 112)
    """

    unhashed: ClassVar[frozenset[str]] = BaseData.unhashed | {"root", "store", "prepare_workers"}
    covered_by_contents: ClassVar[frozenset[str]] = frozenset(
        {"inventory", "settings", "converter", "examiner", "preparation", "prepared", "prepare_part"}
    )
    frame_rate: ClassVar[float] = USUAL_RATE  # Rate of pictures without times.
    page: ClassVar[str | None] = None  # Address at which access to the data is requested.
    twin: str | None = None  # Arguments of `mtpkdot data synthesize` that make a twin of the data set.

    def __init__(
        self,
        root: str | None = None,
        store: str | None = None,
        pictures: PictureSettings | None = None,
        missing_frames: Literal["repeat", "mask"] = "repeat",
        on_error: OnError = "raise",
        prepare_workers: int = 0,
        augment: Augment | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if root is None and store is None:
            raise ValueError("name the folder of the raw files with root, or a finished store with store")
        self.root, self.store = None if root is None else Path(root), store
        self.pictures, self.missing_frames = pictures or PictureSettings(), missing_frames
        self.on_error: OnError = on_error
        self.prepare_workers, self.augment = prepare_workers, augment

    @abstractmethod
    def inventory(self) -> Inventory:
        """Return the recordings below `root`."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return everything that decides the content of the store, as plain data."""

    @abstractmethod
    def converter(self) -> Convert:
        """Return a picklable function that decodes one recording."""

    def examiner(self) -> Examine | None:
        """Return a picklable function that compares a decoded recording with its used part; None if all is used."""
        return None

    @property
    def source(self) -> str:
        """Folder of the raw files, or of the store."""
        return str(self.root or self.store)

    @property
    def augments(self) -> bool:
        """True if views differ."""
        return self.augment is not None

    @property
    def raw_folder(self) -> Path:
        """Folder of the raw files, which must exist."""
        if self.root is None:
            raise DataConfigError("the data section names no folder of raw files", "Set data.init_args.root.")
        if not self.root.is_dir():
            raise DataConfigError(
                f"{self.root} {'is not a folder' if self.root.exists() else 'does not exist'}", self._advice
            )
        return self.root

    @property
    def _advice(self) -> str:
        """Advice for missing raw files."""
        own = "Set data.init_args.root to the downloaded data, or to null to use a finished store alone."
        if self.page is None or self.twin is None:
            return own
        command = f"mtpkdot data synthesize {self.twin} {shlex.quote(str(self.root))}"
        return f"The data are given on application: {self.page}. A generated twin is made by `{command}`. {own}"

    @property
    def preparation(self) -> Preparation:
        """Plan of the store: its sources and settings."""
        settings = {"data": type(self).__name__, "pictures": self.pictures.plain(), **self.settings()}
        text = json.dumps(settings, sort_keys=True)
        # The names "." and ".." allow no folder beside them.
        beside = self.root if self.root is None or self.root.name.strip(".") else self.root.resolve()
        above = Path(self.store) if self.store is not None else Path(f"{beside}.store")
        workers = self.prepare_workers or len(os.sched_getaffinity(0))
        folder = above / hashlib.sha256(text.encode()).hexdigest()[:12]
        return Preparation(
            Path(self.source),
            folder,
            settings=settings,
            convert=self.converter(),
            on_error=self.on_error,
            workers=workers,
        )

    @cached_property
    def prepared(self) -> Store:
        """The store, up to date with the raw files if they exist."""
        preparation = self.preparation
        if self.root is not None:
            return prepare(self.inventory(), preparation)
        store = Store.open(preparation.folder)
        if store is None:
            raise DataConfigError(
                f"{self.store} holds no finished store of these settings ({preparation.folder.name})",
                "Set data.init_args.root to the raw files to prepare it, or use the settings it was prepared with.",
            )
        code = preparation.code
        # Stores of earlier versions do not record it.
        if files := sorted(store.record.get("code", code).items() ^ code.items()):
            name = files[0][0]
            print(f"{store.folder} was prepared by other code ({name}), and there are no raw files to do it anew")
        return store

    def prepare_part(self, which: int, count: int) -> tuple[int, int]:
        """Store one of several parts of the recordings; see `prepare.prepare_part`."""
        if self.root is None:
            raise DataConfigError("the data section names no folder of raw files", "Set data.init_args.root.")
        return prepare_part(self.inventory(), self.preparation, which, count)

    @cached_property
    def entries(self) -> list[dict[str, Any]]:
        """Entries of the store's index, one per recording."""
        return [{str(key): value for key, value in row.items()} for row in self.prepared.index.to_dict("records")]

    def recipe(self) -> dict[str, Any]:
        """Return the conversion of raw recordings to a model's input, and the meaning of its output; see `BaseData`."""
        pictures = {**asdict(self.pictures), "digests": self._digests}
        media = {"pictures": pictures, "store": self.settings(), "frame_rate": self.frame_rate, **self.cutting()}
        return {**super().recipe(), "media": media}

    @cached_property
    def _digests(self) -> dict[str, Any]:
        """Settings of the pictures with the digests of their files, which every checkpoint has in its recipe."""
        return self.pictures.plain()

    def cutting(self) -> dict[str, Any]:
        """Return how recordings are cut into samples, as plain data: `windows` or `excerpt`; empty if neither.

        `tracks` has the classes that read and cut the sound and signals by modality, see `tracks.plain_of`.
        """
        return {}

    def contents(self) -> dict[str, str]:
        """Return the digest of every recording in the store."""
        return {"store": self.prepared.contents}

    def use(self, other: Self) -> None:
        """Take over the store and the samples."""
        self.prepared = other.prepared
        super().use(other)

    def remarks(self) -> list[str]:
        """Return the number of recordings that are left out, and of their problems."""
        return [self.prepared.losses] if self.prepared.losses else []

    def offsets(self) -> dict[str, IntArray]:
        """Return the offsets of the frames of each recording."""
        index = self.prepared.index
        return {id: np.asarray(offsets) for id, offsets in zip(index["id"], index["offsets"], strict=True)}
