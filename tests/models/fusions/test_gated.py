import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtpkdot.models.fusions.gated import GatedFusion
from tests.loops import over
from tests.models.helpers import assert_close, assert_finite_gradients, built, gradients, random, random_mask

property_test = settings(deadline=None, max_examples=25, derandomize=True)
DIMS = {"a": 5, "b": 3, "c": 7, "d": 4}
STEPS = {"a": 4, "b": 1, "c": 6, "d": 4}
numbers_of_modalities = over("number", [1, 2, 3, 4])


def fusion(number=2, seed=0, **settings):
    dims = dict(list(DIMS.items())[:number])
    protocol = {name: settings.pop(name) for name in ("batch_attention", "frozen_projections") if name in settings}
    model = built(lambda: GatedFusion(dims, dim=8, feedforward=16, **settings), seed)
    model.use_protocol(**protocol)
    return model


def batch_of(model, batch, seed=0, present=0.6, steps=STEPS):
    features = {name: random(batch, steps[name], DIMS[name], seed=seed + i) for i, name in enumerate(model.modalities)}
    masks = {name: random_mask(batch, steps[name], seed + i, present) for i, name in enumerate(model.modalities)}
    return features, masks


def everything(masks, value=True):
    return {name: torch.full_like(mask, value) for name, mask in masks.items()}


def sample(i, *parts):
    return [{name: part[i : i + 1] for name, part in parts_of.items()} for parts_of in parts]


# Independence


@property_test
@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 1000))
def test_a_sample_does_not_depend_on_its_batch_mates_or_on_the_batch_size(number, batch, seed):
    model = fusion(number)
    features, masks = batch_of(model, batch, seed)
    joint, gates = model(features, masks)
    assert (joint.shape, gates.shape) == ((batch, 8), (batch, number))
    for i in range(batch):
        alone, its_gates = model(*sample(i, features, masks))
        assert_close(joint[i], alone[0])
        assert_close(gates[i], its_gates[0])


@property_test
@given(st.integers(1, 4), st.lists(st.integers(0, 4), min_size=4, max_size=4), st.integers(0, 1000))
def test_appended_masked_steps_change_nothing(number, extra, seed):
    model = fusion(number)
    features, masks = batch_of(model, 3, seed)
    padded, padded_masks = {}, {}
    for name, steps in zip(model.modalities, extra, strict=False):
        padded[name] = torch.cat([features[name], random(3, steps, DIMS[name], seed=seed + 9)], dim=1)
        padded_masks[name] = torch.cat([masks[name], torch.zeros(3, steps, dtype=torch.bool)], dim=1)
    for ours, theirs in zip(model(padded, padded_masks), model(features, masks), strict=True):
        assert_close(ours, theirs)


@numbers_of_modalities
@over("batch_attention", [False, True])
@over("garbage", [1e6, math.inf, math.nan])
def test_masked_steps_reach_neither_the_joint_feature_nor_the_gradient(number, batch_attention, garbage):
    model = fusion(number, batch_attention=batch_attention)
    features, masks = batch_of(model, 5)
    clean = model(features, masks)
    dirty = model({name: x.masked_fill(~masks[name][..., None], garbage) for name, x in features.items()}, masks)
    for ours, theirs in zip([*dirty, *gradients(model, *dirty)], [*clean, *gradients(model, *clean)], strict=True):
        assert_close(ours, theirs)


def test_the_modalities_are_told_apart_by_name_and_not_by_their_order():
    model = fusion(3)
    features, masks = batch_of(model, 4)
    backwards = [dict(reversed(part.items())) for part in (features, masks)]
    assert torch.equal(model(features, masks)[0], model(*backwards)[0])


# What is fused


@numbers_of_modalities
def test_every_modality_that_is_present_counts(number):
    model = fusion(number)
    features, masks = batch_of(model, 3)
    masks = everything(masks)
    joint, _ = model(features, masks)
    for name in model.modalities:
        changed = {**features, name: features[name] + random(*features[name].shape, seed=9)}
        assert not torch.allclose(model(changed, masks)[0], joint, atol=1e-4)


def values_before_the_gate(model, features, masks):
    """The pooled values (B, M, D) that the gate mixes."""
    seen = []
    hook = model.gate.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    model(features, masks)
    hook.remove()
    return seen[0].unflatten(1, (len(model.modalities), -1))


@over("number", [2, 3, 4])
def test_every_modality_reads_the_steps_of_all_others(number):
    model = fusion(number)
    features, masks = batch_of(model, 3)
    masks = everything(masks)
    before = values_before_the_gate(model, features, masks)
    for name in model.modalities:
        changed = {**features, name: features[name] + random(*features[name].shape, seed=9)}
        moved = (values_before_the_gate(model, changed, masks) - before).abs().amax(dim=(0, 2))
        assert float(moved.detach().min()) > 1e-4


def test_modalities_with_the_same_weights_are_treated_alike():
    model = built(lambda: GatedFusion({"a": 5, "b": 5}, dim=8, feedforward=16))
    with torch.no_grad():
        for first, second in (model.project, model.within, model.across):
            second.load_state_dict(first.state_dict())
        model.tokens[1] = model.tokens[0]
    x, y = random(3, 4, 5), random(3, 2, 5, seed=1)
    masks = torch.ones(3, 4, dtype=torch.bool), torch.ones(3, 2, dtype=torch.bool)
    values = values_before_the_gate(model, {"a": x, "b": y}, {"a": masks[0], "b": masks[1]})
    swapped = values_before_the_gate(model, {"a": y, "b": x}, {"a": masks[1], "b": masks[0]})
    assert_close(swapped, values.flip(1))


@property_test
@given(st.integers(1, 4), st.integers(1, 6), st.floats(0.0, 1.0), st.integers(0, 1000))
def test_gates_share_one_among_the_modalities_that_are_present(number, batch, density, seed):
    model = fusion(number)
    features, masks = batch_of(model, batch, seed, density)
    _, gates = model(features, masks)
    gates = gates.detach()
    assert_close(gates.sum(dim=1), torch.ones(batch))
    present = torch.stack([masks[name].any(dim=1) for name in model.modalities], dim=1)
    some = present.any(dim=1)
    assert torch.equal(gates[some] > 0, present[some])
    assert (gates[~some] > 0).all()  # the tokens are mixed


def test_gates_of_a_modality_that_is_alone_are_one():
    model = fusion(3)
    features, masks = batch_of(model, 2)
    masks = everything(masks, False)
    masks["b"][:] = True
    assert model(features, masks)[1].tolist() == [[0.0, 1.0, 0.0]] * 2


def test_the_gate_of_two_modalities_is_the_published_sigmoid():
    model = fusion(2)
    features, masks = batch_of(model, 4)
    joint, gates = model(features, everything(masks))
    values = values_before_the_gate(model, features, everything(masks))
    first, second = values.unbind(dim=1)
    weight, bias = model.gate.weight, model.gate.bias
    sigmoid = torch.sigmoid(values.flatten(1) @ (weight[:8] - weight[8:]).T + bias[:8] - bias[8:])
    assert_close(joint, sigmoid * first + (1 - sigmoid) * second)
    assert_close(gates, torch.stack([sigmoid.mean(dim=1), 1 - sigmoid.mean(dim=1)], dim=1))


def test_the_token_is_not_pooled_beside_real_steps():
    model = fusion(1)
    for block in model.within:  # without attention to blur them, the steps pass by themselves
        torch.nn.init.zeros_(block.out.weight)
        torch.nn.init.zeros_(block.out.bias)
    features, masks = batch_of(model, 3)
    with torch.no_grad():
        before = model(features, everything(masks))[0]
        absent = model(features, everything(masks, False))[0]
        model.tokens += torch.linspace(-3, 3, 8)
        assert_close(model(features, everything(masks))[0], before)
        assert not torch.allclose(model(features, everything(masks, False))[0], absent, atol=1e-3)


# Absence


@numbers_of_modalities
@over("batch_attention", [False, True])
@over("batch", [1, 4])
@over("training", [True, False])
def test_absent_modalities_leave_features_and_gradients_finite(number, batch_attention, batch, training):
    model = fusion(number, batch_attention=batch_attention).train(training)
    features, masks = batch_of(model, batch)
    absences = [everything(masks, False), everything(masks)]
    absences += [{**everything(masks), name: torch.zeros_like(masks[name])} for name in model.modalities]
    absences.append({name: mask & (torch.arange(batch)[:, None] != i) for i, (name, mask) in enumerate(masks.items())})
    for absence in absences:
        assert_finite_gradients(model, *model(features, absence))


@numbers_of_modalities
def test_samples_without_any_modality_all_get_the_same_mixture_of_tokens(number):
    model = fusion(number)
    features, masks = batch_of(model, 3)
    joint, gates = model(features, everything(masks, False))
    other, _ = fusion(number)(batch_of(model, 3, seed=50)[0], everything(masks, False))
    assert_close(joint, other)
    assert_close(joint, joint[:1].expand(3, -1))
    assert_close(gates.sum(dim=1), torch.ones(3))
    gradient = dict(zip((n for n, _ in model.named_parameters()), gradients(model, joint), strict=True))
    assert float(gradient["tokens"].abs().min(dim=1).values.max()) > 0


def test_fusing_does_not_change_its_inputs():
    model = fusion(2)
    features, masks = batch_of(model, 3)
    before = {name: x.clone() for name, x in features.items()}, {name: m.clone() for name, m in masks.items()}
    model(features, masks)
    for ours, theirs in zip((features, masks), before, strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in model.modalities)


# Protocol switches


@numbers_of_modalities
@over("steps", [STEPS, dict.fromkeys(DIMS, 3)])
def test_attention_across_the_batch_makes_a_sample_depend_on_its_batch_mates(number, steps):
    model = fusion(number, batch_attention=True)
    features, masks = batch_of(model, 4, steps=steps)
    masks = everything(masks)
    joint, gates = model(features, masks)
    alone, _ = model(*sample(0, features, masks))
    assert joint.isfinite().all()
    assert_close(gates.sum(dim=1), torch.ones(4))
    assert not torch.allclose(joint[:1], alone, atol=1e-4)


@numbers_of_modalities
def test_frozen_projections_freeze_exactly_the_projections(number):
    frozen = {n for n, p in fusion(number, frozen_projections=True).named_parameters() if not p.requires_grad}
    assert frozen == {f"project.{i}.{kind}" for i in range(number) for kind in ("weight", "bias")}
    assert all(p.requires_grad for p in fusion(number).parameters())


@numbers_of_modalities
def test_every_trainable_weight_takes_part(number):
    model = fusion(number)
    features, masks = batch_of(model, 4)
    model(features, everything(masks))[0].square().sum().backward()
    unused = {n for n, p in model.named_parameters() if p.grad is None}
    assert not unused


# A joint feature per step


SAME = dict.fromkeys(DIMS, 3)


def stepwise(number=2, batch=4, seed=0, present=0.6):
    model = fusion(number, per_step=True)
    return model, *batch_of(model, batch, seed, present, SAME)


@numbers_of_modalities
def test_every_step_has_a_joint_feature_and_gates_of_the_modalities_recorded_in_it(number):
    model, features, masks = stepwise(number)
    joint, gates = model(features, masks)
    gates = gates.detach()
    assert (joint.shape, gates.shape) == ((12, 8), (12, number))
    assert_close(gates.sum(dim=1), torch.ones(12))
    present = torch.stack([masks[name].flatten() for name in model.modalities], dim=1)
    some = present.any(dim=1)
    assert torch.equal(gates[some] > 0, present[some])
    assert (gates[~some] > 0).all()


def test_a_modality_masked_at_one_step_falls_out_of_the_gate_at_that_step_alone():
    model, features, masks = stepwise(3)
    masks = everything(masks)
    masks["b"][1, 2] = False
    gates = model(features, masks)[1].unflatten(0, (4, 3))
    closed = (gates == 0).nonzero().tolist()
    assert closed == [[1, 2, 1]]


@numbers_of_modalities
@over("garbage", [1e6, math.inf, math.nan])
def test_the_content_of_masked_steps_reaches_no_row_and_no_gradient(number, garbage):
    model, features, masks = stepwise(number)
    clean = model(features, masks)
    dirty = model({name: x.masked_fill(~masks[name][..., None], garbage) for name, x in features.items()}, masks)
    for ours, theirs in zip([*dirty, *gradients(model, *dirty)], [*clean, *gradients(model, *clean)], strict=True):
        assert_close(ours, theirs)


def test_rows_differ_between_steps_and_read_from_the_other_steps():
    model, features, masks = stepwise(2)
    masks = everything(masks)
    joint = model(features, masks)[0].unflatten(0, (4, 3))
    assert not torch.allclose(joint[:, 0], joint[:, 1], atol=1e-3)
    features["a"][0, 2] += 1
    changed = model(features, masks)[0].unflatten(0, (4, 3))
    assert (changed[0] - joint[0]).abs().amax(dim=1).min() > 1e-5
    assert_close(changed[1:], joint[1:])


@numbers_of_modalities
def test_with_one_step_rows_are_samples_absent_ones_included(number):
    per_step, per_sample = fusion(number, per_step=True), fusion(number)
    features, masks = batch_of(per_step, 30, present=0.5, steps=dict.fromkeys(DIMS, 1))
    assert all((~mask).any() for mask in masks.values())
    for ours, theirs in zip(per_step(features, masks), per_sample(features, masks), strict=True):
        assert_close(ours, theirs)


def test_the_token_stands_in_at_masked_steps():
    model, features, masks = stepwise(2)
    masks = everything(masks)
    masks["a"][0, 1] = False
    seen = values_before_the_gate(model, features, masks).detach()
    with torch.no_grad():
        model.tokens[0] += torch.linspace(-3, 3, 8)
    moved = (values_before_the_gate(model, features, masks).detach() - seen).abs().amax(dim=2)[:, 0]
    assert moved.argmax() == 1
