import shutil

import lightning as L
import pytest
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from mtpkdot.cli.main import main
from mtpkdot.errors import ConfigError
from mtpkdot.pipeline import evaluation
from mtpkdot.pipeline.config import _parser
from mtpkdot.pipeline.trainer import KEYS, check_callbacks, check_trainer, of_stage

DEFAULTS = {
    key.removeprefix("trainer."): value
    for key, value in vars(_parser("fit", None, ()).get_defaults(skip_validation=True).trainer).items()
}


class Module:
    """What of a stage the checks read."""

    task = "classification"

    def monitors(self, task):
        return ["val/accuracy", "val/loss", "train/loss"]


class OnTest(Callback):
    def on_test_end(self, trainer, pl_module):
        """Acts in no stage."""


def test_every_key_of_the_trainer_section_has_a_place_where_it_acts_or_is_refused():
    assert set(DEFAULTS) == set(KEYS)


@pytest.mark.parametrize("key", [key for key, use in KEYS.items() if use == "refused"])
def test_a_key_that_acts_nowhere_is_refused_by_name_unless_it_is_unset(key):
    check_trainer(DEFAULTS)
    with pytest.raises(ConfigError, match=rf"trainer\.{key} is"):
        check_trainer({**DEFAULTS, key: 1})


def test_keys_that_act_everywhere_reach_the_trainer_that_evaluates(trained_root, tmp_path, monkeypatch):
    shutil.copytree(trained_root, tmp_path / "runs")
    given, stock = [], L.Trainer
    monkeypatch.setattr(evaluation.L, "Trainer", lambda **options: given.append(options) or stock(**options))
    values = {"precision": "bf16-mixed", "deterministic": False, "benchmark": True, "inference_mode": False}
    words = [f"--trainer.{key}={str(value).lower()}" for key, value in values.items()]
    assert main(["test", str(tmp_path / "runs" / "tiny"), "--trainer.accelerator=cpu", *words]) == 0
    used = [options for options in given if "callbacks" in options]
    assert len(used) == 5  # every stage with a head
    assert all({key: options[key] for key in values} == values for options in used)
    assert all(options["accelerator"] == "cpu" for options in used)
    # The others decide which processes there are, and whether they show how far they have come.
    acting = {key for key, use in KEYS.items() if use == "everywhere"}
    assert acting - set(values) == {"accelerator", "devices", "num_nodes", "strategy", "enable_progress_bar"}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("StochasticWeightAveraging", {"swa_lrs": 0.1}),
        ("BatchSizeFinder", {}),
        ("LearningRateFinder", {}),
        ("ModelPruning", {"pruning_fn": "l1_unstructured"}),
        ("BackboneFinetuning", {}),
    ],
)
def test_callbacks_that_would_make_the_record_wrong_are_refused_by_name(name, arguments):
    from lightning.pytorch import callbacks

    with pytest.raises(ConfigError, match=name):
        check_callbacks([getattr(callbacks, name)(**arguments)], Module(), "teacher", 1)


def test_a_callback_that_acts_in_no_stage_is_refused_and_one_that_does_is_not():
    with pytest.raises(ConfigError, match="OnTest"):
        check_callbacks([OnTest()], Module(), "teacher", 1)
    check_callbacks([Callback(), ModelCheckpoint(), EarlyStopping("val/loss")], Module(), "teacher", 1)


@pytest.mark.parametrize("callback", [EarlyStopping, ModelCheckpoint])
@pytest.mark.parametrize(("monitor", "meant"), [("val_loss", "val/loss"), ("val/acuracy", "val/accuracy")])
def test_a_monitor_that_a_stage_does_not_log_is_named_with_what_was_meant(callback, monitor, meant):
    with pytest.raises(ConfigError, match=f"which teacher does not log. Did you mean {meant}"):
        check_callbacks([callback(monitor=monitor)], Module(), "teacher", 1)


def test_a_value_that_a_user_defined_class_logs_may_be_monitored():
    class Logs(Callback):
        def on_train_start(self, trainer, pl_module):
            """Logs `val/mine`."""

    with pytest.raises(ConfigError, match="val/mine"):
        check_callbacks([EarlyStopping("val/mine")], Module(), "teacher", 1)
    check_callbacks([Logs(), EarlyStopping("val/mine")], Module(), "teacher", 1)


def test_loggers_have_the_stage_in_their_path_or_their_prefix():
    logger = "lightning.pytorch.loggers."
    csv = {"class_path": f"{logger}CSVLogger", "init_args": {"save_dir": "logs", "name": "mine", "version": None}}
    flow = {"class_path": f"{logger}MLFlowLogger", "init_args": {"prefix": ""}}
    board = {"class_path": f"{logger}TensorBoardLogger", "init_args": {"save_dir": "logs"}}
    found = of_stage([csv, flow, board], "backbone.video")
    assert found[0]["init_args"] == {"save_dir": "logs", "name": "mine/backbone.video", "version": None}
    assert found[1]["init_args"] == {"prefix": "backbone.video"}
    assert found[2]["init_args"]["name"] == "lightning_logs/backbone.video"
    assert csv["init_args"]["name"] == "mine"
    assert [of_stage(switch, "teacher") for switch in (None, True, False)] == [None, True, False]
