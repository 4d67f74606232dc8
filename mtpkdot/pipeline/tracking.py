"""Weights & Biases: one run per fit with the values of all stages, and one per report.

Offline where online is not possible.
"""

import contextlib
import os
import secrets
import signal
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
from lightning.pytorch.loggers import Logger, WandbLogger

from mtpkdot.errors import Terminated
from mtpkdot.pipeline.results import Score
from mtpkdot.pipeline.store import write_text

_LOGGER = "WandbLogger"
_WAIT = 30.0  # Seconds to wait for the server's answer.
# Arguments of WandbLogger that are not passed to wandb.init.
_OWN = {"save_dir", "version", "offline", "dir", "id", "log_model", "experiment", "prefix", "checkpoint_name"}
_OWN |= {"add_file_policy", "anonymous"}


class StageLogger(WandbLogger):
    """Logger of one stage into the fit's run, as `teacher/val/accuracy`."""

    LOGGER_JOIN_CHAR = "/"

    def log_hyperparams(self, params: Any) -> None:
        """Log nothing, since the whole config is logged once."""


class Tracking:
    """The W&B run of a fit or a report if the section names a WandbLogger; otherwise does nothing.

    Args:
        section: `trainer.logger`, or the like, as plain data.
        report: True for the run of a report, which has an id of its own.
    """

    def __init__(self, section: Any, report: bool = False) -> None:
        self.of_report = report
        sections = section if isinstance(section, list) else [section]
        found = [s for s in sections if isinstance(s, Mapping) and s["class_path"].rpartition(".")[2] == _LOGGER]
        self.settings: dict[str, Any] | None = None
        if found:
            self.settings = {**(found[0].get("init_args") or {}), **(found[0].get("dict_kwargs") or {})}
        self.run: Any = None

    @contextlib.contextmanager
    def opened(self, folder: Path, config: Mapping[str, Any]) -> Iterator[None]:
        """Open the run within the block.

        Args:
            folder: folder of the fit; its name is that of the run, unless the config has one. It keeps the id of the
                run, so that a resumed fit continues the same run.
            config: the whole config, nested.
        """
        if self.settings is None:
            yield
            return
        self.run = self._init(folder, config)
        self.run.define_metric("trainer/global_step")
        self.run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        code = 1
        try:
            yield
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
            if isinstance(stop, Terminated) and not _ended_by_its_sweep(stop):
                self.run.mark_preempting()
            raise
        finally:
            self.run.finish(code)
            self.run = None

    def loggers(self, stage: str, chosen: Iterable[Logger]) -> list[Logger]:
        """Return the loggers of a stage, with one into the fit's run in place of its WandbLogger."""
        kept = [logger for logger in chosen if not isinstance(logger, WandbLogger)]
        return kept if self.run is None else [*kept, StageLogger(experiment=self.run, prefix=stage)]

    def stage(self, name: str, checkpoint: Path) -> None:
        """Upload the weights of a trained stage to the run if `log_model` of the config says so."""
        if self.run is not None and self.settings is not None and self.settings.get("log_model"):
            self.run.log_artifact(str(checkpoint), name=f"{self.run.id}-{name}", type="model")

    def results(self, scores: Iterable[Score], folder: Path, apart: Collection[str] = ()) -> None:
        """Log the results: each number in the summary of the run, the table, and the files as an artifact.

        Args:
            scores: scores of the run.
            folder: folder of the run.
            apart: stages of several models, which are distinguished by their modalities.
        """
        if self.run is None:
            return
        import wandb

        scores = list(scores)
        for score in scores:
            model = f"{score.stage}.{score.modality}" if score.stage in apart else score.stage
            # Regression has a score for every target, and the mean last.
            self.run.summary[f"{score.split}/{model}/{score.metric}/{score.target}"] = score.value
            self.run.summary[f"{score.split}/{model}/{score.metric}"] = score.value
        table = pd.DataFrame([asdict(score) for score in scores])
        self.run.log({"results": wandb.Table(dataframe=table)})
        artifact = wandb.Artifact(f"{self.run.id}-results", type="results")
        for name in ("results.json", "results.md", "predictions.parquet"):
            artifact.add_file(str(folder / name))
        self.run.log_artifact(artifact)

    def report(self, files: Sequence[Path], figures: Mapping[str, str], table: pd.DataFrame) -> None:
        """Log a report: the page and the table to view, its files and figures (SVG, by name) as an artifact."""
        if self.run is None:
            return
        import wandb

        artifact = wandb.Artifact(f"{self.run.id}-report", type="report")
        for path in files:
            artifact.add_file(str(path))
        for name, svg in figures.items():
            with artifact.new_file(f"figures/{name}.svg", encoding="utf-8") as file:
                file.write(svg)
        pages = {path.stem: wandb.Html(str(path)) for path in files if path.suffix == ".html"}
        self.run.log({**pages, "results": wandb.Table(dataframe=table)})
        self.run.log_artifact(artifact)

    def _init(self, folder: Path, config: Mapping[str, Any]) -> Any:
        import wandb

        assert self.settings is not None
        kept = {key: value for key, value in self.settings.items() if key not in _OWN and value is not None}
        kept.setdefault("project", os.environ.get("WANDB_PROJECT", "mtpkdot"))
        kept.setdefault("name", folder.name)
        noted = folder / ("wandb-report.id" if self.of_report else "wandb.id")
        trial = None if self.of_report else sweep_run()
        given = self.settings.get("version") or self.settings.get("id") or trial
        name = given or (noted.read_text().strip() if noted.is_file() else secrets.token_hex(4))
        write_text(noted, f"{name}\n")
        chosen = self.settings.get("save_dir")
        place = str(folder if chosen in (None, ".") else chosen)  # "." is the default of WandbLogger
        common = {**kept, "id": name, "dir": place, "config": dict(config)}

        def init(mode: Any) -> Any:
            settings = wandb.Settings(init_timeout=_WAIT, silent=True)
            return wandb.init(**common, mode=mode, resume="allow" if mode is None else None, settings=settings)

        if self.settings.get("offline") or os.environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun"):
            return init(os.environ.get("WANDB_MODE", "offline").replace("dryrun", "offline"))
        reason = "there are no credentials (see `wandb login`)"
        settings = wandb.setup().settings
        server = str(settings.base_url)
        if settings.api_key or _stored_key(server):
            try:
                return init(None)
            except wandb.errors.Error as error:
                wandb.teardown()  # wandb keeps the id of the run until then.
                reason = f"the server cannot be reached ({' '.join(str(error).split())})"
        print(f"W&B runs offline, since {reason}; `wandb sync {place}/wandb/offline-run-*` sends it later.")
        return init("offline")


def sweep_run() -> str | None:
    """Return the id of the trial if this process runs one of a W&B sweep; else None."""
    return os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None


def _ended_by_its_sweep(stop: Terminated) -> bool:
    """Return whether the agent of a sweep has ended this trial, which must not be queued again then.

    An agent ends a trial by SIGTERM, whether the sweep stops it early or a user does. Slurm sends SIGTERM as well,
    before it takes a node away, and an agent that forwards signals passes it on. Within Slurm a trial cannot
    distinguish the two and counts as pre-empted: a stopped trial that comes back costs time, a pre-empted one that does
    not is lost. SIGUSR1 means pre-empted everywhere, for no agent sends it by itself.
    """
    return sweep_run() is not None and stop.signum == signal.SIGTERM and "SLURM_JOB_ID" not in os.environ


def _stored_key(server: str) -> bool:
    try:
        stored = netrc(os.environ.get("NETRC"))
    except (OSError, NetrcParseError):
        return False
    return (urlsplit(server).hostname or "") in stored.hosts
