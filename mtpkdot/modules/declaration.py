"""The declaration of a stage: what the pipeline has to know of it before it is built."""

import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from mtpkdot.data.base import BaseData

# Arguments that every stage takes from the data.
LINKED = ("task", "targets", "modalities", "prevalent", "rates", "per_step")


class StageDeclaration:
    """Base of `StageModule` with what a stage declares; the pipeline asks here and nowhere by a stage's name.

    Checkpoints of earlier stages are declared by the names of constructor arguments: `NAME_ckpt` is the checkpoint of
    the stage `NAME`. Where `NAME` is one stage per modality, `NAME_ckpt` is that of this stage's own modality, or else
    of the prevalent one, and `NAME_ckpts` are those of all, as a mapping from modality to path. The pipeline trains
    these stages before, fills the arguments that the user's section leaves out, and makes what the checkpoints hold
    part of the stage's identity.

    Attributes:
        section: name of the stage and of its section in the config. One that the user adds is named in the config.
        per_modality: the stage is trained once per modality, as `section.modality`, and gets the argument `modality`.
        takes: further arguments that the pipeline fills and the user's section does not have; see
            `encoder_arguments`.
        inherited: arguments that an earlier stage was trained with: argument -> (upstream argument that names the
            stage, its argument). Where a checkpoint is given in place of a stage, those of the stage it stands for.
        built_in: arguments that name a class, and the class that stands there unless a config names another.
        switches: the switches of `protocol` that change this stage. `batch_attention` and `frozen_projections` are
            handed to the module as arguments; `shared_backbone` trains on all parts of the data.
        shared: the students of a study share this stage, which is trained once per fold and seed; False where each
            student has its own.
        reads_raw: it is trained on raw steps alone, so that cached features and their views do not reach it.
        names_heads: its predictions are stored as `section.head`; those of a stage with several heads always are.
        submits: its predictions are written in the form that the data set's authors ask for.
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
    submits: ClassVar[bool] = False

    @classmethod
    def sections(cls, name: str, modalities: Iterable[str]) -> list[str]:
        """Return the names of a stage's trainings, which are those of its sections: one, or one per modality.

        Args:
            name: of the stage.
            modalities: names, in the data's order.
        """
        return [f"{name}.{modality}" for modality in modalities] if cls.per_modality else [name]

    @classmethod
    def filled(cls) -> frozenset[str]:
        """Return the arguments that come from the data, the protocol or other sections, never from the stage's own."""
        return frozenset(
            {*LINKED, *cls.takes, *cls.inherited, *cls.switches, *(["modality"] if cls.per_modality else [])}
        )

    @classmethod
    def upstream_arguments(cls, model: Mapping[str, Any]) -> list[str]:
        """Return the arguments that name checkpoints of earlier stages which this one needs.

        Args:
            model: the `model` part of the stage's section.

        Returns:
            All arguments of the constructor that end in `_ckpt` or `_ckpts`. Override it where the section decides.
        """
        return [name for name in arguments_of(cls) if is_upstream(name)]

    @classmethod
    def encoder_arguments(cls, encoders: Mapping[str, Any], prevalent: str) -> dict[str, Any]:
        """Return arguments for encoders that are built as the backbones' were; name them in `takes`.

        Args:
            encoders: configuration of the encoder per modality; None for the default.
            prevalent: the student's modality.
        """
        return {}

    @classmethod
    def method_of(cls, model: Mapping[str, Any]) -> Any:
        """Return the distillation method whose recipe is part of the stage's identity; None for none.

        Args:
            model: the `model` part of the stage's section.
        """
        return None

    @classmethod
    def check_section(cls, section: Mapping[str, Any], data: "BaseData") -> None:
        """Stop at settings that the data cannot serve, before anything is built.

        Args:
            section: the stage's section, with `model` and `fit`.
            data: the data set, read.

        Raises:
            ConfigError: naming the key.
        """

    def check_built(self, data: "BaseData", name: str, batch_size: int) -> None:
        """Try the stage, as it is built, before anything is trained.

        Args:
            data: the data set, read.
            name: of the stage, for the error.
            batch_size: samples per batch of this stage.

        Raises:
            ConfigError: it cannot work on these data.
        """


def is_upstream(argument: str) -> bool:
    """Return whether a model's argument names checkpoints of earlier stages."""
    return argument.endswith(("_ckpt", "_ckpts"))


def arguments_of(module: type) -> dict[str, inspect.Parameter]:
    """Return the constructor's arguments, with those of the base classes that `**options` are handed on to.

    Args:
        module: the class.

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
