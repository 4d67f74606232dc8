"""What must hold for every stage."""

import copy
import sys
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.cli import instantiate_module

from mtpkdot.data import Batch
from mtpkdot.errors import RunError
from mtpkdot.modules import BackboneModule
from mtpkdot.modules.base import load_upstream
from mtpkdot.modules.declaration import LINKED
from tests.data.test_base import Given, make

STAGES = ["backbone.video", "backbone.signal", "teacher", "adapted", "student"]


def rows(batch: Batch, chosen) -> Batch:
    return Batch(
        batch.index[chosen],
        {name: value[chosen] for name, value in batch.inputs.items()},
        {name: value[chosen] for name, value in batch.masks.items()},
        batch.target[chosen],
        batch.labelled[chosen],
    )


@pytest.mark.parametrize("name", STAGES)
def test_predictions_depend_neither_on_batch_mates_nor_on_batch_size(name, load, batch):
    module = load(name).eval()
    module.setup("predict")
    with torch.no_grad():
        whole = module.outputs(batch)
        for size in (1, 3, 17):
            chosen = torch.randperm(len(batch))[:size]
            for head, output in module.outputs(rows(batch, chosen)).items():
                torch.testing.assert_close(output, whole[head][chosen], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [*STAGES, "hallucinator"])
def test_a_checkpoint_carries_no_upstream_weights_and_loads_strictly(name, load, checkpoints):
    state = torch.load(checkpoints[name], weights_only=True)["state_dict"]
    assert not [key for key in state if "frozen" in key]
    module = load(name)
    with pytest.raises(RuntimeError, match="unexpected"):
        module.load_state_dict({**state, "stranger": torch.zeros(1)})
    with pytest.raises(RuntimeError, match="missing"):
        module.load_state_dict(dict(list(state.items())[1:]))


@pytest.mark.parametrize("name", ["teacher", "adapted", "student"])
def test_absent_modalities_give_finite_outputs_and_gradients(name, load, batch):
    for absent in (["video"], ["signal"], ["video", "signal"]):
        module = load(name).train()
        module.setup("predict")
        emptied = rows(batch, torch.arange(len(batch)))
        for modality in absent:
            emptied.masks[modality] = torch.zeros_like(batch.masks[modality])
            emptied.inputs[modality] = torch.full_like(batch.inputs[modality], torch.nan)
        loss = module.losses(emptied)["loss"]
        if loss.requires_grad:
            loss.backward()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)
        assert all(torch.isfinite(output).all() for output in module.outputs(emptied).values())


@pytest.mark.parametrize("name", ["adapted", "hallucinator"])
def test_a_stage_that_only_learns_from_others_does_not_change_them(name, load, batch):
    module = load(name)
    module.setup("fit")
    module.train()
    assert not any(part.training for part in module.frozen.modules())
    module.losses(batch)["loss"].backward()
    assert all(p.grad is None for p in module.frozen.parameters())
    own = [p for key, p in module.named_parameters() if not key.startswith("frozen.")]
    assert all(p.grad is not None for p in own)


def test_a_missing_upstream_checkpoint_is_a_user_error(tmp_path):
    with pytest.raises(RunError, match="does not exist"):
        load_upstream(BackboneModule, str(tmp_path / "gone.ckpt"), "teacher.model.backbone_ckpts.video")
    with pytest.raises(RunError, match="no checkpoint"):
        load_upstream(BackboneModule, None, "teacher.model.backbone_ckpts.video")


@pytest.mark.parametrize("name", STAGES)
def test_the_checkpoint_carries_the_standardisation_of_the_training_part(name, load, data):
    module = load(name)
    module.setup("predict")
    owners = [m for m in module.modules() if type(m).__name__ == "Standardize"]
    assert owners
    shapes = {data.modalities[m][0]: data.statistics(m) for m in data.modality_names}
    for owner in owners:
        mean, scale = shapes[len(owner.mean)]
        torch.testing.assert_close(owner.mean, mean)
        torch.testing.assert_close(owner.scale, scale)


class Modes(L.Callback):
    """Writes down what is in training mode whenever a step begins."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        frozen = [part for whole in (module.frozen, *module.frozen_parts()) for part in whole.modules()]
        trained = [part for part in module.modules() if all(part is not f for f in frozen)]
        self.seen.append((any(m.training for m in frozen), all(m.training for m in trained), len(frozen)))


@pytest.mark.parametrize("name", ["teacher", "adapted", "hallucinator", "student"])
def test_the_trainer_finds_frozen_parts_in_eval_mode_and_the_rest_in_training_mode(name, checkpoints, load, data):
    module, modes = load(name), Modes()
    if name == "teacher":
        module.backbone_ckpts = {m: str(checkpoints[f"backbone.{m}"]) for m in module.steps}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    options = {"max_epochs": 2, "limit_train_batches": 2, "limit_val_batches": 1, "accelerator": "cpu"}
    trainer = L.Trainer(**options, logger=False, callbacks=[modes], **quiet)
    trainer.fit(module, datamodule=copy.copy(data))
    assert len(modes.seen) == 4
    assert all(count > 2 and not frozen and trained for frozen, trained, count in modes.seen)


def test_names_of_a_thousand_classes_cost_no_more_than_their_number(load):
    """jsonargparse, which builds a module from its checkpoint, looks at lists in the square of their length."""
    calls = []
    for count in (100, 400):
        arguments = {**load("backbone.video").hparams, "targets": [f"class{number}" for number in range(count)]}
        counted = 0

        def count_call(*_):
            nonlocal counted
            counted += 1

        sys.setprofile(count_call)
        try:
            instantiate_module(BackboneModule, arguments)
        finally:
            sys.setprofile(None)
        calls.append(counted)
    assert calls[1] < 2 * calls[0]


class Recorded(Given):
    """Data whose recipe has what a checkpoint of weights cannot hold."""

    def recipe(self):
        return {**super().recipe(), "rate": np.float64(25), "sizes": np.arange(2), "file": Path("net.onnx")}


def test_a_recipe_of_numpys_types_and_paths_is_stored_as_plain_data(tmp_path):
    data = Recorded(make().given)
    module = BackboneModule(data.modality_names[0], **{name: getattr(data, name) for name in LINKED})
    module._trainer = SimpleNamespace(datamodule=data)
    checkpoint = {}
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "model.ckpt")
    recipe = torch.load(tmp_path / "model.ckpt", weights_only=True)["recipe"]
    assert (recipe["rate"], recipe["sizes"], recipe["file"]) == (25.0, [0, 1], "net.onnx")
    assert recipe["task"] == data.task
