"""Stage 5: training of the student, which uses the prevalent modality only, with its teachers."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from mtpkdot.data.base import BaseData
from mtpkdot.data.batch import Batch
from mtpkdot.errors import RunError
from mtpkdot.losses.distillation import STUDENT, Distillation, Teacher
from mtpkdot.losses.gather import gather_rows
from mtpkdot.losses.queue import FeatureQueue
from mtpkdot.losses.rivals import Rival, RivalFactory, Seen
from mtpkdot.losses.selection import SelectionFactory, TeacherSelection
from mtpkdot.losses.structure import StructuralTransport, StructureFactory
from mtpkdot.losses.task import ValueLoss, task_loss
from mtpkdot.losses.weighting import Term, TermWeights, Weighting
from mtpkdot.models.backbone import Backbone
from mtpkdot.models.encoder import EncoderFactory
from mtpkdot.models.fusions import FusionFactory, GatedFusion, fusion_size
from mtpkdot.models.head import Head
from mtpkdot.models.student import Hallucination, Student
from mtpkdot.models.tnets import Hourglass, TNetFactory
from mtpkdot.modules.base import StageModule, load_upstream
from mtpkdot.modules.hallucinator import HallucinatorModule
from mtpkdot.modules.teacher import JOINT
from mtpkdot.modules.teaching import AUTO, BOUND, Teaching, Upstream, find_method
from mtpkdot.modules.teaching.lifecycle import has_unlabelled
from mtpkdot.modules.teaching.settings import check_batches, check_settings, check_structure, chosen_teachers
from mtpkdot.modules.teaching.trial import try_rival, try_selection, try_structure

_QUEUE = "distillation.queue."
_TEACHERS = "teachers"  # name of the teachers in `frozen`


class StudentModule(StageModule):
    """Training of `mtpkdot.models.Student`; the teachers are loaded in training only.

    Args:
        encoder: encoder of the prevalent backbone; set by the pipeline.
        tnet: class of the T-Nets; set by the pipeline.
        backbone_ckpt: checkpoint of the prevalent backbone; set by the pipeline.
        hallucinator_ckpt: checkpoint of the T-Nets; set by the pipeline.
        teacher_ckpt: checkpoint of the multimodal teacher; set by the pipeline if the method needs it.
        adapted_ckpt: checkpoint of the adapted teachers; set by the pipeline if the method needs them.
        pool_ckpt: checkpoint of the pool of teachers; set by the pipeline if the method needs it.
        method: name of a method, see `mtpkdot.modules.teaching.METHODS` and `mtpkdot fit --help student`, or the place
            of an own `Method`: `my_project.MY_METHOD`. A config may also name `auto`: `mtpkdot_plus` if training
            recordings lack labels, otherwise `none`.
        weights: weights of the loss terms task, transport, centroid, output and rival, in place of the method's own.
            `output` makes the teachers' predictions the targets (soft labels, or values) of all samples that they
            teach. Its default in mtpkdot_plus is raised until a sample without a label has at least the weight of a
            labelled one (`mtpkdot.modules.teaching.level`), times the trust in the teachers.
        weighting: `fixed`, `uncertainty` (learned), `rise` or `fall` (of all terms but the task's, during training).
        ramp: fraction of the training in which weights rise or fall.
        structure: loss of the structural terms: StructuralTransport or another StructuralLoss, with its settings.
        selection: assignment of teachers to rows: TeacherSelection or another Selection, with its settings.
        rival: class of the rival with its settings, in place of the method's own.
        temperature: softening temperature of the soft labels.
        values: loss of a teacher's values in the term `output`: `squared` errors, or `ccc` for 1 - CCC of a batch; null
            for that of the method.
        queue: number of samples of earlier batches that the structural terms compare as well, fewer than the training
            samples.
        warmup: fraction of the epochs in which mtpkdot_plus and selftraining learn from labels only; the student is
            then weighed against its teachers.
        teachers: names of the teachers of mtpkdot and mtpkdot_plus: modalities, for their adapted backbones, and
            `joint`; null for all.
        hallucination: source of the privileged features: the T-Nets (`tnet`, as in the papers) or `zeros`; `none` for a
            student that uses the prevalent feature only.
        train_tnet: continue to train the T-Nets.
        finetune_encoder: continue to train the encoder on raw steps; the papers freeze it.
        fusion: fusion of real and hallucinated features: GatedFusion or another Fusion, with its settings.
        batch_attention: protocol switch.
        frozen_projections: protocol switch.
        per_step: linked from the data.
        options: see StageModule.

    Example:
        >>> data = {"task": "classification", "targets": ["no", "yes"], "modalities": {"video": [4], "sound": [3]}}
        >>> StudentModule(method="pkdot", **data, prevalent="video").privileged
        ['sound']
    """

    section: ClassVar[str] = "student"
    takes: ClassVar[frozenset[str]] = frozenset({"encoder"})
    inherited: ClassVar[Mapping[str, tuple[str, str]]] = {"tnet": ("hallucinator_ckpt", "tnet")}
    switches: ClassVar[frozenset[str]] = frozenset({"batch_attention", "frozen_projections"})
    shared: ClassVar[bool] = False
    submits: ClassVar[bool] = True
    passing = ("frozen.", _QUEUE)
    built_in: ClassVar[dict[str, type]] = {
        "structure": StructuralTransport,
        "selection": TeacherSelection,
        "fusion": GatedFusion,
    }

    @classmethod
    def upstream_arguments(cls, model: Mapping[str, Any]) -> list[str]:
        """Return the arguments for the prevalent backbone, the T-Nets, and the teachers that the method needs."""
        teachers = find_method(model["method"]).teachers_for(model["weights"]) if model["method"] != AUTO else None
        needed = set() if teachers is None else {f"{stage}_ckpt" for stage in teachers.stages}
        of_teachers = {"teacher_ckpt", "adapted_ckpt", "pool_ckpt"} - needed
        return [name for name in super().upstream_arguments(model) if name not in of_teachers]

    @classmethod
    def encoder_arguments(cls, encoders: Mapping[str, Any], prevalent: str) -> dict[str, Any]:
        """Return the encoder of the prevalent backbone; see StageDeclaration."""
        return {"encoder": encoders[prevalent]}

    @classmethod
    def method_of(cls, model: Mapping[str, Any]) -> str:
        """Return the method; see StageDeclaration."""
        return str(model["method"])

    @classmethod
    def check_section(cls, section: Mapping[str, Any], data: BaseData) -> None:
        """Check that batches have enough samples to compare; see StageDeclaration."""
        check_batches(section, data)

    def check_built(self, data: BaseData, name: str, batch_size: int) -> None:
        """Check that batches are large enough for the structural loss; see StageDeclaration."""
        if self.teaching.weights.keys() & {"transport", "centroid"}:
            check_structure(self.structure, data, batch_size, f"{name}.model.structure")

    def __init__(
        self,
        encoder: EncoderFactory | None = None,
        tnet: TNetFactory | None = None,
        backbone_ckpt: str | None = None,
        hallucinator_ckpt: str | None = None,
        teacher_ckpt: str | None = None,
        adapted_ckpt: str | None = None,
        pool_ckpt: str | None = None,
        method: str = "mtpkdot",
        weights: dict[Term, float] | None = None,
        weighting: Weighting = "fixed",
        ramp: float = 1.0,
        structure: StructureFactory | None = None,
        selection: SelectionFactory | None = None,
        rival: RivalFactory | None = None,
        temperature: float = 2.0,
        values: ValueLoss | None = None,
        queue: int = 0,
        warmup: float = 0.1,
        teachers: list[str] | None = None,
        hallucination: Hallucination = "tnet",
        train_tnet: bool = False,
        finetune_encoder: bool = False,
        fusion: FusionFactory | None = None,
        batch_attention: bool = False,
        frozen_projections: bool = False,
        per_step: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(per_step=per_step, **options)
        self.save_hyperparameters()
        if method == AUTO:
            raise ValueError("method auto is chosen by the data of a config; name a method here")
        if not 0 <= warmup < 1:
            raise ValueError(f"student.model.warmup must lie in [0, 1), not {warmup}")
        self.method, self.queue, self.rival, self.temperature = method, queue, rival, temperature
        self.values, self.is_bound = values or find_method(method).values, find_method(method).is_bound
        self.hallucination, self.train_tnet, self.finetune_encoder = hallucination, train_tnet, finetune_encoder
        self.selection = (selection or TeacherSelection)()
        chosen = {"guarded": self.selection.guarded, "own_rival": rival is not None}
        check_settings(method, weights, weighting=weighting, queue=queue, **chosen)
        checkpoints = {"backbone": backbone_ckpt, "teacher": teacher_ckpt, "adapted": adapted_ckpt, "pool": pool_ckpt}
        names = chosen_teachers(method, teachers, self.steps)
        upstream = Upstream(checkpoints, names, self.prevalent, self.task)
        self.teaching, self.hallucinator_ckpt = Teaching(method, weights, warmup, upstream), hallucinator_ckpt
        self.selection.fallback = self.teaching.fallback
        self.term_weights = TermWeights(self.teaching.weights, weighting, ramp)
        self.structure = (structure or StructuralTransport)()
        self.structure.gathered = True  # rows are gathered from all processes before the terms are computed
        self.new_encoder, self.new_tnet, self.new_fusion = encoder, tnet or Hourglass, fusion or GatedFusion
        # The network is built when the sizes of the T-Nets are known; its parts are tried now.
        self.dim = fusion_size(self.new_fusion, list(self.steps), per_step)
        self.deviations = {"batch_attention": batch_attention, "frozen_projections": frozen_projections}
        try_selection(selection or TeacherSelection, self.task, self.num_outputs, self.teaching.fallback)
        try_structure(structure or StructuralTransport)
        if "rival" in self.teaching.weights:
            try_rival(self._new_rival, self.task, self.num_outputs)
        self.uses_unlabelled = self.teaching.kind is not None
        self.name_heads([self.prevalent])

    def setup(self, stage: str) -> None:
        """Load the weights of backbone and T-Nets, and the teachers, for training."""
        if stage != "fit":
            return
        if (teachers := self.teaching.load()) is not None:
            self.frozen[_TEACHERS] = teachers
        if not self.blueprint:
            hallucinator = load_upstream(HallucinatorModule, self.hallucinator_ckpt, "student.model.hallucinator_ckpt")
            sizes = {name: int(tnet.out_dim) for name, tnet in hallucinator.named_tnets()}
            self.build({"tnets": sizes, "spaces": {} if teachers is None else teachers.space_sizes})
            self.fit_heads(self.model.head)
            self.model.backbone.load_state_dict(self.teaching.upstream.backbone().state_dict())
            self._load_tnets(hallucinator)

    def _load_tnets(self, hallucinator: HallucinatorModule) -> None:
        """Load the weights of the trained T-Nets, if the student has T-Nets.

        Raises:
            RunError: the trained T-Nets do not match those of the student.
        """
        pairs = list(zip(self.model.tnets, hallucinator.tnets, strict=False))  # none without hallucination
        x = torch.linspace(-1, 1, 3 * self.model.backbone.dim).reshape(1, 3, -1)
        try:
            for own, trained in pairs:
                own.load_state_dict(trained.state_dict())
            # Settings without weights, such as an activation, count as well.
            with torch.no_grad():
                same = all(torch.allclose(own.eval()(x), trained.eval()(x)) for own, trained in pairs)
        except RuntimeError:
            same = False
        if not same:
            raise RunError(
                f"{self.hallucinator_ckpt} has other T-Nets than hallucinator.model.tnet",
                "Set that section to the one it was trained with, or train the hallucinator anew.",
            )

    def build(self, blueprint: dict[str, Any]) -> None:
        """Build the student and the distillation terms."""
        backbone = Backbone(self.steps[self.prevalent], self.num_outputs, self.new_encoder, self.per_step)
        backbone.requires_grad_(self.finetune_encoder)
        backbone.head.requires_grad_(False)  # never has a gradient, for which distributed training would wait
        hallucinated = {} if self.hallucination == "none" else blueprint["tnets"]
        with torch.random.fork_rng(devices=[]):
            # The size of the joint feature may depend on those of the modalities, which the trial did not know.
            self.dim = self.new_fusion({self.prevalent: backbone.dim, **hallucinated}, self.per_step).dim
        head = Head(self.dim, self.num_outputs)
        tnets = {name: self.new_tnet(backbone.dim, size) for name, size in blueprint["tnets"].items()}
        tnets = {} if self.hallucination == "none" else tnets
        sizes = {self.prevalent: backbone.dim, **{name: tnet.out_dim for name, tnet in tnets.items()}}
        fusion = self.new_fusion(sizes, self.per_step)
        fusion.use_protocol(**self.deviations)
        self.model = Student(
            backbone, head, tnets=tnets, fusion=fusion, prevalent=self.prevalent, zeros=self.hallucination == "zeros"
        )
        self.model.tnets.requires_grad_(self.train_tnet)
        self.model.by_backbone = blueprint.get("by_backbone", False)
        if spaces := blueprint["spaces"]:
            self.distillation = Distillation(
                self.task,
                self.teaching.weights.keys() - {"task"},
                structure=self.structure,
                selection=self.selection,
                rival=self._rival(spaces[JOINT]) if "rival" in self.teaching.weights else None,
                temperature=self.temperature,
                values=self.values,
                queue=FeatureQueue(self.queue, {STUDENT: self.dim, **spaces}) if self.queue else None,
            )
        super().build(blueprint)

    def _rival(self, teacher_dim: int) -> Rival:
        # The random state is kept, so that a student's initial weights do not depend on its method.
        with torch.random.fork_rng(devices=[]):
            return self._new_rival(self.task, self.dim, teacher_dim)

    @property
    def _new_rival(self) -> RivalFactory:
        build = self.rival or find_method(self.method).rival
        assert build is not None  # see check_settings
        return build

    def frozen_parts(self) -> Iterable[nn.Module]:
        """Return the backbone and the T-Nets, unless they are trained."""
        if self.blueprint and not self.finetune_encoder:
            yield self.model.backbone
        if self.blueprint and not self.train_tnet:
            yield self.model.tnets

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Predict from the prevalent modality only, see `mtpkdot.models.Student`.

        Args:
            x: (B, T, *shape) raw steps, not standardised.
            mask: (B, T) bool, True where a step is real.

        Returns:
            The student's feature (N, dim) and output (N, num_outputs); N = B, or B * T per step. Both are those of the
            backbone if no epoch was better than it (mtpkdot_plus).
        """
        found: tuple[Tensor, Tensor] = self.model(x, mask)
        return found

    @property
    def modalities(self) -> list[str]:
        """Names of the modalities that are read: the prevalent one, or all if teachers are loaded."""
        return list(self.steps) if _TEACHERS in self.frozen else [self.prevalent]

    def frozen_encoders(self, fitting: bool) -> dict[str, list[Backbone]]:
        """Return the student's backbone, unless it is trained, and in training those of the teachers."""
        own = {} if fitting and self.finetune_encoder else {self.prevalent: [self.model.backbone]}
        if not fitting or self.teaching.teachers is None:
            return own
        theirs = self.teaching.teachers.frozen_encoders()
        return {name: [*own.get(name, []), *backbones] for name, backbones in theirs.items()}

    def raw_modalities(self, fitting: bool) -> list[str]:
        """Return the prevalent modality if its encoder is being trained; see StageModule."""
        return [self.prevalent] if fitting and self.finetune_encoder else []

    def see(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return feature and output of a batch, from raw steps or, if it has none, from the backbone's features."""
        return self.model.read(*self.encode(self.model.backbone, batch, self.prevalent, raw=True))

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """Return the predictions of the student."""
        return {self.prevalent: self.see(batch)[1]}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the task loss on labelled samples, and the method's terms where teacher and student have an input."""
        feature, output = self.see(batch)
        seen = batch.present(self.prevalent)
        known = gather_rows(output, batch.target, batch.labelled & seen)
        terms: dict[Term, Tensor] = {"task": task_loss(self.task, *known)}
        record: dict[str, Tensor] = {}
        with torch.no_grad():
            teachers = self.teaching.of(batch)
        if teachers:
            labels = seen, batch.target, batch.labelled
            taught, record = self.distillation(Seen(feature, output), teachers, *labels, self.model.head.scale)
            terms |= {name: value * self.teaching.trust(name) for name, value in taught.items()}
            record |= {name: feature.new_tensor(value) for name, value in self.teaching.logged.items()}
        loss, weights = self.term_weights(terms, self._progress())
        if "rival" in self.teaching.weights:
            # Gives the rival's parameters a zero gradient also without a teacher: distributed training waits for it.
            loss = loss + 0.0 * sum(p.sum() for p in self.distillation.parameters() if p.requires_grad)
        if self.term_weights.weighting != "fixed" or self.teaching.levels:
            record |= {f"weight_{name}": weight for name, weight in weights.items()}
        return {"loss": loss, **{f"loss_{name}": terms[name] for name in weights}, **record}

    # Life cycle of the teachers, see `mtpkdot.modules.teaching`.

    def on_fit_start(self) -> None:
        """Prepare teachers that need the training data.

        Raises:
            ValueError: the teachers need the data, but the datamodule is not a `BaseData`.
        """
        super().on_fit_start()
        data, kind = self._data(), self.teaching.kind
        needs = kind is not None and kind.needs_unlabelled and self.trainer.is_global_zero
        if needs and data is not None and not has_unlabelled(data):
            print(f"{self.method} teaches samples without a label, and all have one: it trains the student of none")
        like = self.model.head.weight
        self.term_weights.weights = self.teaching.begin(data, self._moved, like, self.num_outputs)

    def on_train_epoch_start(self) -> None:
        """Weigh the teachers against the student at the end of its warm-up."""
        data, trainer = self._data(), self.trainer
        if data is None or not self.teaching.is_due(trainer.current_epoch, trainer.max_epochs or 1):
            return
        self.eval()
        evidence = self.teaching.weigh(self._as_teacher, data, self._moved, trainer.global_step > 0)
        self.train()
        # Broadcast, so that all processes use the same evidence.
        self.teaching.use(trainer.strategy.broadcast(evidence))

    def selecting(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compare the student with the backbone that it started from, if that may become the final model."""
        start = self.teaching.start
        if start.scores and not self.trainer.sanity_checking:
            chosen = self.trainer.checkpoint_callback
            monitor = chosen.monitor if isinstance(chosen, ModelCheckpoint) else None
            start.compare(means, monitor if monitor in start.scores else self.monitors(self.task)[0])
        return means

    @classmethod
    def notes(cls, checkpoint: Path) -> list[str]:
        """Return remarks if it has seen hidden labels, or if the final model predicts with the prevalent backbone."""
        stored = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        method = find_method(stored["hyper_parameters"]["method"])
        found = [f"has seen hidden labels, {BOUND}"] if method.is_bound else []
        if stored["blueprint"].get("by_backbone"):
            better = "no epoch of the student was better on held-out people"
            found.append(f"fell back on the prevalent backbone, since {better}")
        return found

    def reached(self, monitor: str, score: float | None) -> float | None:
        """Return the score of the final model, which may be the prevalent backbone."""
        return None if score is None else self.teaching.start.best(monitor, score)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the queue of features and the evidence, which only resuming needs, out of a checkpoint of weights."""
        super().on_save_checkpoint(checkpoint)
        if "optimizer_states" not in checkpoint:
            state = checkpoint["state_dict"]
            for key in [key for key in state if key.startswith(_QUEUE)]:
                del state[key]
            if self.teaching.start.is_better:
                checkpoint["blueprint"] = {**self.blueprint, "by_backbone": True}
                backbone = self.teaching.upstream.backbone().state_dict()
                state |= {f"model.backbone.{key}": value for key, value in backbone.items()}
        elif self.teaching.evidence is not None:
            checkpoint["evidence"] = self.teaching.evidence

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the evidence on the teachers."""
        super().on_load_checkpoint(checkpoint)
        self.teaching.use(checkpoint.get("evidence"))

    def _data(self) -> BaseData | None:
        """Return the datamodule if it is a `BaseData`, or None."""
        data = getattr(self.trainer, "datamodule", None)
        return data if isinstance(data, BaseData) else None

    def _as_teacher(self, batch: Batch) -> Teacher:
        return Teacher(*self.see(batch), batch.present(self.prevalent))

    def _moved(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield batches converted and moved to the device, as the Trainer does."""
        strategy = self.trainer.strategy
        for batch in batches:  # a generator function, so that the loader's workers start only when it is read
            yield strategy.batch_to_device(self.trainer.precision_plugin.convert_input(batch))

    def _progress(self) -> float:
        """Return the fraction of the training that is done; 1 outside of training."""
        trainer = self._trainer
        return trainer.current_epoch / (trainer.max_epochs or 1) if trainer is not None and trainer.training else 1.0
