import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtpkdot.models.backbone import Backbone
from mtpkdot.models.encoder import Encoder, FeatureEncoder, Steps
from tests.loops import over
from tests.models.helpers import assert_close, assert_finite_gradients, built, gradients, random, random_mask

property_test = settings(deadline=None, max_examples=25, derandomize=True)


def temporal(steps):
    return FeatureEncoder(steps, dim=8, temporal_layers=1)


class Pictures(Encoder):
    """Encoder of (2, 3) steps that halves the sequence."""

    def __init__(self, steps):
        super().__init__(steps, dim=6)

    def forward(self, x, mask):
        flat = torch.where(mask[..., None], x.flatten(2), 0.0)
        return flat[:, ::2], mask[:, ::2]


def backbone(encoder=temporal, step_shape=(5,), seed=0):
    model = built(lambda: Backbone(Steps(step_shape), 3, encoder), seed)
    model.normalise.fit(torch.full(step_shape, 0.5), torch.full(step_shape, 2.0))
    return model


@property_test
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 3), st.integers(0, 1000))
def test_a_sample_depends_neither_on_its_batch_mates_nor_on_appended_masked_steps(batch, steps, extra, seed):
    model, x, mask = backbone(), random(batch, steps, 5, seed=seed), random_mask(batch, steps, seed)
    feature, output = model(x, mask)
    padded = torch.cat([x, random(batch, extra, 5, seed=seed + 1)], dim=1)
    padded_mask = torch.cat([mask, torch.zeros(batch, extra, dtype=torch.bool)], dim=1)
    for i in range(batch):
        alone_feature, alone_output = model(padded[i : i + 1], padded_mask[i : i + 1])
        assert_close(feature[i], alone_feature[0])
        assert_close(output[i], alone_output[0])


@over("garbage", [1e6, math.nan, math.inf])
def test_masked_steps_reach_neither_the_output_nor_the_gradient(garbage):
    model, x, mask = backbone(), random(6, 4, 5), random_mask(6, 4)
    clean = model(x, mask)
    x[~mask] = garbage
    dirty = model(x, mask)
    assert torch.equal(clean[1], dirty[1])
    for ours, theirs in zip(gradients(model, *dirty), gradients(model, *clean), strict=True):
        assert_close(ours, theirs)


@over("batch", [1, 4])
def test_fully_masked_samples_are_finite_and_all_the_same(batch):
    model = backbone()
    feature, output = model(random(batch, 4, 5), torch.zeros(batch, 4, dtype=torch.bool))
    assert torch.equal(feature, torch.zeros(batch, 8))
    assert_close(output, model.head.bias.expand(batch, 3))
    assert_finite_gradients(model, feature, output)


def test_missing_values_are_read_as_the_training_mean():
    model, x, mask = backbone(), random(3, 4, 5), torch.ones(3, 4, dtype=torch.bool)
    x[0, 1, 2] = math.nan
    at_mean = x.clone()
    at_mean[0, 1, 2] = 0.5
    assert_close(model(x, mask)[1], model(at_mean, mask)[1])


def test_the_output_is_the_head_of_the_mean_feature_over_the_real_steps():
    model, x = backbone(), random(1, 4, 5)
    mask = torch.tensor([[True, False, True, True]])
    sequence, mask_out = model.features(x, mask)
    feature, output = model(x, mask)
    assert_close(feature[0], sequence[0, mask_out[0]].mean(dim=0))
    assert_close(output, model.head(feature))


def test_steps_are_standardised_before_they_are_encoded():
    model, x, mask = backbone(), random(2, 4, 5), torch.ones(2, 4, dtype=torch.bool)
    assert_close(model.features(x, mask)[0], model.encoder((x - 0.5) / 2.0, mask)[0])


def test_a_user_defined_encoder_may_take_any_steps_and_change_their_number():
    model = backbone(Pictures, step_shape=(2, 3))
    x, mask = random(4, 5, 2, 3), random_mask(4, 5)
    mask[0], mask[1] = False, torch.tensor([True, False, False, True, True])
    sequence, mask_out = model.features(x, mask)
    feature, output = model(x, mask)
    assert (model.dim, sequence.shape, mask_out.shape) == (6, (4, 3, 6), (4, 3))
    assert (feature.shape, output.shape) == ((4, 6), (4, 3))
    assert_close(feature[1], model.normalise(x)[1, [0, 4]].flatten(1).mean(dim=0))


def test_the_default_encoder_reads_feature_vectors():
    model = Backbone(Steps((5,)), 2)
    assert isinstance(model.encoder, FeatureEncoder)
    assert model(random(3, 1, 5), torch.ones(3, 1, dtype=torch.bool))[1].shape == (3, 2)


def test_saved_weights_bring_the_standardisation_with_them():
    source, target = backbone(seed=1), built(lambda: Backbone(Steps((5,)), 3, temporal), seed=2)
    x, mask = random(4, 3, 5), torch.ones(4, 3, dtype=torch.bool)
    assert not torch.allclose(target(x, mask)[1], source(x, mask)[1], atol=1e-3)
    target.load_state_dict(source.state_dict())
    assert torch.equal(target(x, mask)[1], source(x, mask)[1])
    assert torch.equal(target.normalise.mean, torch.full((5,), 0.5))
