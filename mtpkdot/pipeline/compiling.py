"""torch.compile for the encoders of media: the part of a training that it makes faster."""

import torch
from torch import nn

from mtpkdot.errors import ConfigError
from mtpkdot.models.encoder import Encoder, FeatureEncoder


def compile_encoders(module: nn.Module) -> None:
    """Let all encoders of media within a module be compiled when they are first called.

    Weights and their names stay as they are. Encoders of given features are too small to gain from it.
    """
    for part in module.modules():
        if isinstance(part, Encoder) and not isinstance(part, FeatureEncoder):
            part.compile()


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
