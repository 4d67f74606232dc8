"""Means of logged values over an epoch, which a checkpoint within the epoch can store."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Means:
    """Means of named scalars, weighted by rows.

    Attributes:
        state: sum and rows per name, plain tensors and numbers.
    """

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def add(self, values: Mapping[str, Tensor], rows: int) -> None:
        """Add scalars that are means over a number of rows."""
        for name, value in values.items():
            value = value.detach()
            total, seen = self.state.get(name, (torch.zeros_like(value), 0))
            self.state[name] = total.to(value.device) + value * rows, seen + rows

    def take(self) -> dict[str, Tensor]:
        """Return the means and reset them."""
        state, self.state = self.state, {}
        return {name: total / max(rows, 1) for name, (total, rows) in state.items()}
