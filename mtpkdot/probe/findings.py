"""Findings of a probe: tables, an answer with its rule, and the command that comes next."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mtpkdot.markdown import escaped, table
from mtpkdot.probe.draws import Plan
from mtpkdot.probe.models import CONTROL, KINDS, ORACLE, POOL, TAUGHT, named
from mtpkdot.probe.scores import Estimate, Scores

Answer = Literal["yes", "no", "unknown"]
SMALL = 0.01  # A gain that is not worth the time of training.
RULE = (
    "Rule: yes if the whole 95 % interval of the gain is above 0; no if all of it is below "
    f"{SMALL}, or if no recording lacks a label; otherwise it cannot be told."
)
_OPENING: dict[Answer, str] = {"yes": "Yes", "no": "No", "unknown": "It cannot be told"}


@dataclass(frozen=True)
class Point:
    """Scores with the labels of a number of people.

    Attributes:
        labelled: number of labelled people.
        base: the linear model of the prevalent modality.
        together: that of all modalities.
        pool: the pool of all models.
        gain: gain over base of the same model, taught by the pool; None without recordings to teach.
        control_gain: gain where the pool has the prevalent modality alone.
        over_control: difference of both gains.
        oracle_gain: gain with the true labels; None where they are not known.
    """

    labelled: int
    base: Estimate
    together: Estimate
    pool: Estimate
    gain: Estimate | None
    control_gain: Estimate | None
    over_control: Estimate | None
    oracle_gain: Estimate | None

    def plain(self) -> dict[str, Any]:
        """Return the point as written to probe.json."""
        return {k: v.plain() if isinstance(v, Estimate) else v for k, v in vars(self).items() if v is not None}


@dataclass(frozen=True)
class Findings:
    """Everything that a probe has measured.

    Attributes:
        plan: the fits.
        scores: their scores.
    """

    plan: Plan
    scores: Scores

    @property
    def points(self) -> list[Point]:
        """Curve over the number of labelled people; the last one is for the labels there are."""
        return [self._point(number) for number in self.plan.points]

    @property
    def now(self) -> Point:
        """Point of the labels there are."""
        return self._point(self.plan.points[-1])

    @property
    def answer(self) -> Answer:
        """Answer to the question whether teaching pays, see RULE."""
        gain = self.now.gain
        if self.plan.material.unlabelled == 0 or gain is None or gain.high < SMALL:
            return "no"
        return "yes" if gain.low > 0 else "unknown"

    @property
    def method(self) -> str | None:
        """Recommended method; None if it cannot be told."""
        return {"yes": "mtpkdot_plus", "no": "none", "unknown": None}[self.answer]

    @property
    def reason(self) -> str:
        """Answer in a sentence or two."""
        material, gain, opening = self.plan.material, self.now.gain, _OPENING[self.answer]
        if material.unlabelled == 0 or gain is None:
            sentence = f"{opening}: all {material.training} training recordings have a label, so teachers add nothing."
            few = self.points[0]
            if few.gain is not None:
                sentence += f" With the labels of {self._few(few)} only, the gain would be {few.gain.told(sign=True)}."
            return sentence
        return (
            f"{opening}: with the labels of {self._few(self.now)}, a linear model of {self.plan.question.prevalent} "
            f"that learns from the pool gains {gain.told(sign=True)} {self.plan.question.metric}.{self._origin()}"
        )

    def text(self) -> str:
        """Return all tables and sentences as Markdown."""
        parts = [*self._heading(), *table(self._models()), "", *self._legend(), "", *table(self._curve()), ""]
        return "\n".join([*parts, *(escaped(line) for line in (*self._more(), self.reason, "", RULE))])

    def plain(self) -> dict[str, Any]:
        """Return the findings as written to probe.json."""
        plan, question = self.plan, self.plan.question
        return {
            "metric": question.metric,
            "unit": plan.material.unit,
            "prevalent": question.prevalent,
            "modalities": list(question.modalities),
            "people": len(plan.material.people),
            "recordings": len(plan.material.samples),
            "unlabelled": plan.material.unlabelled,
            "folds": plan.sizes.folds,
            "draws": plan.draws,
            "models": [
                {"kind": kind, "modalities": group, **self._now(named(kind, group)).plain()}
                for group in question.groups
                for kind in KINDS
            ],
            "curve": [point.plain() for point in self.points],
            "answer": self.answer,
            "reason": self.reason,
            **({} if self.method is None else {"method": self.method}),
        }

    def _point(self, number: int) -> Point:
        question, scores = self.plan.question, self.scores
        base = (number, question.base)

        def gain(name: str, over: str = question.base) -> Estimate | None:
            return scores.estimate((number, name), (number, over)) if (number, name) in scores else None

        return Point(
            number,
            scores.estimate(base),
            together=scores.estimate((number, named("linear", question.groups[-1]))),
            pool=scores.estimate((number, POOL)),
            gain=gain(TAUGHT),
            control_gain=gain(CONTROL),
            over_control=gain(TAUGHT, CONTROL),
            oracle_gain=gain(ORACLE),
        )

    def _now(self, model: str) -> Estimate:
        return self.scores.estimate((self.plan.points[-1], model))

    def _few(self, point: Point) -> str:
        return f"{point.labelled} {self.plan.material.unit}"

    def _heading(self) -> Iterator[str]:
        plan, material = self.plan, self.plan.material
        left = f" {material.left_out} recordings are left out for speed." if material.left_out else ""
        if material.reduced:
            left += f" {', '.join(material.reduced)}: principal components of the features."
        yield escaped(
            f"{plan.question.metric} on inner folds over {len(material.people)} {material.unit} with labels of the "
            f"training and validation parts ({plan.sizes.folds} folds, {plan.draws} draws); in each fold "
            f"{plan.sizes.held_out} select and up to {plan.sizes.labelled} train. The test part is not used.{left} "
            f"In brackets: 95 % intervals over {material.unit}."
        )
        yield ""

    def _models(self) -> list[list[str]]:
        rows = [[f"labels of {self._few(self.now)}", *KINDS]]
        for group in self.plan.question.groups:
            name = group[0] if len(group) == 1 else "all together"
            rows.append([name, *(self._now(named(kind, group)).told() for kind in KINDS)])
        return [*rows, ["pool of them", self.now.pool.told(), ""]]

    def _legend(self) -> Iterator[str]:
        prevalent = self.plan.question.prevalent
        yield escaped(
            f"Gains are those of a linear model of {prevalent} that also learns from the pool's answers on recordings "
            f"without a label; control: from a pool of {prevalent} alone; oracle: from the true labels."
        )

    def _curve(self) -> list[list[str]]:
        prevalent = self.plan.question.prevalent
        rows = [["labelled", f"{prevalent} alone", "all together", "pool", "gain", "control", "oracle"]]
        for point in self.points:
            scores = [estimate.told() for estimate in (point.base, point.together, point.pool)]
            gains = [point.gain, point.control_gain, point.oracle_gain]
            rows.append(
                [str(point.labelled), *scores, *("" if gain is None else gain.told(sign=True) for gain in gains)]
            )
        return rows

    def _more(self) -> Iterator[str]:
        """Yield a sentence on the worth of the last labels."""
        if len(self.plan.points) < 2:
            return
        few, many = self.plan.points[-2:]
        question = self.plan.question
        told = [
            f"{name} {self.scores.estimate((many, model), (few, model)).told(sign=True)}"
            for name, model in (
                (f"{question.prevalent} alone", question.base),
                ("all together", named("linear", question.groups[-1])),
            )
        ]
        yield f"More labels: from {few} to {many} labelled {self.plan.material.unit}, {', '.join(told)}."
        yield ""

    def _origin(self) -> str:
        """Return a sentence on how much of a gain is that of the privileged modalities."""
        control, over = self.now.control_gain, self.now.over_control
        if self.answer != "yes" or control is None or over is None:
            return ""
        without = f" The same recipe on {self.plan.question.prevalent} alone gains {control.told(sign=True)}"
        if over.low > 0:
            return f"{without}, so the privileged modalities add {over.told(sign=True)}."
        return (
            f"{without}; the difference, {over.told(sign=True)}, is not clear of 0: compare with selftraining, which "
            "needs no privileged modality."
        )


def command_after(answer: Answer, arguments: Sequence[str]) -> tuple[list[str], str]:
    """Return the command that comes next, and its purpose.

    Args:
        answer: answer of the probe.
        arguments: config and overrides of the probe.
    """
    if answer == "unknown":
        methods = ["--methods", "none,selftraining,mtpkdot_plus"]
        return ["mtpkdot", "crossval", *_unnamed(arguments), *methods], "a comparison by training"
    method = "mtpkdot_plus" if answer == "yes" else "none"
    return ["mtpkdot", "fit", *arguments, "--student.model.method", method], "train what the probe recommends"


def _unnamed(arguments: Sequence[str]) -> list[str]:
    """Return the arguments without the name of a run, which a study gives itself."""
    key, kept, skip = "--pipeline.name", [], False
    for word in arguments:
        if not (skip or word == key or word.startswith(f"{key}=")):
            kept.append(word)
        skip = word == key
    return kept
