"""Table of the data sets that come with the package. Importing it imports neither torch nor a data set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Importer:
    """Importer that converts a published data set of tables to manifest and feature files.

    Attributes:
        module: module with a function `convert(source, out, **options)`.
        source: description of the user's folder; None for data of an installed package.
        options: further integer arguments of `convert`, each with its help.
    """

    module: str
    source: str | None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSet:
    """Data set that comes with the package.

    Attributes:
        title: description in one line.
        data: name of its DataModule in `mtpkdot.data`.
        raw: True if it is read from a folder of raw recordings.
        twin: module that writes a generated twin, with `add_arguments(parser)` and `synthesize(**arguments)`.
        importer: importer that makes feature files of it.
    """

    title: str
    data: str
    raw: bool = False
    twin: str | None = None
    importer: Importer | None = None

    @property
    def data_class(self) -> Any:
        """DataModule of the data set, imported on demand."""
        return getattr(import_module("mtpkdot.data"), self.data)


DATA_SETS: dict[str, DataSet] = {
    "biovid": DataSet(
        "BioVid Heat Pain: face video and physiology under heat", "BioVid", raw=True, twin="mtpkdot.data.biovid.twin"
    ),
    "affwild2": DataSet(
        "Aff-Wild2: faces and sound with valence and arousal", "AffWild2", raw=True, twin="mtpkdot.data.affwild2.twin"
    ),
    "stressid": DataSet(
        "StressID: features of face, physiology and voice under stressful tasks",
        "FeatureData",
        importer=Importer(
            "mtpkdot.data.tables.importers.stressid",
            "a folder with the feature tables of https://github.com/robustml-eurecom/stressID",
        ),
    ),
    "pom": DataSet(
        "POM: features of face, voice and words in film reviews",
        "FeatureData",
        importer=Importer(
            "mtpkdot.data.tables.importers.pom", "a folder with the .h5 files of https://github.com/pliang279/MFN"
        ),
    ),
    "digits": DataSet(
        "Handwritten digits of scikit-learn: two halves of each image",
        "FeatureData",
        importer=Importer(
            "mtpkdot.data.tables.importers.digits",
            None,
            {
                "train": "training images (default 300)",
                "labelled": "training images that keep their label (default all)",
            },
        ),
    ),
    "planted": DataSet("A generated signal that carries what a video shows weakly", "PlantedData"),
}

TWINS: dict[str, str] = {name: each.twin for name, each in DATA_SETS.items() if each.twin is not None}
"""Module of the generated twin, by data set."""

IMPORTERS: dict[str, Importer] = {name: each.importer for name, each in DATA_SETS.items() if each.importer is not None}
"""Importer by data set."""

RAW: dict[str, str] = {name: each.data for name, each in DATA_SETS.items() if each.raw}
"""DataModule by data set, of those that are read from raw recordings."""
