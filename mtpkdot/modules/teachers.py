"""Who teaches a student."""

from collections.abc import Collection, Mapping

from mtpkdot.losses.methods import TeacherKind
from mtpkdot.losses.task import Task
from mtpkdot.models.backbone import Backbone
from mtpkdot.modules.adapted import AdaptedModule
from mtpkdot.modules.backbone import BackboneModule
from mtpkdot.modules.base import load_upstream
from mtpkdot.modules.controls import OwnTeacher, SpreadLabels
from mtpkdot.modules.pooled import PooledTeachers
from mtpkdot.modules.prepared import Prepared
from mtpkdot.modules.teacher import TeacherModule

Teachers = TeacherModule | AdaptedModule | Prepared


def trained_backbone(checkpoint: str | None) -> Backbone:
    """The prevalent backbone that a student starts from."""
    return load_upstream(BackboneModule, checkpoint, "student.model.backbone_ckpt").backbone


def load_teachers(
    kind: TeacherKind, checkpoints: Mapping[str, str | None], names: Collection[str], prevalent: str, task: Task
) -> Teachers:
    """The teachers of a student, frozen.

    Args:
        kind: who they are.
        checkpoints: of the stages backbone, teacher and adapted.
        names: those that are pooled, where the kind is `pooled`.
        prevalent: the student's modality.
        task: the task.

    Raises:
        RunError: a checkpoint is missing or none of that stage.
    """
    if kind == "joint":
        return load_upstream(TeacherModule, checkpoints["teacher"], "student.model.teacher_ckpt")
    if kind == "own":
        return OwnTeacher(trained_backbone(checkpoints["backbone"]), prevalent, task)
    if kind == "spread":
        return SpreadLabels(trained_backbone(checkpoints["backbone"]), prevalent, task)
    adapted = load_upstream(AdaptedModule, checkpoints["adapted"], "student.model.adapted_ckpt")
    adapted.teacher_ckpt = checkpoints["teacher"]
    adapted.setup("predict")
    return PooledTeachers(adapted, names) if kind == "pooled" else adapted
