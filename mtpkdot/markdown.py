"""Conversion of plain text to Markdown that shows it unchanged, for names that come from the data."""

import re
from collections.abc import Sequence

# Punctuation that Markdown, or GitHub's variant, may read as markup anywhere in a line.
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ANYWHERE = re.compile(r"[\\`*<|~$]")
_IN_PLACE = re.compile(
    r"""
      (?<![^\W_])_ | _(?![^\W_])      # emphasis, unless within a word
    | (?<=\])(?=[(\[:])               # a link, or where one leads
    | &(?=\#?\w+;)                    # a character by its name
    | (?<=:)(?=//) | (?<=www)(?=\.)   # an address by itself
    | (?<=\w)(?=@[\w-]+\.)
    """,
    re.VERBOSE,
)
_AT_START = re.compile(r"^(?=[#>=]|[-+](?!\d))|^(?P<number>\d+)(?=[.)](\s|$))")


def escaped(text: str) -> str:
    """Return Markdown that shows a text unchanged on one line."""
    text = _UNSEEN.sub(" ", text).strip()
    text = _ANYWHERE.sub(r"\\\g<0>", text)
    text = _IN_PLACE.sub(lambda found: f"\\{found[0]}", text)
    return _AT_START.sub(lambda found: f"{found['number'] or ''}\\", text)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the Markdown lines of a table of plain text, whose first row is the header."""
    cells = [[escaped(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [f"| {' | '.join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))} |" for row in cells]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def listing(text: str) -> str:
    """Return a fenced Markdown block that shows a text unchanged."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 0)
    return f"{fence}\n{text.rstrip()}\n{fence}"
