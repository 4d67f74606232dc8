import math

import pytest

from mtpkdot.losses.rivals.settings import not_negative, positive
from tests.loops import over
from tests.losses.rivals.cases import rival


@over("value", [0.0, -1.0, math.inf, math.nan])
def test_what_is_not_positive_and_finite_is_refused_by_name(value):
    with pytest.raises(ValueError, match=f"^wide must be positive and finite, not {value}$"):
        positive(fine=1.0, wide=value)


@over("value", [-1e-9, math.inf, math.nan])
def test_what_is_negative_or_not_finite_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"^wide must be finite and not negative, not "):
        not_negative(fine=0.0, wide=value)


def test_possible_values_pass():
    positive(a=1e-9, b=1e9)
    not_negative(a=0.0, b=1e9)


@over(
    "name, settings, told",
    [
        ("kd", {"temperature": 0.0}, "temperature must be positive"),
        ("at", {"p": 0.5}, "p must be finite and at least 1, not 0.5"),
        ("at", {"p": math.nan}, "p must be finite and at least 1"),
        ("rkd", {"distance": -1.0}, "distance must be finite and not negative"),
        ("rkd", {"angle": -1.0}, "angle must be finite and not negative"),
        ("rkd", {"distance": 0.0, "angle": 0.0}, "distance and angle must not both be 0"),
        ("cc", {"gamma": 0.0}, "gamma must be positive"),
        ("cc", {"order": 0}, "order must be at least 1, not 0"),
        ("vid", {"hidden": 0}, "hidden must be at least 1 or None, not 0"),
        ("vid", {"variance": 1e-5}, "variance must be finite and larger than 1e-05"),
        ("crd", {"temperature": -0.07}, "temperature must be positive"),
        ("crd", {"dim": 0}, "dim must be at least 1, not 0"),
        ("dkd", {"temperature": 0.0}, "temperature must be positive"),
        ("dkd", {"alpha": -1.0}, "alpha must be finite and not negative"),
        ("dkd", {"beta": -1.0}, "beta must be finite and not negative"),
        ("dkd", {"alpha": 0.0, "beta": 0.0}, "alpha and beta must not both be 0"),
        ("lupi", {"temperature": 0.0}, "temperature must be positive"),
    ],
)
def test_impossible_settings_are_refused_in_one_line_before_any_batch_is_seen(name, settings, told):
    with pytest.raises(ValueError, match=told) as error:
        rival(name, "classification", **settings)
    assert "\n" not in str(error.value)


@over("name", ["kd", "at", "rkd", "cc", "vid", "crd", "dkd", "lupi"])
def test_settings_are_given_by_name(name):
    with pytest.raises(TypeError, match="positional"):
        type(rival(name, "classification"))("classification", 6, 5, 2)
