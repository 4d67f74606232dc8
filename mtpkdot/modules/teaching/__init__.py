"""Teachers of the student, and how they are weighed, trusted and resumed."""

from mtpkdot.modules.teaching.base import Teachers, Upstream
from mtpkdot.modules.teaching.lifecycle import Teaching
from mtpkdot.modules.teaching.methods import AUTO, BOUND, METHODS, Method, find_method
from mtpkdot.modules.teaching.settings import check_settings, chosen_teachers

__all__ = [
    "AUTO",
    "BOUND",
    "METHODS",
    "Method",
    "Teachers",
    "Teaching",
    "Upstream",
    "check_settings",
    "chosen_teachers",
    "find_method",
]
