"""Metrics of classes that count in time and memory of samples plus classes.

torchmetrics counts pairs of classes: in deterministic algorithms, which the Trainer asks for, that takes samples times
classes squared.
"""

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassF1Score


def counted(classes: Tensor, num_classes: int) -> Tensor:
    """Return how often each of the classes 0 to `num_classes` - 1 occurs, (num_classes,) int64.

    Args:
        classes: (N,) integers.
        num_classes: their number.
    """
    # Not bincount, which on some versions and devices is no deterministic algorithm.
    classes = classes.long()
    return classes.new_zeros(num_classes).scatter_add_(0, classes, torch.ones_like(classes))


class MacroF1(MulticlassF1Score):
    """torchmetrics' F1, mean over the classes that occur in truths or answers; higher is better.

    Args:
        num_classes: number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, average="macro")
        self.size = num_classes

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Count a batch.

        Args:
            preds: (N, C) logits, or (N,) classes.
            target: (N,) classes.
        """
        answers = preds.argmax(dim=1) if preds.ndim > 1 else preds
        right = counted(target[answers == target], self.size)
        truths, answered = counted(target, self.size), counted(answers, self.size)
        neither = len(target) - truths - answered + right
        self._update_state(right, answered - right, neither, truths - right)
