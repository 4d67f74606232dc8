"""Figures of feature spaces: similarity matrices, maps, and the transport between spaces."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtpkdot.report.figures.style import MARKERS, PALETTE, VALUES, hide, legend, panels, shorten, svg
from mtpkdot.report.tallies import Array


def similarities(matrices: Mapping[str, Array], bounds: Sequence[int]) -> str:
    """Draw similarity matrices (n, n) side by side, samples sorted, with lines where the class changes.

    Args:
        matrices: matrix of each space.
        bounds: first sample of every class but the first; empty for values.
    """
    columns = min(3, len(matrices))
    rows = math.ceil(len(matrices) / columns)
    with panels(rows, columns, 2.5) as (figure, axes):
        flat = [ax for row in axes for ax in row]
        hide(flat[len(matrices) :])
        image = None
        for ax, (name, matrix) in zip(flat, matrices.items(), strict=False):
            image = ax.imshow(matrix, cmap=VALUES, vmin=-1, vmax=1, interpolation="nearest")
            for bound in bounds:
                ax.axhline(bound - 0.5, color="white", linewidth=0.6)
                ax.axvline(bound - 0.5, color="white", linewidth=0.6)
            ax.set_title(shorten(name, 28))
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
        assert image is not None
        figure.colorbar(image, ax=flat, shrink=0.7, label="similarity")
        return svg(figure)


def maps(lines: Sequence[Mapping[str, Array]], labels: Array, names: Sequence[str]) -> str:
    """Draw maps (n, 2) of feature spaces.

    Args:
        lines: coordinates of each space, by line of the figure.
        labels: (n,) classes, or values.
        names: names of the classes; empty for values.
    """
    columns = max(map(len, lines))
    with panels(len(lines), columns, 7.2 / max(columns, 3)) as (figure, axes):
        points, used = None, []
        for row, line in zip(axes, lines, strict=True):
            hide(row[len(line) :])
            used += list(zip(row, line.items(), strict=False))
        for ax, (name, place) in used:
            if names:
                for index, label in enumerate(names):
                    rows_of = labels == index
                    colour, shape = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
                    style: dict[str, Any] = {"s": 12, "color": colour, "marker": shape, "linewidths": 0}
                    ax.scatter(place[rows_of, 0], place[rows_of, 1], label=shorten(label), **style)
            else:
                points = ax.scatter(place[:, 0], place[:, 1], c=labels, cmap=VALUES, s=12, linewidths=0)
            ax.set_title(shorten(name, 30))
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(True)
            ax.spines[:].set_color("#bbbbbb")
        if points is not None:
            figure.colorbar(points, ax=[ax for row in axes for ax in row], shrink=0.7, label="value")
        legend(figure, axes[0][0], 5)
        return svg(figure)


def plan(mass: Array, bounds: Sequence[int], teacher: str, student: str) -> str:
    """Draw the transport (n, n) from rows of the teacher's structure to the student's; 1 is the mass of a sample."""
    with panels(1, 1, 3.6, 4.6) as (figure, axes):
        ax = axes[0][0]
        # The square root, because most of the mass is spread thin.
        image = ax.imshow(np.sqrt(mass * len(mass)), cmap=VALUES, vmin=0, vmax=1, interpolation="nearest")
        for bound in bounds:
            ax.axhline(bound - 0.5, color="white", linewidth=0.6)
            ax.axvline(bound - 0.5, color="white", linewidth=0.6)
        ax.set_ylabel(f"sample in {shorten(teacher)}")
        ax.set_xlabel(f"sample in {shorten(student)}")
        ax.spines[:].set_visible(False)
        figure.colorbar(image, ax=ax, shrink=0.8, label="root of the share of a sample's mass")
        return svg(figure)
