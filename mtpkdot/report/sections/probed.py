"""Section on probes: predicted against measured gains."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtpkdot.pipeline.probed import data_of_run, probes_in
from mtpkdot.pipeline.stages import STUDENT
from mtpkdot.pipeline.study import BASE
from mtpkdot.report.compare import Comparison, Difference
from mtpkdot.report.figures import gains
from mtpkdot.report.page import Block, Figure, Heading, Table
from mtpkdot.report.sections.results import Found
from mtpkdot.report.sources import labelled_of

# Method -> the gain of a probe that predicts its own.
_PREDICTED = {"mtpkdot_plus": "gain", "selftraining": "control_gain", "oracle": "oracle_gain"}
_NEAR = math.log(1.25)  # Numbers of labelled people whose ratio is below 1.25 count as equal.


@dataclass(frozen=True)
class Prediction:
    """Predicted and measured gain of a method over base.

    Attributes:
        setting: the setting of the study.
        labelled: labelled people of the prediction, in words.
        predicted: value, lower and upper end.
        measured: the difference from base.
        file: file of the probe.
    """

    setting: str
    labelled: str
    predicted: tuple[float, float, float]
    measured: Difference
    file: Path


def predicted(comparisons: Sequence[Comparison], found: Mapping[str, Found]) -> list[Block]:
    """Return predicted against measured gains of all settings whose data have been probed; nothing if there are none.

    Args:
        comparisons: comparisons of all settings.
        found: values and differences by setting.
    """
    of = [each for comparison in comparisons for each in _of_setting(comparison, found[comparison.setting][1])]
    if not of:
        return []
    lines = [["setting", "method", "probed with labels of", "predicted", "95 % interval", "measured", "95 % interval"]]
    for each in of:
        value, low, high = each.predicted
        d = each.measured
        ends = "" if math.isnan(d.low) else f"{d.low:+.4f} to {d.high:+.4f}"
        numbers = [f"{value:+.4f}", f"{low:+.4f} to {high:+.4f}", f"{d.value:+.4f}", ends]
        lines.append([each.setting, d.method, each.labelled, *numbers])
    metric, files = comparisons[0].primary[0], dict.fromkeys(str(each.file) for each in of)
    caption = (
        f"Gains in {metric} over the base: predicted by mtpkdot probe, of linear models on inner folds without the "
        f"test part ({', '.join(files)}), and measured on the test parts."
    )
    drawn = gains.predictions([(f"{e.measured.method}, {e.setting}", e.predicted, e.measured) for e in of], metric)
    told = "; ".join(f"{e.measured.method} {e.setting} {e.predicted[0]:+.4f}, {e.measured.value:+.4f}" for e in of)
    return [
        Heading("Predicted and measured gains", 3),
        Table(lines, caption),
        Figure(
            drawn,
            f"Predicted and measured gain: {told}",
            "Predicted and measured gains with 95 % intervals; on the line they are equal.",
        ),
    ]


def _of_setting(comparison: Comparison, differences: Sequence[Difference]) -> list[Prediction]:
    found = []
    for difference in differences:
        model = comparison.models(difference.method)[0]
        student = model.record["stages"].get(STUDENT, {"keys": {}})
        gain = _PREDICTED.get(str(student["keys"].get(f"{STUDENT}.model.method")))
        if difference.reference != BASE or gain is None:
            continue
        labelled, recordings = labelled_of(model.record)[0], model.record["labelled"]["train"]
        for file, probe in probes_in(model.entry.root, data_of_run(model.record)):
            point = _point(probe, labelled, recordings)
            if point is not None and gain in point:
                words = f"{point['labelled']} {probe['unit']}"
                ends = point[gain]["value"], point[gain]["low"], point[gain]["high"]
                found.append(Prediction(comparison.setting, words, predicted=ends, measured=difference, file=file))
                break
    return found


def _point(probe: Mapping[str, Any], labelled: str, recordings: int) -> dict[str, Any] | None:
    """Return the point of a probe for the labelled people of a setting; None if it has none.

    Args:
        probe: the probe.
        labelled: labelled people of the setting as configured.
        recordings: number of labelled recordings in its training part.
    """
    curve: list[dict[str, Any]] = probe["curve"]
    if probe["labelled_subjects"] == labelled:
        return curve[-1]
    if probe["unit"] == "people" and not labelled.isdecimal():
        return None
    number = int(labelled) if probe["unit"] == "people" else recordings
    nearest = min(curve, key=lambda point: abs(math.log(point["labelled"] / number)))
    return nearest if abs(math.log(nearest["labelled"] / number)) < _NEAR else None
