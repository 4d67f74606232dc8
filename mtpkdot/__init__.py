"""Privileged multi-teacher knowledge distillation with optimal transport.

`mtpkdot.losses` and `mtpkdot.models` are plain torch, `mtpkdot.modules` the LightningModules of the stages,
`mtpkdot.data` the DataModules, `mtpkdot.pipeline` what runs the stages one after another.
"""

from typing import TYPE_CHECKING, Any

from mtpkdot.errors import ConfigError, DataError, RunError, UserError

if TYPE_CHECKING:
    from mtpkdot.pipeline.loading import load

__all__ = ["ConfigError", "DataError", "RunError", "UserError", "load"]


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for."""
    if name == "load":
        from mtpkdot.pipeline.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
