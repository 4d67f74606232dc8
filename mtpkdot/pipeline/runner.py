"""Runs an experiment: check, train what is not in the store, evaluate."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mtpkdot import trust
from mtpkdot.data.base import sharing
from mtpkdot.data.splits import PARTS
from mtpkdot.errors import OtherRunError, RunError
from mtpkdot.pipeline.checks import check_config, check_modules
from mtpkdot.pipeline.config import Experiment
from mtpkdot.pipeline.evaluation import SPLITS, evaluate_stage, submission
from mtpkdot.pipeline.features import FeatureCache
from mtpkdot.pipeline.jobs import Job, data_keys, make_jobs, wanted_stages
from mtpkdot.pipeline.preemption import LAST, Preemption
from mtpkdot.pipeline.protocol import Protocol, expand
from mtpkdot.pipeline.ranks import Ranks
from mtpkdot.pipeline.records import RUN, read_record
from mtpkdot.pipeline.results import PREDICTIONS, Row, markdown, read_predictions, read_rows, write_results
from mtpkdot.pipeline.stages import KINDS
from mtpkdot.pipeline.store import digest, first_difference, write_json, write_text
from mtpkdot.pipeline.tracking import Tracking
from mtpkdot.pipeline.training import train, versions


class Run:
    """One experiment in its folder.

    Args:
        experiment: the parsed config.

    Raises:
        UserError: from the data or the config, before anything is trained or written.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, self.config, self.data = experiment, experiment.config, experiment.data
        self.protocol = expand(self.config["protocol"])
        decided = {**self.protocol.data_arguments(""), "seed": self.config["seed_everything"]}
        for name, value in decided.items():
            setattr(self.data, name, value)
        self.data.check()
        self.wanted, stages = wanted_stages(experiment)
        self.ranks = Ranks(self.config["trainer"])
        check_config(self.config, self.data, self.wanted, self.protocol, self.ranks)
        self.jobs = make_jobs(experiment, stages)
        options = self.config["pipeline"]
        self.features = FeatureCache(
            Path(options["root"]) / "features",
            options["features"],
            data_keys(experiment),
            {name: section["model"]["encoder"] for name, section in self.config["backbone"].items()},
            options["compile"],
            self.ranks,
        )
        self.resume: bool = options["resume"]
        self.preemption = Preemption(options["checkpoint_every"], self.ranks)
        self.tracking = Tracking(self.config["trainer"]["logger"])
        hashes = {name: job.stored.hash for name, job in self.jobs.items()}
        self.folder = Path(options["root"]) / (options["name"] or f"{experiment.source}-{digest(hashes)[:8]}")

    def fit(self, everything: bool = True) -> None:
        """Train what is missing, evaluate, and print the table.

        Args:
            everything: evaluate the stages that were taken from earlier runs as well.
        """
        with ExitStack() as tracked:
            with self.ranks.together():
                self.ranks.decided(self._prepare)
                if self.ranks.first:
                    tracked.enter_context(self.tracking.opened(self.folder, _plain(self.config)))
                for number, stage in enumerate(self.wanted, start=1):
                    self._train(self.jobs[stage.name], f"[{number}/{len(self.wanted)}] {stage.name}")
            if self.ranks.first:
                # Alone, so that every sample counts once.
                self.evaluate(SPLITS, None if everything else {stage.name for stage in self.wanted})

    def _prepare(self) -> None:
        self._check_modules()
        self._claim_folder()
        print(self.data.summary(), flush=True)

    def check(self) -> None:
        """Stop at what `fit` would stop at before it trains anything.

        Raises:
            UserError: a module that cannot be built, or a folder that holds a run of another configuration.
        """
        self._check_modules()
        changed = self._changed(self._before())
        if changed is not None and self.resume:
            raise changed

    def evaluate_again(self, splits: tuple[str, ...]) -> None:
        """Evaluate a finished run, if its configuration and data are those it was trained with."""
        changed = self._changed(self._before())
        if changed is not None:
            raise changed
        self.evaluate(splits, {stage.name for stage in self.wanted})

    def evaluate(self, splits: tuple[str, ...], stages: set[str] | None = None) -> None:
        """Evaluate stages of the run, or all, on some parts; rows of other stages and parts stay as they are."""
        rows: list[Row] = []
        tables: list[pd.DataFrame] = []
        for name, job in self.jobs.items():
            if stages is not None and name not in stages:
                continue
            if not job.stored.exists():
                raise self._untrained(name)
            upstream = job.upstream if job.stage.kind == "adapted" else {}
            found = evaluate_stage(
                job.stage, job.stored.checkpoint, upstream, self.data, self.config["trainer"], splits, self.features
            )
            rows += found[0]
            tables += found[1]
        new = {(row.stage, row.modality, row.split) for row in rows}
        if not rows:
            print("None of these stages predicts a target.")
            return
        kept = [row for row in read_rows(self.folder) if (row.stage, row.modality, row.split) not in new]
        if (self.folder / PREDICTIONS).is_file():
            made = {(table["stage"].iloc[0], table["split"].iloc[0]) for table in tables}
            for key, table in read_predictions(self.folder).groupby(["stage", "split"], sort=False):
                if key not in made:
                    tables.append(table)
        else:
            kept = []  # no number without its predictions
        rows = sorted([*rows, *kept], key=lambda row: (SPLITS.index(row.split), list(KINDS).index(row.stage)))
        text = markdown(rows, self.data.prevalent, self.protocol.name, self.folder.name)
        write_results(self.folder, rows, pd.concat(tables, ignore_index=True), text)
        self.tracking.results(rows, self.folder)
        print(f"\n{text}\nWritten to {self.folder}", flush=True)
        if "test" in splits and "student" in self.jobs and len(self.data.submitted):
            self._submit()

    def _submit(self) -> None:
        """Write what the data set's authors ask for, as the student predicts it."""
        job = self.jobs["student"]
        table = submission(job.stored.checkpoint, self.data, self.config["trainer"], self.features)
        write_text(self.folder / "submission.csv", table.to_csv(index=False))
        print(f"Predictions of {len(table)} rows to submit are in {self.folder / 'submission.csv'}", flush=True)
        if missing := self.data.unsubmitted:
            print(f"Missing in it, since they cannot be read: {', '.join(missing)}", flush=True)

    def _check_modules(self) -> None:
        check_modules(
            [self.jobs[stage.name] for stage in self.wanted], self.data, self.features, self.preemption, self.tracking
        )

    def _train(self, job: Job, title: str) -> None:
        stored = job.stored
        with ExitStack() as alone:
            if not self.ranks.decided(lambda: self._must_train(job, title, alone)):
                return
            resumed = ", resumed" if (stored.partial / LAST).is_file() else ""
            with sharing(self.data):
                trained = train(
                    job.stage.module,
                    job.sections,
                    job.fit,
                    stored.partial,
                    title,
                    self.features,
                    self.preemption,
                    self.tracking,
                )
            self.ranks.decided(
                lambda: stored.publish(
                    {
                        "stage": job.stage.name,
                        "hash": stored.hash,
                        "protocol": self.protocol.name,
                        "trained": asdict(trained),
                        "versions": versions(),
                        "keys": job.keys,
                    }
                )
            )
        self.tracking.stage(job.stage.name, stored.checkpoint)
        best = "" if trained.score is None else f", best {trained.monitor} {trained.score:.4f}"
        print(f"{title}: {trained.epochs} epochs in {trained.seconds:.1f} s{resumed}{best}", flush=True)
        self.preemption.stop_if_asked()

    def _must_train(self, job: Job, title: str, alone: ExitStack) -> bool:
        """Whether the stage is missing; then nobody else trains it until `alone` is left."""
        stored = job.stored
        alone.enter_context(stored.exclusively(f"{title}: another process trains it, waiting for the result"))
        if stored.exists():
            print(f"{title}: taken from {stored.folder}", flush=True)
            return False
        for name in job.stage.upstream.values():
            if not self.jobs[name].stored.exists():
                raise self._untrained(name)
        if not self.resume:
            shutil.rmtree(stored.partial, ignore_errors=True)
        return True

    def _claim_folder(self) -> None:
        """Write `run.json`, unless the folder holds a run of another configuration."""
        if (self.folder / "study.json").is_file() or self.folder.name == "stages":
            holds = "all trained stages" if self.folder.name == "stages" else "a study"
            raise RunError(f"{self.folder} holds {holds}", "Name the run otherwise with --pipeline.name.")
        before = self._before()
        changed = self._changed(before)
        if changed is not None:
            if self.resume:
                raise changed
            names = (f"{self.folder.name}.before-{digest(before)[:8]}{suffix}" for suffix in _suffixes())
            aside = next(path for name in names if not (path := self.folder.with_name(name)).exists())
            self.folder.rename(aside)
            print(f"The earlier run of this name is kept in {aside}", flush=True)
            before = {}
        now = {name: {"hash": job.stored.hash, "keys": job.keys} for name, job in self.jobs.items()}
        # A stage called alone may come with other settings of the stages it does not touch.
        everything = make_jobs(self.experiment, wanted_stages(self.experiment, everything=True)[1])
        if all(before[name]["hash"] == everything[name].stored.hash for name in before if name in everything):
            write_text(self.folder / "config.yaml", self.experiment.text)
            trust.remember(yaml.safe_load(self.experiment.text))
        write_json(
            self.folder / "run.json",
            {
                "protocol": self.protocol.name,
                "versions": versions(),
                "task": self.data.task,
                "targets": self.data.targets,
                "prevalent": self.data.prevalent,
                "samples": {part: len(self.data.positions(part)) for part in PARTS},
                "labelled": {part: len(self.data.positions(part, labelled_only=True)) for part in PARTS},
                "stages": {**before, **now},
            },
        )

    def _before(self) -> dict[str, Any]:
        """The stages that the folder's run names, with their hashes and keys."""
        path = self.folder / "run.json"
        record = read_record(path, RUN, f"Remove {self.folder} to make the run anew.") if path.is_file() else {}
        stages: dict[str, Any] = record.get("stages", {})
        return stages

    def _changed(self, before: dict[str, Any]) -> OtherRunError | None:
        """What to say if a stage of the folder's run has another hash now."""
        aside = "use another --pipeline.name, or put the run aside with --pipeline.resume false."
        for name, job in self.jobs.items():
            if name in before and before[name]["hash"] != job.stored.hash:
                key, old, new = first_difference(before[name]["keys"], job.keys) or ("revision", None, None)
                if key == "revision":
                    return OtherRunError(
                        f"{self.folder} holds a run of another version of mtpkdot, which trained {name} otherwise",
                        f"Go on with that version, {aside}",
                    )
                if key.startswith("data.contents."):
                    file = key.removeprefix("data.contents.")
                    return OtherRunError(
                        f"{self.folder} holds a run on other data: the contents of {file} have changed",
                        f"Put the file back, {aside}",
                    )
                return OtherRunError(
                    f"{self.folder} holds a run with another configuration: {key} was {old!r} and is {new!r}",
                    "Use another --pipeline.name, put the earlier run aside with --pipeline.resume false, or limit "
                    "--pipeline.stages to what has not changed.",
                )
        return None

    def _untrained(self, name: str) -> RunError:
        return RunError(
            f"the stage {name} has not been trained with this configuration",
            f"Add it to --pipeline.stages, or train it with `mtpkdot stage {name} --config ...`.",
        )


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """The config as JSON knows it."""
    plain: dict[str, Any] = json.loads(
        json.dumps(config, default=lambda x: asdict(x) if isinstance(x, Protocol) else str(x))
    )
    return plain


def _suffixes() -> Iterator[str]:
    yield ""
    yield from (f"-{number}" for number in count(1))
