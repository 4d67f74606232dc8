"""Help texts on the keys of a config section, and of a class that it names."""

import textwrap

from jsonargparse import ArgumentParser

from mtpkdot.data.base import BaseData
from mtpkdot.losses.rivals import Rival
from mtpkdot.losses.selection import Selection
from mtpkdot.losses.structure import StructuralLoss
from mtpkdot.models.encoder import Encoder
from mtpkdot.models.fusions import Fusion
from mtpkdot.models.tnets import TNet
from mtpkdot.modules.teaching import METHODS
from mtpkdot.pipeline.complaints import kinds
from mtpkdot.pipeline.config import PROTOCOL_DATA, add_section
from mtpkdot.pipeline.protocol import Protocol
from mtpkdot.pipeline.stages import BACKBONE, HALLUCINATOR, POOL, STUDENT, add_stage, stage_classes
from mtpkdot.teachers import Member

# Base -> where its classes stand in a config, and which of their arguments are not set there.
_PLACES: dict[type, tuple[str, set[str]]] = {
    BaseData: ("data", PROTOCOL_DATA),
    Encoder: (f"{BACKBONE}.MODALITY.model.encoder", {"steps"}),
    Rival: (f"{STUDENT}.model.rival", {"task", "student_dim", "teacher_dim"}),
    StructuralLoss: (f"{STUDENT}.model.structure", set()),
    Selection: (f"{STUDENT}.model.selection", {"fallback"}),
    Fusion: (f"{STUDENT}.model.fusion", {"dims", "per_step"}),
    Member: (f"{POOL}.model.members.NAME", {"modalities"}),
    TNet: (f"{HALLUCINATOR}.model.tnet", {"in_dim", "out_dim"}),
}


def section_help(name: str) -> str:
    """Return the keys of a section with their meaning, type and default; for `backbone`, those of one modality."""
    parser = _parser()
    if name == "data":
        own = ", ".join(f"`mtpkdot fit --help {kind.__name__}`" for kind in kinds(BaseData) if not _abstract(kind))
        return f"{class_help(BaseData)}\nOf one data set, with the keys of its own: {own}"
    if name in stage_classes():
        for section in stage_classes()[name].sections(name, ["MODALITY"]):
            add_stage(parser, stage_classes()[name], section)
    elif name == "protocol":
        parser.add_class_arguments(Protocol, name, instantiate=False)
    else:
        add_section(parser, name)
    return str(parser.format_help()) + (_methods() if name == STUDENT else "")


def _methods() -> str:
    """Return the list of methods that a student may name."""
    indent = " " * 24  # that of the keys' meanings
    lines = (
        textwrap.fill(method.about, 80, initial_indent=f"  {name:<22}", subsequent_indent=indent)
        for name, method in METHODS.items()
    )
    return "\n".join([f"\nmethods of {STUDENT}.model.method:", *lines])


def named_classes() -> dict[str, type]:
    """Return the classes that `class_help` explains, by name."""
    return {kind.__name__: kind for base in _PLACES for kind in kinds(base) if not _abstract(kind)}


def class_help(kind: type) -> str:
    """Return the keys of a class, as they are written on the command line."""
    place, skip = next(found for base, found in _PLACES.items() if issubclass(kind, base))
    parser = _parser()
    parser.add_class_arguments(kind, place, skip=skip, instantiate=False, fail_untyped=False)
    return str(parser.format_help())


def _abstract(kind: type) -> bool:
    return any(getattr(getattr(kind, name, None), "__isabstractmethod__", False) for name in dir(kind))


def _parser() -> ArgumentParser:
    usage = "mtpkdot fit --config FILE [--KEY VALUE ...], with these keys"
    return ArgumentParser(prog="mtpkdot fit", usage=usage, add_help=False, exit_on_error=False)
