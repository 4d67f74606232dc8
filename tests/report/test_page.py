from html.parser import HTMLParser

from mtpkdot.report.page import Figure, Heading, Listing, Page, Table, Text

NASTY = "<script>alert('&\"|')</script>"


class Outline(HTMLParser):
    """Tags, headings, ids, links and text of a page; every tag that is opened is closed."""

    VOID = ("meta", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.links, self.headings, self.text = [], [], [], [], [], ""
        self.attributes = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        self.ids += [value for key, value in attrs if key == "id"]
        self.links += [value for key, value in attrs if key == "href" and tag == "a"]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("h1", "h2", "h3"):
            self.headings.append(int(tag[1]))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def page():
    rows = [["method", "value", NASTY], ["a", "+0.1 [0.0, 0.2]", "x"], [NASTY, "", "y"]]
    blocks = [
        *(Heading(NASTY), Heading("Below", 3), Text(NASTY), Table(rows, NASTY)),
        *(Figure("<svg viewBox='0 0 1 1'></svg>", NASTY, NASTY), Listing(NASTY, NASTY), Heading("Last")),
    ]
    return Page(NASTY, blocks)


def test_names_are_text_and_nothing_else():
    outline = Outline(page().html())
    assert "script" not in outline.tags
    assert outline.text.count(NASTY) == 11
    assert ("svg", "aria-label", NASTY) in outline.attributes
    assert ("svg", "role", "img") in outline.attributes


def test_headings_are_in_order_and_linked_from_the_contents():
    outline = Outline(page().html())
    assert outline.headings == [1, 2, 3, 2]
    assert [f"#{name}" for name in outline.ids] == outline.links
    assert len(outline.links) == 3
    assert ("html", "lang", "en") in outline.attributes


def test_columns_of_numbers_are_set_right_and_rows_have_heads():
    text = page().html()
    assert '<td class="n">+0.1 [0.0, 0.2]</td>' in text
    assert "<td>x</td>" in text
    assert text.count('scope="col"') == 3
    assert text.count('scope="row"') == 2


def test_markdown_has_the_same_in_words():
    text = page().markdown()
    assert text.count("\n## ") == 2
    assert "Figure 1 (in report.html): " in text
    # A bar in a name does not end the cell.
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert {line.replace("\\|", "").count("|") for line in lines} == {4}
    assert len({len(line) for line in lines}) == 1
    # Nor is anything of it a tag, a heading, a link or code.
    assert text.count("<script>") == text.count("\\<script>") + 1  # the block of text, where it stands as it is
    nasty = "# x\n## y `code` [z](javascript:alert(1))"
    blocks = [Heading(nasty), Text(nasty), Table([[nasty], [nasty]], nasty), Figure("", nasty, nasty)]
    text = Page(nasty, blocks).markdown()
    assert text.count("\n#") == 1
    assert "](" not in text
    assert text.count("`") == text.count("\\`")
