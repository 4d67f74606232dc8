"""W&B: one run per fit, offline where it must be; trials of a sweep share the teacher and no folder."""

import json
import os
import queue
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pandas as pd
import pytest
import wandb
from wandb import wandb_agent

from mtpkdot.cli.main import main
from mtpkdot.pipeline import tracking
from mtpkdot.pipeline.callbacks import StepSeed
from mtpkdot.pipeline.config import parse
from mtpkdot.pipeline.runner import Run as Runner
from tests.pipeline.sweeps import ROOT, command, drawn, environment, load

TRIALS = 4
WANDB = ["--trainer.logger", "WandbLogger"]


class FakeRun:
    """Records what a W&B run is told."""

    def __init__(self, **settings):
        self.settings, self.id, self.name = settings, settings["id"], settings["name"]
        self.logged, self.summary, self.artifacts, self.ended = [], {}, [], []
        self.config = SimpleNamespace(update=lambda *a, **k: pytest.fail("the config is logged once, at the start"))

    def log(self, values):
        self.logged.append(values)

    def log_artifact(self, artifact, name=None, type=None):
        self.artifacts.append(name or artifact.name)

    def define_metric(self, *names, **options):
        """Nothing to record."""

    def mark_preempting(self):
        self.ended.append("preempting")

    def finish(self, code):
        self.ended.append(code)


@pytest.fixture
def runs(monkeypatch, tmp_path):
    """W&B runs that are started, without any server."""
    started = []
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr(wandb, "init", lambda **settings: started.append(FakeRun(**settings)) or started[-1])
    return started


def test_a_fit_is_one_run_with_the_stages_before_its_values(tiny_config, trained_root, tmp_path, runs):
    fit = ["fit", "--config", str(tiny_config), "--pipeline.root", str(tmp_path), *WANDB]
    assert main(fit) == 0
    assert main(fit) == 0
    first, again = runs
    assert first.id == again.id == (tmp_path / "tiny" / "wandb.id").read_text().strip()
    keys = {key for values in first.logged for key in values}
    stages = ("backbone.video", "backbone.signal", "teacher", "adapted", "student")
    assert keys >= {f"{stage}/val/accuracy" for stage in stages} | {"hallucinator/val/loss", "student/train/loss"}
    assert first.settings["config"]["student"]["model"]["structure"]["init_args"]["top_k"] == 8
    assert first.settings["config"]["data"]["init_args"]["subjects"] == 10
    assert first.artifacts == [f"{first.id}-results"]
    rows = json.loads((tmp_path / "tiny" / "results.json").read_text())
    student = {f"{r['split']}/student/{r['metric']}": r["value"] for r in rows if r["stage"] == "student"}
    assert student.items() <= first.summary.items()
    assert "validation/student/accuracy" in student
    assert first.ended == [0]
    plain = json.loads((trained_root / "tiny" / "run.json").read_text())["stages"]
    assert json.loads((tmp_path / "tiny" / "run.json").read_text())["stages"] == plain  # a logger changes no result


@pytest.mark.parametrize(
    ("variables", "signum", "queued"),
    [
        ({"WANDB_SWEEP_ID": "s1", "WANDB_RUN_ID": "t1"}, signal.SIGTERM, False),
        ({"WANDB_SWEEP_ID": "s1", "WANDB_RUN_ID": "t1"}, signal.SIGUSR1, True),
        ({"WANDB_SWEEP_ID": "s1", "WANDB_RUN_ID": "t1", "SLURM_JOB_ID": "7"}, signal.SIGTERM, True),
        ({"WANDB_RUN_ID": "t1"}, signal.SIGTERM, True),
    ],
    ids=["stopped by its sweep", "pre-empted", "either, in a job of Slurm", "no trial"],
)
@pytest.mark.parametrize("when", ["in a step", "before"])
def test_a_trial_is_queued_again_unless_its_sweep_has_stopped_it(
    variables, signum, queued, when, tiny_config, tmp_path, runs, monkeypatch
):
    for name in ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    place = (StepSeed, "on_train_batch_start") if when == "in a step" else (Runner, "_train")
    plain = getattr(*place)

    def signalled(self, *arguments):
        os.kill(os.getpid(), signum)
        return plain(self, *arguments)

    monkeypatch.setattr(*place, signalled)
    line = [
        "fit",
        "--config",
        str(tiny_config),
        "--pipeline.root",
        str(tmp_path),
        "--pipeline.stages",
        "[backbone.video]",
    ]
    assert main([*line, *WANDB, "--backbone.video.fit.max_epochs", "1", "--data.init_args.batch_size", "8"]) == 143
    (run,) = runs
    assert run.ended == (["preempting", 143] if queued else [143])
    kept = list((tmp_path / "stages" / "backbone.video").glob(".*.partial/last.ckpt"))
    assert len(kept) == (when == "in a step")


def test_the_agent_of_wandb_ends_a_trial_by_sigterm(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    agent = wandb_agent.Agent(None, queue.Queue(), "s1")
    trial = wandb_agent.AgentProcess(command=["sleep", "60"], env=dict(os.environ))
    trial.last_sigterm_time = None
    agent._run_processes["t1"] = trial
    agent._process_command({"type": "stop", "run_id": "t1"})
    assert trial.wait(timeout=30) == -signal.SIGTERM


def test_weights_are_kept_with_the_run_if_asked_for(tiny_config, tmp_path, runs):
    settings = [
        "--trainer.logger.log_model",
        "true",
        "--trainer.logger.project",
        "p",
        "--pipeline.stages",
        "[backbone]",
    ]
    assert main(["fit", "--config", str(tiny_config), "--pipeline.root", str(tmp_path), *WANDB, *settings]) == 0
    assert runs[0].settings["project"] == "p"
    assert runs[0].artifacts == [f"{runs[0].id}-{name}" for name in ("backbone.video", "backbone.signal", "results")]


def test_a_report_is_a_run_with_its_page_table_figures_and_files(trained_root, tmp_path, runs, monkeypatch):
    kept = []
    monkeypatch.setattr(FakeRun, "log_artifact", lambda self, artifact: kept.append(artifact))
    line = ["report", str(trained_root / "tiny"), "--out", str(tmp_path / "out")]
    assert main(line) == 0
    assert runs == []
    assert main([*line, "--wandb", "pain"]) == 0
    (run,) = runs
    assert run.settings["project"] == "pain"
    assert run.settings["job_type"] == "report"
    assert run.settings["config"] == {"runs": [str(trained_root / "tiny")]}
    (logged,) = run.logged
    table = pd.read_csv(tmp_path / "out" / "results.csv")
    assert len(logged["results"].data) == len(table)
    assert logged["report"]._path
    ((artifact,),) = (kept,)
    names = set(artifact.manifest.entries)
    figures = {name for name in names if name.startswith("figures/")}
    assert names - figures == {"report.html", "report.md", "results.csv"}
    assert len(figures) == (tmp_path / "out" / "report.html").read_text().count("<figure")
    assert run.ended == [0]


def test_without_credentials_it_runs_offline_and_says_so_once(tiny_config, tmp_path):
    line = [sys.executable, "-m", "mtpkdot", "fit", "--config", str(tiny_config), "--pipeline.root", str(tmp_path)]
    line += [*WANDB, "--pipeline.stages", "[backbone.video]"]
    environs = {k: v for k, v in environment("").items() if not k.startswith("WANDB")}
    done = subprocess.run(line, env=environs, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert [text for text in done.stdout.splitlines() if "W&B" in text] == [
        "W&B runs offline, since there are no credentials (see `wandb login`); "
        f"`wandb sync {tmp_path}/tiny/wandb/offline-run-*` sends it later."
    ]
    (written,) = (tmp_path / "tiny" / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"backbone.video/val/accuracy" in written.read_bytes()


def test_wandb_is_imported_only_where_it_is_asked_for(tiny_config, tmp_path):
    line = ["fit", "--config", str(tiny_config), "--pipeline.root", str(tmp_path), "--pipeline.stages", "[backbone]"]
    program = f"import sys, mtpkdot.cli.main as m; sys.exit(m.main({line!r}) or 10 * ('wandb' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], env=environment(""), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("silent", [False, True], ids=["nobody listens", "nobody answers"])
def test_an_unreachable_server_is_reported_and_nothing_fails(tiny_config, tmp_path, monkeypatch, capsys, silent):
    """With W&B itself: a second start of a run whose first one has failed is its own matter."""
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tracking, "_WAIT", 3.0)
    fit = ["fit", "--config", str(tiny_config), "--pipeline.root", str(tmp_path), "--pipeline.stages", "[backbone]"]
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        if silent:
            listening.listen()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{listening.getsockname()[1]}")
        wandb.teardown()
        start = time.monotonic()
        assert main([*fit, *WANDB]) == 0
        seconds = time.monotonic() - start
    wandb.teardown()
    (told,) = [line for line in capsys.readouterr().out.splitlines() if "W&B" in line]
    assert told.startswith("W&B runs offline, since the server cannot be reached (")
    assert ("refused" in told) == (not silent)
    assert seconds < 60
    assert list((tmp_path / "tiny" / "wandb").glob("offline-run-*/run-*.wandb"))


@pytest.mark.parametrize("name", ["weights_bayes", "methods_grid"])
def test_the_files_of_sweeps_make_command_lines_that_are_understood(name, monkeypatch):
    sweep = load(name)
    monkeypatch.chdir(ROOT)
    for trial in range(3):
        values = drawn(sweep["parameters"], random.Random(trial))
        for key, value in environment(f"t{trial}").items():
            monkeypatch.setenv(key, value)
        line = command(sweep, values)
        experiment = parse("fit", line[line.index("fit") + 1 :])
        assert experiment.config["pipeline"]["name"] == f"t{trial}"
        for key, value in values.items():
            found = experiment.config
            for part in key.split("."):
                found = found[part] if part in found else found["init_args"][part]
            assert found == value


def test_booleans_lists_nothing_and_nested_keys_arrive_as_they_are(tiny_config, monkeypatch):
    values = {
        "student.model.train_tnet": True,
        "student.model.structure.relative_eps": False,
        "hallucinator.model.tnet.hidden": [8, 4],
        "student.fit.patience": None,
        "student.model.weights": {"task": 1.0, "transport": 0.5},
        "data.init_args.split.fold": 1,
        "pipeline.stages": ["backbone", "student"],
    }
    for key, value in environment("t9").items():
        monkeypatch.setenv(key, value)
    line = command({"command": ["mtpkdot", "fit", f"--config={tiny_config}", "${args}"]}, values)
    config = parse("fit", line[4:]).config
    assert config["student"]["model"]["train_tnet"] is True
    assert config["student"]["model"]["structure"]["init_args"]["relative_eps"] is False
    assert config["hallucinator"]["model"]["tnet"]["init_args"]["hidden"] == [8, 4]
    assert config["student"]["fit"]["patience"] is None
    assert config["student"]["model"]["weights"] == {"task": 1.0, "transport": 0.5}
    assert config["data"]["init_args"]["split"]["fold"] == 1
    assert config["pipeline"]["stages"] == ["backbone", "student"]


@pytest.mark.timeout(600)
def test_two_trials_at_a_time_finish_although_one_is_killed(tiny_config, trained_root, tmp_path):
    sweep = {
        "command": ["${env}", "mtpkdot", "fit", f"--config={tiny_config}", "--trainer.logger=WandbLogger", "${args}"]
    }
    trials = {
        f"trial{i}": {
            "student.model.structure.top_k": 4 + i,
            "student.model.train_tnet": i >= TRIALS // 2,
            "pipeline.root": str(tmp_path),
        }
        for i in range(TRIALS)
    }
    for stage in ("backbone.video", "backbone.signal", "hallucinator"):
        shutil.copytree(trained_root / "stages" / stage, tmp_path / "stages" / stage)
    waiting, running, again = list(trials), {}, 0
    while waiting or running:
        while waiting and len(running) < 2:
            trial = waiting.pop(0)
            line = command(sweep, trials[trial])
            running[trial] = subprocess.Popen(
                line, env=environment(trial), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
        if not again and any((tmp_path / "stages" / "teacher").glob(".*.partial")):
            running["trial0"].send_signal(signal.SIGKILL)
        for trial, process in list(running.items()):
            if process.poll() is not None:
                del running[trial]
                _, errors = process.communicate()
                if process.returncode == -signal.SIGKILL:
                    again += 1
                    waiting.append(trial)  # as a preempted trial comes back
                else:
                    assert process.returncode == 0, errors
        time.sleep(0.05)
    assert again == 1
    assert len(list((tmp_path / "stages" / "teacher").glob("[!.]*"))) == 1
    assert len(list((tmp_path / "stages" / "student").glob("[!.]*"))) == TRIALS
    for trial, values in trials.items():
        stages = json.loads((tmp_path / trial / "run.json").read_text())["stages"]
        keys = stages["student"]["keys"]
        assert keys["student.model.structure.init_args.top_k"] == values["student.model.structure.top_k"]
        assert keys["student.model.train_tnet"] == values["student.model.train_tnet"]
        assert (tmp_path / trial / "wandb.id").read_text().strip() == trial
    assert {path.name for path in tmp_path.iterdir()} == {*trials, "stages"}
    # Each has the results that it has by itself.
    for trial, values in trials.items():
        alone = tmp_path / "alone"
        keys = [f"--{k}={v}" for k, v in values.items() if k != "pipeline.root"]
        own = ["--pipeline.root", str(alone), "--pipeline.name", trial]
        assert main(["fit", "--config", str(tiny_config), *own, *keys]) == 0
        ours, theirs = (json.loads((root / trial / "results.json").read_text()) for root in (tmp_path, alone))
        assert ours == theirs, trial
