"""Runner of an experiment: checks it, trains stages that are not in the store, and evaluates."""

import json
import shutil
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mtpkdot import trust
from mtpkdot.data.base import BaseData
from mtpkdot.data.splits import PARTS
from mtpkdot.errors import OtherRunError, RunError
from mtpkdot.pipeline.checks import check_config, check_modules
from mtpkdot.pipeline.config import Experiment
from mtpkdot.pipeline.elsewhere import as_trained, differences
from mtpkdot.pipeline.evaluation import SPLITS, Evaluation, Prediction
from mtpkdot.pipeline.features import FeatureCache
from mtpkdot.pipeline.identity import Change, changed, changed_files, data_keys, describe_changes, encoder_keys
from mtpkdot.pipeline.jobs import Job, make_jobs, wanted_stages
from mtpkdot.pipeline.method import resolve_method
from mtpkdot.pipeline.preemption import LAST, Preemption
from mtpkdot.pipeline.protocol import Protocol, expand
from mtpkdot.pipeline.ranks import Ranks
from mtpkdot.pipeline.records import RUN, read_record
from mtpkdot.pipeline.results import (
    PREDICTIONS,
    Score,
    below_bound,
    markdown,
    read_predictions,
    read_scores,
    write_results,
)
from mtpkdot.pipeline.stages import BACKBONE, STUDENT, Stage
from mtpkdot.pipeline.store import SHARED, digest, write_json, write_text
from mtpkdot.pipeline.tracking import Tracking
from mtpkdot.pipeline.training import StageCLI, train, versions


class Run:
    """One experiment in its folder.

    Args:
        experiment: the parsed config.
        trains: False if the run is only evaluated.
        read: data set that was read before; its samples are reused if its arguments are the same. None reads them.

    Raises:
        UserError: the data or the config have an error; raised before anything is trained or written.
    """

    def __init__(self, experiment: Experiment, trains: bool = True, read: BaseData | None = None) -> None:
        self.experiment, self.config, self.data = experiment, experiment.config, experiment.data
        self.protocol = expand(self.config["protocol"])
        decided = {**self.protocol.data_arguments(), "seed": self.config["seed_everything"]}
        for name, value in decided.items():
            setattr(self.data, name, value)
        if read is not None and not self.data.differing(read):
            self.data.share(read)
        self.data.check()
        self.resolved = resolve_method(experiment)
        self.wanted, stages = wanted_stages(experiment)
        self.parsed: dict[str, StageCLI] = {}  # Configs of checked stages, by name.
        self.trains = trains
        self.ranks = Ranks(self.config["trainer"])
        self.config["trainer"] |= self.ranks.started
        check_config(
            self.config, self.data, wanted=self.wanted, protocol=self.protocol, ranks=self.ranks, trains=trains
        )
        options = self.config["pipeline"]
        self.folder = Path(options["root"]) / (options["name"] or "")
        self.jobs = make_jobs(experiment, stages, self._kept() if options["name"] else None)
        self.features = FeatureCache(
            Path(options["root"]) / "features",
            options["features"],
            keys=data_keys(experiment),
            encoders=encoder_keys(experiment),
            compiled=options["compile"],
            ranks=self.ranks,
        )
        self.evaluation = Evaluation(self.data, self.config["trainer"], self.features, self.ranks)
        self.resume: bool = options["resume"]
        self.preemption = Preemption(options["checkpoint_every"], self.ranks)
        self.tracking = Tracking(self.config["trainer"]["logger"])
        if not options["name"]:
            hashes = {name: job.stored.hash for name, job in self.jobs.items()}
            self.folder = Path(options["root"]) / f"{experiment.source}-{digest(hashes)[:8]}"

    def fit(self, everything: bool = True) -> None:
        """Train missing stages, evaluate, and print the table.

        Args:
            everything: also evaluate stages that were taken from earlier runs.
        """
        with ExitStack() as tracked:
            with self.ranks.together():
                # The store may have changed since the first process looked.
                self.jobs = self.ranks.decided(lambda: self.jobs)
                self.ranks.decided(self._prepare)
                if self.ranks.first:
                    tracked.enter_context(self.tracking.opened(self.folder, _plain(self.config)))
                for number, stage in enumerate(self.wanted, start=1):
                    self._train(self.jobs[stage.name], f"[{number}/{len(self.wanted)}] {stage.name}")
                found = self._predictions(SPLITS, None if everything else {stage.name for stage in self.wanted})
            if self.ranks.first:
                self._write(found)

    def _prepare(self) -> None:
        self.parsed = self._check_modules()
        for stage in self.wanted:
            if not self.jobs[stage.name].stored.exists():
                self._check_upstream(stage, {other.name for other in self.wanted})
        self._claim_folder()
        print(self.data.summary(), flush=True)
        precision = self.config["trainer"]["precision"] or "32-true"
        print(f"device: {self.ranks.devices}; precision: {precision}; folder: {self.folder}", flush=True)
        if self.resolved:
            print(self.resolved, flush=True)
        for name in self.experiment.defaulted:
            if any(stage.name == f"{BACKBONE}.{name}" for stage in self.wanted):
                print(f"{BACKBONE}.{name} has no section in the config, and runs on defaults")
        for sentence in self.data.undefined():
            print(f"{sentence}.", flush=True)

    def check(self, checked: set[str] | None = None) -> None:
        """Raise the errors that `fit` would raise before it trains anything.

        Args:
            checked: see `check_modules`.

        Raises:
            UserError: a module cannot be built, or the folder holds a run of another configuration.
        """
        self._check_modules(checked)
        found = self._changed(self._before())
        if found is not None and self.resume:
            raise found[0]

    def evaluate_again(self, splits: tuple[str, ...]) -> None:
        """Evaluate a finished run if its configuration and data are those of its training.

        Devices, precision and paths are those of this machine, which may differ from those of the training.
        """
        with self.ranks.together():
            before = self.ranks.decided(self._before)
            self.jobs = as_trained(self.jobs, before, self.config["pipeline"]["code"])
            self.ranks.decided(lambda: self._compare(before))
            found = self._predictions(splits, {stage.name for stage in self.wanted})
        if self.ranks.first:
            self._write(found)

    def _compare(self, before: dict[str, Any]) -> None:
        """Raise an error if the configuration is not that of the training, and print differences of this machine."""
        found = self._changed(before)
        if found is not None:
            raise found[0]
        for line in differences(self.jobs, before):
            print(line, flush=True)

    def _predictions(self, splits: tuple[str, ...], stages: set[str] | None = None) -> list[Prediction]:
        """Predict parts, and the submission with the test part, with the given stages or all of them.

        All processes call it together and share the samples; the first one gets the predictions.
        """
        jobs = [job for name, job in self.jobs.items() if stages is None or name in stages]
        self.ranks.decided(lambda: self._check_trained(jobs))
        submits = "test" in splits and len(self.data.submitted) > 0
        found: list[Prediction] = []
        with self.ranks.ending():
            for job in self.jobs.values():
                wanted = [
                    *(splits if job in jobs else ()),
                    *(["submission"] * (submits and job.stage.module.submits)),
                ]
                found += self.evaluation.stage(job.stage, job.stored.checkpoint, job.upstream, wanted) if wanted else []
        return found

    def _check_trained(self, jobs: list[Job]) -> None:
        for job in jobs:
            if not job.stored.exists():
                raise self._untrained(job.stage.name)

    def _write(self, predictions: list[Prediction]) -> None:
        """Write and print the results; those of other stages and parts stay unchanged."""
        scores: list[Score] = []
        tables: list[pd.DataFrame] = []
        notes = {name: job.stored.notes() for name, job in self.jobs.items()}
        for prediction in predictions:
            if prediction.split in SPLITS:
                found = prediction.scored(self.data)
                scores += [replace(score, note="; ".join(notes[prediction.stage.name])) for score in found[0]]
                tables += found[1]
        new = {(score.stage, score.modality, score.split) for score in scores}
        if not scores:
            print("None of these stages predicts a target.")
            return
        known = {name.partition(".")[0] for name in {**self._before(), **self.jobs}}
        kept = [
            score for score in read_scores(self.folder, known) if (score.stage, score.modality, score.split) not in new
        ]
        if (self.folder / PREDICTIONS).is_file():
            made = {(table["stage"].iloc[0], table["split"].iloc[0]) for table in tables}
            for key, table in read_predictions(self.folder).groupby(["stage", "split"], sort=False):
                if key not in made:
                    tables.append(table)
        else:
            kept = []  # A number must not exist without its predictions.
        order = [*self.experiment.kinds, *(score.stage for score in kept)]
        scores = sorted([*scores, *kept], key=lambda score: (SPLITS.index(score.split), order.index(score.stage)))
        sentences = [f"{name} {note}." for name, found in notes.items() for note in found]
        sentences += [f"{sentence}." for sentence in (*self.data.undefined(), self.resolved) if sentence]
        sentences += below_bound(scores, self.data.prevalent, self.config[STUDENT]["model"]["method"])
        text = markdown(
            scores,
            self.data.prevalent,
            protocol=self.protocol.name,
            title=self.folder.name,
            notes=sentences,
            unit=self.data.unit,
        )
        write_results(self.folder, scores, pd.concat(tables, ignore_index=True), text)
        apart = {kind for kind, module in self.experiment.kinds.items() if module.per_modality or module.names_heads}
        models = Counter(stage for stage, _ in {(score.stage, score.modality) for score in scores})
        apart |= {stage for stage, count in models.items() if count > 1}
        self.tracking.results(scores, self.folder, apart)
        print(f"\n{text}\nWritten to {self.folder}", flush=True)
        for prediction in predictions:
            if prediction.split == "submission":
                self._submit(prediction)

    def _submit(self, prediction: Prediction) -> None:
        """Write the submission of the student, or of a student of the user."""
        table, name = prediction.submitted(self.data), prediction.stage.name
        path = self.folder / ("submission.csv" if name == STUDENT else f"submission-{name}.csv")
        write_text(path, table.to_csv(index=False))
        print(f"Predictions of {len(table)} rows to submit are in {path}", flush=True)
        if missing := self.data.unsubmitted:
            print(f"Missing in it, since they cannot be read: {', '.join(missing)}", flush=True)

    def _check_modules(self, checked: set[str] | None = None) -> dict[str, StageCLI]:
        jobs = [self.jobs[stage.name] for stage in self.wanted]
        return check_modules(
            jobs,
            self.data,
            features=self.features,
            preemption=self.preemption,
            tracking=self.tracking,
            checked=checked,
        )

    def _train(self, job: Job, title: str) -> None:
        stored = job.stored
        with ExitStack() as alone:
            if not self.ranks.decided(lambda: self._must_train(job, title, alone)):
                return
            resumed = ", resumed" if (stored.partial / LAST).is_file() else ""
            trained = train(
                module=job.stage.module,
                config=job.sections,
                fit=job.fit,
                folder=stored.partial,
                title=title,
                features=self.features,
                preemption=self.preemption,
                tracking=self.tracking,
                parsed=self.parsed.pop(job.stage.name, None),
                read=self.data,
            )
            class_path = f"{job.stage.module.__module__}.{job.stage.module.__qualname__}"
            trust.remember({"class_path": class_path})
            self.ranks.decided(
                lambda: stored.publish(
                    {
                        "stage": job.stage.name,
                        "class_path": class_path,
                        "hash": stored.hash,
                        "protocol": self.protocol.name,
                        "trained": {key: value for key, value in asdict(trained).items() if key != "notes"},
                        "notes": trained.notes,
                        "versions": versions(),
                        **job.identity.record,
                    }
                )
            )
        self.tracking.stage(job.stage.name, stored.checkpoint)
        best = "" if trained.score is None else f", best {trained.monitor} {trained.score:.4f}"
        remarks = "".join(f", {note}" for note in trained.notes)
        took = f"{trained.epochs} epochs in {trained.seconds:.1f} s{resumed}"
        print(f"{title}: {took}{best}{remarks}; kept with its log in {stored.folder}", flush=True)
        self.preemption.stop_if_asked()

    def _must_train(self, job: Job, title: str, alone: ExitStack) -> bool:
        """Return whether the stage is missing; if so, no other process trains it until `alone` is closed."""
        stored = job.stored
        alone.enter_context(stored.exclusively(f"{title}: another process trains it, waiting for the result"))
        if stored.exists():
            since = f", though {job.note} since it was trained" if job.note else ""
            # A logger records nothing of a stage that is not trained.
            asked = self.config["trainer"]["logger"] not in (None, True, False)
            curves = f"; its curves are in {stored.folder / 'logs'} alone" if asked else ""
            print(f"{title}: taken from {stored.folder}{since}{curves}", flush=True)
            return False
        self._check_upstream(job.stage)
        if job.note:
            print(f"{title}: trained anew, since {job.note}", flush=True)
        if not self.resume:
            shutil.rmtree(stored.partial, ignore_errors=True)
        return True

    def _check_upstream(self, stage: Stage, coming: Collection[str] = ()) -> None:
        """Raise an error if a stage that this one needs is neither trained nor about to be."""
        for name in stage.upstream.values():
            if name not in coming and not self.jobs[name].stored.exists():
                raise self._untrained(name)

    def _claim_folder(self) -> None:
        """Write `run.json`, unless the folder holds a run of another configuration."""
        holds = "a study" if (self.folder / "study.json").is_file() else SHARED.get(self.folder.name)
        if holds is not None:
            raise RunError(f"{self.folder} holds {holds}", "Choose another name with --pipeline.name.")
        before = self._before()
        found = self._changed(before)
        if found is not None:
            error, by_user = found
            # A stage that was not asked for is no reason to refuse a run.
            if self.resume and by_user:
                raise error
            names = (f"{self.folder.name}.before-{digest(before)[:8]}{suffix}" for suffix in _suffixes())
            aside = next(path for name in names if not (path := self.folder.with_name(name)).exists())
            self.folder.rename(aside)
            print(f"The earlier run of this name is kept in {aside}", flush=True)
            before = {}
        now = {name: {**job.record, "shared": job.stage.shared} for name, job in self.jobs.items()}
        # A stage that is called alone may have other settings for stages it does not use.
        stages, kept = (
            wanted_stages(self.experiment, everything=True)[1],
            {n: entry["hash"] for n, entry in now.items()},
        )
        everything = make_jobs(self.experiment, stages, {**self._kept(), **kept})
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
        """Return the stages that the folder's run names, with their hashes and keys."""
        path = self.folder / "run.json"
        record = read_record(path, RUN, f"Remove {self.folder} to make the run anew.") if path.is_file() else {}
        stages: dict[str, Any] = record.get("stages", {})
        return stages

    def _kept(self) -> dict[str, str]:
        """Return the hash of each stage that the folder's run names."""
        return {name: entry["hash"] for name, entry in self._before().items()}

    def _changed(self, before: dict[str, Any]) -> tuple[OtherRunError, bool] | None:
        """Return the error for a stage of the run that cannot be reused, and whether config or data are the reason.

        Otherwise the reason is the code, or a changed default.
        """
        for name, job in self.jobs.items():
            if name not in before or before[name]["hash"] == job.stored.hash:
                continue
            old, new = before[name], job.identity.record
            if "chosen" not in old:
                step = "Use another --pipeline.name, or put the run aside with --pipeline.resume false."
                return OtherRunError(f"{self.folder} holds a run of an earlier version of mtpkdot", step), True
            # Earlier stages of the run report their changes themselves.
            change = changed(old, new, without={f"upstream.{argument}" for argument in job.stage.upstream})
            if change is not None:
                return self._refused(change), not change.by_default
            if files := changed_files(old["sources"], new["sources"]):
                return OtherRunError(
                    f"{self.folder} holds a run of other code: {describe_changes(files)} since {name} was trained",
                    "Train it anew with `mtpkdot fit`, or take it as it is with --pipeline.code ignore.",
                ), False
        return None

    def _refused(self, change: Change) -> OtherRunError:
        if change.key.startswith("data.contents."):
            file = change.key.removeprefix("data.contents.")
            return OtherRunError(
                f"{self.folder} holds a run on other data: the contents of {file} have changed",
                "Put the file back, use another --pipeline.name, or put the run aside with --pipeline.resume false.",
            )
        if change.key.startswith("revision.") or change.key.endswith(".method.revision"):
            return OtherRunError(
                f"{self.folder} holds a run of another version of mtpkdot, which trained differently ({change})",
                "Use another --pipeline.name, or put the run aside with --pipeline.resume false.",
            )
        return OtherRunError(
            f"{self.folder} holds a run with another configuration: {change}",
            "Use another --pipeline.name, put the earlier run aside with --pipeline.resume false, or limit "
            "--pipeline.stages to what has not changed.",
        )

    def _untrained(self, name: str) -> RunError:
        note = self.jobs[name].note
        return RunError(
            f"the stage {name} has not been trained with this configuration{f' and code ({note})' if note else ''}",
            f"Add it to --pipeline.stages, or train it with `mtpkdot stage {name} --config ...`.",
        )


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """Return the config as JSON represents it."""
    plain: dict[str, Any] = json.loads(
        json.dumps(config, default=lambda x: asdict(x) if isinstance(x, Protocol) else str(x))
    )
    return plain


def _suffixes() -> Iterator[str]:
    yield ""
    yield from (f"-{number}" for number in count(1))
