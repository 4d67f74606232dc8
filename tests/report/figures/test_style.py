import re
from xml.etree import ElementTree

from mtpkdot.report.figures.style import PALETTE, legend, mark, panels, shorten, svg


def drawn():
    with panels(1, 2, 2.0) as (figure, axes):
        axes[0][0].plot([0, 1], [0, 1], label="<a> & $b$ c$", **mark(0))
        axes[0][1].imshow([[0.0, 1.0]], cmap="cividis")
        legend(figure, axes[0][0])
        return svg(figure)


def test_a_figure_is_an_element_with_its_text_as_text():
    text = drawn()
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    assert "<a> & $b$ c$" in "".join(root.itertext())
    assert "<metadata" not in text


def test_figures_of_one_page_share_no_id():
    first, second = drawn(), drawn()
    ids = [re.findall(r'\bid="([^"]+)"', text) for text in (first, second)]
    assert ids[0]
    assert not set(ids[0]) & set(ids[1])
    for text, own in zip((first, second), ids, strict=True):
        used = re.findall(r'(?:href="#|url\(#)([^")]+)', text)
        assert used
        assert set(used) <= set(own)


def test_nothing_is_loaded_from_anywhere():
    for link in re.findall(r'href="([^"]*)"', drawn()):
        assert link.startswith(("#", "data:image/png;base64,"))


def test_the_first_forty_look_different():
    looks = {tuple(map(str, mark(index).values())) for index in range(40)}
    assert len(looks) == 40


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_can_be_seen_on_white():
    # 2:1 for the palest, which markers tell apart as well; axes and text are far above.
    assert all(1.05 / (luminance(colour) + 0.05) > 2 for colour in PALETTE)


def test_long_names_are_cut():
    assert shorten("a" * 30, 10) == "a" * 9 + "…"
    assert shorten("short", 10) == "short"
