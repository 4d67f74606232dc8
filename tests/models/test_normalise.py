import math

import torch

from mtpkdot.models.normalise import Standardize
from tests.loops import over
from tests.models.helpers import random


def fitted(clip=10.0):
    layer = Standardize((2,), clip)
    layer.fit(torch.tensor([1.0, -2.0]), torch.tensor([2.0, 0.5]))
    return layer


def test_each_feature_is_centred_and_scaled():
    x = torch.tensor([[[1.0, -2.0], [3.0, -1.5], [-1.0, 0.0]]])
    assert torch.equal(fitted()(x), torch.tensor([[[0.0, 0.0], [1.0, 1.0], [-1.0, 4.0]]]))


def test_missing_values_become_the_training_mean():
    assert fitted()(torch.tensor([[[math.nan, -2.0]]])).tolist() == [[[0.0, 0.0]]]
    assert Standardize((2,))(torch.tensor([[[math.nan, 3.0]]])).tolist() == [[[0.0, 3.0]]]


@over("clip", [1.0, 10.0])
def test_values_far_off_are_clipped_to_the_bound(clip):
    x = torch.tensor([[[1e9, -1e9], [math.inf, -math.inf], [1.5, -2.1]]])
    expected = torch.tensor([[[clip, -clip], [clip, -clip], [0.25, -0.2]]])
    torch.testing.assert_close(fitted(clip)(x), expected)


def test_before_it_is_fitted_values_pass_through_unclipped():
    x = 1e6 * random(3, 4, 2)
    assert torch.equal(Standardize((2,))(x), x)


def test_before_it_is_fitted_only_missing_values_are_replaced():
    x = torch.tensor([[[math.inf, -math.inf], [math.nan, 3.0]]])
    assert Standardize((2,))(x).tolist() == [[[math.inf, -math.inf], [0.0, 3.0]]]


def test_a_saved_layer_standardises_as_it_did():
    source, target = fitted(), Standardize((2,))
    x = 100 * random(3, 4, 2)
    assert not torch.equal(target(x), source(x))
    target.load_state_dict(source.state_dict())
    assert torch.equal(target(x), source(x))


def test_a_saved_unfitted_layer_still_passes_values_through():
    target = fitted()
    target.load_state_dict(Standardize((2,)).state_dict())
    x = 1e6 * random(3, 4, 2)
    assert torch.equal(target(x), x)


def test_statistics_are_saved_but_not_trained():
    layer = fitted()
    assert set(layer.state_dict()) == {"mean", "scale", "fitted"}
    assert not list(layer.parameters())


def test_statistics_are_copies():
    layer, mean = Standardize((2,)), torch.zeros(2)
    layer.fit(mean, torch.ones(2))
    mean += 5
    assert layer.mean.tolist() == [0.0, 0.0]


def test_steps_may_have_any_shape():
    layer, mean, scale = Standardize((3, 4)), random(3, 4), random(3, 4, seed=1).abs() + 0.5
    layer.fit(mean, scale)
    x = random(2, 5, 3, 4, seed=2)
    torch.testing.assert_close(layer(x), ((x - mean) / scale).clamp(-10, 10))


def test_standardising_leaves_its_input_alone():
    x = torch.tensor([[[math.nan, 1e9]]])
    fitted()(x)
    assert math.isnan(x[0, 0, 0])
    assert x[0, 0, 1] == 1e9
