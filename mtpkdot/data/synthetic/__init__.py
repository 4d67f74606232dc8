"""Generated data."""

from mtpkdot.data.synthetic.planted import PlantedData

__all__ = ["PlantedData"]
