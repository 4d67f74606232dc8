import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtpkdot.models.attention import masked_mean
from mtpkdot.models.encoder import Encoder, FeatureEncoder, Steps, sinusoids
from tests.loops import over
from tests.models.helpers import assert_close, assert_finite_gradients, built, gradients, random, random_mask

property_test = settings(deadline=None, max_examples=25, derandomize=True)
KINDS = {
    "steps": {},
    "hidden": {"hidden": 7},
    "temporal": {"temporal_layers": 2},
    "both": {"hidden": 7, "temporal_layers": 1},
}
every_kind = over("kind", KINDS)


def encoder(kind, size=5, dim=8):
    return built(lambda: FeatureEncoder(Steps((size,)), dim, **KINDS[kind]))


@property_test
@given(st.sampled_from(list(KINDS)), st.integers(1, 6), st.integers(1, 7), st.integers(0, 1000))
def test_a_sample_does_not_depend_on_its_batch_mates_or_on_the_batch_size(kind, batch, steps, seed):
    model, x, mask = encoder(kind), random(batch, steps, 5, seed=seed), random_mask(batch, steps, seed)
    together, mask_out = model(x, mask)
    assert together.shape == (batch, steps, 8)
    assert torch.equal(mask_out, mask)
    for i in range(batch):
        assert_close(together[i], model(x[i : i + 1], mask[i : i + 1])[0][0])


@property_test
@given(st.sampled_from(list(KINDS)), st.integers(1, 5), st.integers(0, 4), st.integers(0, 1000))
def test_appended_masked_steps_change_nothing(kind, steps, extra, seed):
    model, x, mask = encoder(kind), random(3, steps, 5, seed=seed), random_mask(3, steps, seed)
    padded, padded_mask = model(
        torch.cat([x, random(3, extra, 5, seed=seed + 1)], dim=1),
        torch.cat([mask, torch.zeros(3, extra, dtype=torch.bool)], dim=1),
    )
    plain, _ = model(x, mask)
    assert_close(padded[:, :steps], plain)
    assert_close(masked_mean(padded, padded_mask), masked_mean(plain, mask))


@every_kind
@over("garbage", [1e6, math.nan, math.inf])
def test_masked_steps_may_hold_anything(kind, garbage):
    model, x, mask = encoder(kind), random(6, 4, 5), random_mask(6, 4)
    mask[0], mask[1] = False, True
    clean = model(x, mask)[0]
    x[~mask] = garbage
    dirty = model(x, mask)[0]
    assert torch.equal(dirty, clean)
    for ours, theirs in zip(gradients(model, dirty), gradients(model, clean), strict=True):
        assert_close(ours, theirs)


@every_kind
def test_masked_steps_come_out_as_zeros(kind):
    mask = random_mask(6, 4)
    encoded, _ = encoder(kind)(random(6, 4, 5), mask)
    assert torch.equal(encoded[~mask], torch.zeros_like(encoded[~mask]))
    assert float(encoded[mask].detach().abs().min(dim=1).values.max()) > 0


@every_kind
@over("batch", [1, 4])
@over("training", [True, False])
def test_fully_masked_samples_have_finite_features_and_gradients(kind, batch, training):
    model = encoder(kind).train(training)
    some = random_mask(batch, 3)
    some[-1] = False
    for mask in (some, torch.zeros(batch, 3, dtype=torch.bool)):
        assert_finite_gradients(model, model(random(batch, 3, 5), mask)[0])


@every_kind
def test_encoding_does_not_change_its_inputs(kind):
    x, mask = random(3, 4, 5), torch.zeros(3, 4, dtype=torch.bool)
    before = x.clone()
    encoder(kind)(x, mask)
    assert torch.equal(x, before)
    assert not mask.any()


def test_steps_are_encoded_one_by_one_without_temporal_layers_and_jointly_with_them():
    x, mask = random(2, 4, 5), torch.ones(2, 4, dtype=torch.bool)
    changed = x.clone()
    changed[:, 1] += 1
    alone, together = encoder("steps"), encoder("temporal")
    assert torch.equal(alone(x, mask)[0][:, 0], alone(changed, mask)[0][:, 0])
    assert not torch.allclose(together(x, mask)[0][:, 0], together(changed, mask)[0][:, 0], atol=1e-4)


def test_temporal_layers_see_the_order_of_the_steps():
    model, x, mask = encoder("temporal"), random(2, 4, 5), torch.ones(2, 4, dtype=torch.bool)
    forwards, backwards = (masked_mean(model(steps, mask)[0], mask) for steps in (x, x.flip(1)))
    assert not torch.allclose(forwards, backwards, atol=1e-4)


def test_only_vectors_are_encoded():
    with pytest.raises(ValueError, match="not steps of shape"):
        FeatureEncoder(Steps((3, 4)))


def test_a_user_defined_encoder_has_its_sizes_and_must_implement_forward():
    model = Encoder(Steps((3, 4), 25.0), 16)
    assert (model.steps, model.dim) == (Steps((3, 4), 25.0), 16)
    with pytest.raises(NotImplementedError):
        model(torch.zeros(1, 1, 3, 4), torch.ones(1, 1, dtype=torch.bool))


# sinusoids


@over("dim", [1, 2, 5, 8])
def test_positions_are_the_sines_and_cosines_of_the_paper(dim):
    positions = sinusoids(6, dim)
    assert positions.shape == (6, dim)
    for step in range(6):
        for column in range(dim):
            angle = step / 10_000 ** (2 * (column // 2) / dim)
            expected = math.cos(angle) if column % 2 else math.sin(angle)
            assert float(positions[step, column]) == pytest.approx(expected, abs=1e-5)
