"""Teachers of the papers: the multimodal teacher, alone or with the adapted backbones."""

from collections.abc import Collection
from typing import ClassVar, Self

from mtpkdot.data.batch import Batch
from mtpkdot.losses.distillation import Teacher
from mtpkdot.models.backbone import Backbone
from mtpkdot.modules.adapted import AdaptedModule
from mtpkdot.modules.base import load_upstream
from mtpkdot.modules.teacher import TeacherModule
from mtpkdot.modules.teaching.base import Teachers, Upstream


class JointTeacher(Teachers):
    """Multimodal teacher (PKDOT).

    Args:
        teacher: the trained stage.
    """

    stages: ClassVar[tuple[str, ...]] = (TeacherModule.section,)

    def __init__(self, teacher: TeacherModule) -> None:
        super().__init__()
        self.teacher = teacher

    @classmethod
    def load(cls, upstream: Upstream) -> Self:
        """Load the multimodal teacher, frozen."""
        return cls(load_upstream(TeacherModule, upstream.checkpoints["teacher"], "student.model.teacher_ckpt"))

    @property
    def space_sizes(self) -> dict[str, int]:
        """Size of the joint feature, by the name of its space."""
        return self.teacher.space_sizes

    def frozen_encoders(self) -> dict[str, list[Backbone]]:
        """Return the frozen encoders of the teacher."""
        return self.teacher.frozen_encoders(fitting=False)

    def spaces(self, batch: Batch) -> dict[str, Teacher]:
        """Return the joint space on a batch."""
        return self.teacher.spaces(batch)


class AdaptedTeachers(Teachers):
    """Multimodal teacher and adapted backbones (MT-PKDOT).

    Args:
        adapted: the trained stage.
        names: names of the spaces to use; None for all.
    """

    stages: ClassVar[tuple[str, ...]] = (TeacherModule.section, AdaptedModule.section)
    is_choice: ClassVar[bool] = True

    def __init__(self, adapted: AdaptedModule, names: Collection[str] | None = None) -> None:
        super().__init__()
        self.adapted = adapted
        self.names = [name for name in adapted.space_sizes if names is None or name in names]

    @classmethod
    def load(cls, upstream: Upstream) -> Self:
        """Load the teachers with the names of `upstream`, frozen."""
        adapted = load_upstream(AdaptedModule, upstream.checkpoints["adapted"], "student.model.adapted_ckpt")
        adapted.teacher_ckpt = upstream.checkpoints["teacher"]
        adapted.setup("predict")
        return cls(adapted, upstream.names)

    @property
    def space_sizes(self) -> dict[str, int]:
        """Feature size of every space."""
        return {name: self.adapted.space_sizes[name] for name in self.names}

    def frozen_encoders(self) -> dict[str, list[Backbone]]:
        """Return the frozen encoders of the teachers."""
        return self.adapted.frozen_encoders(fitting=False)

    def members(self, batch: Batch) -> dict[str, Teacher]:
        """Return the space of every teacher on a batch."""
        spaces = self.adapted.spaces(batch)
        return {name: spaces[name] for name in self.names}

    def spaces(self, batch: Batch) -> dict[str, Teacher]:
        """Return the spaces that teach on a batch, here those of all teachers."""
        return self.members(batch)
