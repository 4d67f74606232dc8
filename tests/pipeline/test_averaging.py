"""Averages of weights against those that are computed by hand."""

from types import SimpleNamespace

import torch
from torch import nn

from mtpkdot.modules import StageModule
from mtpkdot.pipeline.averaging import AverageWeights

DATA = {"task": "regression", "targets": ["valence"], "modalities": {"video": [4], "sound": [3]}, "prevalent": "video"}


class Constant(StageModule):
    def __init__(self):
        super().__init__(**DATA)
        self.value = nn.Parameter(torch.zeros(2))
        self.fixed = nn.Parameter(torch.zeros(2), requires_grad=False)
        self.norm = nn.BatchNorm1d(2)


def averaged(values, epochs, batches, accumulated=1):
    """The average after a training in which the weight takes these values, and the module."""
    module, callback = Constant(), AverageWeights(epochs)
    for step, value in enumerate(values, start=1):
        module.value.data.fill_(value)
        module.norm.running_mean.fill_(value)
        trainer = SimpleNamespace(global_step=step, num_training_batches=batches, accumulate_grad_batches=accumulated)
        callback.on_train_batch_end(trainer, module)
        callback.on_train_batch_end(trainer, module)  # a batch without a step of the optimiser
    return callback, module


def test_the_first_steps_have_a_plain_mean():
    callback, _ = averaged([1.0, 2.0, 6.0], epochs=10, batches=5)
    assert callback.average["value"].tolist() == [3, 3]
    assert callback.average["norm.running_mean"].tolist() == [3, 3]
    assert "fixed" not in callback.average


def test_later_steps_forget_with_the_window():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0)).tolist()
    callback, _ = averaged(values, epochs=3, batches=10, accumulated=2)
    expected, window = 0.0, 3 * 10 / 2
    for step, value in enumerate(values, start=1):
        expected += max(1 / step, 2 / (window + 1)) * (value - expected)
    assert abs(callback.average["value"][0] - expected) < 1e-5


def test_the_average_is_in_place_during_the_validation_alone():
    callback, module = averaged([1.0, 3.0], epochs=10, batches=5)
    callback.on_validation_epoch_start(None, module)
    assert module.value.tolist() == [2, 2]
    callback.on_validation_epoch_end(None, module)
    assert module.value.tolist() == [3, 3]
    assert callback.average["value"].tolist() == [2, 2]


def test_before_the_first_step_the_weights_are_validated():
    module, callback = Constant(), AverageWeights(2)
    module.value.data.fill_(7.0)
    callback.on_validation_epoch_start(None, module)
    assert module.value.tolist() == [7, 7]
