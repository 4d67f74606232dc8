import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mtpkdot.models.attention import AttentionBlock, masked_mean
from tests.loops import over
from tests.models.helpers import assert_close, assert_finite_gradients, built, random, random_mask

property_test = settings(deadline=None, max_examples=25, derandomize=True)


def block(**settings):
    return built(lambda: AttentionBlock(8, feedforward=16, **settings))


def mask_with_a_real_step(batch, steps, seed):
    mask = random_mask(batch, steps, seed)
    mask[torch.arange(batch), torch.arange(batch) % steps] = True
    return mask


@property_test
@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 7), st.integers(0, 1000))
def test_a_sample_reads_neither_its_batch_mates_nor_masked_context(batch, steps, context_steps, seed):
    model = block()
    x, context = random(batch, steps, 8, seed=seed), random(batch, context_steps, 8, seed=seed + 1)
    mask = mask_with_a_real_step(batch, context_steps, seed)
    together = model(x, context, mask)
    for i in range(batch):
        alone = model(x[i : i + 1], context[i : i + 1][:, mask[i]], torch.ones(1, int(mask[i].sum()), dtype=torch.bool))
        assert_close(together[i], alone[0])


def test_one_head_is_softmax_attention_with_residuals_and_normalisation_after_them():
    model = block(heads=1)
    x, context = random(2, 3, 8), random(2, 5, 8, seed=1)
    key, value = model.key_value(context).chunk(2, dim=2)
    weights = torch.softmax(model.query(x) @ key.mT / 8**0.5, dim=2)
    read = model.norm1(x + model.out(weights @ value))
    expected = model.norm2(read + model.feedforward(read))
    assert_close(model(x, context, torch.ones(2, 5, dtype=torch.bool)), expected)


def test_a_single_step_is_read_as_it_is_and_queries_and_keys_have_a_gradient_of_zero():
    model = block(heads=2)
    x, context, mask = random(4, 3, 8), random(4, 2, 8, seed=1), torch.tensor([[True, False]]).expand(4, 2)
    masked = model(x, context, mask)
    single = model(x, context[:, :1], mask[:, :1])
    assert_close(single, masked)
    single.square().sum().backward()
    assert (model.query.weight.grad == 0).all()
    assert (model.query.bias.grad == 0).all()
    key, value = model.key_value.weight.grad.chunk(2)
    assert (key == 0).all()
    assert (value != 0).any()


def test_several_heads_attend_in_slices_of_the_features():
    model = block(heads=4)
    x = random(2, 3, 8)
    key, value = model.key_value(x).chunk(2, dim=2)
    slices = zip(*(part.split(2, dim=2) for part in (model.query(x), key, value)), strict=True)
    read = torch.cat([F.softmax(q @ k.mT / 2**0.5, dim=2) @ v for q, k, v in slices], dim=2)
    middle = model.norm1(x + model.out(read))
    assert_close(model(x, x, torch.ones(2, 3, dtype=torch.bool)), model.norm2(middle + model.feedforward(middle)))


def test_attention_across_the_batch_is_attention_over_time_of_the_transposed_batch():
    over_time, across = block(), block(across_batch=True)
    x, mask = random(4, 3, 8), mask_with_a_real_step(4, 3, seed=2)
    mask[0] = True
    expected = over_time(x.transpose(0, 1), x.transpose(0, 1), mask.T).transpose(0, 1)
    assert_close(across(x, x, mask), expected)


def test_attention_across_the_batch_reads_the_batch_mates_and_not_the_other_steps():
    model, mask = block(across_batch=True), torch.ones(4, 3, dtype=torch.bool)
    x = random(4, 3, 8)
    other_sample, other_step = x.clone(), x.clone()
    other_sample[1, 0] += 1
    other_step[:, 1] += random(4, 8, seed=3)
    plain = model(x, x, mask)
    assert not torch.allclose(model(other_sample, other_sample, mask)[0, 0], plain[0, 0], atol=1e-4)
    assert_close(model(other_step, other_step, mask)[:, 0], plain[:, 0])


@over("batch", [1, 4])
def test_attention_across_the_batch_is_finite_where_a_step_is_real_in_no_sample(batch):
    model, x = block(across_batch=True), random(batch, 3, 8)
    mask = torch.ones(batch, 3, dtype=torch.bool)
    mask[:, 1] = False
    assert_finite_gradients(model, model(x, x, mask))
    assert_finite_gradients(model, model(x, x, torch.zeros_like(mask)))


def test_dropout_acts_in_training_only():
    model, x, mask = block(dropout=0.5), random(2, 3, 8), torch.ones(2, 3, dtype=torch.bool)
    assert torch.equal(model(x, x, mask), model(x, x, mask))
    model.train()
    assert not torch.equal(model(x, x, mask), model(x, x, mask))


def test_the_heads_must_share_the_features_evenly():
    with pytest.raises(ValueError, match="not a multiple of the 3 attention heads"):
        AttentionBlock(8, heads=3)


# masked_mean


def test_masked_mean_is_the_mean_over_the_real_steps():
    x = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]], [[5.0, 6.0], [0.0, 0.0], [7.0, 9.0]]])
    mask = torch.tensor([[True, True, False], [True, False, True]])
    assert torch.equal(masked_mean(x, mask), torch.tensor([[2.0, 3.0], [6.0, 7.5]]))


def test_masked_mean_of_nothing_is_zero_with_zero_gradient():
    x = random(2, 3, 4).requires_grad_()
    mean = masked_mean(x, torch.tensor([[False] * 3, [True] * 3]))
    mean.sum().backward()
    assert torch.equal(mean[0], torch.zeros(4))
    assert torch.equal(x.grad[0], torch.zeros(3, 4))
    torch.testing.assert_close(x.grad[1], torch.full((3, 4), 1 / 3))


@over("garbage", [torch.nan, torch.inf, 1e30])
def test_masked_mean_never_reads_masked_steps(garbage):
    x, mask = random(5, 6, 3), random_mask(5, 6)
    clean = masked_mean(x, mask)
    x[~mask] = garbage
    x.requires_grad_()
    dirty = masked_mean(x, mask)
    dirty.sum().backward()
    assert torch.equal(dirty, clean)
    assert torch.equal(x.grad[~mask], torch.zeros_like(x.grad[~mask]))


@over("dtype", [torch.bfloat16, torch.float64])
def test_masked_mean_keeps_the_precision_of_its_input(dtype):
    assert masked_mean(random(2, 3, 4).to(dtype), random_mask(2, 3)).dtype == dtype
