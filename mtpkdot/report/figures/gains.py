"""Figures of gains over the base: of methods, per subject, and by the number of labelled people."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtpkdot.report.compare import Difference, Value
from mtpkdot.report.figures.style import WIDTH, legend, mark, panels, shorten, svg
from mtpkdot.report.tallies import Array


def intervals(values: Sequence[Value], differences: Sequence[Difference], metric: str, reference: str) -> str:
    """Draw the value of every method, and beside it the gain over the reference."""
    of = {d.method: d for d in differences if d.reference == reference}
    with panels(1, 2 if of else 1, 0.5 + 0.26 * len(values), sharey=True) as (figure, axes):
        for row, value in enumerate(values):
            style: dict[str, Any] = {"color": "#0072B2" if value.method in of else "#555555", "capsize": 2.5}
            shapes = "o" if value.method in of else "s"
            axes[0][0].errorbar(value.value, row, xerr=_ends(value), fmt=shapes, **style)
            if value.method in of:
                difference = of[value.method]
                axes[0][1].errorbar(difference.value, row, xerr=_ends(difference), fmt="o", **style)
        axes[0][0].set_yticks(range(len(values)), [shorten(value.method) for value in values])
        axes[0][0].invert_yaxis()
        axes[0][0].set_xlabel(f"{metric}, 95 % interval")
        for ax in axes[0]:
            ax.grid(axis="x")
        if of:
            axes[0][1].axvline(0, color="black", linewidth=0.8)
            axes[0][1].set_xlabel(f"difference from {reference}, 95 % interval")
        return svg(figure)


def _ends(of: Value | Difference) -> list[list[float]] | None:
    if np.isnan(of.low):
        return None
    # The bootstrap interval of a biased statistic need not contain its value.
    return [[max(of.value - of.low, 0.0)], [max(of.high - of.value, 0.0)]]


def per_subject(gains: Mapping[str, Array], subjects: Sequence[str], metric: str) -> str:
    """Draw the gain over the base of every subject, sorted.

    Args:
        gains: (S,) for each method; NaN for subjects that were not tested.
        subjects: (S,) names.
        metric: name of the metric.
    """
    named = len(subjects) <= 60
    with panels(1, 1, 3.0) as (figure, axes):
        ax = axes[0][0]
        first = next(iter(gains.values()))
        # All methods in the order of the first one, so that each column is one person.
        order = np.argsort(np.where(np.isnan(first), np.inf, first), kind="stable")
        for index, (method, values) in enumerate(gains.items()):
            style = mark(index) | {"linestyle": "none", "alpha": 0.85}
            mean = np.nanmean(values) if not np.isnan(values).all() else np.nan
            up, down = int((values > 0).sum()), int((values < 0).sum())
            label = f"{shorten(method)}: mean {mean:+.3f}, {up} better, {down} worse"
            ax.plot(np.arange(len(order)), values[order], label=label, **style)
        ax.axhline(0, color="black", linewidth=0.8)
        ax.grid(axis="y")
        ax.set_ylabel(f"gain in {metric}")
        if named:
            names = [shorten(subjects[i], 12) for i in order]
            ax.set_xticks(range(len(order)), names, rotation=90, fontsize=6.5)
        ax.set_xlabel("subject" if named else "rank of the subject")
        legend(figure, ax, 2)
        return svg(figure)


Curve = Mapping[str, Mapping[str, Value | Difference]]  # Method -> labelled people -> value.


def by_labels(values: Curve, gains: Curve, counts: Mapping[str, str], metric: str, lines: Sequence[str]) -> str:
    """Draw values and gains against the number of labelled people.

    Args:
        values: values of every method.
        gains: gains of the students over the base.
        counts: label of each number, in order.
        metric: name of the metric.
        lines: control methods, drawn thin and grey.
    """
    places = {key: index for index, key in enumerate(counts)}
    with panels(1, 2, 3.6, WIDTH) as (figure, axes):
        colours = [method for method in values if method not in lines]
        for ax, curves in ((axes[0][0], values), (axes[0][1], gains)):
            for index, (method, points) in enumerate(curves.items()):
                control = method in lines
                style = mark(lines.index(method) + 2 if control else colours.index(method))
                style |= {"color": "#555555", "linewidth": 1.0} if control else {}
                known = [(places[key], value) for key, value in points.items() if key in places]
                known.sort(key=lambda pair: pair[0])
                x = np.array([place for place, _ in known]) + 0.03 * (index - len(curves) / 2)
                y = [value.value for _, value in known]
                ends = np.array([_ends(value) or [[0.0], [0.0]] for _, value in known])[:, :, 0].T
                ax.errorbar(x, y, yerr=ends, capsize=2, elinewidth=0.8, label=shorten(method), **style)
            ax.set_xticks(range(len(counts)), list(counts.values()))
            ax.set_xlabel("labelled people")
            ax.grid(axis="y")
        axes[0][0].set_ylabel(metric)
        axes[0][1].set_ylabel("gain over base")
        axes[0][1].axhline(0, color="black", linewidth=0.8)
        legend(figure, axes[0][0])
        return svg(figure)


def predictions(pairs: Sequence[tuple[str, tuple[float, float, float], Difference]], metric: str) -> str:
    """Draw measured against predicted gains.

    Args:
        pairs: name, predicted value with both ends of its interval, and measured difference.
        metric: name of the metric.
    """
    with panels(1, 1, 3.6, 0.6 * WIDTH) as (figure, axes):
        ax = axes[0][0]
        for index, (name, (value, low, high), measured) in enumerate(pairs):
            x = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
            style = mark(index) | {"linestyle": "none", "capsize": 2, "elinewidth": 0.8}
            ax.errorbar(value, measured.value, xerr=x, yerr=_ends(measured), label=shorten(name), **style)
        ax.axline((0, 0), slope=1, color="#555555", linewidth=0.8)
        ax.axhline(0, color="black", linewidth=0.8)
        ax.grid()
        ax.set_xlabel(f"predicted gain in {metric}")
        ax.set_ylabel("measured gain")
        legend(figure, ax, 2)
        return svg(figure)
