import math

import torch
from torch import nn

from mtpkdot.models.masking import Temporal, by_length, encode_real, encode_sequences, nearest_real
from tests.loops import over
from tests.models.helpers import assert_close, assert_finite_gradients, built, random, random_mask


def test_only_real_items_are_encoded_and_the_others_are_zero():
    layer, seen = built(lambda: nn.Linear(3, 2)), []

    def encode(x):
        seen.append(x)
        return layer(x)

    x, real = random(6, 3), torch.tensor([True, False, True, True, False, True])
    x[~real] = math.nan
    encoded = encode_real(layer, encode, x, real, 2)
    assert torch.equal(seen[0], x[real])
    assert torch.equal(encoded[real], layer(x[real]))
    assert torch.equal(encoded[~real], torch.zeros(2, 2))
    assert_finite_gradients(layer, encoded)


def test_chunks_bound_what_is_encoded_at_once_only_where_no_gradients_are_recorded():
    layer, sizes = built(lambda: nn.Linear(3, 2)), []

    def encode(x):
        sizes.append(len(x))
        return layer(x)

    x, real = random(7, 3), torch.ones(7, dtype=torch.bool)
    whole = encode_real(layer, encode, x, real, 2, chunk=3)
    with torch.no_grad():
        parts = encode_real(layer, encode, x, real, 2, chunk=3)
    assert sizes == [7, 3, 3, 1]
    assert_close(whole, parts)


def test_without_real_items_every_parameter_still_has_a_gradient_and_it_is_zero():
    layer = built(lambda: nn.Linear(3, 2))
    encoded = encode_real(layer, layer, random(4, 3), torch.zeros(4, dtype=torch.bool), 2)
    assert torch.equal(encoded, torch.zeros(4, 2))
    encoded.sum().backward()
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in layer.parameters())


def test_samples_are_grouped_by_their_last_real_step():
    mask = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [1, 1, 1, 0], [1, 0, 0, 1]], dtype=torch.bool)
    groups = {length: index.tolist() for length, index in by_length(mask)}
    assert groups == {1: [0], 3: [2, 3], 4: [4]}


def test_a_sequence_is_read_up_to_its_last_real_step():
    x, mask = random(5, 4, 3), torch.zeros(5, 4, dtype=torch.bool)
    mask[0, :2], mask[1, 3], mask[3, 0], mask[4] = True, True, True, True
    layer = built(lambda: nn.Linear(3, 2))
    encoded, mask_out = encode_sequences(layer, lambda part: layer(part).sum(dim=1), x, mask, 2)
    assert torch.equal(mask_out, mask.any(dim=1, keepdim=True))
    for sample, length in ((0, 2), (1, 4), (3, 1), (4, 4)):
        assert_close(encoded[sample, 0], layer(x[sample, :length]).sum(dim=0))
    assert torch.equal(encoded[2, 0], torch.zeros(2))


@over(
    "mask, expected",
    [([1, 1, 1], [0, 1, 2]), ([0, 1, 0, 0, 1, 0], [1, 1, 1, 1, 4, 4]), ([0, 0, 1], [2, 2, 2]), ([0, 0], [0, 0])],
)
def test_the_nearest_real_step_is_the_last_one_or_else_the_next(mask, expected):
    assert nearest_real(torch.tensor([mask], dtype=torch.bool)).tolist() == [expected]


def test_attention_over_time_reads_real_steps_only():
    model, x, mask = built(lambda: Temporal(8, 1, 2, 0.0)), random(4, 5, 8), random_mask(4, 5)
    mask[0], mask[1] = False, True
    changed = x.clone()
    changed[~mask] += 1.0
    changed[0] = x[0]
    assert_close(model(changed, mask), model(x, mask))
    assert torch.equal(model(x, mask)[~mask], torch.zeros(int((~mask).sum()), 8))
    assert not torch.allclose(model(x, mask)[1], model(x.flip(1), mask)[1].flip(0), atol=1e-3)
    assert_finite_gradients(model, model(x, mask))


def test_without_blocks_steps_do_not_read_each_other():
    x, mask = random(2, 3, 4), random_mask(2, 3)
    assert torch.equal(Temporal(4, 0, 2, 0.0)(x, mask), torch.where(mask[..., None], x, 0.0))
