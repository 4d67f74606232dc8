"""Cost of students: seconds of their training, and of the models that only their teachers need."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtpkdot.pipeline.stages import STUDENT, stage_classes
from mtpkdot.report.compare import Comparison
from mtpkdot.report.gather import stages_of
from mtpkdot.report.logs import seconds_of


@dataclass(frozen=True)
class Cost:
    """Training time of a student, on the machines that it ran on; mean over the cells whose times are known.

    Attributes:
        setting: the setting.
        method: the student.
        seconds: seconds of the student's own training.
        seconds_teachers: seconds of the stages that it needs and a student without teachers does not.
        cells: number of cells.
    """

    setting: str
    method: str
    seconds: float
    seconds_teachers: float
    cells: int

    def __str__(self) -> str:
        """Return both times in seconds, the second one only if there is any."""
        return f"{self.seconds:.1f}" + (f" + {self.seconds_teachers:.1f}" if self.seconds_teachers else "")


def costs(comparison: Comparison) -> dict[str, Cost]:
    """Return the cost of every student of a setting whose stages are kept, by name."""
    found: dict[str, Cost] = {}
    for method in (student for student in comparison.students if student in comparison.tallies):
        of_cells: list[tuple[float, float]] = []
        for model in comparison.models(method):
            stages = model.record["stages"]
            if STUDENT not in stages:
                continue
            spent = {name: seconds_of(folder) for name, folder in stages_of(model.entry, model.record)}
            others = spent.keys() - needed_without_teachers(stages) - {STUDENT}
            of_cells.append((spent[STUDENT], sum(spent[name] for name in others)))
        known = [times for times in of_cells if not any(map(math.isnan, times))]
        if known:
            own, teachers = (sum(times) / len(known) for times in zip(*known, strict=True))
            found[method] = Cost(comparison.setting, method, own, teachers, cells=len(known))
    return found


def needed_without_teachers(stages: Mapping[str, Any]) -> set[str]:
    """Return the names of the stages that a student needs to be built and started, by the stages of a run.json."""
    names = {job["hash"]: name for name, job in stages.items()}
    arguments = stage_classes()[STUDENT].upstream_arguments({"method": "none", "weights": None})
    keys = stages[STUDENT]["keys"]
    waiting = [keys.get(f"upstream.{argument}") for argument in arguments]
    found: set[str] = set()
    while waiting:
        name = names.get(waiting.pop())
        if name is not None and name not in found:
            found.add(name)
            waiting += [value for key, value in stages[name]["keys"].items() if key.startswith("upstream.")]
    return found
