"""Figures of training: learning curves, and the share of each teacher."""

import math
from collections.abc import Mapping

import pandas as pd

from mtpkdot.report.figures.style import PALETTE, hide, legend, mark, panels, shorten, svg

Curves = Mapping[str, pd.DataFrame]  # Model -> epoch, and mean, low and high of each logged value.


def curves(models: Curves, monitors: Mapping[str, str]) -> str:
    """Draw training loss and monitored value of every model; bands show the range over folds and seeds.

    Args:
        models: frames with columns (value, mean|low|high), the index being the epoch.
        monitors: name of the monitored value of each model.
    """
    columns = 3
    rows = math.ceil(len(models) / columns)
    with panels(rows, columns, 1.9) as (figure, axes):
        flat = [ax for row in axes for ax in row]
        hide(flat[len(models) :])
        for ax, (model, frame) in zip(flat, models.items(), strict=False):
            _band(ax, frame, value="train/loss", colour=PALETTE[0], dashes="-", label="training loss (left)")
            ax.set_title(shorten(model, 30))
            ax.set_xlabel("epoch")
            ax.locator_params(axis="x", integer=True)
            ax.grid(axis="y")
            monitor = monitors[model]
            if monitor in frame and monitor != "train/loss":
                other = ax.twinx()
                other.spines["right"].set_visible(True)
                _band(
                    other, frame, value=monitor, colour=PALETTE[1], dashes=(0, (5, 2)), label="selecting value (right)"
                )
                ax.plot([], [], color=PALETTE[1], linestyle=(0, (5, 2)), label="value that selects the epoch (right)")
                other.set_ylabel(monitor, color=PALETTE[1], fontsize=7.5)
        legend(figure, flat[0])
        return svg(figure)


def teachers(models: Curves) -> str:
    """Draw the share of each teacher over the epochs for every student; frames as for `curves`, by teacher."""
    columns = min(2, len(models))
    rows = math.ceil(len(models) / columns)
    names = list(dict.fromkeys(str(value) for frame in models.values() for value in frame.columns.unique(0)))
    with panels(rows, columns, 2.3, sharey=True) as (figure, axes):
        flat = [ax for row in axes for ax in row]
        hide(flat[len(models) :])
        for ax, (model, frame) in zip(flat, models.items(), strict=False):
            for index, name in enumerate(names):
                if name in frame:
                    style = mark(index) | {"markevery": max(1, len(frame) // 8)}
                    ax.plot(frame.index, frame[name, "mean"], label=name, **style)
            ax.set_title(shorten(model, 30))
            ax.set_xlabel("epoch")
            ax.locator_params(axis="x", integer=True)
            ax.set_ylim(-0.03, 1.03)
            ax.grid(axis="y")
        axes[0][0].set_ylabel("share")
        legend(figure, max(flat[: len(models)], key=lambda ax: len(ax.lines)))
        return svg(figure)


def _band(ax: object, frame: pd.DataFrame, value: str, colour: str, dashes: object, label: str) -> None:
    from matplotlib.axes import Axes

    assert isinstance(ax, Axes)
    if value in frame:
        known = frame[value].dropna()
        ax.fill_between(known.index, known["low"], known["high"], color=colour, alpha=0.18, linewidth=0)
        ax.plot(known.index, known["mean"], color=colour, linestyle=dashes, label=label)
