"""Data sets: each is one DataModule, to be named in a config by its class."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtpkdot.data.affwild2 import AffWild2
    from mtpkdot.data.base import BaseData
    from mtpkdot.data.batch import Batch, Samples
    from mtpkdot.data.biovid import BioVid, Signal
    from mtpkdot.data.feature_data import FeatureData
    from mtpkdot.data.splits import Split
    from mtpkdot.data.synthetic.planted import PlantedData

# Imported on demand: processes that decode or draw need no Lightning.
_HOMES = {
    "AffWild2": "affwild2",
    "BaseData": "base",
    "Batch": "batch",
    "BioVid": "biovid",
    "FeatureData": "feature_data",
    "PlantedData": "synthetic.planted",
    "Samples": "batch",
    "Signal": "biovid",
    "Split": "splits",
}

__all__ = ["AffWild2", "BaseData", "Batch", "BioVid", "FeatureData", "PlantedData", "Samples", "Signal", "Split"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
