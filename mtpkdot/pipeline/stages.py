"""Stages: their names in the order of training, and what each takes from earlier ones.

Everything else that a stage needs is declared by its class, see `mtpkdot.modules.declaration`. Only this file and the
classes of the stages know their names. Importing it does not import torch.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from mtpkdot.errors import ConfigError, nearest

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from mtpkdot.modules import StageModule

# Name and section -> its class, and its line of the help.
BUILT_IN = {
    "backbone": (
        "mtpkdot.modules.backbone:BackboneModule",
        "encoder of each modality, trained alone; the prevalent one is the lower bound",
    ),
    "teacher": ("mtpkdot.modules.teacher:TeacherModule", "the multimodal teacher"),
    "adapted": (
        "mtpkdot.modules.adapted:AdaptedModule",
        "adapters that align each modality with the multimodal teacher",
    ),
    "pool": (
        "mtpkdot.modules.pool:PoolModule",
        "teachers of several kinds, combined; trained for the methods that use it (mtpkdot_plus)",
    ),
    "hallucinator": (
        "mtpkdot.modules.hallucinator:HallucinatorModule",
        "predicts the features of the privileged modalities (T-Net)",
    ),
    "student": (
        "mtpkdot.modules.student:StudentModule",
        "the final model: sees the prevalent modality alone, and learns from the teachers",
    ),
}
BACKBONE, TEACHER, ADAPTED, POOL, HALLUCINATOR, STUDENT = BUILT_IN
# Groups that `pipeline.stages` may name: stages that the students of a study share, and those that each of them owns.
UPSTREAM, DOWNSTREAM = "upstream", "downstream"

Kinds = Mapping[str, "type[StageModule]"]


@cache
def stage_classes() -> dict[str, "type[StageModule]"]:
    """Return the classes of the built-in stages by name, in the order of training."""
    found: dict[str, type[StageModule]] = {}
    for name, (path, _) in BUILT_IN.items():
        module, _, kind = path.partition(":")
        found[name] = getattr(import_module(module), kind)
    return found


@dataclass
class StageFit:
    """Length of a stage's training, and the choice of its epoch.

    Args:
        max_epochs: passes over the training part.
        batch_size: samples per batch of this stage; null for that of the data section.
        monitor: logged value that selects the epoch; null for the metric of the task (hallucinator: the loss).
        mode: `min` or `max`: the better direction of the monitored value; null for that of the metric.
        patience: stop after this many epochs without improvement; null for never.
        gradient_clip_val: largest gradient norm; null for no clipping.
        accumulate_grad_batches: batches per optimiser step. The transport is still computed within each batch.
        average: number of epochs over which weights are averaged; the average is validated, selected and handed on;
            null for those of single epochs.
    """

    max_epochs: int = 20
    batch_size: int | None = None
    monitor: str | None = None
    mode: Literal["min", "max"] | None = None
    patience: int | None = None
    gradient_clip_val: float | None = 1.0
    accumulate_grad_batches: int = 1
    average: int | None = None


def add_stage(
    parser: "ArgumentParser", module: "type[StageModule]", section: str, others: Collection[str] = ()
) -> None:
    """Add the keys of a stage's section to a parser: `SECTION.model` and `SECTION.fit`.

    Args:
        parser: the parser.
        module: class of the stage.
        section: name of the section, with the modality where there is one per modality.
        others: keys of classes without a default.
    """
    parser.add_class_arguments(
        module, f"{section}.model", skip=set(module.filled()), instantiate=False, fail_untyped=False
    )
    parser.add_argument(f"--{section}.fit", type=StageFit, default=StageFit(**module.fit_defaults))
    built_in = {f"{section}.model.{key}": {"class_path": kind.__name__} for key, kind in module.built_in.items()}
    parser.set_defaults({key: value for key, value in built_in.items() if key not in others})


@dataclass(frozen=True)
class Stage:
    """One training of the pipeline.

    Attributes:
        name: name of its section, followed by the modality if there is one stage per modality: `backbone.<modality>`,
            `teacher`.
        kind: section of the config that it belongs to.
        module: class of the LightningModule.
        upstream: earlier stage whose checkpoint each model argument takes; `key.modality` for a dict argument.
        shared: True if the students of a study share the stage: it is declared so, and so are all stages it depends on.
    """

    name: str
    kind: str
    module: "type[StageModule]"
    upstream: dict[str, str]
    shared: bool = True

    @property
    def modality(self) -> str | None:
        """Modality of a stage that exists once per modality; None for others."""
        return self.name.partition(".")[2] or None

    def section(self, config: Mapping[str, Any]) -> Any:
        """Return the stage's section of a config, with `model` and `fit`."""
        section = config.get(self.kind, {})
        return section if self.modality is None else section.get(self.modality, {})

    def is_named(self, names: Sequence[str]) -> bool:
        """Return whether one of some words names the stage: its name, its section, or its group."""
        return bool({self.name, self.kind, UPSTREAM if self.shared else DOWNSTREAM} & {*names})


def plan(
    modalities: Sequence[str], prevalent: str, sections: Mapping[str, Any], found: Kinds | None = None
) -> list[Stage]:
    """Return all stages in the order of training.

    Args:
        modalities: names in the order of the data.
        prevalent: modality of the student.
        sections: config sections by kind, since the settings of a stage decide which others it needs. An upstream
            argument that names a checkpoint needs no stage; one that names a stage of the run takes its checkpoint.
        found: classes by kind, in the order of training; None for the built-in ones.

    Returns:
        Every stage, each after those it depends on.

    Raises:
        ConfigError: a stage needs one that does not exist or is trained after it.
    """
    found = stage_classes() if found is None else found
    stages: dict[str, Stage] = {}
    for kind, module in found.items():
        for name in module.sections(kind, modalities):
            alone = Stage(name, kind, module, {})
            model = alone.section(sections).get("model", {})
            upstream: dict[str, str] = {}
            for argument in module.upstream_arguments(model):
                upstream |= _taken(
                    argument,
                    model.get(argument),
                    kind=kind,
                    modality=alone.modality or prevalent,
                    modalities=modalities,
                    found=found,
                )
            for argument, earlier in upstream.items():
                if earlier not in stages:
                    raise ConfigError(
                        f"{kind}.model.{argument} needs the stage {earlier}, which is trained after {kind}",
                        f"Set pipeline.extra_stages.{kind}.before to a stage after {earlier}, or to null for the end.",
                    )
            shared = module.shared and all(stages[earlier].shared for earlier in upstream.values())
            stages[name] = Stage(name, kind, module, upstream=upstream, shared=shared)
    return list(stages.values())


def _taken(
    argument: str, value: Any, kind: str, modality: str, modalities: Sequence[str], found: Kinds
) -> dict[str, str]:
    """Return the stages that the upstream arguments of a stage take, by argument."""
    source, _, ending = argument.rpartition("_")
    names = {name for k, module in found.items() for name in module.sections(k, modalities)}
    if ending == "ckpt":
        if value:
            return {argument: str(value)} if str(value) in names else {}
        return {argument: _name(source, argument, kind=kind, modality=modality, found=found)}
    given = value or {}
    named = {f"{argument}.{m}": str(of) for m, of in given.items() if str(of) in names}
    left = [m for m in modalities if not given.get(m)]
    return named | {f"{argument}.{m}": _name(source, argument, kind=kind, modality=m, found=found) for m in left}


def _name(source: str, argument: str, kind: str, modality: str, found: Kinds) -> str:
    if source not in found:
        raise ConfigError(
            f"{kind}.model.{argument} needs a stage {source!r}, which does not exist",
            f"{nearest(source, found)}Name a checkpoint, or call the argument after one of {', '.join(found)}.",
        )
    return f"{source}.{modality}" if found[source].per_modality else source


def demanded(stages: list[Stage], named: Sequence[str]) -> list[Stage]:
    """Return the stages without those on demand that no stage takes, and that are not named themselves.

    Args:
        stages: all stages.
        named: names in `pipeline.stages`.
    """
    taken = {earlier for stage in stages for earlier in stage.upstream.values()}
    return [s for s in stages if not s.module.on_demand or s.name in taken or {s.name, s.kind} & {*named}]


def needed(wanted: list[Stage], everything: list[Stage]) -> list[Stage]:
    """Return the wanted stages and all stages they depend on, in order."""
    by_name = {stage.name: stage for stage in everything}
    names: set[str] = set()
    queue = [stage.name for stage in wanted]
    while queue:
        name = queue.pop()
        if name not in names:
            names.add(name)
            queue += by_name[name].upstream.values()
    return [stage for stage in everything if stage.name in names]


def is_model_name(name: str, found: Kinds | None = None) -> bool:
    """Return whether the tables of a study use a name for a model that its students share.

    Args:
        name: the name.
        found: classes by kind; None for the built-in ones.
    """
    kind, dot, _ = name.partition(".")
    module = (stage_classes() if found is None else found).get(kind)
    if module is None or not module.shared:
        return False
    apart = module.per_modality or module.names_heads
    return bool(dot) if apart else not dot or kind not in BUILT_IN
