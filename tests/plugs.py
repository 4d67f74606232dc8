"""Sections of a config that name a built-in class with some of its settings."""

from typing import Any

Section = dict[str, Any]


def gated(**settings: Any) -> Section:
    """Return the fusion of a teacher or student."""
    return {"fusion": {"class_path": "GatedFusion", "init_args": settings}}


def hourglass(**settings: Any) -> Section:
    """Return the T-Net of the hallucinator."""
    return {"tnet": {"class_path": "Hourglass", "init_args": settings}}


def transport(**settings: Any) -> Section:
    """Return the structural loss of a student."""
    return {"structure": {"class_path": "StructuralTransport", "init_args": settings}}
