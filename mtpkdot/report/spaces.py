"""Feature spaces of a finished run, computed from its stored checkpoints on its test part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from mtpkdot.data.base import BaseData
from mtpkdot.data.batch import Batch, IntArray
from mtpkdot.errors import RunError
from mtpkdot.losses.gromov import gromov_wasserstein
from mtpkdot.losses.similarity import anchored, choose_anchors, similarity_matrix
from mtpkdot.losses.structure import StructuralTransport
from mtpkdot.models.attention import reduce_steps
from mtpkdot.models.weights import without_pretrained
from mtpkdot.modules import AdaptedModule, StageModule, StudentModule
from mtpkdot.pipeline.config import parse_run
from mtpkdot.pipeline.runner import Run
from mtpkdot.pipeline.stages import ADAPTED, DOWNSTREAM, STUDENT, UPSTREAM
from mtpkdot.pipeline.store import StoredStage
from mtpkdot.report.gather import Entry, Model
from mtpkdot.report.tallies import Array

ROWS = 240  # Samples that are shown: enough to see a structure, few enough to draw.
Loaded = TypeVar("Loaded", bound=StageModule)


@dataclass
class Spaces:
    """Features of the same samples in several spaces, sorted by class or value.

    Attributes:
        labels: (n,) classes, or values of the first target.
        before: features (n, D) of the teacher's backbones, by modality.
        after: features (n, D) of the adapted teachers by space, the joint one last.
        students: features (n, D) of the students, by name.
        plan: (n, n) mass between the rows of the joint teacher's and the student's structure; None if no student is
            compared with that teacher.
        planned: name of the student of the plan.
    """

    labels: Array
    before: dict[str, Array]
    after: dict[str, Array]
    students: dict[str, Array] = field(default_factory=dict)
    plan: Array | None = None
    planned: str = ""

    @property
    def bounds(self) -> list[int]:
        """First sample of every class but the first; empty for values."""
        return (np.flatnonzero(np.diff(self.labels)) + 1).tolist() if self.labels.dtype.kind == "i" else []


def spaces(students: Mapping[str, Model], first: str) -> Spaces:
    """Return the features of one fold and seed.

    Args:
        students: students by name, trained on the same upstream models.
        first: name of the student whose run is read. The plan belongs to the first student whose loss compares its
            structure with that of the joint teacher; the loss of pooled teachers does not.

    Raises:
        UserError: data or checkpoints are missing or have changed.
    """
    run = _run(students[first].entry, students[first].record)
    adapted = _load(AdaptedModule, students[first], ADAPTED, run.jobs[ADAPTED].upstream)
    adapted.setup("predict")
    chosen = _positions(run.data)
    batch = _batch(run, adapted, chosen)
    with torch.inference_mode():
        after = adapted.spaces(batch)
        features, masks = adapted.joint_teacher.sequences(batch)
        before = {name: reduce_steps(features[name], masks[name], run.data.per_step) for name in features}
    known = batch.labelled & torch.stack([space.valid for space in after.values()]).all(dim=0)
    target = batch.target if run.data.task != "regression" else batch.target[:, 0]
    known_rows = torch.nonzero(known).flatten()
    if len(known_rows) < 3:
        raise RunError("fewer than three test samples have all modalities and a label", "There is nothing to draw.")
    # With targets per step, a sample has many rows.
    known_rows = known_rows[:: max(1, -(-len(known_rows) // ROWS))]
    order = known_rows[torch.argsort(target[known_rows], stable=True)]
    found = Spaces(
        target[order].numpy(),
        {name: value[order].float().numpy() for name, value in before.items()},
        {name: value.feature[order].float().numpy() for name, value in after.items()},
    )
    for name, model in students.items():
        student = _load(StudentModule, model, STUDENT)
        with torch.inference_mode():
            seen = student.see(_batch(run, student, chosen))[0][order].float()
        found.students[name] = seen.numpy()
        teaching, structure = student.teaching, student.structure
        compares = teaching.weights.keys() & {"transport", "centroid"} and not (teaching.kind and teaching.kind.pooled)
        if found.plan is None and compares and isinstance(structure, StructuralTransport):
            joint = torch.from_numpy(list(found.after.values())[-1])
            found.plan, found.planned = transport_plan(structure, seen, joint), name
    return found


def transport_plan(structure: StructuralTransport, student: Tensor, teacher: Tensor) -> Array:
    """Compute the mass (n, n) that the structural loss moves from each row of the teacher's structure to the student's.

    Args:
        structure: the structural loss.
        student: (n, D_s) features.
        teacher: (n, D_t) features of the same samples.
    """
    theirs, own = similarity_matrix(teacher, structure.kernel), similarity_matrix(student, structure.kernel)
    if structure.mode in ("gromov", "fused"):
        even = teacher.new_full((len(teacher),), 1 / len(teacher))
        price = structure.pairing if structure.mode == "fused" else None
        plan = gromov_wasserstein(theirs, own, even, price)[1]
    elif structure.mode == "paired":
        plan = torch.eye(len(teacher)) / len(teacher)
    else:
        anchors = choose_anchors(theirs, min(structure.top_k, len(teacher) - 1), structure.anchors)
        plan = structure.divergence(*anchored(theirs, own, anchors)).plan
    return np.asarray(plan.double().numpy())


def tsne(features: Array, seed: int = 0) -> Array:
    """Compute a map (n, 2) of features (n, D) by t-SNE on standardised features.

    Source: van der Maaten & Hinton, JMLR 9, 2008.
    """
    # Imported here: it takes a second.
    from sklearn.manifold import TSNE

    scale = features.std(axis=0)
    standard = (features - features.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    perplexity = min(30.0, (len(features) - 1) / 3)
    # Random initialisation, because equal features have no principal components.
    return np.asarray(TSNE(perplexity=perplexity, init="random", random_state=seed).fit_transform(standard), float)


def _run(entry: Entry, record: dict[str, Any]) -> Run:
    """Return the run of an entry with its data read, if all of its stages are those that it was trained with."""
    stages = f"--pipeline.stages=[{UPSTREAM},{DOWNSTREAM}]"
    place = [f"--pipeline.root={entry.root}", f"--pipeline.name={entry.place}", stages]
    if not (entry.folder / "config.yaml").is_file():
        raise RunError(f"{entry.folder / 'config.yaml'} is gone", "Train the run again.")
    run = Run(parse_run("report", entry.folder, [], place))
    for stage, job in record["stages"].items():
        if stage in run.jobs and run.jobs[stage].stored.hash != job["hash"]:
            note = f" ({run.jobs[stage].note})" if run.jobs[stage].note else ""
            raise RunError(f"data, configuration or code of {entry.folder} have changed{note}", "Put them back.")
    run.data.setup("predict")
    return run


def _load(kind: type[Loaded], model: Model, stage: str, upstream: Mapping[str, Any] | None = None) -> Loaded:
    """Load a stage of the model's run with its `upstream`; the folder of runs may have moved since training."""
    stored = StoredStage(model.entry.root, stage, model.upstream[stage])
    if not stored.exists():
        raise RunError(f"{stored.folder} is gone", "Train the stage again.")
    with without_pretrained():
        module = kind.load_from_checkpoint(
            stored.checkpoint, map_location="cpu", weights_only=True, **dict(upstream or {})
        )
    return module.eval()


def _positions(data: BaseData) -> IntArray:
    """Return the positions of labelled test samples, sorted and evenly spaced over the test part."""
    everyone = data.positions("test", labelled_only=True)
    most = ROWS if not data.per_step else max(1, 4 * ROWS // data.samples.labelled.shape[1])
    return everyone[:: max(1, -(-len(everyone) // most))]


def _batch(run: Run, module: StageModule, chosen: IntArray) -> Batch:
    run.features.attach(module, run.data, False, torch.device("cpu"))
    positions: Sequence[int] = [int(position) for position in chosen]
    return run.data.dataset.__getitems__(positions)
