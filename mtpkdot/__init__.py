"""Privileged multi-teacher knowledge distillation with optimal transport.

`mtpkdot.losses` and `mtpkdot.models` are plain torch, `mtpkdot.modules` the LightningModules of the stages,
`mtpkdot.data` the DataModules, `mtpkdot.pipeline` what runs the stages one after another.
"""

from mtpkdot.errors import ConfigError, DataError, RunError, UserError

__all__ = ["ConfigError", "DataError", "RunError", "UserError"]
