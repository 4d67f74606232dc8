"""Checks of the settings of rivals."""

import math


def positive(**settings: float) -> None:
    """Refuse settings that are not positive and finite with a ValueError that names the first of them."""
    for name, value in settings.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, not {value}")


def not_negative(**settings: float) -> None:
    """Refuse settings that are negative or not finite with a ValueError that names the first of them."""
    for name, value in settings.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be finite and not negative, not {value}")
