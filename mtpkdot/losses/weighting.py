"""Weights of loss terms in the course of training."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

Term = Literal["task", "transport", "centroid", "output", "rival"]
Weighting = Literal["fixed", "uncertainty", "rise", "fall"]


class TermWeights(nn.Module):
    """Weighted sum of loss terms.

    Args:
        weights: weight per term.
        weighting: `fixed` (the papers'); `uncertainty`, learned: `sum_i w_i (L_i / (2 s_i^2) + ln(1 + s_i^2))` with one
            trained s_i per term (Kendall et al., CVPR 2018, in the form of Liebel and Koerner, arXiv 1805.06334, which
            stays positive); `rise`, the weights of all terms but the task's grow from 0 along half a cosine during the
            first `ramp` of the training; `fall`, they fall to 0 along half a cosine during its last `ramp`.
        ramp: fraction of the training, in (0, 1], in which weights rise or fall.

    Raises:
        ValueError: the ramp is out of range, or a weight is negative while weights are learned.
    """

    def __init__(self, weights: Mapping[Term, float], weighting: Weighting = "fixed", ramp: float = 1.0) -> None:
        super().__init__()
        if not 0 < ramp <= 1:
            raise ValueError(f"ramp must lie in (0, 1], not {ramp}")
        if weighting == "uncertainty" and any(weight < 0 for weight in weights.values()):
            raise ValueError("learned weights need weights that are not negative")
        self.weights, self.weighting, self.ramp = dict(weights), weighting, ramp
        # ln s^2, initialised so that a term keeps its weight: L / (2 s^2) = L.
        if weighting == "uncertainty":
            self.log_variances = nn.Parameter(torch.full((len(weights),), math.log(0.5)))

    def forward(self, terms: Mapping[Term, Tensor], progress: float = 1.0) -> tuple[Tensor, dict[Term, Tensor]]:
        """Compute the weighted sum of the terms.

        Args:
            terms: scalar per term; terms without a weight are ignored.
            progress: fraction of the training that is done, in [0, 1].

        Returns:
            The sum, and the weight of each term in it, detached.
        """
        parts, used = [], {}
        for index, (name, weight) in enumerate(self.weights.items()):
            if name not in terms:
                continue
            factor = torch.as_tensor(weight * self._share(name, progress)).to(terms[name])
            part = factor * terms[name]
            if self.weighting == "uncertainty":
                variance = self.log_variances[index].exp()
                part = part / (2 * variance) + factor * variance.log1p()
                factor = factor / (2 * variance.detach())
            parts.append(part)
            used[name] = factor
        return torch.stack(parts).sum(), used

    def _share(self, name: Term, progress: float) -> float:
        if name == "task" or self.weighting not in ("rise", "fall"):
            return 1.0
        done = progress / self.ramp if self.weighting == "rise" else (1 - progress) / self.ramp
        return 0.5 * (1 - math.cos(math.pi * min(max(done, 0.0), 1.0)))
