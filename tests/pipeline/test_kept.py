"""What a stage hands on is what its score was measured on, whatever swaps weights meanwhile."""

import os
import signal
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from mtpkdot.cli.main import main
from mtpkdot.pipeline.config import parse
from mtpkdot.pipeline.runner import Run

STAGES = ["backbone.video", "backbone.signal", "teacher", "adapted", "hallucinator", "student"]
ME = "tests.pipeline.test_kept"


class Halved(Callback):
    """Halves all weights for the validation, and gives them back afterwards."""

    def on_validation_start(self, trainer, pl_module):
        own = [(name, p) for name, p in pl_module.named_parameters() if not name.startswith("frozen.")]
        self.kept = {name: p.detach().clone() for name, p in own}
        for _, p in own:
            p.data.mul_(0.5)

    def on_validation_end(self, trainer, pl_module):
        for name, kept in self.kept.items():
            pl_module.get_parameter(name).data.copy_(kept)


class HalvedByBatch(Halved):
    """The same for every batch by itself."""

    def on_validation_start(self, trainer, pl_module):
        pass

    def on_validation_end(self, trainer, pl_module):
        pass

    def on_validation_batch_start(self, trainer, pl_module, *arguments):
        Halved.on_validation_start(self, trainer, pl_module)

    def on_validation_batch_end(self, trainer, pl_module, *arguments):
        Halved.on_validation_end(self, trainer, pl_module)


class HalvedWithin(Callback):
    """The same within the step of the module."""

    def setup(self, trainer, pl_module, stage):
        step, halved = type(pl_module).validation_step, Halved()

        def swapped(batch, batch_idx):
            halved.on_validation_start(trainer, pl_module)
            step(pl_module, batch, batch_idx)
            halved.on_validation_end(trainer, pl_module)

        pl_module.validation_step = swapped


class Ruined(Callback):
    """Ruins the weights at the end of the last epoch, after they were scored."""

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == trainer.max_epochs - 1:
            for p in pl_module.parameters():
                p.data.fill_(float("nan"))


class Stop(Callback):
    """Stops the program in the second epoch of the stage that the environment names."""

    def on_train_epoch_start(self, trainer, pl_module):
        stage = Path(trainer.default_root_dir).parent.name
        if os.environ.get("STOPPED_STAGE") == stage and trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def scored_again(arguments):
    """Per stage, the score that chose the epoch, and that of the published weights."""
    run, found = Run(parse("fit", arguments)), {}
    run.data.setup("validate")
    for name, job in run.jobs.items():
        trained = job.stored.record()["trained"]
        upstream = job.upstream if job.stage.kind in ("adapted", "hallucinator", "pool") else {}
        nested = {}
        for argument, path in upstream.items():
            key, _, modality = argument.partition(".")
            nested[key] = {**nested.get(key, {}), modality: path} if modality else path
        module = job.stage.module.load_from_checkpoint(job.stored.checkpoint, weights_only=True, **nested)
        run.data.attach(None, {})
        trainer = L.Trainer(accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, barebones=False)
        (values,) = trainer.validate(module, run.data.selecting_loader(), verbose=False)
        found[name] = (trained["score"], values[trained["monitor"]])
    return found


@pytest.mark.parametrize(
    "callbacks",
    [
        ["EMAWeightAveraging", ("decay", "0.8")],
        ["WeightAveraging"],
        [f"{ME}.Halved"],
        [f"{ME}.HalvedByBatch"],
        [f"{ME}.HalvedWithin"],
        [f"{ME}.Ruined"],
    ],
    ids=lambda callbacks: callbacks[0].rpartition(".")[2],
)
@pytest.mark.filterwarnings("ignore:.*Checkpoint directory.*", "ignore:.*weights_only.*")
def test_every_stage_hands_on_what_was_scored(callbacks, tiny_config, tmp_path):
    name, *options = callbacks
    words = [f"--trainer.callbacks+={name}", *(f"--trainer.callbacks.{key}={value}" for key, value in options)]
    epochs = [f"--{stage}.fit.max_epochs=4" for stage in STAGES]
    # The student of the one may hand on the backbone; of what is our own, two stages show it, one without heads.
    more = ["--student.model.method=mtpkdot_plus"] if name == "WeightAveraging" else []
    more += ["--pipeline.stages=[backbone,hallucinator]"] if name.startswith(ME) else []
    arguments = ["--config", str(tiny_config), f"--pipeline.root={tmp_path}", *words, *epochs, *more]
    assert main(["fit", *arguments]) == 0
    for stage, (score, again) in scored_again(arguments).items():
        assert again == pytest.approx(score, abs=1e-6), stage


@pytest.mark.filterwarnings("ignore:.*Checkpoint directory.*", "ignore:.*weights_only.*")
def test_the_average_of_weights_is_what_is_scored_and_handed_on(tiny_config, tmp_path):
    def options(root, average):
        words = [f"--{stage}.fit.max_epochs=4" for stage in STAGES]
        words += [f"--{stage}.fit.average={average}" for stage in STAGES]
        return ["--config", str(tiny_config), f"--pipeline.root={tmp_path / root}", *words]

    averaged = options("averaged", 3)
    assert main(["fit", *averaged]) == 0
    scores = scored_again(averaged)
    for stage, (score, again) in scores.items():
        assert again == pytest.approx(score, abs=1e-6), stage
    assert main(["fit", *options("single", "null")]) == 0
    single = scored_again(options("single", "null"))
    assert scores["hallucinator"] != single["hallucinator"]


AVERAGES = {
    "Lightning": ["--trainer.callbacks+=EMAWeightAveraging", "--trainer.callbacks.decay=0.8"],
    "own": [f"--{stage}.fit.average=2" for stage in STAGES],
}


@pytest.mark.parametrize("average", AVERAGES)
def test_a_run_with_averaged_weights_that_was_stopped_ends_in_the_weights_of_one_that_was_not(
    average, tiny_config, tmp_path, monkeypatch
):
    words = [*AVERAGES[average], f"--trainer.callbacks+={ME}.Stop"]
    epochs = [f"--{stage}.fit.max_epochs=3" for stage in STAGES]

    def fit(root):
        return main(["fit", "--config", str(tiny_config), f"--pipeline.root={root}", *words, *epochs])

    def weights(root):
        return {
            path.relative_to(root): torch.load(path, weights_only=True)["state_dict"]
            for path in root.glob("stages/*/*/model.ckpt")
        }

    assert fit(tmp_path / "straight") == 0
    for stage in ("teacher", "student"):
        monkeypatch.setenv("STOPPED_STAGE", stage)
        assert fit(tmp_path / "stopped") == 143
    monkeypatch.delenv("STOPPED_STAGE")
    assert fit(tmp_path / "stopped") == 0
    straight, stopped = weights(tmp_path / "straight"), weights(tmp_path / "stopped")
    assert straight.keys() == stopped.keys()
    for path, state in straight.items():
        assert all(torch.equal(value, stopped[path][name]) for name, value in state.items()), path
