"""Compilation of media encoders by torch.compile."""

import torch
from torch import nn

from mtpkdot.errors import ConfigError
from mtpkdot.models.encoder import Encoder, FeatureEncoder

_SHAPES = 64  # Inputs that one encoder is compiled for: torch's limit of 8 is soon reached by several modalities.


def media_encoders(module: nn.Module) -> list[Encoder]:
    """Return the encoders within a module that are worth compiling: encoders of feature vectors are too small."""
    return [part for part in module.modules() if isinstance(part, Encoder) and not isinstance(part, FeatureEncoder)]


def compile_encoders(module: nn.Module) -> bool:
    """Compile all media encoders within a module at their first call; return whether it has any.

    Weights and their names stay as they are. Every shape is compiled separately: torch cannot reload a cached graph of
    dynamic size where the mask's size is one of its conditions (KeyError: 'mask').
    """
    torch._dynamo.config.recompile_limit = _SHAPES
    for part in (found := media_encoders(module)):
        part.compile(dynamic=False)
    return bool(found)


def forget_compiled() -> None:
    """Reset the compiler, because what an earlier stage has compiled counts against the limits of the next."""
    torch._dynamo.reset()


def check_compiler(device: torch.device) -> None:
    """Compile a tiny function, which fails where the machine lacks a compiler.

    Raises:
        ConfigError: the machine cannot compile for the device.
    """
    try:
        torch.compile(lambda x: x + 1, fullgraph=True)(torch.ones(2, device=device))
    except RuntimeError as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConfigError(
            f"pipeline.compile: nothing can be compiled here: {reason}",
            "Install what is missing (on a processor a C++ compiler, for a GPU triton), or leave it out.",
        ) from error
