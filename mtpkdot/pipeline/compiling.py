"""torch.compile for the encoders of media: the part of a training that it makes faster."""

import torch
from torch import nn

from mtpkdot.errors import ConfigError
from mtpkdot.models.encoder import Encoder, FeatureEncoder

_SHAPES = 64  # of inputs that one encoder is compiled for: torch's limit of 8 is soon reached by several modalities


def media_encoders(module: nn.Module) -> list[Encoder]:
    """The encoders within a module that it pays to compile: those of given features are too small."""
    return [part for part in module.modules() if isinstance(part, Encoder) and not isinstance(part, FeatureEncoder)]


def compile_encoders(module: nn.Module) -> bool:
    """Let all encoders of media within a module be compiled when they are first called; returns whether it has any.

    Weights and their names stay as they are. Every shape is compiled by itself: torch cannot read back what it has kept
    of a graph for any size where the mask's size is one of its conditions (KeyError: 'mask').
    """
    torch._dynamo.config.recompile_limit = _SHAPES
    for part in (found := media_encoders(module)):
        part.compile(dynamic=False)
    return bool(found)


def forget_compiled() -> None:
    """Begin anew: what an earlier stage has compiled counts against the limits of the next."""
    torch._dynamo.reset()


def check_compiler(device: torch.device) -> None:
    """Compile a trifle: what a machine lacks shows only then.

    Raises:
        ConfigError: this machine cannot compile for the device.
    """
    try:
        torch.compile(lambda x: x + 1, fullgraph=True)(torch.ones(2, device=device))
    except RuntimeError as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConfigError(
            f"pipeline.compile: nothing can be compiled here: {reason}",
            "Install what is missing (on a processor a C++ compiler, for a GPU triton), or leave it out.",
        ) from error
