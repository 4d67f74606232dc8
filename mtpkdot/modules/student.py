"""Stage 5: the student. It sees the prevalent modality alone and is distilled by optimal transport."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mtpkdot.data.batch import Batch
from mtpkdot.losses.selection import select_teacher
from mtpkdot.losses.structure import StructuralTransport
from mtpkdot.losses.task import output_loss, task_loss
from mtpkdot.losses.transport import Solver
from mtpkdot.models.backbone import Backbone
from mtpkdot.models.encoder import EncoderFactory
from mtpkdot.models.fusion import GatedFusion
from mtpkdot.models.head import Head
from mtpkdot.models.tnet import TNet
from mtpkdot.modules.adapted import AdaptedModule
from mtpkdot.modules.backbone import BackboneModule
from mtpkdot.modules.base import Space, StageModule, load_upstream
from mtpkdot.modules.hallucinator import HallucinatorModule
from mtpkdot.modules.teacher import JOINT, TeacherModule

Method = Literal["none", "pkdot", "mtpkdot"]
Term = Literal["task", "transport", "centroid", "output"]

# The papers' weights. A term without weight is neither computed nor logged.
WEIGHTS: dict[Method, dict[Term, float]] = {
    "none": {"task": 1.0},
    "pkdot": {"task": 1.0, "transport": 0.6},
    "mtpkdot": {"task": 0.8, "transport": 0.2, "centroid": 0.2},
}


class StudentModule(StageModule):
    """Prevalent backbone, T-Nets, a fusion of its own and a head; the teachers are present in training only.

    Args:
        encoder: encoder of the prevalent backbone; set by the pipeline.
        backbone_ckpt: the prevalent backbone; filled by the pipeline.
        hallucinator_ckpt: the T-Nets; filled by the pipeline.
        teacher_ckpt: the multimodal teacher; filled by the pipeline where the method needs it.
        adapted_ckpt: the adapted teachers; filled by the pipeline where the method needs them.
        method: `none` (task alone), `pkdot` (one teacher, the joint one), `mtpkdot` (per batch the teacher with the
            lowest task loss on the labels: an adapted one or the joint one).
        weights: weights of the loss terms task, transport, centroid and output, over the method's own. `output` makes
            the teacher's predictions targets (soft labels, or values), on labelled and unlabelled samples.
        temperature: softening of the soft labels.
        top_k: anchors per sample; must be smaller than the batch.
        eps: entropic regularisation of the transport, in the unit of its cost.
        ot_tol: L1 marginal error at which the transport solver stops.
        ot_max_iter: limit on the solver's sweeps.
        solver: transport solver, `native` or `pot`.
        train_tnet: go on training the T-Nets.
        finetune_encoder: go on training the encoder on raw steps; the papers freeze it.
        dim: size of the student's joint feature.
        heads: attention heads.
        feedforward: hidden size of the attention blocks.
        dropout: probability within the attention blocks.
        batch_attention: protocol switch.
        frozen_projections: protocol switch.
        per_step: linked from the data.
        options: see StageModule.
    """

    def __init__(
        self,
        encoder: EncoderFactory | None = None,
        backbone_ckpt: str | None = None,
        hallucinator_ckpt: str | None = None,
        teacher_ckpt: str | None = None,
        adapted_ckpt: str | None = None,
        method: Method = "mtpkdot",
        weights: dict[Term, float] | None = None,
        temperature: float = 2.0,
        top_k: int = 30,
        eps: float = 0.01,
        ot_tol: float = 1e-3,
        ot_max_iter: int = 500,
        solver: Solver = "native",
        train_tnet: bool = False,
        finetune_encoder: bool = False,
        dim: int = 128,
        heads: int = 2,
        feedforward: int = 256,
        dropout: float = 0.1,
        batch_attention: bool = False,
        frozen_projections: bool = False,
        per_step: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(per_step=per_step, **options)
        self.save_hyperparameters()
        self.ckpts = {
            "backbone": backbone_ckpt,
            "hallucinator": hallucinator_ckpt,
            "teacher": teacher_ckpt,
            "adapted": adapted_ckpt,
        }
        self.method = method
        self.weights: dict[Term, float] = {**WEIGHTS[method], **(weights or {})}
        if not any(self.weights.values()):
            raise ValueError("student.model.weights leaves no loss term with a weight")
        if method == "none" and any(weight for name, weight in self.weights.items() if name != "task"):
            raise ValueError("student.model.weights needs a teacher, and method none has none; choose pkdot or mtpkdot")
        # The fusion is built once the sizes of the T-Nets are known; its settings are judged now.
        if dim % heads or not 0 <= dropout < 1:
            raise ValueError(f"dim {dim} must be a multiple of heads {heads}, and dropout {dropout} lie in [0, 1)")
        self.temperature, self.train_tnet, self.finetune_encoder = temperature, train_tnet, finetune_encoder
        self.structure = StructuralTransport(top_k, eps, ot_tol, ot_max_iter, solver)
        self.backbone = Backbone(self.steps[self.prevalent], self.num_outputs, encoder, per_step)
        self.backbone.requires_grad_(finetune_encoder)
        self.fusion_settings: dict[str, Any] = {
            "dim": dim,
            "heads": heads,
            "feedforward": feedforward,
            "dropout": dropout,
            "batch_attention": batch_attention,
            "frozen_projections": frozen_projections,
            "per_step": per_step,
        }
        self.head = Head(dim, self.num_outputs)
        self.uses_unlabelled = needs_teachers(method, weights)
        self.judge([self.prevalent])

    def setup(self, stage: str) -> None:
        """Start from backbone and T-Nets; have the teachers at hand while training."""
        if stage != "fit":
            return
        if not self.blueprint:
            self._start()
        if not needs_teachers(self.method, self.weights) or "teachers" in self.frozen:
            return
        if self.method == "mtpkdot":
            adapted = load_upstream(AdaptedModule, self.ckpts["adapted"], "student.model.adapted_ckpt")
            adapted.teacher_ckpt = self.ckpts["teacher"]
            adapted.setup("predict")
            self.frozen["teachers"] = adapted
        else:
            self.frozen["teachers"] = load_upstream(TeacherModule, self.ckpts["teacher"], "student.model.teacher_ckpt")

    def _start(self) -> None:
        """Adopt the prevalent backbone and the T-Nets."""
        self.fit_heads(self.head)
        trained = load_upstream(BackboneModule, self.ckpts["backbone"], "student.model.backbone_ckpt")
        self.backbone.load_state_dict(trained.backbone.state_dict())
        hallucinator = load_upstream(HallucinatorModule, self.ckpts["hallucinator"], "student.model.hallucinator_ckpt")
        self.build(hallucinator.blueprint)
        self.tnets.load_state_dict(hallucinator.tnets.state_dict())

    def build(self, blueprint: dict[str, Any]) -> None:
        """The student's own T-Nets, and its fusion over real and hallucinated features."""
        self.tnets = nn.ModuleList(TNet(**blueprint[name]) for name in self.privileged)
        self.tnets.requires_grad_(self.train_tnet)
        sizes = {self.prevalent: self.backbone.dim} | {n: blueprint[n]["out_dim"] for n in self.privileged}
        self.fusion = GatedFusion(sizes, **self.fusion_settings)
        super().build(blueprint)

    def frozen_parts(self) -> Iterable[nn.Module]:
        """The backbone and T-Nets, unless they go on training."""
        if not self.finetune_encoder:
            yield self.backbone
        if not self.train_tnet and self.blueprint:
            yield self.tnets

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Predict from the prevalent modality alone.

        Args:
            x: (B, T, *shape), not standardised.
            mask: (B, T) bool.

        Returns:
            The student's feature (N, dim) and output (N, num_outputs); N = B, or B * T per step.
        """
        return self.answer(*self.backbone.features(x, mask))

    def answer(self, feature: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, from the prevalent backbone's feature sequence (B, T', dim) and its mask (B, T')."""
        features, masks = {self.prevalent: feature}, {self.prevalent: steps}
        for name, tnet in zip(self.privileged, self.tnets, strict=True):
            features[name], masks[name] = tnet(feature), steps
        joint, _ = self.fusion(features, masks)
        return joint, self.head(joint)

    @property
    def modalities(self) -> list[str]:
        """All while it learns from teachers, the prevalent one otherwise."""
        return list(self.steps) if "teachers" in self.frozen else [self.prevalent]

    def frozen_encoders(self, fitting: bool) -> dict[str, list[Backbone]]:
        """Its own, unless it is being trained, and while fitting those of the teachers."""
        own = {} if fitting and self.finetune_encoder else {self.prevalent: [self.backbone]}
        if not fitting or "teachers" not in self.frozen:
            return own
        theirs = self._teachers().frozen_encoders(fitting=False)
        return {name: [*own.get(name, []), *backbones] for name, backbones in theirs.items()}

    def raw_modalities(self, fitting: bool) -> list[str]:
        """The prevalent one, while its encoder is trained."""
        return [self.prevalent] if fitting and self.finetune_encoder else []

    def see(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Feature and output of a batch; from features at hand where the raw steps are not."""
        if self.prevalent in batch.inputs:
            return self.forward(batch.inputs[self.prevalent], batch.masks[self.prevalent])
        return self.answer(*batch.encoded[self.prevalent])

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """Predictions from the prevalent modality."""
        return {self.prevalent: self.see(batch)[1]}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Task loss on labelled samples; structure and outputs of the chosen teacher on all that both can see."""
        feature, output = self.see(batch)
        seen = batch.present(self.prevalent)
        terms: dict[Term, Tensor] = {"task": task_loss(self.task, output, batch.target, batch.labelled & seen)}
        record: dict[str, Tensor] = {}
        if "teachers" in self.frozen:
            with torch.no_grad():
                spaces = self._teachers().spaces(batch)
            chosen = self._select(spaces, batch)
            record = {f"teacher_{name}": output.new_tensor(float(name == chosen)) for name in spaces}
            space = spaces[chosen]
            both = seen & space.valid
            if self.weights.get("transport") or self.weights.get("centroid"):
                solved = self.structure(feature[both], space.feature[both])
                terms |= {"transport": solved.transport, "centroid": solved.centroid}
                record |= {
                    "ot_iterations": output.new_tensor(float(solved.iterations)),
                    "ot_marginal_error": solved.marginal_error,
                }
            if self.weights.get("output"):
                terms["output"] = output_loss(self.task, output, space.output, both, self.temperature, self.head.scale)
        weighted = {name: terms[name] for name in terms if self.weights.get(name)}
        loss = torch.stack([self.weights[name] * value for name, value in weighted.items()]).sum()
        return {"loss": loss, **{f"loss_{name}": value for name, value in weighted.items()}, **record}

    def _teachers(self) -> TeacherModule | AdaptedModule:
        teachers = self.frozen["teachers"]
        assert isinstance(teachers, TeacherModule | AdaptedModule)
        return teachers

    def _select(self, spaces: Mapping[str, Space], batch: Batch) -> str:
        # Teachers are compared on the samples that all of them see.
        known = batch.labelled & torch.stack([space.valid for space in spaces.values()]).all(dim=0)
        if len(spaces) == 1 or not bool(known.any()):
            return JOINT
        losses = {name: task_loss(self.task, s.output, batch.target, known) for name, s in spaces.items()}
        return select_teacher(losses, fallback=JOINT)


def needs_teachers(method: Method, weights: Mapping[Term, float] | None) -> bool:
    """Whether a student is trained with teachers at hand; with `method: none` never."""
    merged: dict[Term, float] = {**WEIGHTS[method], **(weights or {})}
    return method != "none" and any(merged.get(name) for name in ("transport", "centroid", "output"))
