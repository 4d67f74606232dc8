"""T-Nets, one per file, see `TNet`."""

from mtpkdot.models.tnets.base import TNet, TNetFactory, check_tnet
from mtpkdot.models.tnets.hourglass import Hourglass

__all__ = ["Hourglass", "TNet", "TNetFactory", "check_tnet"]
