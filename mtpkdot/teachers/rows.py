"""Rows of a part of the data as the members of a pool read them: one vector per modality."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """N rows: recordings, or steps if every step has a target.

    Attributes:
        values: (N, D_m) float32 by modality; arbitrary where the modality is absent.
        present: (N,) bool by modality.
        target: (N,) int64 classes or (N, K) float32 values; arbitrary for rows without a label.
        labelled: (N,) bool.
        people: (N,) int64, number of the person.

    Example:
        >>> rows = Rows.of({"face": torch.tensor([[0.0], [2.0]])}, torch.tensor([0, 1]))
        >>> rows.keep(torch.tensor([False, True])).values["face"].tolist()
        [[2.0]]
    """

    values: dict[str, Tensor]
    present: dict[str, Tensor]
    target: Tensor
    labelled: Tensor
    people: Tensor

    @classmethod
    def of(
        cls,
        values: dict[str, Tensor],
        target: Tensor,
        labelled: Tensor | None = None,
        people: Tensor | None = None,
    ) -> "Rows":
        """Return rows that have all modalities.

        Args:
            values: (N, D_m) by modality.
            target: (N,) classes or (N, K) values.
            labelled: (N,) bool; None if all rows have a label.
            people: (N,) numbers of people; None if each row is of another person.
        """
        count = len(target)
        every = torch.ones(count, dtype=torch.bool)
        return cls(
            values,
            dict.fromkeys(values, every),
            target=target,
            labelled=every if labelled is None else labelled,
            people=torch.arange(count) if people is None else people,
        )

    def __len__(self) -> int:
        return len(self.labelled)

    def keep(self, chosen: Tensor) -> "Rows":
        """Return the rows for which `chosen` (N,) is True, or the rows at these positions."""
        return Rows(
            {name: x[chosen] for name, x in self.values.items()},
            {name: x[chosen] for name, x in self.present.items()},
            target=self.target[chosen],
            labelled=self.labelled[chosen],
            people=self.people[chosen],
        )

    def only(self, modalities: Iterable[str]) -> "Rows":
        """Return the rows with some of the modalities."""
        kept = list(modalities)
        return replace(
            self,
            values={name: self.values[name] for name in kept},
            present={name: self.present[name] for name in kept},
        )

    def seen(self, modalities: Sequence[str]) -> Tensor:
        """Return the rows (N,) bool that have at least one of the modalities."""
        return torch.stack([self.present[name] for name in modalities]).any(dim=0)


@dataclass(frozen=True)
class Scaling:
    """Centring and scaling of the features of several modalities, which are then concatenated.

    Attributes:
        mean: (D_m,) float64 by modality.
        scale: (D_m,) float64 by modality.
    """

    mean: dict[str, Tensor]
    scale: dict[str, Tensor]

    @classmethod
    def fit(cls, rows: Rows, modalities: Sequence[str], block: bool = False) -> "Scaling":
        """Return the scaling of the rows that have a modality.

        Args:
            rows: the rows.
            modalities: modalities to use.
            block: divide all features of a modality by one number, so that its summed variance is 1, in place of each
                feature by its standard deviation.
        """
        mean, scale = {}, {}
        for name in modalities:
            x = rows.values[name][rows.present[name]].double()
            x = x if len(x) else rows.values[name].new_zeros(1, rows.values[name].shape[1], dtype=torch.float64)
            mean[name], spread = x.mean(dim=0), x.std(dim=0, unbiased=False)
            if block:
                spread = spread.square().sum().sqrt().expand_as(spread)
            # A constant feature carries nothing, and its rounding errors must not be enlarged.
            constant = spread <= 1e-6 * x.square().mean(dim=0).sqrt()
            scale[name] = torch.where(constant | (spread == 0), torch.inf, spread)
        return cls(mean, scale)

    def __call__(self, rows: Rows) -> Tensor:
        """Return the scaled features (N, sum of D_m) float64, zero (the mean) where a modality is absent."""
        parts = []
        for name, mean in self.mean.items():
            x = (rows.values[name].double() - mean) / self.scale[name]
            parts.append(torch.where(rows.present[name][:, None], x, 0.0))
        return torch.cat(parts, dim=1)
