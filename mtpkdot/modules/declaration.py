"""Declaration of a stage: properties that the pipeline needs before the stage is built."""

import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from mtpkdot.data.base import BaseData

# Arguments of every stage that are linked from the data.
LINKED = ("task", "targets", "modalities", "prevalent", "rates", "per_step")


class StageDeclaration:
    """Base of `StageModule` with the declarations of a stage, which the pipeline reads instead of a stage's name.

    Checkpoints of earlier stages are declared by the names of constructor arguments: `NAME_ckpt` is the checkpoint of
    the stage `NAME`. If `NAME` is trained once per modality, `NAME_ckpt` is the checkpoint of this stage's modality, or
    of the prevalent one, and `NAME_ckpts` is a mapping from modality to path. The pipeline trains these stages first,
    sets the arguments that the user's section leaves out, and includes the contents of the checkpoints in the stage's
    identity.

    Attributes:
        section: name of the stage and of its section in the config; a stage that the user adds is named in the config.
        per_modality: True to train the stage once per modality, as `section.modality`, with the argument `modality`.
        takes: further arguments that the pipeline sets and the user's section does not have; see `encoder_arguments`.
        inherited: arguments taken from the section of an earlier stage: argument -> (upstream argument that names the
            stage, argument of that stage). If a checkpoint is given in place of a stage, they are taken from the
            section of the stage that the upstream argument is called after. An argument that the earlier stage does not
            have keeps its default.
        built_in: default class of each argument that names a class.
        switches: the switches of `protocol` that change this stage. `batch_attention` and `frozen_projections` are
            passed to the module as arguments; `shared_backbone` trains on all parts of the data.
        shared: True if the students of a study share this stage, which is then trained once per fold and seed; False if
            each student has its own.
        reads_raw: True to train on raw steps only, without cached features and their views.
        names_heads: True to store predictions as `section.head`, as is always done for a stage with several heads.
        on_demand: True to train the stage only if another one takes its checkpoint.
        fit_defaults: defaults of the section's `fit` that differ from those of other stages.
        submits: True to write predictions in the format that the authors of the data set require.
    """

    section: ClassVar[str] = ""
    per_modality: ClassVar[bool] = False
    takes: ClassVar[frozenset[str]] = frozenset()
    inherited: ClassVar[Mapping[str, tuple[str, str]]] = {}
    built_in: ClassVar[dict[str, type]] = {}
    switches: ClassVar[frozenset[str]] = frozenset()
    shared: ClassVar[bool] = True
    reads_raw: ClassVar[bool] = False
    names_heads: ClassVar[bool] = False
    on_demand: ClassVar[bool] = False
    fit_defaults: ClassVar[Mapping[str, Any]] = {}
    submits: ClassVar[bool] = False

    @classmethod
    def sections(cls, name: str, modalities: Iterable[str]) -> list[str]:
        """Return the names of the sections that a stage is trained as: one, or one per modality.

        Args:
            name: name of the stage.
            modalities: names of the modalities, in the data's order.
        """
        return [f"{name}.{modality}" for modality in modalities] if cls.per_modality else [name]

    @classmethod
    def filled(cls) -> frozenset[str]:
        """Return the arguments that are set by the data, the protocol or other sections, not by the stage's section."""
        return frozenset(
            {*LINKED, *cls.takes, *cls.inherited, *cls.switches, *(["modality"] if cls.per_modality else [])}
        )

    @classmethod
    def upstream_arguments(cls, model: Mapping[str, Any]) -> list[str]:
        """Return the arguments that name the checkpoints of earlier stages that this stage needs.

        Args:
            model: the `model` part of the stage's section.

        Returns:
            All arguments of the constructor that end in `_ckpt` or `_ckpts`. Override it if they depend on the section.
        """
        return [name for name in arguments_of(cls) if is_upstream(name)]

    @classmethod
    def encoder_arguments(cls, encoders: Mapping[str, Any], prevalent: str) -> dict[str, Any]:
        """Return the arguments for encoders that are built as those of the backbones; name them in `takes`.

        Args:
            encoders: configuration of the encoder per modality; None for the default.
            prevalent: name of the student's modality.
        """
        return {}

    @classmethod
    def method_of(cls, model: Mapping[str, Any]) -> str | None:
        """Return the name of the distillation method, whose definition is part of the stage's identity, or None.

        Args:
            model: the `model` part of the stage's section.
        """
        return None

    @classmethod
    def check_section(cls, section: Mapping[str, Any], data: "BaseData") -> None:
        """Check the settings against the data, before anything is built.

        Args:
            section: section of the stage, with `model` and `fit`.
            data: the data set, already read.

        Raises:
            ConfigError: a setting does not fit the data; the error names its key.
        """

    def check_built(self, data: "BaseData", name: str, batch_size: int) -> None:
        """Check the stage after it is built, before anything is trained.

        Args:
            data: the data set, already read.
            name: name of the stage, for the error.
            batch_size: samples per batch of this stage.

        Raises:
            ConfigError: the stage does not fit the data.
        """


def is_upstream(argument: str) -> bool:
    """Return whether an argument of a stage names checkpoints of earlier stages."""
    return argument.endswith(("_ckpt", "_ckpts"))


def arguments_of(module: type) -> dict[str, inspect.Parameter]:
    """Return the arguments of a constructor, with those of the base classes that get its `**options`.

    Args:
        module: class of the stage.

    Example:
        >>> from mtpkdot.modules import AdaptedModule
        >>> [name for name in arguments_of(AdaptedModule) if name in ("teacher_ckpt", "bottleneck", "task")]
        ['teacher_ckpt', 'bottleneck', 'task']
    """
    found: dict[str, inspect.Parameter] = {}
    for above in module.__mro__:
        if "__init__" not in vars(above):
            continue
        own = list(inspect.signature(vars(above)["__init__"]).parameters.values())[1:]
        named = (a for a in own if a.kind not in (a.VAR_KEYWORD, a.VAR_POSITIONAL))
        found |= {argument.name: argument for argument in named if argument.name not in found}
        if not any(argument.kind is argument.VAR_KEYWORD for argument in own):
            break
    return found
