"""Task losses on labelled samples, and the meaning of a model's outputs.

Classes have one logit each and cross-entropy. C ordered classes have C - 1 outputs, output k the logit of `P(y > k)`,
and binary cross-entropy per threshold (extended binary classification: Li & Lin, NIPS 2006; Niu et al., CVPR 2016).
Continuous targets have 1 - CCC.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Task = Literal["classification", "ordinal", "regression"]
ValueLoss = Literal["squared", "ccc"]


def output_count(task: Task, targets: int) -> int:
    """Return the number of a model's outputs: `targets`, or `targets - 1` thresholds between ordered classes."""
    return targets - 1 if task == "ordinal" else targets


def predicted_class(task: Task, output: Tensor) -> Tensor:
    """Return the predicted class.

    Args:
        task: `classification` or `ordinal`.
        output: (N, C) logits of classes, or (N, C - 1) logits of thresholds.

    Returns:
        (N,) int64: the most probable class, or (ordinal) the number of thresholds whose probability is above 0.5, which
        is the median of `class_probabilities`.
    """
    return (output > 0).sum(dim=1) if task == "ordinal" else output.argmax(dim=1)


def class_probabilities(task: Task, output: Tensor) -> Tensor:
    """Return the probability of every class.

    Independent thresholds may contradict each other, `P(y > 1) > P(y > 0)`. Their probabilities are sorted in falling
    order, which does not change the predicted class.

    Args:
        task: `classification` or `ordinal`.
        output: as for `predicted_class`.

    Returns:
        (N, C) float32 (or float64), each row not negative with sum 1.
    """
    output = output if output.dtype == torch.float64 else output.float()
    if task == "classification":
        return output.softmax(dim=1)
    passed = output.sigmoid().sort(dim=1, descending=True).values
    return F.pad(passed, (1, 0), value=1.0) - F.pad(passed, (0, 1), value=0.0)


def concordance(prediction: Tensor, truth: Tensor) -> Tensor:
    """Compute Lin's concordance correlation coefficient of every target, with population variances.

    `CCC = 2 cov(p, t) / (var(p) + var(t) + (mean(p) - mean(t))^2)`, the ABAW definition (Kollias et al.).

    Args:
        prediction: (N, K) predictions.
        truth: (N, K) true values.

    Returns:
        (K,) in [-1, 1]; 0 if both are constant and equal, since there is no variation to concord; NaN if a value is not
        finite.

    Example:
        >>> truth = torch.tensor([[0.0], [1.0], [2.0]])
        >>> concordance(truth, truth), concordance(truth + 1, truth)
        (tensor([1.]), tensor([0.5714]))
    """
    centred_p, centred_t = prediction - prediction.mean(dim=0), truth - truth.mean(dim=0)
    covariance = (centred_p * centred_t).mean(dim=0)
    spread = centred_p.square().mean(dim=0) + centred_t.square().mean(dim=0)
    denominator = spread + (prediction.mean(dim=0) - truth.mean(dim=0)).square()
    # Relative to the size of the values, so that the rounding error of equal constants does not count as variance.
    size = prediction.detach().square().mean(dim=0) + truth.square().mean(dim=0)
    # In this direction, since NaN fails every comparison and must stay NaN.
    constant = denominator <= 64 * torch.finfo(denominator.dtype).eps ** 2 * size
    return torch.where(constant, 0.0, 2 * covariance / denominator.masked_fill(constant, 1.0))


def task_loss(task: Task, output: Tensor, target: Tensor, labelled: Tensor) -> Tensor:
    """Compute the loss of a batch on its labelled samples.

    Args:
        task: the task.
        output: (B, C) logits of classes, (B, C - 1) logits of thresholds (ordinal), or (B, K) predicted values.
        target: (B,) class indices, or (B, K) values. Entries of unlabelled samples are ignored.
        labelled: (B,) bool.

    Returns:
        Scalar: the mean cross-entropy, the mean binary cross-entropy over samples and thresholds (ordinal), or the mean
        of `1 - CCC` over targets. It is 0 with zero gradient for a batch without labels.

    Example:
        >>> logits, target = torch.tensor([[2.0, 0.0], [0.0, 9.0]]), torch.tensor([0, 0])
        >>> task_loss("classification", logits, target, labelled=torch.tensor([True, False]))
        tensor(0.1269)
    """
    if not bool(labelled.any()):
        return output[labelled].sum().to(torch.promote_types(output.dtype, torch.float32))
    with torch.autocast(device_type=output.device.type, enabled=False):
        known = output[labelled]
        known = known if known.dtype == torch.float64 else known.float()
        if task == "classification":
            return F.cross_entropy(known, target[labelled])
        if task == "ordinal":
            thresholds = torch.arange(known.shape[1], device=known.device)
            passed = (target[labelled][:, None] > thresholds).to(known.dtype)
            return F.binary_cross_entropy_with_logits(known, passed)
        return (1 - concordance(known, target[labelled].to(known.dtype))).mean()


def row_losses(task: Task, output: Tensor, target: Tensor, labelled: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """Compute the loss of each row.

    Args:
        task: the task.
        output: as for `task_loss`, (N, ...).
        target: as for `task_loss`, (N, ...).
        labelled: (N,) bool.
        scale: (K,) unit of values.

    Returns:
        (N,) cross-entropy, mean binary cross-entropy over thresholds (ordinal), or mean squared error over targets (a
        single row has no concordance); 0 for rows without a label.
    """
    output = output if output.dtype == torch.float64 else output.float()
    losses = output.new_zeros(len(output))
    known, truth = output[labelled], target[labelled]
    if task == "classification":
        found = F.cross_entropy(known, truth, reduction="none")
    elif task == "ordinal":
        passed = (truth[:, None] > torch.arange(known.shape[1], device=known.device)).to(known.dtype)
        found = F.binary_cross_entropy_with_logits(known, passed, reduction="none").mean(dim=1)
    else:
        found = ((known - truth.to(known.dtype)) / scale).square().mean(dim=1)
    return losses.masked_scatter(labelled, found)


def output_loss(
    task: Task,
    output: Tensor,
    teacher: Tensor,
    valid: Tensor,
    temperature: float = 2.0,
    scale: Tensor | float = 1.0,
    weights: Tensor | None = None,
    values: ValueLoss = "squared",
) -> Tensor:
    """Compute the loss of the student's outputs with the teacher's as targets; labels are not needed.

    Args:
        task: the task.
        output: (B, C) logits of classes, (B, C - 1) of thresholds (ordinal), or (B, K) values of the student.
        teacher: outputs of the teacher, of the same shape.
        valid: (B,) bool, True where the teacher had an input.
        temperature: softening temperature T of classes and thresholds; the loss is scaled by T^2.
        scale: (K,) unit in which values are compared, so that the loss does not depend on the targets' unit.
        weights: (B,) weights of the rows in the mean, not negative; None for equal weights.
        values: loss of values: the mean squared error, or `1 - CCC` of the rows taught together.

    Returns:
        Scalar `T^2 KL(teacher || student)` (Hinton et al., arXiv 1503.02531), its mean over thresholds (ordinal), or
        the loss of values, its mean over targets.

    Example:
        >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]])
        >>> output_loss("classification", student, teacher, valid=torch.tensor([True]))
        tensor(0.4438)
    """
    if not bool(valid.any()):
        return output[valid].sum().to(torch.promote_types(output.dtype, torch.float32))
    with torch.autocast(device_type=output.device.type, enabled=False):
        kept = torch.promote_types(output.dtype, torch.float32)
        output, teacher = output[valid].to(kept), teacher[valid].to(kept)
        if task == "regression" and values == "ccc":
            return (1 - concordance(output, teacher)).mean()
        if task == "regression":
            rows = ((output - teacher) / scale).square().mean(dim=1)
        else:
            if task == "ordinal":
                # A threshold has two classes, passed or not, with the logits x and 0.
                output, teacher = (torch.stack([x, torch.zeros_like(x)], dim=-1) for x in (output, teacher))
            soft, answer = F.log_softmax(teacher / temperature, dim=-1), F.log_softmax(output / temperature, dim=-1)
            divergence = F.kl_div(answer, soft, log_target=True, reduction="none").sum(dim=-1)
            rows = (
                temperature**2 * divergence.flatten(1).mean(dim=1) if task == "ordinal" else temperature**2 * divergence
            )
        if weights is None:
            return rows.mean()
        shares = weights[valid].to(rows.dtype)
        return (rows * shares).sum() / shares.sum().clamp_min(torch.finfo(rows.dtype).tiny)
