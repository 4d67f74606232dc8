"""LightningModules, one per stage of the method."""

from mtpkdot.modules.adapted import AdaptedModule
from mtpkdot.modules.backbone import BackboneModule
from mtpkdot.modules.base import StageModule, load_upstream
from mtpkdot.modules.hallucinator import HallucinatorModule
from mtpkdot.modules.pool import PoolModule
from mtpkdot.modules.student import StudentModule
from mtpkdot.modules.teacher import TeacherModule

__all__ = [
    "AdaptedModule",
    "BackboneModule",
    "HallucinatorModule",
    "PoolModule",
    "StageModule",
    "StudentModule",
    "TeacherModule",
    "load_upstream",
]
