"""Rivals compute in single precision or better, whatever precision the models run in."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtpkdot.losses.rivals.base import Rival, Seen


class FullPrecision(Rival):
    """A rival that compares in float32, or in float64 where the student does, without autocast.

    Subclasses define `compare`. It is given both models in that precision, the teacher without its graph.
    """

    def forward(self, student: Seen, teacher: Seen, target: Tensor, labelled: Tensor) -> Tensor:
        """See `Rival.forward`; a ValueError where both did not see the same number of rows."""
        if len(student.feature) != len(teacher.feature):
            raise ValueError(
                f"student and teacher must see the same samples, not {len(student.feature)} and {len(teacher.feature)}"
            )
        dtype = torch.promote_types(torch.promote_types(student.feature.dtype, student.output.dtype), torch.float32)
        with torch.autocast(device_type=student.feature.device.type, enabled=False):
            return self.compare(
                Seen(student.feature.to(dtype), student.output.to(dtype)),
                Seen(teacher.feature.detach().to(dtype), teacher.output.detach().to(dtype)),
                target,
                labelled,
            )

    def compare(self, student: Seen, teacher: Seen, target: Tensor, labelled: Tensor) -> Tensor:
        """As `forward`, of one precision and without autocast."""
        raise NotImplementedError


class Linear(nn.Linear):
    """A linear map that computes in the precision of its input, not in that of its weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_features) to (N, out_features)."""
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


def adapter(student_dim: int, teacher_dim: int) -> nn.Module:
    """Bring the student's feature to the teacher's size: a learned linear map, or nothing where the sizes agree."""
    return nn.Identity() if student_dim == teacher_dim else Linear(student_dim, teacher_dim)


def mean_over_rows(rows: Tensor) -> Tensor:
    """Mean of (N,) or (N, M) over all entries; 0 with zero gradient where there are none."""
    return rows.sum() / max(rows.numel(), 1)
