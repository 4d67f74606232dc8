"""Settings that do not go together name the argument that is to be changed."""

import pytest

from mtpkdot.modules.teaching import METHODS
from mtpkdot.modules.teaching.settings import check_settings


@pytest.mark.parametrize("method", [method for method in METHODS if method != "rival"])
def test_every_method_has_valid_defaults(method):
    check_settings(method, None)


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("rival", {}, "name its class as student.model.rival"),
        ("pkdot", {"weights": {"rival": 1.0}}, "method pkdot has no rival"),
        ("kd", {"weights": {"rival": 0.0}, "own_rival": True}, "leave student.model.rival out"),
        ("none", {"weights": {"task": 0.0}}, "no loss term"),
        ("none", {"weights": {"output": 1.0}}, "method none has none"),
        ("mtpkdot", {"weights": {"trnasport": 1.0}}, "trnasport; choose from task, transport"),
        ("mtpkdot", {"queue": -1}, "queue is 0 or more, not -1"),
        ("kd", {"queue": 5}, "leave student.model.queue out"),
        ("mtpkdot_plus", {"guarded": True}, "leave the selection's margin"),
        ("mtpkdot_plus", {"weighting": "uncertainty"}, "weighting uncertainty out"),
    ],
)
def test_incompatible_settings_are_refused(method, options, said):
    with pytest.raises(ValueError, match=said):
        check_settings(method, **{"weights": None, **options})


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("rival", {"own_rival": True}),
        ("mtpkdot", {"weights": {"rival": 1.0}, "own_rival": True, "weighting": "uncertainty", "guarded": True}),
        ("pkdot", {"queue": 30}),
        ("none", {"weights": {"output": 0.0}}),
    ],
)
def test_compatible_settings_are_accepted(method, options):
    check_settings(method, **{"weights": None, **options})
