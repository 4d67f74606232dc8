"""Checks of the settings of rivals."""

import math


def positive(**settings: float) -> None:
    """Raise a ValueError that names the first setting that is not positive and finite."""
    for name, value in settings.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, not {value}")


def not_negative(**settings: float) -> None:
    """Raise a ValueError that names the first setting that is negative or not finite."""
    for name, value in settings.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be finite and not negative, not {value}")
