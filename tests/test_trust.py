"""What somebody else hands over imports nothing."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import mtpkdot
from mtpkdot import trust
from mtpkdot.cli.main import main
from mtpkdot.errors import ConfigError, RunError
from mtpkdot.modules import StageModule, StudentModule
from mtpkdot.pipeline.identity import parameters
from mtpkdot.pipeline.stages import stage_classes

STRANGER = {"class_path": "of_a_stranger.Thing"}
# Every argument of a built-in stage that is a class or function, named by its path.
FACTORIES = sorted(
    {
        name
        for stage in stage_classes().values()
        for name, (hint, _) in parameters(stage).items()
        if "Callable" in str(hint)
    }
)


@pytest.fixture
def mark(tmp_path, monkeypatch):
    """A module that can be imported, and the file that it leaves where it is."""
    mark = tmp_path / "imported"
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "of_a_stranger.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass Thing: pass\n")
    monkeypatch.syspath_prepend(str(folder))
    yield mark
    sys.modules.pop("of_a_stranger", None)


@pytest.mark.parametrize(
    "content",
    [
        {"student": {"model": {"rival": STRANGER}}},
        *({"student": {"model": {key: "of_a_stranger.Thing"}}} for key in FACTORIES),
        {"backbone": {"face": {"model": {"encoder": '{"class_path": "of_a_stranger.Thing"}'}}}},
        {"backbone": {"face": {"model": {"optimizer": "{class_path: of_a_stranger.Thing}"}}}},
        {"backbone": {"face": {"model": {"encoder.class_path": "of_a_stranger.Thing"}}}},
        {"teacher": {"model": {"encoders": {"face": " 'of_a_stranger.Thing' "}}}},
        {"trainer": {"callbacks": ["of_a_stranger.Thing"]}},
        {"trainer": {"callbacks+": [STRANGER]}},
        {
            "trainer": {
                "logger": [{"class_path": "lightning.pytorch.loggers.CSVLogger", "dict_kwargs": {"x": STRANGER}}]
            }
        },
        {
            "trainer": {
                "callbacks": {
                    "class_path": "lightning.pytorch.callbacks.LambdaCallback",
                    "init_args": {"on_fit_start": "of_a_stranger.Thing"},
                }
            }
        },
        {"data": "of_a_stranger.Thing"},
        {"data": {"class_path": "mtpkdot.data.FeatureData", "init_args": {"deep": [{"er": STRANGER}]}}},
        {"_class_path": "of_a_stranger.Thing"},
        {"_instantiator": "of_a_stranger.Thing"},
        {"encoder": {"class_path": "mtpkdot.models.FeatureEncoder", "init_args": {"encoder": "of_a_stranger.Thing"}}},
    ],
)
def test_a_strangers_class_is_refused_wherever_it_is_named_and_not_imported(content, mark):
    with pytest.raises(RunError, match=r"of_a_stranger\.Thing.*--trust of_a_stranger"):
        trust.check(content, "it")
    assert not mark.exists()
    with trust.one_call(["of_a_stranger"]):
        trust.check(content, "it")


@pytest.mark.parametrize(
    "name",
    [
        "torch.os.system",
        "torch.load",
        "torch.hub.load",
        "lightning.pytorch.trainer.trainer.os.remove",
        "mtpkdot.pipeline.runner.shutil.rmtree",
        "mtpkdot.files.Path",
        "mtpkdot_evil.Thing",
        "torchvision_evil.models.Thing",
        "mtpkdot.nothing.Here",
    ],
)
def test_names_that_our_modules_only_import_are_not_trusted(name):
    with pytest.raises(RunError):
        trust.check({"encoder": name}, "it")


def test_trust_in_one_class_of_torch_does_not_extend_to_all_of_torch():
    with trust.one_call():
        trust.grant(["--teacher.model.optimizer=torch.optim.SGD", "--data=my_project.Data"])
        trust.check({"optimizer": "torch.optim.SGD", "data": "my_project.other.Data"}, "it")
        with pytest.raises(RunError):
            trust.check({"encoder": "torch.os.system"}, "it")


def test_our_own_classes_words_and_paths_pass():
    data = {"manifest": "signal.csv", "features": {"email": "email.npz"}, "target": ["of.a", "os.path"]}
    trust.check(
        {
            "data": {"class_path": "mtpkdot.data.FeatureData", "init_args": data},
            "trainer": {"callbacks": [{"class_path": "lightning.pytorch.callbacks.LearningRateMonitor"}]},
            "backbone": {
                "face": {"model": {"encoder": {"class_path": "FeatureEncoder"}, "optimizer": "torch.optim.SGD"}}
            },
            "targets": ["email.mime"],
            "pipeline": {"root": "runs.old"},
            "_instantiator": "lightning.pytorch.cli.instantiate_module",
        },
        "it",
    )


def test_files_of_this_user_are_trusted_unless_they_were_changed(tmp_path, monkeypatch):
    made = {"encoder": STRANGER, "dim": 3}
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "mine"))
    trust.remember({"encoder": {"class_path": "mtpkdot.models.FeatureEncoder"}})
    assert not (tmp_path / "mine").exists()
    with trust.one_call():
        trust.remember(made)
        trust.check(dict(reversed(made.items())), "it")
        trust.check({"rival": "of_a_stranger.Other"}, "another of this call, with a class of the same package")
    with pytest.raises(RunError):
        trust.check({**made, "dim": 4}, "it")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another's"))
    with pytest.raises(RunError):
        trust.check(made, "it")


def test_a_note_that_cannot_be_written_stops_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    trust.remember({"encoder": STRANGER})
    assert "cannot be written" in capsys.readouterr().out


def test_a_command_line_and_its_files_are_the_users_own_for_one_call(tmp_path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"student": {"model": {"rival": STRANGER}}}))
    for argv in (["--config", str(tmp_path / "c.yaml")], [f"--config={tmp_path / 'c.yaml'}"], ["--x=of_a_stranger.Y"]):
        with trust.one_call():
            trust.grant(argv)
            trust.check({"rival": STRANGER}, "it")
        with pytest.raises(RunError):
            trust.check({"rival": STRANGER}, "it")


def test_the_flag_is_read_in_both_forms_and_needs_a_name(complaint):
    assert trust.without_flags(["a", "--trust", "b.c", "--trust=d,e", "f"]) == (["a", "f"], ["b.c", "d", "e"])
    with pytest.raises(ConfigError, match="names nothing"):
        trust.without_flags(["--trust"])
    assert "not the name of a package" in complaint(["report", "runs", "--out", "x", "--trust", "../evil"])


@pytest.fixture
def strange(trained_root, tmp_path):
    """Write the tiny student with other hyperparameters; returns the file."""

    def write(**arguments):
        whole = torch.load(next(trained_root.glob("stages/student/*/model.ckpt")), weights_only=True)
        whole["hyper_parameters"] |= arguments
        torch.save(whole, tmp_path / "strange.ckpt")
        return tmp_path / "strange.ckpt"

    return write


def test_every_class_of_a_stage_is_among_them():
    assert {"encoder", "encoders", "fusion", "tnet", "structure", "selection", "rival", "members", "optimizer"} == {
        *FACTORIES
    }


@pytest.mark.parametrize("key", ["encoder", "optimizer", "rival"])
def test_a_checkpoint_imports_only_what_is_trusted(key, strange, mark):
    path = strange(**{key: STRANGER})
    for load in (StudentModule.load_from_checkpoint, mtpkdot.load):
        with pytest.raises(RunError, match="--trust of_a_stranger"):
            load(path)
        assert not mark.exists()
    with pytest.raises(
        RunError, match="is not a checkpoint of StudentModule"
    ):  # Thing is not an encoder; but it was imported
        mtpkdot.load(path, trust=["of_a_stranger"])
    assert mark.exists()


def test_an_argument_given_in_the_call_replaces_that_of_the_checkpoint(strange, mark):
    loaded = StudentModule.load_from_checkpoint(strange(rival=STRANGER), rival=None)
    assert isinstance(loaded, StudentModule)
    assert not mark.exists()
    with pytest.raises(TypeError, match="hparams_file"):
        StudentModule.load_from_checkpoint(strange(), hparams_file="hparams.yaml")


def test_load_takes_a_run_a_stage_and_a_checkpoint(trained_root, strange):
    student, x, mask = mtpkdot.load(trained_root / "tiny"), torch.randn(2, 2, 32), torch.ones(2, 2, dtype=torch.bool)
    assert torch.equal(student(x, mask)[1], mtpkdot.load(strange())(x, mask)[1])
    teacher: StageModule = mtpkdot.load(next(trained_root.glob("stages/teacher/*")))
    assert type(teacher).__name__ == "TeacherModule"
    assert not any(p.requires_grad for p in teacher.parameters())
    with pytest.raises(RunError, match="does not exist"):
        mtpkdot.load(trained_root / "nothing")


@pytest.fixture
def strange_run(trained_root, tmp_path, mark):
    """The tiny run with a stranger's class in its config, as somebody else would hand it over."""
    import shutil

    root = tmp_path / "runs"
    shutil.copytree(trained_root, root)
    config = yaml.safe_load((root / "tiny" / "config.yaml").read_text())
    config["student"]["model"]["optimizer"] = STRANGER
    (root / "tiny" / "config.yaml").write_text(yaml.safe_dump(config))
    return root / "tiny"


def test_a_report_of_a_strangers_run_has_all_tables_and_imports_nothing(strange_run, mark, tmp_path):
    assert main(["report", str(strange_run), "--out", str(tmp_path / "report")]) == 0
    assert not mark.exists()
    told = (tmp_path / "report" / "report.md").read_text()
    assert "Results on the test parts" in told
    assert "left out" in told
    assert "--trust of" in told


def test_a_strangers_run_is_evaluated_only_by_who_trusts_it(strange_run, mark, tmp_path, complaint):
    for verb in ("test", "validate"):
        assert "call again with `--trust of_a_stranger`" in complaint([verb, str(strange_run)])
    assert not mark.exists()
    # Thing is no optimiser, which shows only once it has been imported.
    assert "--trust" not in complaint(["test", str(strange_run), "--trust", "of_a_stranger"])
    assert mark.exists()
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"student": {"model": {"optimizer": STRANGER}}}))
    assert "--trust" not in complaint(["test", str(strange_run), "--config", str(tmp_path / "own.yaml")])


@pytest.mark.parametrize("data", ["/tmp/data.yaml", "of_a_stranger.Thing", None, ["x"]])
def test_the_data_section_of_an_artefact_cannot_name_another_file(data, strange_run, mark, complaint):
    (strange_run / "config.yaml").write_text(yaml.safe_dump({"data": data}))
    assert "is not the config of a run" in complaint(["test", str(strange_run)])
    assert not mark.exists()


@pytest.mark.parametrize(("how", "verb"), [("module", "fit"), ("script", "report")])
def test_files_of_the_working_directory_do_not_shadow_libraries(how, verb, tmp_path):
    for name in ("queue", "html", "pickle", "yaml", "numpy", "pandas", "torch"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the working directory was imported')\n")
    script = tmp_path / "bin" / "mtpkdot"  # as the installer writes it
    script.parent.mkdir()
    script.write_text("from mtpkdot.cli.main import entry\nentry()\n")
    call = ["-m", "mtpkdot"] if how == "module" else [str(script)]
    done = subprocess.run(
        [sys.executable, *call, verb, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_own_modules_of_the_working_directory_are_found():
    code = "import sys; from mtpkdot.cli import main as m; sys.argv = ['mtpkdot', '--version']\n"
    code += "sys.path[:] = [p for p in sys.path if p]\ntry:\n    m.entry()\nexcept SystemExit:\n    pass\n"
    code += "import os; print(sys.path.index(os.getcwd()), len(sys.path) - 1)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path.home(), capture_output=True, text=True, check=True)
    place, last = done.stdout.split()[-2:]
    assert place == last
