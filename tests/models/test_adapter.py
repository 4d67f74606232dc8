import torch

from mtpkdot.models.adapter import Adapter
from tests.models.helpers import assert_close, built, random


def adapter():
    return built(lambda: Adapter(in_dim=10, out_dim=6, bottleneck=3, num_outputs=2))


def test_the_feature_takes_the_size_of_the_joint_feature_and_the_output_that_of_the_task():
    adapted, output = adapter()(random(4, 10))
    assert (adapted.shape, output.shape) == ((4, 6), (4, 2))


def test_the_output_is_read_from_the_adapted_feature():
    model = adapter()
    adapted, output = model(random(4, 10))
    assert_close(output, model.head(adapted))


def test_the_bottleneck_is_linear_and_of_its_rank():
    model, zero = adapter(), torch.zeros(1, 10)
    x, y = random(20, 10), random(20, 10, seed=1)
    origin = model(zero)[0]
    assert_close(model(2 * x - 3 * y)[0] - origin, 2 * (model(x)[0] - origin) - 3 * (model(y)[0] - origin))
    assert int(torch.linalg.matrix_rank(model(x)[0].detach() - origin.detach(), rtol=1e-4)) == 3


def test_a_sample_does_not_depend_on_its_batch_mates():
    model, x = adapter(), random(5, 10)
    assert_close(model(x)[1][2], model(x[2:3])[1][0])
