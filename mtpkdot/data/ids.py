"""Names of samples, people and classes: compared in Unicode NFC; differences between similar ones are explained."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from mtpkdot.data.batch import StrArray

_SUFFIX = re.compile(
    r"\.(mp4|avi|mkv|mov|webm|m4v|mpe?g|wmv|wav|mp3|m4a|flac|ogg|jpe?g|png|csv|txt|npy|npz|parquet|h5)$", re.IGNORECASE
)
# Letters of the Cyrillic and the Greek alphabet -> the Latin ones that look like them.
_LOOKALIKES = {
    ord(letter): latin
    for letters, latins in (
        ("\u0430\u0435\u043e\u0440\u0441\u0445\u0443\u0456\u0458\u0455\u04bb\u0501", "aeopcxyijshd"),
        ("\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422", "ABEKMHOPCT"),
        ("\u0425\u0423\u0406\u0408\u0405", "XYIJS"),
        ("\u03b1\u03b9\u03bd\u03bf\u03c1\u03c4\u03c5\u03ba", "aivoptuk"),
        ("\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c", "ABEZHIKM"),
        ("\u039d\u039f\u03a1\u03a4\u03a5\u03a7", "NOPTYX"),
    )
    for letter, latin in zip(letters, latins, strict=True)
}


def composed(text: str) -> str:
    """Return a text in Unicode NFC, in which letters and their accents are compared: macOS may write others."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def as_ids(values: Iterable[object]) -> StrArray:
    """Return ids as (n,) texts in Unicode NFC."""
    return np.array([composed(str(value)) for value in values], dtype=np.str_)


def _visible(text: str) -> str:
    return "".join(letter for letter in text if unicodedata.category(letter) not in ("Cf", "Cc"))


# Differences in appearance, then in spelling, and how to remove them; each from the particular to the general.
_LOOK: dict[str, Callable[[str], str]] = {
    "a space at the start or end": str.strip,
    "a character that is not visible": _visible,
    "the Unicode form of the same letters (NFC and NFD)": composed,
    "a letter of another alphabet that looks alike": lambda text: text.translate(_LOOKALIKES),
    "other characters for the same letters or spaces": lambda text: unicodedata.normalize("NFKC", text),
    "upper and lower case": str.casefold,
}
_WRITING: dict[str, Callable[[str], str]] = {
    "the folder before it": lambda text: re.split(r"[/\\]", text.rstrip("/\\"))[-1],
    "a suffix": lambda text: _SUFFIX.sub("", text),
    "`.0` behind a whole number": lambda text: re.sub(r"^(-?\d+)\.0*$", r"\1", text),
    "leading zeros": lambda text: re.sub(r"(?<![\d.])0+(?=\d)", "", text),
    "the characters that separate its parts": lambda text: re.sub(r"[\s_.\u2010-\u2015\u2212-]+", "_", text),
}
_ALL = {**_LOOK, **_WRITING}


def difference(one: str, other: str) -> str:
    """Return how two names of the same thing differ; empty if they are equal, or different names altogether.

    Example:
        >>> difference("clip1", "clip1.mp4")
        'they differ by a suffix'
        >>> difference("clip1", "clip2")
        ''
    """
    if one == other or _folded(one, _ALL) != _folded(other, _ALL):
        return ""
    needed = dict(_ALL)
    for how in reversed(_ALL):
        fewer = {name: fold for name, fold in needed.items() if name != how}
        if _folded(one, fewer) == _folded(other, fewer):
            needed = fewer
    return f"they differ by {' and by '.join(needed)}{_odd_letters(one, other)}"


def alike(some: Iterable[str], others: Iterable[str]) -> tuple[str, str, str] | None:
    """Return the first of some names that differs from another only in spelling, that one, and how; else None.

    Args:
        some: names to look for.
        others: names to look among.
    """
    known = {_folded(name, _ALL): name for name in others}
    for name in some:
        other = known.get(_folded(name, _ALL), name)
        if other != name:
            return name, other, difference(name, other)
    return None


def twins(names: Iterable[str]) -> tuple[str, str, str] | None:
    """Return the first two of some different names that look the same but for case, and how they differ."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(_folded(name, _LOOK), name)
        if other != name:
            return other, name, difference(other, name)
    return None


def _folded(text: str, folds: Mapping[str, Callable[[str], str]]) -> str:
    for fold in folds.values():
        text = fold(text)
    return text


def _odd_letters(one: str, other: str) -> str:
    """Return the characters beyond ASCII that only one of two names has, by name, since they look alike."""
    odd = sorted(letter for letter in {*one} ^ {*other} if not (letter.isascii() and letter.isprintable()))
    names = [f"U+{ord(letter):04X} {unicodedata.name(letter, '')}".strip() for letter in odd[:3]]
    return f" ({', '.join(names)})" if names else ""
