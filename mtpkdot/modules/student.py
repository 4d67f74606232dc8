"""Stage 5: the student. It sees the prevalent modality alone and is distilled by optimal transport."""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from mtpkdot.data.base import BaseData
from mtpkdot.data.batch import Batch
from mtpkdot.losses.distillation import STUDENT, Distillation, Teacher
from mtpkdot.losses.gather import gather_rows
from mtpkdot.losses.methods import AUTO, Method, MethodOrAuto, Term, needs_teachers, teachers_of, term_weights
from mtpkdot.losses.queue import FeatureQueue
from mtpkdot.losses.rivals import RIVALS, Rival, RivalFactory, Seen
from mtpkdot.losses.selection import Rule, TeacherSelection
from mtpkdot.losses.similarity import Anchors, Kernel
from mtpkdot.losses.structure import Mode, StructuralTransport
from mtpkdot.losses.task import task_loss
from mtpkdot.losses.transport import Solver
from mtpkdot.losses.weighting import TermWeights, Weighting
from mtpkdot.metrics.collections import best_mode, task_metrics
from mtpkdot.models.backbone import Backbone
from mtpkdot.models.encoder import EncoderFactory
from mtpkdot.models.fusion import GatedFusion
from mtpkdot.models.head import Head
from mtpkdot.models.tnet import TNet
from mtpkdot.modules.base import StageModule, load_upstream
from mtpkdot.modules.hallucinator import HallucinatorModule
from mtpkdot.modules.level import level_weights
from mtpkdot.modules.pooled import PooledTeachers
from mtpkdot.modules.prepared import Prepared
from mtpkdot.modules.settings import check_batches, check_settings
from mtpkdot.modules.start import Start
from mtpkdot.modules.teacher import JOINT
from mtpkdot.modules.teachers import Teachers, load_teachers, trained_backbone

Hallucination = Literal["tnet", "zeros", "none"]

_QUEUE = "distillation.queue."


class StudentModule(StageModule):
    """Prevalent backbone, T-Nets, a fusion of its own and a head; the teachers are present in training only.

    Args:
        encoder: encoder of the prevalent backbone; set by the pipeline.
        backbone_ckpt: the prevalent backbone; filled by the pipeline.
        hallucinator_ckpt: the T-Nets; filled by the pipeline.
        teacher_ckpt: the multimodal teacher; filled by the pipeline where the method needs it.
        adapted_ckpt: the adapted teachers; filled by the pipeline where the method needs them.
        method: `none` (task alone); `pkdot` (one teacher, the joint one); `mtpkdot` (the joint and the adapted ones,
            see `selection`); `mtpkdot_plus` (all of them as one pool, weighed and trusted by held-out evidence, see
            `mtpkdot.losses.evidence`, for the samples without a label; what is handed on answers as the prevalent
            backbone where no epoch of the student is better on held-out people); the controls
            `selftraining` and `labelprop`, which see no privileged modality (the better of the prevalent backbone and
            the student after its warm-up teaches, or labels spread in the backbone's space); a rival from the
            literature that is taught by the joint teacher (`kd`, `fitnets`, `pkd`, `at`, `sp`, `rkd`, `cc`, `nst`,
            `vid`, `crd`, `dkd`, `lupi`, `m2pkd`, see `mtpkdot.losses.rivals`); or `rival` for one of your own. In a
            config also `auto`: `mtpkdot_plus` where training recordings lack labels, else `none`.
        weights: weights of the loss terms task, transport, centroid, output and rival, over the method's own. `output`
            makes the teacher's predictions targets (soft labels, or values), on all samples that they teach; the own
            one of mtpkdot_plus is raised until a sample without a label counts no less than one with, times the trust
            in its teachers (`mtpkdot.modules.level`).
        weighting: `fixed`, `uncertainty` (learned), `rise` or `fall` (of all but the task, in the course of training).
        ramp: share of the training in which weights rise or fall.
        rival: the rival's class with its settings, in place of the method's own.
        temperature: softening of the soft labels.
        selection: teacher per `batch` (the paper), per `sample`, or `soft` shares of all.
        selection_temperature: of the soft shares.
        margin: by how much a teacher must beat the student's own loss to be followed fully; null follows always.
        queue: samples of earlier batches that the similarity structure sees as well, fewer than there are for training.
        mode: `rows` (the papers), `paired`, `gromov` or `fused`, see StructuralTransport.
        kernel: similarity, `cosine` (the papers), `centred` or `rbf`.
        anchors: the `least` similar (the papers), the `most` similar, `random` ones or `all`.
        top_k: anchors per sample; must be smaller than the batch.
        eps: entropic regularisation of the transport, in the unit of its cost.
        relative_eps: `eps` is a share of the largest cost in the batch.
        reach: price of mass that is created or left behind; null for fixed marginals.
        pairing: price of leaving the pairing, for the mode `fused`.
        ot_tol: L1 marginal error at which the transport solver stops.
        ot_max_iter: limit on the solver's iterations.
        solver: transport solver: `native`, `pot`, or `exact` for transport without regularisation.
        warmup: share of the epochs in which mtpkdot_plus and selftraining learn from labels alone; what they have
            learned by then is weighed against their teachers.
        teachers: names of the teachers that mtpkdot and mtpkdot_plus use: modalities, for their adapted backbones, and
            `joint`; null for all.
        hallucination: what stands for the privileged features: the T-Net's (`tnet`, the papers), `zeros`, or `none`,
            a student of the prevalent feature alone.
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

    section: ClassVar[str] = "student"
    takes: ClassVar[frozenset[str]] = frozenset({"encoder"})
    switches: ClassVar[frozenset[str]] = frozenset({"batch_attention", "frozen_projections"})
    shared: ClassVar[bool] = False
    submits: ClassVar[bool] = True
    passing = ("frozen.", _QUEUE)

    @classmethod
    def upstream_arguments(cls, model: Mapping[str, Any]) -> list[str]:
        """Return the checkpoints of the prevalent backbone, the T-Nets, and the teachers that the method needs."""
        kind = teachers_of(model["method"]) if needs_teachers(model["method"], model["weights"]) else None
        of_kinds = {"teacher_ckpt": ("joint", "adapted", "pooled"), "adapted_ckpt": ("adapted", "pooled")}
        return [name for name in super().upstream_arguments(model) if kind in of_kinds.get(name, (kind,))]

    @classmethod
    def encoder_arguments(cls, encoders: Mapping[str, Any], prevalent: str) -> dict[str, Any]:
        """Return the encoder of the prevalent backbone."""
        return {"encoder": encoders[prevalent]}

    @classmethod
    def method_of(cls, model: Mapping[str, Any]) -> Method:
        """Return the method."""
        method: Method = model["method"]
        return method

    @classmethod
    def check_section(cls, section: Mapping[str, Any], data: BaseData) -> None:
        """Stop at settings of the structural loss that the batches cannot serve; see StageDeclaration."""
        check_batches(section, data)

    def __init__(
        self,
        encoder: EncoderFactory | None = None,
        backbone_ckpt: str | None = None,
        hallucinator_ckpt: str | None = None,
        teacher_ckpt: str | None = None,
        adapted_ckpt: str | None = None,
        method: MethodOrAuto = "mtpkdot",
        weights: dict[Term, float] | None = None,
        weighting: Weighting = "fixed",
        ramp: float = 1.0,
        rival: RivalFactory | None = None,
        temperature: float = 2.0,
        selection: Rule = "batch",
        selection_temperature: float = 0.5,
        margin: float | None = None,
        queue: int = 0,
        mode: Mode = "rows",
        kernel: Kernel = "cosine",
        anchors: Anchors = "least",
        top_k: int = 30,
        eps: float = 0.01,
        relative_eps: bool = False,
        reach: float | None = None,
        pairing: float = 0.5,
        ot_tol: float = 3e-7,
        ot_max_iter: int = 1000,
        solver: Solver = "native",
        warmup: float = 0.1,
        teachers: list[str] | None = None,
        hallucination: Hallucination = "tnet",
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
        if method == AUTO:
            raise ValueError("method auto is chosen by the data of a config; name a method here")
        self.ckpts = {
            "backbone": backbone_ckpt,
            "hallucinator": hallucinator_ckpt,
            "teacher": teacher_ckpt,
            "adapted": adapted_ckpt,
        }
        self.method, self.queue, self.rival = method, queue, rival
        self.told: dict[str, float] = {}
        self.start, self.by_backbone = Start(), False  # the latter where it is loaded with what it started from
        check_settings(method, weights, weighting, margin, queue, rival is not None)
        self.weights = term_weights(method, weights)
        self.term_weights = TermWeights(self.weights, weighting, ramp)
        self.levelled = method == "mtpkdot_plus" and "output" not in (weights or {})
        # The fusion is built once the sizes of the T-Nets are known; its settings are judged now.
        if dim % heads or not 0 <= dropout < 1:
            raise ValueError(f"dim {dim} must be a multiple of heads {heads}, and dropout {dropout} lie in [0, 1)")
        if not 0 <= warmup < 1:
            raise ValueError(f"student.model.warmup lies in [0, 1), not {warmup}")
        self.warmup = warmup
        self.temperature, self.train_tnet, self.finetune_encoder = temperature, train_tnet, finetune_encoder
        # The rows of all processes are gathered before.
        self.chosen = self._chosen(teachers)
        self.hallucination = hallucination
        self.structure = StructuralTransport(
            top_k, eps, ot_tol, ot_max_iter, solver, mode, kernel, anchors, relative_eps, reach, pairing, gathered=True
        )
        self.selection = TeacherSelection(selection, selection_temperature, margin, self._taught_by()[0])
        self.backbone = Backbone(self.steps[self.prevalent], self.num_outputs, encoder, per_step)
        self.backbone.requires_grad_(finetune_encoder)
        self.backbone.head.requires_grad_(False)  # a distributed step waits for all gradients, and it never has one
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
        if "rival" in self.weights:
            self._rival(1)  # its settings are judged now as well
        self.uses_unlabelled = needs_teachers(method, weights)
        self.judge([self.prevalent])

    def setup(self, stage: str) -> None:
        """Start from backbone and T-Nets; have the teachers at hand while training."""
        if stage != "fit":
            return
        if self.weights.keys() - {"task"} and "teachers" not in self.frozen:
            self.frozen["teachers"] = load_teachers(
                teachers_of(self.method), self.ckpts, self.chosen, prevalent=self.prevalent, task=self.task
            )
        if not self.blueprint:
            self._start()

    def _trained_backbone(self) -> Backbone:
        return trained_backbone(self.ckpts["backbone"])

    def _start(self) -> None:
        """Adopt the prevalent backbone and the T-Nets, and learn of the teachers."""
        self.fit_heads(self.head)
        self.backbone.load_state_dict(self._trained_backbone().state_dict())
        hallucinator = load_upstream(HallucinatorModule, self.ckpts["hallucinator"], "student.model.hallucinator_ckpt")
        sizes = self._teachers().space_sizes if "teachers" in self.frozen else {}
        spaces = {name: size for name, size in sizes.items() if name in self._taught_by()}
        self.build({"tnets": hallucinator.blueprint, "spaces": spaces})
        self.tnets.load_state_dict(hallucinator.tnets.state_dict())

    def on_fit_start(self) -> None:
        """Let teachers look at the data that need it.

        Raises:
            ValueError: they cannot, for the training has no `BaseData`.
        """
        super().on_fit_start()
        data, teachers = self._data(), self._prepared()
        if teachers is None:
            return
        if data is None:
            raise ValueError(f"{self.method} looks at its data before it teaches: fit it with a BaseData as datamodule")
        teachers.prepare(self._moved(data.evaluation_loader("train")))
        if isinstance(teachers, PooledTeachers):
            if data.samples.labelled[data.positions("train")].all() and self.trainer.is_global_zero:
                print(f"{self.method} teaches samples without a label, and all have one: only the labels teach")
            if self.levelled:
                self.term_weights.weights = level_weights(self.weights, data, self.prevalent, self.chosen)
            backbone, metrics = self._trained_backbone(), task_metrics(self.task, self.num_outputs)
            held_out = self._moved(data.selecting_loader())
            self.start.judge(backbone.to(self.head.weight), self.prevalent, held_out, metrics.to(self.device))

    def on_train_epoch_start(self) -> None:
        """Let the teachers meet the student, once it has learned from labels alone."""
        data, teachers = self._data(), self._prepared()
        epochs = self.trainer.max_epochs or 1
        warm = min(math.ceil(self.warmup * epochs), epochs - 1) if "task" in self.weights else 0
        if data is None or teachers is None or teachers.found is not None or self.trainer.current_epoch < warm:
            return
        self.eval()
        held_out, training = data.selecting_loader(), data.evaluation_loader("train")
        learned = self.trainer.global_step > 0
        found = teachers.meet(self._as_teacher, self._moved(held_out), self._moved(training), learned)
        self.train()
        # Whole, so that every process goes by the same.
        self.told = teachers.adopt(self.trainer.strategy.broadcast(found))

    def settled(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        """Where teachers are weighed by held-out evidence, so is the student, against what it started from."""
        if self.start.scores and not self.trainer.sanity_checking:
            chosen = self.trainer.checkpoint_callback
            monitor = chosen.monitor if isinstance(chosen, ModelCheckpoint) else None
            self.start.compare(means, monitor if monitor in self.start.scores else self.monitors(self.task)[0])
        return means

    @classmethod
    def notes(cls, checkpoint: Path) -> list[str]:
        """Say where the student answers as the prevalent backbone does."""
        if torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["blueprint"].get("by_backbone"):
            return ["hands on the prevalent backbone, for no epoch of the student was better on held-out people"]
        return []

    def reached(self, monitor: str, score: float | None) -> float | None:
        """Return the score of the prevalent backbone where that is handed on."""
        start = self.start.scores.get(monitor)
        if start is None or score is None:
            return score
        best = min if best_mode(monitor) == "min" else max
        return best(score, float(start))

    def _data(self) -> BaseData | None:
        """The data that teachers may look at."""
        data = getattr(self.trainer, "datamodule", None)
        return data if "teachers" in self.frozen and isinstance(data, BaseData) else None

    def _prepared(self) -> Prepared | None:
        found = [part for part in self.frozen.values() if isinstance(part, Prepared)]
        return found[0] if found else None

    def _as_teacher(self, batch: Batch) -> Teacher:
        return Teacher(*self.see(batch), batch.present(self.prevalent))

    def _moved(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """As the Trainer's own loops hand them over."""
        strategy = self.trainer.strategy
        for batch in batches:  # not an expression, which would start the loader's workers whether it is read or not
            yield strategy.batch_to_device(self.trainer.precision_plugin.convert_input(batch))

    def build(self, blueprint: dict[str, Any]) -> None:
        """The student's own T-Nets, its fusion over real and hallucinated features, and what teaches it."""
        tnets, spaces = blueprint["tnets"], blueprint["spaces"]
        self.by_backbone = blueprint.get("by_backbone", False)
        self.tnets = nn.ModuleList(TNet(**tnets[name]) for name in self.privileged)
        self.tnets.requires_grad_(self.train_tnet and self.hallucination != "none")
        sizes = {self.prevalent: self.backbone.dim}
        if self.hallucination != "none":
            sizes |= {name: tnets[name]["out_dim"] for name in self.privileged}
        self.fusion = GatedFusion(sizes, **self.fusion_settings)
        if spaces:
            self.distillation = Distillation(
                self.task,
                self.weights.keys() - {"task"},
                self.structure,
                self.selection,
                self._rival(spaces[JOINT]) if "rival" in self.weights else None,
                self.temperature,
                FeatureQueue(self.queue, {STUDENT: self.head.in_features, **spaces}) if self.queue else None,
            )
        super().build(blueprint)

    def _chosen(self, teachers: list[str] | None) -> list[str]:
        """Names of the teachers, the joint one first."""
        known = [JOINT, *self.steps]
        if teachers is None:
            return known
        if teachers_of(self.method) not in ("adapted", "pooled"):
            raise ValueError(f"method {self.method} has no choice of teachers; leave student.model.teachers out")
        if not teachers or set(teachers) - set(known):
            raise ValueError(f"student.model.teachers is {teachers}; choose from {', '.join(known)}")
        return [name for name in known if name in teachers]

    def _taught_by(self) -> list[str]:
        """Names of the spaces that are compared with the student's; the first teaches a batch without labels."""
        return [JOINT] if teachers_of(self.method) == "pooled" else self.chosen

    def _rival(self, teacher_dim: int) -> Rival:
        # A student starts from the same weights whatever its method.
        with torch.random.fork_rng(devices=[]):
            return (self.rival or RIVALS[self.method])(self.task, self.head.in_features, teacher_dim)

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
            The student's feature (N, dim) and output (N, num_outputs); N = B, or B * T per step. Both are the
            backbone's where no epoch was better than it (mtpkdot_plus).
        """
        return self.answer(*self.backbone.features(x, mask))

    def answer(self, feature: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, from the prevalent backbone's feature sequence (B, T', dim) and its mask (B, T')."""
        if self.by_backbone:
            return self.backbone.read(feature, steps)
        features, masks = {self.prevalent: feature}, {self.prevalent: steps}
        for name, tnet in zip(self.privileged, self.tnets, strict=True) if self.hallucination != "none" else ():
            made = tnet(feature)
            features[name], masks[name] = made if self.hallucination == "tnet" else torch.zeros_like(made), steps
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
        return self.answer(*self.encode(self.backbone, batch, self.prevalent, raw=True))

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """Predictions from the prevalent modality."""
        return {self.prevalent: self.see(batch)[1]}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Task loss on labelled samples; the terms of the method on all that teachers teach and the student can see."""
        feature, output = self.see(batch)
        seen = batch.present(self.prevalent)
        known = gather_rows(output, batch.target, batch.labelled & seen)
        terms: dict[Term, Tensor] = {"task": task_loss(self.task, *known)}
        record: dict[str, Tensor] = {}
        prepared = self._prepared()
        if "teachers" in self.frozen and (prepared is None or prepared.found is not None):
            with torch.no_grad():
                teachers = {n: t for n, t in self._teachers().spaces(batch).items() if n in self._taught_by()}
            labels = seen, batch.target, batch.labelled
            taught, record = self.distillation(Seen(feature, output), teachers, *labels, self.head.scale)
            trust = prepared.trust if prepared is not None else {}
            terms |= {name: value * trust.get(name, 1.0) for name, value in taught.items()}
            record |= {name: feature.new_tensor(value) for name, value in self.told.items()}
        loss, weights = self.term_weights(terms, self._progress())
        if "rival" in self.weights:
            # A batch that no teacher sees has a gradient of zero for them: a distributed step waits for it.
            loss = loss + 0.0 * sum(p.sum() for p in self.distillation.parameters() if p.requires_grad)
        if self.term_weights.weighting != "fixed" or self.levelled:
            record |= {f"weight_{name}": weight for name, weight in weights.items()}
        return {"loss": loss, **{f"loss_{name}": terms[name] for name in weights}, **record}

    def _progress(self) -> float:
        """Share of the training that is done; all of it outside of one."""
        trainer = self._trainer
        return trainer.current_epoch / (trainer.max_epochs or 1) if trainer is not None and trainer.training else 1.0

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what only resuming needs out of what is handed on: features of training samples, and the evidence."""
        super().on_save_checkpoint(checkpoint)
        if "optimizer_states" not in checkpoint:
            state = checkpoint["state_dict"]
            for key in [key for key in state if key.startswith(_QUEUE)]:
                del state[key]
            if self.start.is_better:
                checkpoint["blueprint"] = {**self.blueprint, "by_backbone": True}
                state |= {f"backbone.{key}": value for key, value in self._trained_backbone().state_dict().items()}
        elif (teachers := self._prepared()) is not None and teachers.found is not None:
            checkpoint["evidence"] = teachers.found

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with what is known of the teachers."""
        super().on_load_checkpoint(checkpoint)
        if (teachers := self._prepared()) is not None and "evidence" in checkpoint:
            self.told = teachers.adopt(checkpoint["evidence"])

    def _teachers(self) -> Teachers:
        teachers = self.frozen["teachers"]
        assert isinstance(teachers, Teachers)
        return teachers
