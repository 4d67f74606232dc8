"""Detection of `torch.export`, during which no branch may depend on the data."""

import torch


def is_exporting() -> bool:
    """Return whether `torch.export` is tracing the network."""
    # torch 2.6 reports compiling only, which includes exporting.
    asked = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    return bool(asked())
