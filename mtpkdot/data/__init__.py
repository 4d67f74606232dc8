"""Data sets: each is one DataModule, to be named in a config by its class."""

from mtpkdot.data.base import BaseData
from mtpkdot.data.batch import Batch, Samples
from mtpkdot.data.feature_data import FeatureData
from mtpkdot.data.splits import Split
from mtpkdot.data.synthetic import PlantedData

__all__ = ["BaseData", "Batch", "FeatureData", "PlantedData", "Samples", "Split"]
