"""Privileged multi-teacher knowledge distillation with optimal transport.

`fit` trains an experiment and `load` loads its student. `mtpkdot.losses` and `mtpkdot.models` are plain torch,
`mtpkdot.modules` has the LightningModules of the stages, `mtpkdot.data` the DataModules, and `mtpkdot.pipeline` runs
the stages one after another.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mtpkdot.errors import ConfigError, DataError, RunError, UserError

if TYPE_CHECKING:
    from mtpkdot.data import AffWild2, BaseData, BioVid, FeatureData, PlantedData
    from mtpkdot.losses import SinkhornDivergence, StructuralTransport
    from mtpkdot.losses.rivals import Rival
    from mtpkdot.models import Encoder
    from mtpkdot.modules import StageModule, StudentModule
    from mtpkdot.pipeline.fitting import fit
    from mtpkdot.pipeline.loading import load

# Imported on demand, because importing torch takes seconds.
HOMES = {
    "AffWild2": "data",
    "BaseData": "data",
    "BioVid": "data",
    "Encoder": "models",
    "FeatureData": "data",
    "PlantedData": "data",
    "Rival": "losses.rivals",
    "SinkhornDivergence": "losses",
    "StageModule": "modules",
    "StructuralTransport": "losses",
    "StudentModule": "modules",
    "fit": "pipeline.fitting",
    "load": "pipeline.loading",
}

__all__ = [
    "AffWild2",
    "BaseData",
    "BioVid",
    "ConfigError",
    "DataError",
    "Encoder",
    "FeatureData",
    "PlantedData",
    "Rival",
    "RunError",
    "SinkhornDivergence",
    "StageModule",
    "StructuralTransport",
    "StudentModule",
    "UserError",
    "fit",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
