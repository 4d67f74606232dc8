"""The task's own loss: cross-entropy for classes, 1 - CCC for continuous targets; labelled samples only."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Task = Literal["classification", "regression"]


def concordance(prediction: Tensor, truth: Tensor) -> Tensor:
    """Lin's concordance correlation coefficient of every target, with population variances.

    `CCC = 2 cov(p, t) / (var(p) + var(t) + (mean(p) - mean(t))^2)`, the ABAW definition (Kollias et al.).

    Args:
        prediction: (N, K).
        truth: (N, K).

    Returns:
        (K,) in [-1, 1]; 0 where both are constant and equal, for then nothing is shown to concord.
    """
    centred_p, centred_t = prediction - prediction.mean(dim=0), truth - truth.mean(dim=0)
    covariance = (centred_p * centred_t).mean(dim=0)
    spread = centred_p.square().mean(dim=0) + centred_t.square().mean(dim=0)
    denominator = spread + (prediction.mean(dim=0) - truth.mean(dim=0)).square()
    # Relative to the values themselves: what is left of equal constants after rounding is no variance.
    size = prediction.detach().square().mean(dim=0) + truth.square().mean(dim=0)
    defined = denominator > 64 * torch.finfo(denominator.dtype).eps ** 2 * size
    return torch.where(defined, 2 * covariance / denominator.where(defined, torch.ones_like(denominator)), 0.0)


def task_loss(task: Task, output: Tensor, target: Tensor, labelled: Tensor) -> Tensor:
    """Loss of a batch on its labelled samples.

    Args:
        task: `classification` or `regression`.
        output: (B, C) logits, or (B, K) predicted values.
        target: (B,) class indices, or (B, K) values. Entries of unlabelled samples are not read.
        labelled: (B,) bool.

    Returns:
        Scalar mean cross-entropy, or the mean over targets of `1 - CCC`. It is 0 with zero gradient for a batch
        without labels.
    """
    if not bool(labelled.any()):
        return output[labelled].sum().to(torch.promote_types(output.dtype, torch.float32))
    with torch.autocast(device_type=output.device.type, enabled=False):
        known = output[labelled]
        known = known if known.dtype == torch.float64 else known.float()
        if task == "classification":
            return F.cross_entropy(known, target[labelled])
        return (1 - concordance(known, target[labelled].to(known.dtype))).mean()


def output_loss(
    task: Task,
    output: Tensor,
    teacher: Tensor,
    valid: Tensor,
    temperature: float = 2.0,
    scale: Tensor | float = 1.0,
) -> Tensor:
    """Teacher's outputs as the student's targets; needs no labels.

    Args:
        task: `classification` or `regression`.
        output: (B, C) logits or (B, K) values of the student.
        teacher: the teacher's, of the same shape.
        valid: (B,) bool, the samples on which the teacher sees something.
        temperature: softening T of the classes; the loss is scaled by T^2.
        scale: (K,) unit in which values are compared, so that the loss does not depend on that of the targets.

    Returns:
        Scalar `T^2 KL(teacher || student)` (Hinton et al., arXiv 1503.02531), or the mean squared error.
    """
    if not bool(valid.any()):
        return output[valid].sum().to(torch.promote_types(output.dtype, torch.float32))
    with torch.autocast(device_type=output.device.type, enabled=False):
        output, teacher = output[valid].float(), teacher[valid].float()
        if task == "regression":
            return F.mse_loss(output / scale, teacher / scale)
        soft = F.log_softmax(teacher / temperature, dim=1)
        return temperature**2 * F.kl_div(
            F.log_softmax(output / temperature, dim=1), soft, log_target=True, reduction="batchmean"
        )
