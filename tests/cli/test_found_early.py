"""Mistakes that are found before anything is trained, each in one line that can be followed."""

import textwrap

import pytest
import yaml

from mtpkdot.cli.main import main
from tests.conftest import TINY


@pytest.fixture
def refused(tiny_config, tmp_path, complaint):
    """The one line that a call ends in; nothing has been trained by then."""

    def run(*words, config=tiny_config):
        line = complaint(["fit", "--config", str(config), f"--pipeline.root={tmp_path / 'runs'}", *words])
        assert not list((tmp_path / "runs").glob("stages/*/*"))
        return line

    return run


def written(tmp_path, change):
    """The tiny experiment, changed."""
    content = yaml.safe_load(yaml.safe_dump(TINY))
    change(content)
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


STOPS = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.mode=max"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([*STOPS, "--trainer.callbacks.monitor=val/accuracy"], ["val/accuracy", "hallucinator", "fit.patience"]),
        ([*STOPS, "--trainer.callbacks.monitor=val_loss"], ["Did you mean val/loss?"]),
        (["--trainer.callbacks+=DeviceStatsMonitor"], ["DeviceStatsMonitor", "psutil"]),
        (["--trainer.callbacks+=Timer"], ["trainer.max_time"]),
        (["--trainer.callbacks+=EarlyStoping"], ["Did you mean EarlyStopping?"]),
        (["--trainer.limit_train_batches=0.01"], ["limit_train_batches", "less than one of the"]),
        (["--trainer.limit_val_batches=0.01"], ["limit_val_batches", "less than one of the"]),
        (["--trainer.overfit_batches=0.01"], ["overfit_batches", "less than one of the"]),
        (["--trainer.val_check_interval=50"], ["val_check_interval", "check_val_every_n_epoch"]),
        (["--trainer.check_val_every_n_epoch=3"], ["check_val_every_n_epoch is 3", "max_epochs"]),
        (["--trainer.limit_test_batches=1"], ["limit_test_batches is 1"]),
        (["--trainer.barebones=true"], ["barebones"]),
        (["--trainer.devices=[0]"], ["devices"]),
        (["--trainer.profiler=nonsense"], ["the trainer section", "profiler"]),
        (["--trainer.num_nodes=2"], ["num_nodes is 2", "torchrun"]),
        (["--trainer.log_every_n_steps=-3"], ["log_every_n_steps is -3"]),
        (["--trainer.max_epochs=5"], ["Did you mean <stage>.fit.max_epochs?"]),
        (["--trainer.gradient_clip_val=1"], ["Did you mean <stage>.fit.gradient_clip_val?"]),
        (["--trainer.plugins=lightning.pytorch.plugins.environments.LightningEnvironment"], ["LightningEnvironment"]),
        (["--trainer.logger=TensorBoardLogger"], ["save_dir"]),
        (["--trainer.logger+=CSVLogger", "--trainer.logger.save_dir=x", "--trainer.logger.version=0"], ["version 0"]),
        (
            ["--trainer.logger+=CSVLogger", "--trainer.logger.save_dir=x", "--trainer.logger.dict_kwargs={'z': 1}"],
            ["'z'"],
        ),
        (["--data.dict_kwargs={'z': 1}"], ["'z'"]),
        (["--backbone.video.model.encoder.dict_kwargs={'z': 1}"], ["'z'", "backbone.video"]),
        (["--data.init_args.batch_size=1"], ["2 or more"]),
        (["--student.model.structure.top_k=40"], ["31 or less"]),
        (["--student.fit.monitor=val_acc"], ["Did you mean val/accuracy?"]),
        (["--student.model.methd=pkdot"], ["Did you mean student.model.method?"]),
        (["--student.model.method=mtpkdott"], ["Did you mean mtpkdot?"]),
        (["--data.init_args.subjcts=3"], ["Did you mean subjects?"]),
        (["--data=PlantedDat"], ["Did you mean PlantedData?"]),
        (["--backbone.vidoe.fit.max_epochs=3"], ["Did you mean video?"]),
        (["--pipeline.stages=[bakbone]"], ["Did you mean backbone?"]),
    ],
    ids=lambda value: value[-1].replace("--", "") if isinstance(value[0], str) and value[0].startswith("--") else "",
)
def test_a_mistake_is_found_before_anything_is_trained(words, told, refused, monkeypatch):
    # Other packages bring it, such as the kernel of the notebooks.
    monkeypatch.setattr("lightning.pytorch.callbacks.device_stats_monitor._PSUTIL_AVAILABLE", False)
    line = refused(*words)
    assert all(part in line for part in told), line


def test_a_section_that_no_key_belongs_to_is_found_even_if_it_is_empty(refused, tmp_path):
    assert "Did you mean student?" in refused(config=written(tmp_path, lambda c: c.update(studnt={})))
    assert "student.modle" in refused(config=written(tmp_path, lambda c: c["student"].update(modle={})))
    assert "Did you mean callbacks?" in refused(config=written(tmp_path, lambda c: c["trainer"].update(callback=None)))


def test_a_call_without_a_config_is_pointed_to_one_that_runs(complaint):
    for verb in ("fit", "stage student"):
        assert "configs/planted.yaml" in complaint(verb.split())
    assert "Did you mean crossval?" in complaint(["crosval"])


ENCODERS = {
    "NoSteps": ("def __init__(self): super().__init__(None, 4)", "", ["NoSteps", "backbone.video"]),
    "Forgets": (
        "def __init__(self, steps): super().__init__(dim=4)",
        "",
        ["'steps'", "mine_encoders.py, line"],
    ),
    "Flat": ("", "return x.flatten(2)[:, :, :4]", ["Flat", "returns Tensor", "features (B, T', dim)"]),
    "Wide": ("", "return x.flatten(2), mask", ["Wide", "(2, 2, 32)", "(2, T', 4)"]),
    "Unmasked": ("", "return x.flatten(2)[:, :, :4], None", ["Unmasked", "two tensors"]),
    "Numbers": ("", "return x.flatten(2)[:, :, :4], mask.float()", ["Numbers", "torch.float32"]),
    "Fails": ("", "return x @ torch.zeros(3, 4), mask", ["Fails", "(2, 2, 32)", "mine_encoders.py, line"]),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_of_the_user_s_own_with_a_wrong_signature_or_wrong_shapes_is_one_line(
    name, refused, tmp_path, monkeypatch
):
    module = "import torch\nfrom mtpkdot.models import Encoder\n"
    for kind, (init, forward, _) in ENCODERS.items():
        init = init or "def __init__(self, steps): super().__init__(steps, 4)"
        module += (
            f"\n\nclass {kind}(Encoder):\n    {init}\n\n    def forward(self, x, mask):\n        {forward or 'pass'}\n"
        )
    (tmp_path / "mine_encoders.py").write_text(textwrap.dedent(module))
    monkeypatch.syspath_prepend(str(tmp_path))
    section = {"class_path": f"mine_encoders.{name}"}
    config = written(tmp_path, lambda c: c["backbone"]["video"]["model"].update(encoder=section))
    line = refused(config=config)
    assert all(part in line for part in ENCODERS[name][2]), line


def test_options_that_work_beside_the_pipelines_own_are_accepted(tiny_config, tmp_path, monkeypatch):
    """A second checkpoint, a rate's monitor without a logger of one's own, two loggers at once."""
    monkeypatch.chdir(tmp_path)
    words = [
        "--trainer.callbacks+=ModelCheckpoint",
        "--trainer.callbacks.save_top_k=-1",
        "--trainer.callbacks.dirpath=mine",
        "--trainer.callbacks+=LearningRateMonitor",
        "--trainer.logger+=CSVLogger",
        "--trainer.logger.save_dir=first",
        "--trainer.logger+=CSVLogger",
        "--trainer.logger.save_dir=second",
    ]
    stages = "--pipeline.stages=[backbone]"
    assert main(["fit", "--config", str(tiny_config), "--pipeline.root=runs", stages, *words]) == 0
    assert len(list((tmp_path / "mine").glob("*.ckpt"))) == 4
    for place in ("first/lightning_logs", "second/lightning_logs"):
        logs = list((tmp_path / place).glob("*/version_0/metrics.csv"))
        assert {path.parent.parent.name for path in logs} == {"backbone.video", "backbone.signal"}
    own = list((tmp_path / "runs").glob("stages/*/*/logs/*/metrics.csv"))
    assert len(own) == 2
    assert all("val/accuracy" in path.read_text() and "lr-" in path.read_text() for path in own)


def test_a_modality_without_a_section_is_reported_to_run_on_defaults(tmp_path, capsys):
    config = written(tmp_path, lambda c: c["backbone"].pop("signal"))
    words = [f"--pipeline.root={tmp_path}", "--pipeline.stages=[backbone]", "--backbone.signal.fit.max_epochs=1"]
    assert main(["fit", "--config", str(config), *words[:2]]) == 0
    assert "backbone.signal has no section" in capsys.readouterr().out
