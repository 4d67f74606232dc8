"""Who teaches the student, and how teachers are weighed, trusted, resumed and handed on."""

from mtpkdot.modules.teaching.base import Teachers, Upstream
from mtpkdot.modules.teaching.lifecycle import Teaching
from mtpkdot.modules.teaching.methods import AUTO, METHODS, Method, MethodName, MethodOrAuto
from mtpkdot.modules.teaching.settings import check_settings, chosen_teachers

__all__ = [
    "AUTO",
    "METHODS",
    "Method",
    "MethodName",
    "MethodOrAuto",
    "Teachers",
    "Teaching",
    "Upstream",
    "check_settings",
    "chosen_teachers",
]
