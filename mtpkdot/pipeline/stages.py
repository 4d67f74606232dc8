"""The stages: which module each trains, what it takes from earlier ones, and which arguments the pipeline fills."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtpkdot.modules import (
    AdaptedModule,
    BackboneModule,
    HallucinatorModule,
    StageModule,
    StudentModule,
    TeacherModule,
)
from mtpkdot.modules.teaching import METHODS

KINDS: dict[str, type[StageModule]] = {
    "backbone": BackboneModule,
    "teacher": TeacherModule,
    "adapted": AdaptedModule,
    "hallucinator": HallucinatorModule,
    "student": StudentModule,
}

# Arguments that come from the data or the protocol, never from the user's section.
FILLED = {
    "task",
    "targets",
    "modalities",
    "prevalent",
    "rates",
    "per_step",
    "modality",
    "encoders",
    "batch_attention",
    "frozen_projections",
}


def filled(kind: str) -> set[str]:
    """Arguments of a stage's model that the pipeline fills without the user's say."""
    return FILLED | {"student": {"encoder", "tnet"}, "adapted": {"fusion"}}.get(kind, set())


@dataclass(frozen=True)
class Stage:
    """One training of the pipeline.

    Attributes:
        name: `backbone.<modality>`, `teacher`, `adapted`, `hallucinator` or `student`.
        kind: the section of the config it belongs to.
        upstream: model argument -> earlier stage whose checkpoint it names; `key.modality` for a dict argument.
    """

    name: str
    kind: str
    upstream: dict[str, str]

    @property
    def module(self) -> type[StageModule]:
        """The LightningModule."""
        return KINDS[self.kind]

    @property
    def modality(self) -> str | None:
        """The modality of a backbone."""
        return self.name.partition(".")[2] or None


def plan(modalities: list[str], prevalent: str, sections: Mapping[str, Any]) -> list[Stage]:
    """All stages in the order of training.

    Args:
        modalities: names, in the data's order.
        prevalent: the student's modality.
        sections: config sections by kind; the student's method decides which teachers it needs.

    Returns:
        Every stage, each after those it depends on.
    """
    backbones = {f"backbone_ckpts.{name}": f"backbone.{name}" for name in modalities}
    student = {"backbone_ckpt": f"backbone.{prevalent}", "hallucinator_ckpt": "hallucinator"}
    model = sections["student"]["model"]
    teachers = METHODS[model["method"]].teachers_for(model["weights"])
    student |= {f"{stage}_ckpt": stage for stage in (teachers.stages if teachers is not None else ())}
    return [
        *(Stage(f"backbone.{name}", "backbone", {}) for name in modalities),
        Stage("teacher", "teacher", backbones),
        Stage("adapted", "adapted", {"teacher_ckpt": "teacher"}),
        Stage("hallucinator", "hallucinator", backbones),
        Stage("student", "student", student),
    ]


def needed(wanted: list[Stage], everything: list[Stage]) -> list[Stage]:
    """The wanted stages and all that they depend on, in order."""
    by_name = {stage.name: stage for stage in everything}
    names: set[str] = set()
    queue = [stage.name for stage in wanted]
    while queue:
        name = queue.pop()
        if name not in names:
            names.add(name)
            queue += by_name[name].upstream.values()
    return [stage for stage in everything if stage.name in names]
