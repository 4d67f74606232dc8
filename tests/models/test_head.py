import torch

from mtpkdot.models.head import Head
from tests.loops import over
from tests.models.helpers import assert_close, built, random


def head():
    return built(lambda: Head(5, 2))


def test_before_it_is_fitted_it_is_a_linear_layer():
    model, feature = head(), random(4, 5)
    assert_close(model(feature), feature @ model.weight.T + model.bias)


def test_the_head_answers_in_the_units_of_the_targets():
    model, feature = head(), random(4, 5)
    standardised = model(feature)
    model.fit(torch.tensor([100.0, -3.0]), torch.tensor([20.0, 0.5]))
    assert_close(model(feature), standardised * torch.tensor([20.0, 0.5]) + torch.tensor([100.0, -3.0]))


def test_statistics_of_the_targets_are_saved_but_not_trained():
    source, target, feature = head(), Head(5, 2), random(4, 5)
    source.fit(torch.tensor([100.0, -3.0]), torch.tensor([20.0, 0.5]))
    target.load_state_dict(source.state_dict())
    assert torch.equal(target(feature), source(feature))
    assert {name for name, _ in source.named_parameters()} == {"weight", "bias"}


def test_statistics_of_the_targets_are_copies():
    model, mean = head(), torch.zeros(2)
    model.fit(mean, torch.ones(2))
    mean += 5
    assert model.mean.tolist() == [0.0, 0.0]


@over("scale", [0.01, 100.0])
def test_weights_start_alike_in_every_unit(scale):
    model, feature = head(), random(50, 5)
    spread = model(feature).std(dim=0)
    model.fit(torch.tensor([7.0, 7.0]), torch.tensor([scale, scale]))
    assert_close(model(feature).std(dim=0) / scale, spread)
