"""Draws: divisions of the people into folds, in parallel processes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtpkdot.errors import RunError
from mtpkdot.pipeline.notices import quieten
from mtpkdot.probe.folds import Sizes, cells
from mtpkdot.probe.models import Question, outputs
from mtpkdot.probe.reading import Material
from mtpkdot.probe.scores import Key, Scores, sums_of
from mtpkdot.progress import progress
from mtpkdot.report.tallies import Array
from mtpkdot.workers import completed

_MOST_CLUSTERS = 400  # Of more people several are resampled as one, which leaves intervals as they are.


@dataclass(frozen=True)
class Plan:
    """All fits of a probe.

    Attributes:
        material: the data.
        question: the task.
        sizes: sizes of the folds.
        points: numbers of labelled people.
        draws: number of draws.
        seed: seed of all draws.
    """

    material: Material
    question: Question
    sizes: Sizes
    points: Sequence[int]
    draws: int
    seed: int

    def scores(self, jobs: int) -> Scores:
        """Fit all models and return their scores.

        Args:
            jobs: number of processes; 1 for this one.

        Raises:
            RunError: a process was killed.
        """
        killed = RunError("a process of the probe was killed, perhaps for want of memory", "Call it with fewer --jobs.")
        found: dict[int, dict[Key, Array]] = {}
        with progress(self.draws, 0, "probe", "draw") as bar:
            work = [(self, draw) for draw in range(self.draws)]
            for draw, sums in completed(_of_draw, work, min(jobs, self.draws), killed):
                found[draw] = sums
                bar.update()
        return Scores(self.question, [found[draw] for draw in range(self.draws)])


def _of_draw(job: tuple[Plan, int]) -> dict[Key, Array]:
    """Return the sums over the rows of each person of all models in one draw, see `sums_of`."""
    quieten()
    plan, draw = job
    material, question = plan.material, plan.question
    rows = material.rows
    count = min(len(material.people), _MOST_CLUSTERS)
    person = np.searchsorted(material.people, np.unique(material.samples.subjects)) % count
    centre = np.zeros(len(question.targets))
    if question.task == "regression":
        centre = rows.target[rows.labelled].double().mean(dim=0).numpy()
    found: dict[Key, Array] = {}
    for number, cell in cells(material, question.prevalent, plan.sizes, plan.points, draw=draw, seed=plan.seed):
        people = person[cell.tested.people.numpy()]
        for name, output in outputs(question, cell).items():
            sums = sums_of(question, output, cell.tested.target, people=people, count=count, centre=centre)
            found[number, name] = found.get((number, name), 0.0) + sums
    return found
