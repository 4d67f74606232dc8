"""Figures of predictions: confusion, calibration, values against truths, traces over time."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mtpkdot.report.figures.style import VALUES, hide, legend, mark, panels, shorten, svg
from mtpkdot.report.tallies import Array

_POINTS = 2000


def confusion(counts: Mapping[str, Array], classes: Sequence[str]) -> str:
    """Draw the shares of predictions per true class from counts (C, C) of each model; rows are truths."""
    columns = min(3, len(counts))
    rows = math.ceil(len(counts) / columns)
    size = len(classes)
    names = [shorten(name, 12) for name in classes]
    with panels(rows, columns, 2.4 + 0.07 * max(map(len, names))) as (figure, axes):
        flat = [ax for row in axes for ax in row]
        hide(flat[len(counts) :])
        image = None
        for place, (ax, (model, table)) in enumerate(zip(flat, counts.items(), strict=False)):
            shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
            image = ax.imshow(shares, cmap=VALUES, vmin=0, vmax=1)
            if size <= 12:
                for i, j in np.ndindex(size, size):
                    shade = "white" if shares[i, j] < 0.5 else "black"
                    text = f"{100 * shares[i, j]:.0f}"
                    ax.text(j, i, text, ha="center", va="center", color=shade, fontsize=7 if size < 9 else 5.5)
            ax.set_xticks(range(size), names, rotation=90, fontsize=7)
            ax.set_yticks(range(size), names if place % columns == 0 else [""] * size, fontsize=7)
            ax.set_title(shorten(model, 26))
            ax.spines[:].set_visible(False)
        figure.supxlabel("answer", fontsize=9)
        figure.supylabel("truth", fontsize=9)
        assert image is not None
        figure.colorbar(image, ax=flat, shrink=0.6, label="share of the true class")
        return svg(figure)


def calibration(bins: Mapping[str, Array]) -> str:
    """Draw the accuracy of models at each confidence from sums (BINS, 3) of each model."""
    with panels(1, 2, 3.4) as (figure, axes):
        for index, (model, table) in enumerate(bins.items()):
            some = table[:, 0] > 0
            known = table[some]
            confidence, right = known[:, 2] / known[:, 0], known[:, 1] / known[:, 0]
            axes[0][0].plot(confidence, right, label=shorten(model), **mark(index))
            axes[0][1].plot(confidence, known[:, 0] / known[:, 0].sum(), **mark(index))
        axes[0][0].plot([0, 1], [0, 1], color="#777777", linewidth=0.8, label="calibrated")
        axes[0][0].set_ylabel("share of right answers")
        axes[0][1].set_ylabel("share of the samples")
        for ax in axes[0]:
            ax.set_xlabel("confidence")
            ax.set_xlim(0, 1)
            ax.grid()
        legend(figure, axes[0][0])
        return svg(figure)


def scatter(tables: Mapping[str, pd.DataFrame], targets: Sequence[str]) -> str:
    """Draw predictions against truths; a row per target (at most 4), a column per model."""
    shown = targets[:4]
    with panels(len(shown), len(tables), 2.3) as (figure, axes):
        for column, (model, table) in enumerate(tables.items()):
            for row, target in enumerate(shown):
                ax = axes[row][column]
                part = table[(table["target"] == target) & table["truth"].notna()]
                step = max(1, math.ceil(len(part) / _POINTS))
                x, y = part["truth"].to_numpy(float)[::step], part["prediction"].to_numpy(float)[::step]
                if len(x):
                    low, high = min(x.min(), y.min()), max(x.max(), y.max())
                    ax.plot([low, high], [low, high], color="black", linewidth=0.8)
                ax.plot(x, y, "o", color="#0072B2", alpha=0.3, markersize=2.5, markeredgewidth=0, rasterized=True)
                ax.set_title(f"{shorten(model)}: {shorten(target)}")
                ax.grid()
                ax.set_xlabel("truth")
            axes[0][0].set_ylabel("prediction")
        return svg(figure)


def traces(tables: Mapping[str, pd.DataFrame], targets: Sequence[str], clip: str) -> str:
    """Draw truth and predictions of one clip over its frames; columns frame, target, truth, prediction per model."""
    with panels(len(targets[:4]), 1, 1.9, sharex=True) as (figure, axes):
        for row, target in enumerate(targets[:4]):
            ax = axes[row][0]
            for index, (model, table) in enumerate(tables.items()):
                part = table[table["target"] == target].sort_values("frame")
                if index == 0:
                    ax.plot(part["frame"], part["truth"], color="black", linewidth=2.2, label="truth")
                style = mark(index) | {"markevery": max(1, len(part) // 12)}
                ax.plot(part["frame"], part["prediction"], label=shorten(model), **style)
            ax.set_ylabel(shorten(target))
            ax.grid()
        axes[-1][0].set_xlabel(f"frame of {shorten(clip, 40)}")
        legend(figure, axes[0][0])
        return svg(figure)
