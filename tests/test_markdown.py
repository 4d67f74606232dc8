"""Names of the data are shown as they are, and change nothing around them."""

import re

import pytest

from mtpkdot.markdown import escaped, listing, table


def shown(text):
    """The text that a reader of Markdown sees: every escape is its own character."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a|b", r"a\|b"),
        ("`code`", r"\`code\`"),
        ("<b>bold</b>", r"\<b>bold\</b>"),
        ("*a* **b**", r"\*a\* \*\*b\*\*"),
        ("_a_ b", r"\_a\_ b"),
        ("__init__", r"\_\_init\_\_"),
        ("~~gone~~", r"\~\~gone\~\~"),
        ("$x$", r"\$x\$"),
        ("[x](javascript:alert(1))", r"[x]\(javascript:alert(1))"),
        ("![x](http://e.org/p.png)", r"![x]\(http:\//e.org/p.png)"),
        ("[x][y]", r"[x]\[y]"),
        ("[x]: //e.org", r"[x]\:\ //e.org".replace("\\ ", " ")),
        ("https://e.org", r"https:\//e.org"),
        ("www.e.org", r"www\.e.org"),
        ("me@e.org", r"me\@e.org"),
        ("&lt;b&gt; &#60;", r"\&lt;b\&gt; \&#60;"),
        ("# title", r"\# title"),
        ("> said", r"\> said"),
        ("- item", r"\- item"),
        ("+ item", r"\+ item"),
        ("1. item", r"1\. item"),
        ("===", r"\==="),
        ("---", r"\---"),
        ("C:\\dir", r"C:\\dir"),
        (r"\|", r"\\\|"),
    ],
)
def test_markup_in_a_name_is_its_letters(name, written):
    assert escaped(name) == written
    assert shown(written) == name


@pytest.mark.parametrize(
    "text",
    [
        "mtpkdot_plus",
        "val/macro_f1",
        "+0.0123 [-0.0100, +0.0300], 0.012 / 0.034",
        "-0.5",
        "1.5 s",
        "student (video+signal)",
        "labelled_0.5: a & b, 3 > 2, 100 %",
        "teacher@slow",
    ],
)
def test_ordinary_names_and_numbers_stay_as_they_are(text):
    assert escaped(text) == text


def test_a_name_of_several_lines_is_one_line():
    assert escaped("a\n# b\r\n\tc\x00\x85d\u2028e") == "a # b   c  d e"
    lines = table([["a\n|b", "c"], ["d", "|\n|"]])
    assert len(lines) == 3
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in lines)
    assert len({len(line) for line in lines}) == 1


def test_a_block_of_text_ends_where_its_text_ends():
    for text in ("a", "```\n# b\n```", "`````"):
        first, *inner, last = listing(text).splitlines()
        assert first == last
        assert inner == text.splitlines()
        assert not any(line.startswith(first) for line in inner)


def test_a_table_without_rows_is_its_header():
    assert table([["a", "b"]]) == ["| a | b |", "|---|---|"]
