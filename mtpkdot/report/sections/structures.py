"""Section on structures: similarity matrices, maps of feature spaces, and the transport from teacher to student."""

from collections.abc import Sequence

import torch

from mtpkdot.errors import UserError
from mtpkdot.losses.similarity import cosine_matrix
from mtpkdot.pipeline.stages import ADAPTED
from mtpkdot.report.compare import Comparison
from mtpkdot.report.figures import structures
from mtpkdot.report.page import Block, Figure, Heading, Text
from mtpkdot.report.spaces import spaces, tsne
from mtpkdot.report.tallies import MOST_CONFUSED, Array


def seen(comparison: Comparison, students: Sequence[str]) -> list[Block]:
    """Return figures of the feature spaces of teachers and students on the test part of the first fold and seed."""
    title: list[Block] = [Heading("Teacher and student spaces", 3)]
    taught = [name for name in students if (comparison.setting, name) not in comparison.gathered.alone]
    if not taught:
        return [*title, Text("No student is taught, so there are no spaces to compare.")]
    upstream = comparison.gathered.upstream[comparison.setting, taught[0]]
    if ADAPTED not in upstream:
        return [*title, Text("The run has no adapted teachers, so there are no spaces to compare.")]
    alike = [s for s in students if comparison.gathered.upstream[comparison.setting, s] == upstream][:4]
    cells = comparison.common(*alike)
    if not cells:
        return [*title, Text("No fold and seed is finished by all students, so their spaces cannot be compared.")]
    models = {name: comparison.gathered.models[comparison.setting, name, *cells[0]] for name in alike}
    try:
        found = spaces(models, taught[0])
    except UserError as error:
        return [*title, Text(f"Similarity matrices, maps and transport plan are left out: {error}")]
    place = (
        f"fold {cells[0][0]}, seed {cells[0][1]}, {len(found.labels)} samples of the test part that have a label and "
        "all modalities"
    )
    after = {f"adapted {name}" if name != "joint" else "joint teacher": v for name, v in found.after.items()}
    matrices = {name: _similar(value) for name, value in [*after.items(), *_named(found.students)]}
    joint = matrices["joint teacher"]
    gathered = comparison.gathered
    classes = gathered.task != "regression"
    names = gathered.targets if classes and len(gathered.targets) <= MOST_CONFUSED else []
    by = "class" if classes else gathered.targets[0]
    before = {f"{name} before": tsne(value) for name, value in found.before.items()}
    maps = {f"{name} after" if name != "joint" else "joint": tsne(value) for name, value in found.after.items()}
    text = "; ".join(f"{name} {_agreement(joint, of):.2f}" for name, of in matrices.items() if of is not joint)
    blocks: list[Block] = [
        *title,
        Figure(
            structures.similarities(matrices, found.bounds),
            f"Similarity matrices of teachers and students. Correlation with that of the joint teacher: {text}",
            f"Cosine similarities between samples sorted by {by} ({place}). Correlation with the joint teacher's "
            f"entries: {text}.",
        ),
        Figure(
            structures.maps([before, maps], found.labels, names),
            f"t-SNE maps of the teachers' spaces before and after adaptation: {', '.join([*before, *maps])}",
            "Teachers' spaces before adaptation (backbones, above) and after it (below, with the joint one), by t-SNE, "
            f"one map each ({place}). Distances between far points mean nothing.",
        ),
    ]
    if found.plan is None:
        return [*blocks, Text("No student here is compared with the joint teacher's structure, so no plan is drawn.")]
    own = float(found.plan.trace() / found.plan.sum())
    blocks.append(
        Figure(
            structures.plan(found.plan, found.bounds, "joint teacher", found.planned),
            f"Transport plan from the joint teacher to {found.planned}: {own:.0%} of the mass stays with its sample",
            f"Mass that the structural loss, as {found.planned} is configured, moves from rows of the joint teacher's "
            f"structure to rows of the student's ({place}, sorted by {by}). {own:.0%} of the mass stays with its own "
            "sample.",
        )
    )
    return blocks


def _named(students: dict[str, Array]) -> list[tuple[str, Array]]:
    return [(f"student {name}", value) for name, value in students.items()]


def _similar(features: Array) -> Array:
    matrix: Array = cosine_matrix(torch.from_numpy(features)).double().numpy()
    return matrix


def _agreement(first: Array, second: Array) -> float:
    """Return the correlation of the entries above the diagonal."""
    rows = torch.triu_indices(len(first), len(first), 1)
    pairs = torch.from_numpy(first)[*rows], torch.from_numpy(second)[*rows]
    return float(torch.corrcoef(torch.stack(pairs))[0, 1])
