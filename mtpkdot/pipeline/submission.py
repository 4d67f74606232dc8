"""Submission of the parts of a study to Slurm."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtpkdot.errors import ConfigError, RunError
from mtpkdot.extras import require

Run = Callable[[Sequence[str]], int | None]


@dataclass(frozen=True)
class Part:
    """One Slurm job: a part of a study.

    Attributes:
        run: the verb `crossval`; not the program's entry, because submitit handles the signals here.
        arguments: its arguments.
    """

    run: Run
    arguments: tuple[str, ...]

    def __call__(self) -> None:
        """Run the part.

        Raises:
            RunError: a cell of the part failed; the log of the job names it.
        """
        if self.run(self.arguments):
            raise RunError("cells of this part of the study failed", "See the lines above.")

    def checkpoint(self) -> Any:
        """Return the job that Slurm starts after a pre-emption or a time-out: the same one, which continues."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(run: Run, arguments: Sequence[str], parts: int, folder: Path, options: dict[str, Any]) -> list[str]:
    """Submit a study as an array of jobs.

    Args:
        run: see `Part`.
        arguments: arguments of `mtpkdot crossval` without the part.
        parts: number of jobs.
        folder: folder of their logs.
        options: parameters of submitit's AutoExecutor, such as `timeout_min` or `slurm_partition`.

    Returns:
        The ids of the jobs.

    Raises:
        ConfigError: submitit or Slurm is missing, or an option is unknown.
    """
    if shutil.which("sbatch") is None:
        raise ConfigError("--submit needs Slurm, and there is no sbatch here", "Call it where jobs are submitted.")
    submitit = require("submitit")
    executor = submitit.AutoExecutor(folder, cluster="slurm")
    try:
        executor.update_parameters(**{"name": "mtpkdot-crossval", "timeout_min": 240, **options})
    except (AssertionError, NameError, TypeError, ValueError) as error:
        raise ConfigError(f"--slurm: {_first_line(error)}", "See submitit's AutoExecutor.") from error
    jobs = [Part(run, (*arguments, "--part", f"{part}/{parts}")) for part in range(1, parts + 1)]
    try:
        with executor.batch():
            submitted = [executor.submit(job) for job in jobs]
    except submitit.core.utils.FailedJobError as error:
        raise RunError(f"Slurm refuses the jobs: {_first_line(error)}", "Correct --slurm.") from error
    return [job.job_id for job in submitted]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
