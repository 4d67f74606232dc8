"""Student as a plain network, from one modality to a feature and an output."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from mtpkdot.models.backbone import Backbone
from mtpkdot.models.fusions import Fusion
from mtpkdot.models.head import Head
from mtpkdot.models.tnets import TNet

Hallucination = Literal["tnet", "zeros", "none"]


class Student(nn.Module):
    """Deployed model, which uses the prevalent modality only (PKDOT, arXiv 2401.15489, fig. 2).

    Args:
        backbone: backbone of the prevalent modality.
        head: output layer on the joint feature, (N, D) -> (N, num_outputs).
        tnets: T-Net per privileged modality, in the order of the fusion; empty for a student that uses the prevalent
            feature only.
        fusion: fusion of the prevalent feature and the hallucinated ones.
        prevalent: name of the prevalent modality.
        zeros: replace the hallucinated features by zeros.

    Attributes:
        by_backbone: True if the backbone predicts in place of fusion and head.

    Example:
        >>> from mtpkdot.models import Backbone, GatedFusion, Head, Hourglass, Steps
        >>> backbone = Backbone(Steps((17,)), num_outputs=2)
        >>> fusion = GatedFusion({"video": backbone.dim, "sound": 8}, dim=32)
        >>> student = Student(backbone, Head(32, 2), {"sound": Hourglass(backbone.dim, 8)}, fusion, "video")
        >>> feature, output = student(torch.randn(4, 10, 17), torch.ones(4, 10, dtype=torch.bool))
        >>> feature.shape, output.shape
        (torch.Size([4, 32]), torch.Size([4, 2]))
    """

    def __init__(
        self,
        backbone: Backbone,
        head: Head,
        tnets: Mapping[str, TNet],
        fusion: Fusion,
        prevalent: str,
        zeros: bool = False,
    ) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.privileged, self.tnets = list(tnets), nn.ModuleList(tnets.values())
        self.fusion, self.prevalent, self.zeros = fusion, prevalent, zeros
        self.by_backbone = False

    def forward(self, steps: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Predict from the prevalent modality.

        Args:
            steps: (B, T, *shape) raw steps, not standardised.
            mask: (B, T) bool, True where a step is real.

        Returns:
            Feature (N, D) and output (N, num_outputs), logits of classes or values in the targets' units; N = B, or
            B * T if every step has a target.
        """
        return self.read(*self.backbone.features(steps, mask))

    def read(self, feature: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Predict as `forward`, from the backbone's feature sequence (B, T', dim) and its mask (B, T')."""
        if self.by_backbone:
            return self.backbone.read(feature, mask)
        features, masks = {self.prevalent: feature}, {self.prevalent: mask}
        for name, tnet in zip(self.privileged, self.tnets, strict=True):
            made = tnet(feature)
            features[name], masks[name] = torch.zeros_like(made) if self.zeros else made, mask
        joint, _ = self.fusion(features, masks)
        return joint, self.head(joint)
