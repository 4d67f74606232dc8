from collections import deque

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtpkdot.losses.queue import FeatureQueue
from mtpkdot.losses.structure import StructuralTransport
from tests.loops import over
from tests.losses.reference import random
from tests.losses.test_structure import (
    assert_alike,
    compare,
    every_case,
    every_mode,
    exact,
    features,
    terms_and_gradient,
)

property_test = settings(deadline=None, max_examples=60, derandomize=True)
DIMS = {"": 3, "face.teacher": 2}


def batch(rows, start=0):
    """Rows that can be told apart, in both spaces."""
    number = torch.arange(start, start + rows, dtype=torch.float32)[:, None]
    return {"": number + torch.tensor([0.0, 0.1, 0.2]), "face.teacher": -number - torch.tensor([0.3, 0.4])}


def assert_holds(queue, features):
    past = queue.past()
    assert list(past) == list(features)
    for name, expected in features.items():
        assert torch.equal(past[name], expected)


@property_test
@given(st.integers(1, 12), st.lists(st.integers(0, 30), max_size=8))
def test_the_oldest_features_leave_the_queue_first(size, batches):
    queue, expected, seen = FeatureQueue(size, DIMS), deque(maxlen=size), 0
    for rows in batches:
        new = batch(rows, seen)
        queue.push(new)
        expected.extend(zip(*(x.tolist() for x in new.values()), strict=True))
        seen += rows
        past = queue.past()
        assert [len(x) for x in past.values()] == [min(seen, size)] * 2
        assert list(zip(*(x.tolist() for x in past.values()), strict=True)) == list(expected)


def test_a_new_queue_has_no_past_but_knows_the_sizes_of_the_spaces():
    assert {name: tuple(x.shape) for name, x in FeatureQueue(5, DIMS).past().items()} == {
        "": (0, 3),
        "face.teacher": (0, 2),
    }


@over("rows", [2, 5, 9])
def test_a_state_dict_carries_the_queue(rows):
    queue, other = FeatureQueue(5, DIMS), FeatureQueue(5, DIMS)
    queue.push(batch(rows))
    state = {name: value.clone() for name, value in queue.state_dict().items()}
    other.load_state_dict(state)
    assert_holds(other, queue.past())
    for each in (queue, other):
        each.push(batch(2, 100))
    assert_holds(other, queue.past())
    assert not list(queue.parameters())


def test_a_queue_of_another_size_is_not_taken_for_it():
    with pytest.raises(RuntimeError, match="size mismatch"):
        FeatureQueue(4, DIMS).load_state_dict(FeatureQueue(5, DIMS).state_dict())


def test_the_past_holds_no_graph():
    queue, weight = FeatureQueue(4, DIMS), torch.ones(3, requires_grad=True)
    queue.push({"": batch(3)[""] * weight, "face.teacher": batch(3)["face.teacher"]})
    assert not any(x.requires_grad for x in (*queue.past().values(), *queue.buffers()))


@every_mode
def test_a_push_before_backward_does_not_change_the_gradient(mode):
    loss, gradients = StructuralTransport(top_k=3, mode=mode), []
    for pushed in (False, True):
        queue = FeatureQueue(5, {"student": 3, "teacher": 4})
        queue.push({"student": random(4, 3, seed=1), "teacher": random(4, 4, seed=2)})
        student, teacher = random(4, 3, seed=3).requires_grad_(), random(4, 4, seed=4)
        past = queue.past()
        kept = {name: x.clone() for name, x in past.items()}
        value = loss(student, teacher, None, (past["student"], past["teacher"])).transport
        if pushed:
            queue.push({"student": student, "teacher": teacher})
            queue.push({"student": student, "teacher": teacher})
            assert all(torch.equal(past[name], x) for name, x in kept.items())
        value.backward()
        gradients.append(student.grad)
    assert torch.equal(*gradients)
    assert float(gradients[0].abs().max()) > 0


def test_the_queue_holds_copies():
    for rows in (2, 3, 5):
        queue, new = FeatureQueue(3, DIMS), batch(rows)
        queue.push(new)
        for x in new.values():
            x.zero_()
        assert_holds(queue, {name: x[-3:] for name, x in batch(rows).items()})


def test_half_precision_features_are_kept_in_the_queues_own_precision():
    queue = FeatureQueue(3, DIMS)
    queue.push({name: x.bfloat16() for name, x in batch(2).items()})
    assert_holds(queue, {name: x.bfloat16().float() for name, x in batch(2).items()})
    queue.double()
    queue.push({name: x.double() for name, x in batch(1, 7).items()})
    assert {x.dtype for x in queue.past().values()} == {torch.float64}
    assert [len(x) for x in queue.past().values()] == [3, 3]


def test_spaces_that_saw_different_samples_are_refused_and_leave_the_queue_as_it_was():
    queue = FeatureQueue(4, DIMS)
    queue.push(batch(2))
    with pytest.raises(ValueError, match="same samples"):
        queue.push({"": batch(2)[""], "face.teacher": batch(1)["face.teacher"]})
    assert_holds(queue, batch(2))


@over("size", [0, -3])
def test_a_queue_of_nothing_is_refused(size):
    with pytest.raises(ValueError, match=f"the size of a queue must be 1 or more, not {size}"):
        FeatureQueue(size, DIMS)


# What the structural loss makes of the past


@every_case
def test_past_samples_count_as_those_of_a_larger_batch_without_gradient(mode, kernel, anchors):
    loss = exact(mode, kernel, anchors)
    student, teacher = features(5, 1, dtype=torch.float64), features(5, 2, dim=9, dtype=torch.float64)
    past = features(4, 3, dtype=torch.float64), features(4, 4, dim=9, dtype=torch.float64)
    both = torch.cat([student, past[0]]), torch.cat([teacher, past[1]])
    for weights in (None, torch.tensor([1.0, 3.0, 0.0, 2.0, 2.0], dtype=torch.float64)):
        # Past samples count as much as present ones do on average.
        of_both = None if weights is None else torch.cat([weights, weights.new_full((4,), 2.0)])
        transport, centroid, gradient = terms_and_gradient(loss, *both, of_both)
        found = terms_and_gradient(loss, student, teacher, weights, past)
        assert_alike(found, (transport, centroid, gradient[:5]))
    assert float(gradient[5:].abs().max()) > 0


@every_mode
def test_an_empty_past_changes_nothing(mode):
    student, teacher = features(5, 1), features(5, 2)
    for weights in (None, torch.arange(5.0)):
        found = terms_and_gradient(exact(mode), student, teacher, weights, (student[:0], teacher[:0]))
        assert_alike(found, terms_and_gradient(exact(mode), student, teacher, weights), 0, 0)


@every_mode
def test_one_sample_has_a_structure_with_those_of_the_past(mode):
    past = features(4, 3), features(4, 4)
    transport, _, gradient = terms_and_gradient(exact(mode), features(1, 1), features(1, 2), None, past)
    assert float(transport) > 0
    assert float(gradient.abs().max()) > 0


@every_mode
def test_past_samples_of_another_precision_do_not_change_that_of_the_loss(mode):
    student, teacher = features(4, 1), features(4, 2)
    past = features(3, 3, dtype=torch.float64), features(3, 4, dtype=torch.bfloat16)
    assert exact(mode)(student, teacher, None, past).transport.dtype == torch.float32


@every_case
def test_weighted_gradient_with_past_samples_equals_finite_differences(mode, kernel, anchors):
    loss, teacher = exact(mode, kernel, anchors, top_k=3), features(4, 1, dim=4, dtype=torch.float64)
    past = features(2, 3, dim=3, dtype=torch.float64), features(2, 4, dim=4, dtype=torch.float64)
    weights = torch.tensor([0.5, 2.0, 0.0, 1.0])
    student = features(4, 2, dim=3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: compare(loss, s, teacher, weights, past).transport, student, atol=1e-6)
