"""Pool of teachers of several kinds, calibrated and weighed by held-out people, in one or several rounds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtpkdot.losses.task import Task
from mtpkdot.teachers.calibration import Calibration, log_likelihood, sharpening, unchanged
from mtpkdot.teachers.member import Member, MemberFactory, Targets
from mtpkdot.teachers.rows import Rows

_STEPS = 200


@dataclass(frozen=True)
class Answers:
    """Outputs of a model on rows.

    Attributes:
        output: (N, K) outputs, see `mtpkdot.losses.task`.
        valid: (N,) bool, True where the model had an input.
    """

    output: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Weights:
    """Calibration and weights of the members of a pool, in the order of their names.

    Attributes:
        names: names of the members.
        calibrations: calibration of each member.
        shares: (M,) float64 weights, not negative, with sum 1.
        final: calibration of the weighted mean of the calibrated outputs.
    """

    names: list[str]
    calibrations: list[Calibration]
    shares: Tensor
    final: Calibration

    def combine(self, answers: Mapping[str, Answers]) -> Answers:
        """Return the calibrated pool: for classes the geometric mean of the probabilities, for values the mean."""
        valid = torch.stack([answers[name].valid for name in self.names], dim=1)
        weights = self.shares * valid
        weights = weights / weights.sum(dim=1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
        return Answers(self.final(self._mean(answers, weights)), valid.any(dim=1))

    def _mean(self, answers: Mapping[str, Answers], weights: Tensor) -> Tensor:
        return mean_output(
            [calibrate(answers[name].output) for name, calibrate in zip(self.names, self.calibrations, strict=True)],
            weights,
        )


def mean_output(outputs: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Return the weighted mean (N, K) of outputs.

    The mean of logits is the geometric mean of the probabilities, up to their sum.

    Args:
        outputs: (N, K) per member; arbitrary, even not finite, where a weight is 0.
        weights: (N, M) weights of the members.
    """
    total = torch.zeros_like(outputs[0])
    for output, weight in zip(outputs, weights.T, strict=True):
        total = total + torch.where(weight[:, None] > 0, output * weight[:, None], 0.0)
    return total


def weigh_members(task: Task, answers: Mapping[str, Answers], held_out: Rows) -> Weights:
    """Calibrate and weigh the members of a pool on held-out people.

    The shares are the weights of a mixture that maximise the likelihood of the labels, with a prior of one row in all,
    by expectation maximisation.

    Args:
        task: the task.
        answers: answers of the members on the held-out rows.
        held_out: the held-out rows, N; those without a label are ignored.

    Returns:
        The weights; equal shares if fewer than two labelled rows are seen by all members.
    """
    names = list(answers)
    truth = held_out.target
    seen = held_out.labelled & torch.stack([answer.valid for answer in answers.values()]).all(dim=0)
    calibrations, likelihoods = [], []
    for answer in answers.values():
        own = held_out.labelled & answer.valid
        calibrations.append(Calibration.fit(task, answer.output[own], truth[own]))
        likelihoods.append(log_likelihood(task, calibrations[-1](answer.output[seen]), truth[seen]))
    count = len(names)
    shares = torch.full((count,), 1 / count, dtype=torch.float64)
    rows = int(seen.sum())
    if rows >= 2:
        found = torch.stack(likelihoods, dim=1)
        for _ in range(_STEPS):
            shares = ((found + shares.log()).softmax(dim=1).sum(dim=0) + 1 / count) / (rows + 1)
    weights = Weights(names, calibrations, shares=shares, final=unchanged(answers[names[0]].output.shape[1]))
    pooled = weights.combine(answers)
    known = held_out.labelled & pooled.valid
    return Weights(names, calibrations, shares=shares, final=Calibration.fit(task, pooled.output[known], truth[known]))


class Pool:
    """Pool of members that are fitted in one go, and of networks whose answers are given.

    In the first round the members learn from the labels. In every further round those that can (`learns_from_answers`)
    learn from the labels and from the sharpened answers of the pool on the rows without a label, and join the members
    of the rounds before. All are calibrated and weighed on held-out people.

    Args:
        task: the task.
        size: number of outputs.
        members: constructors of the members, by name; each is used on every group of modalities.
        groups: groups of modalities.
        rounds: number of rounds.
        power: exponent of the probabilities, renormalised, of the answers that further rounds and students learn from;
            1 leaves them calibrated. Values are set to the mean and the spread of the labels instead.

    Attributes:
        members: the fitted members, by name.
        weights: calibration and weights of members and networks; None before `fit`.
        sharpening: map from calibrated answers to those that further rounds and students learn from.
    """

    def __init__(
        self,
        task: Task,
        size: int,
        members: Mapping[str, MemberFactory],
        groups: Sequence[Sequence[str]],
        rounds: int = 2,
        power: float = 2.0,
    ) -> None:
        self.task, self.size, self.factories, self.groups = task, size, dict(members), [list(g) for g in groups]
        self.rounds, self.power = rounds, power
        self.members: dict[str, Member] = {}
        self.weights: Weights | None = None
        self.sharpening = unchanged(size)

    def fit(
        self,
        training: Rows,
        held_out: Rows,
        of_training: Mapping[str, Answers] | None = None,
        of_held_out: Mapping[str, Answers] | None = None,
    ) -> tuple[Answers, Answers]:
        """Fit the members and weigh them.

        Args:
            training: the training rows, N.
            held_out: rows of other people.
            of_training: answers of networks on the training rows, by name.
            of_held_out: their answers on the held-out rows.

        Returns:
            The calibrated answers of the pool on the training rows and on the held-out rows.
        """
        known = held_out.keep(held_out.labelled)
        targets = Targets.of_labels(self.task, training, self.size)
        on_training, on_held_out = dict(of_training or {}), dict(of_held_out or {})
        self.members = {}
        for number in range(1, self.rounds + 1):
            for name, member in self._built(number):
                output = member.fit(self.task, training, targets, known)
                self.members[name] = member
                on_training[name] = Answers(output, training.seen(member.modalities))
                on_held_out[name] = self._answer(member, held_out)
            self.weights = weigh_members(self.task, on_held_out, held_out)
            pooled = self.weights.combine(on_training)
            taught = pooled.valid & ~training.labelled
            answers = pooled.output[taught if bool(taught.any()) else pooled.valid]
            self.sharpening = sharpening(self.task, self.power, answers, training.target[training.labelled])
            pooled = self.sharpened(pooled)
            targets = Targets.of_labels(self.task, training, self.size).with_answers(
                self.task, pooled.output, pooled.valid
            )
        weights = self._fitted()
        return weights.combine(on_training), weights.combine(on_held_out)

    def _built(self, number: int) -> Iterator[tuple[str, Member]]:
        """Yield the members of a round, not fitted, with their names: `KIND.MODALITY+MODALITY`, and the round."""
        for kind, factory in self.factories.items():
            for group in self.groups:
                member = factory(group)
                if number == 1 or member.learns_from_answers:
                    yield f"{kind}.{'+'.join(group)}" + (f".{number}" if number > 1 else ""), member

    def state(self) -> dict[str, Any]:
        """Return the fitted pool as tensors and plain data."""
        weights = self._fitted()
        return {
            "members": {name: dict(member.state) for name, member in self.members.items()},
            "names": list(weights.names),
            "calibrations": [(c.slope, c.offset) for c in weights.calibrations],
            "shares": weights.shares,
            "final": (weights.final.slope, weights.final.offset),
            "sharpening": (self.sharpening.slope, self.sharpening.offset),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` has returned."""
        self.members = {}
        for number in range(1, self.rounds + 1):
            for name, member in self._built(number):
                member.state = dict(state["members"][name])
                self.members[name] = member
        self.weights = Weights(
            list(state["names"]),
            [Calibration(*pair) for pair in state["calibrations"]],
            shares=state["shares"],
            final=Calibration(*state["final"]),
        )
        self.sharpening = Calibration(*state["sharpening"])

    def _fitted(self) -> Weights:
        if self.weights is None:
            raise RuntimeError("the pool has not been fitted")
        return self.weights

    def answers(self, rows: Rows, of_networks: Mapping[str, Answers] | None = None) -> Answers:
        """Return the calibrated answers of the pool, (N, K).

        Args:
            rows: the rows.
            of_networks: answers of the networks on them, by name.
        """
        own = {name: self._answer(member, rows) for name, member in self.members.items()}
        return self._fitted().combine({**(of_networks or {}), **own})

    def sharpened(self, answers: Answers) -> Answers:
        """Return the answers to learn from, see `mtpkdot.teachers.calibration.sharpening`."""
        return Answers(self.sharpening(answers.output), answers.valid)

    @staticmethod
    def _answer(member: Member, rows: Rows) -> Answers:
        return Answers(member.output(rows), rows.seen(member.modalities))
