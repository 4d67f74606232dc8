"""Whether a network is being exported, where no branch may depend on the data."""

import torch


def is_exporting() -> bool:
    """Return whether `torch.export` is tracing."""
    # torch 2.6 tells of compiling alone, which includes exporting.
    asked = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    return bool(asked())
