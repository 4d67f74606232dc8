"""How all figures look: one palette, markers and line styles that tell apart what colours may not, text as text."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

# Okabe & Ito's palette, which people with any colour vision tell apart; its yellow is too pale for lines on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS = "osD^vPX*<>"
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)), (0, (8, 3)))
VALUES = "cividis"  # even in lightness, for all eyes
WIDTH = 7.2  # inches: a column of A4 between margins

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "svg.fonttype": "none",
    "text.parse_math": False,  # names with a dollar are names
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "figure.constrained_layout.use": True,
}
_numbers = count(1)


def mark(index: int) -> dict[str, Any]:
    """Colour, marker and line style of the index-th of what is compared: no two of the first forty are alike."""
    return {
        "color": PALETTE[index % len(PALETTE)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[index % len(DASHES)],
    }


@contextmanager
def panels(
    rows: int, columns: int, height: float, width: float = WIDTH, **options: Any
) -> Iterator[tuple["Drawing", list[list["Axes"]]]]:
    """A figure of rows x columns axes in the common style.

    Args:
        rows: of axes.
        columns: of axes.
        height: of a row, inches.
        width: of the figure, inches.
        options: of `Figure.subplots`.
    """
    # Half a second, which only reports pay. Figures without pyplot need no display and no closing.
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height * rows))
        axes = figure.subplots(rows, columns, squeeze=False, **options)
        yield figure, axes.tolist()


def svg(figure: "Drawing") -> str:
    """The figure as an `<svg>` element that can stand beside others in one page."""
    import matplotlib

    prefix = f"f{next(_numbers)}-"
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": "mtpkdot"}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    # Pictures are named by what they show: two that are alike would have one name, which nobody refers to.
    text = re.sub(r'(<image [^>]*?) id="[^"]*"', r"\1", text)
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = re.sub(r'href="#', f'href="#{prefix}', text)
    text = text.replace("url(#", f"url(#{prefix}")
    # Whoever lacks the font that was measured gets another wide one.
    return text.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif").strip()


def legend(figure: "Drawing", axes: "Axes", columns: int = 4) -> None:
    """One legend for all axes, below them."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)))


def shorten(name: str, most: int = 24) -> str:
    """A name that fits beside an axis."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def hide(axes: Sequence["Axes"]) -> None:
    """Leave places of a grid empty."""
    for ax in axes:
        ax.set_axis_off()
