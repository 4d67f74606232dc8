"""Names: the same letters are the same name, and a difference that one cannot see is said."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtpkdot.data.ids import alike, as_ids, difference, twins
from tests.data.helpers import quick

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Cf")), min_size=1, max_size=8)

# How a name is changed, and what is said of it.
CHANGES = {
    "a space at the end": (lambda name: f"{name} ", "a space at the start or end"),
    "a no-break space before it": (lambda name: f"\u00a0{name}", "a space at the start or end"),
    "a zero-width space": (lambda name: f"{name[0]}\u200b{name[1:]}", "not visible (U+200B ZERO WIDTH SPACE)"),
    "a byte order mark": (lambda name: f"\ufeff{name}", "not visible (U+FEFF"),
    "a soft hyphen": (lambda name: f"{name}\u00ad", "not visible (U+00AD SOFT HYPHEN)"),
    "a Cyrillic letter": (lambda name: name.replace("a", "\u0430"), "looks alike (U+0430 CYRILLIC SMALL LETTER A)"),
    "a Greek letter": (lambda name: name.replace("A", "\u0391"), "looks alike (U+0391 GREEK CAPITAL LETTER ALPHA)"),
    "letters of full width": (lambda name: name.replace("n", "\uff4e"), "other characters for the same letters"),
    "capital letters": (str.upper, "upper and lower case"),
    "a suffix": (lambda name: f"{name}.mp4", "a suffix"),
    "a suffix in capitals": (lambda name: f"{name}.WAV", "a suffix"),
    "a folder": (lambda name: f"clips/{name}", "the folder before it"),
    "leading zeros": (lambda name: name.replace("7", "007"), "leading zeros"),
    "another separator": (lambda name: name.replace("_", "-"), "the characters that separate its parts"),
    "a long dash": (lambda name: name.replace("_", "\u2013"), "the characters that separate its parts"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_difference_is_named_whichever_name_comes_first(change):
    other, says = CHANGES[change][0]("Anna_7"), CHANGES[change][1]
    for told in (difference("Anna_7", other), difference(other, "Anna_7")):
        assert told.startswith("they differ by ")
        assert says in told
        assert " and by " not in told


@pytest.mark.parametrize(("one", "other", "count"), [("a_1", "A_01.mp4", 3), ("x/p 7", "p_007", 3), ("7.0", "7", 1)])
def test_all_differences_are_named(one, other, count):
    assert difference(one, other).count(" by ") == count


@pytest.mark.parametrize(
    ("one", "other"),
    [("p1", "p2"), ("p1", "p10"), ("7", "7.5"), ("1.05", "1.5"), ("", "a"), ("ab", "ba"), ("x/a", "x")],
)
def test_other_names_differ_altogether(one, other):
    assert difference(one, other) == ""


@quick
@given(NAMES, NAMES)
def test_a_difference_is_symmetric_and_a_name_does_not_differ_from_itself(one, other):
    assert difference(one, one) == ""
    assert bool(difference(one, other)) == bool(difference(other, one))


@quick
@given(st.lists(NAMES, max_size=6))
def test_letters_and_accents_written_apart_are_the_same_ids(names):
    apart = [unicodedata.normalize("NFD", name) for name in names]
    np.testing.assert_array_equal(as_ids(apart), as_ids(names))


def test_two_forms_of_the_same_letters_are_named():
    assert "NFC and NFD" in difference("J\u00f6rg", "Jo\u0308rg")


def test_the_first_similar_name_is_found():
    assert alike(["c", "b.wav", "a "], ["a", "b"]) == ("b.wav", "b", "they differ by a suffix")
    assert alike(["c"], ["a", "b"]) is None


def test_names_that_look_the_same_are_twins_and_numbered_ones_are_not():
    assert twins(["p1", "P2", "p2"])[:2] == ("P2", "p2")
    assert twins(["calm", "pain", "pain "])[:2] == ("pain", "pain ")
    assert twins(["1", "01", "a.mp4", "a", "x/1", "y/1"]) is None
