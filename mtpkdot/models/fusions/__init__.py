"""Fusions, one per file, see `Fusion`."""

from mtpkdot.models.fusions.base import Fusion, FusionFactory, fusion_size
from mtpkdot.models.fusions.concatenation import Concatenation
from mtpkdot.models.fusions.gated import GatedFusion

__all__ = ["Concatenation", "Fusion", "FusionFactory", "GatedFusion", "fusion_size"]
