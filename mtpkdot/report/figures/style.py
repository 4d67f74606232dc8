"""Common style of all figures: one palette, markers and line styles that also work without colours, text as text."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

# Palette of Okabe & Ito for any colour vision; its yellow is too pale for lines on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS = "osD^vPX*<>"
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)), (0, (8, 3)))
VALUES = "cividis"  # Even in lightness, for any colour vision.
WIDTH = 7.2  # Inches: a column of A4 between margins.

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
    "text.parse_math": False,  # Names with a dollar sign are no formulas.
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "figure.constrained_layout.use": True,
}
_numbers = count(1)


def mark(index: int) -> dict[str, Any]:
    """Return colour, marker and line style of the index-th method or model; the first forty all differ."""
    return {
        "color": PALETTE[index % len(PALETTE)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[index % len(DASHES)],
    }


@contextmanager
def panels(
    rows: int, columns: int, height: float, width: float = WIDTH, **options: Any
) -> Iterator[tuple["Drawing", list[list["Axes"]]]]:
    """Yield a figure of rows x columns axes in the common style.

    Args:
        rows: number of rows.
        columns: number of columns.
        height: height of a row, inches.
        width: width of the figure, inches.
        options: arguments of `Figure.subplots`.
    """
    # Imported here: it takes half a second. Figures without pyplot need no display and no closing.
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height * rows))
        axes = figure.subplots(rows, columns, squeeze=False, **options)
        yield figure, axes.tolist()


def svg(figure: "Drawing") -> str:
    """Return the figure as an `<svg>` element that can stand beside others in one page."""
    import matplotlib

    prefix = f"f{next(_numbers)}-"
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": "mtpkdot"}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    # Images are named by their content: two equal ones would share one name, to which nothing refers.
    text = re.sub(r'(<image [^>]*?) id="[^"]*"', r"\1", text)
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = re.sub(r'href="#', f'href="#{prefix}', text)
    text = text.replace("url(#", f"url(#{prefix}")
    # Without the font that was measured, another wide one is used.
    return text.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif").strip()


def legend(figure: "Drawing", axes: "Axes", columns: int = 4) -> None:
    """Draw one legend for all axes, below them."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)))


def shorten(name: str, most: int = 24) -> str:
    """Return a name shortened to fit beside an axis."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def hide(axes: Sequence["Axes"]) -> None:
    """Hide axes, which leaves their places in the grid empty."""
    for ax in axes:
        ax.set_axis_off()
