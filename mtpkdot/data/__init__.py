"""Data sets: each is one DataModule, which a config names by its class."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtpkdot.data.affwild2.data import AffWild2
    from mtpkdot.data.base import BaseData
    from mtpkdot.data.batch import Batch, Samples
    from mtpkdot.data.biovid.data import BioVid, Signal
    from mtpkdot.data.media.base import MediaData
    from mtpkdot.data.splits import Split
    from mtpkdot.data.synthetic.planted import PlantedData
    from mtpkdot.data.tables.data import FeatureData

# Imported on demand: processes that decode or draw need no Lightning.
_HOMES = {
    "AffWild2": "affwild2.data",
    "BaseData": "base",
    "Batch": "batch",
    "BioVid": "biovid.data",
    "FeatureData": "tables.data",
    "MediaData": "media.base",
    "PlantedData": "synthetic.planted",
    "Samples": "batch",
    "Signal": "biovid.data",
    "Split": "splits",
}

__all__ = [
    "AffWild2",
    "BaseData",
    "Batch",
    "BioVid",
    "FeatureData",
    "MediaData",
    "PlantedData",
    "Samples",
    "Signal",
    "Split",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
