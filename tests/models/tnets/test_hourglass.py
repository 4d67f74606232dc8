import torch
from torch import nn

from mtpkdot.models.tnets.hourglass import Hourglass
from tests.loops import over
from tests.models.helpers import assert_close, built, random


def tnet(**settings):
    return built(lambda: Hourglass(5, 4, **settings))


@over("activation", [True, False])
@over("hidden", [(), (7,), (8, 3, 8)])
def test_every_time_step_is_mapped_by_itself_to_the_privileged_size(hidden, activation):
    model, x = tnet(hidden=hidden, activation=activation), random(2, 3, 5)
    made = model(x)
    assert made.shape == (2, 3, 4)
    assert model(x[:, 0]).shape == (2, 4)
    assert_close(made[1, 2], model(x[1, 2]))


def test_the_hourglass_defaults_to_that_of_the_first_paper():
    sizes = [
        (layer.in_features, layer.out_features) for layer in Hourglass(5, 4).layers if isinstance(layer, nn.Linear)
    ]
    assert sizes == [(5, 256), (256, 128), (128, 256), (256, 4)]


def test_without_activation_it_is_linear():
    model, x, y = tnet(hidden=(8, 3, 8), activation=False), random(6, 5), random(6, 5, seed=1)
    origin = model(torch.zeros(5))
    assert_close(model(2 * x - y) - origin, 2 * (model(x) - origin) - (model(y) - origin))


def test_with_activation_it_is_not_linear():
    model, x = tnet(hidden=(8, 3, 8)), random(6, 5)
    origin = model(torch.zeros(5))
    assert not torch.allclose(model(-x) - origin, origin - model(x), atol=1e-3)


@over("hidden", [(), (16,)])
def test_hallucinated_features_take_either_sign(hidden):
    made = tnet(hidden=hidden)(random(200, 5))
    assert float(made.detach().min()) < 0 < float(made.detach().max())
