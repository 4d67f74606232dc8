"""Base of the rivals that compute in at least single precision, independent of the models' precision."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtpkdot.losses.rivals.base import Rival, Seen


class FullPrecision(Rival):
    """Rival that compares in float32, or in float64 if the student does, without autocast.

    Subclasses implement `compare`, which gets both models in that precision, the teacher detached.
    """

    def forward(self, student: Seen, teacher: Seen, target: Tensor, labelled: Tensor) -> Tensor:
        """Compute the loss of a batch, see `Rival.forward`.

        Raises:
            ValueError: the models have different numbers of rows.
        """
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
        """Compute the loss as `forward`, in one precision and without autocast."""
        raise NotImplementedError


class Linear(nn.Linear):
    """Linear layer that computes in the precision of its input, not in that of its weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_features) to (N, out_features)."""
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


def adapter(student_dim: int, teacher_dim: int) -> nn.Module:
    """Return a learned linear map from the student's size to the teacher's, or the identity if they are equal."""
    return nn.Identity() if student_dim == teacher_dim else Linear(student_dim, teacher_dim)


def mean_over_rows(rows: Tensor) -> Tensor:
    """Return the mean over all entries of (N,) or (N, M); 0 with zero gradient if there are none."""
    return rows.sum() / max(rows.numel(), 1)
