"""The order of samples and views depends on the seed and the epoch alone."""

from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtpkdot.data.sampling import EpochSampler, GlobalBatches
from tests.data.helpers import quick


@quick
@given(st.lists(st.integers(0, 10**6), unique=True), st.integers(0, 2**32), st.integers(0, 10**4))
def test_the_order_of_an_epoch_is_a_permutation_that_depends_on_seed_and_epoch_alone(positions, seed, epoch):
    sampler = EpochSampler(np.array(positions, dtype=np.int64), seed)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert sorted(order) == sorted(positions)
    assert len(sampler) == len(positions)
    resumed = EpochSampler(np.array(positions, dtype=np.int64), seed)
    for earlier in (0, epoch + 1, epoch):
        resumed.set_epoch(earlier)
        torch.manual_seed(earlier)
        again = list(resumed)
    assert again == order == list(sampler)
    assert all(type(position) is int for position in order)


def test_other_epochs_and_other_seeds_have_other_orders():
    def order(seed, epoch):
        sampler = EpochSampler(np.arange(50), seed)
        sampler.set_epoch(epoch)
        return tuple(sampler)

    assert len({order(seed, epoch) for seed in range(5) for epoch in range(5)}) == 25


def pairs(seed=0, epoch=0, views=3, n=400):
    sampler = EpochSampler(np.arange(n), seed, views)
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("views", [2, 3, None])
def test_views_leave_the_order_as_it_is_and_take_every_sample_once(views):
    order = [position for position, _ in pairs(5, 2, views)]
    assert order == pairs(5, 2, 1)
    assert sorted(order) == list(range(400))


def test_one_view_is_the_sample_as_it_is():
    assert all(type(position) is int for position in pairs(views=1))


@pytest.mark.parametrize("views", [2, 3, 5])
def test_views_are_drawn_evenly_and_for_every_sample_and_epoch_anew(views):
    drawn = np.array([[view for _, view in sorted(pairs(1, epoch, views))] for epoch in range(30)])
    share = np.stack([(drawn == view) for view in range(views)]).mean(axis=(1, 2))
    np.testing.assert_allclose(share, 1 / views, atol=0.03)
    assert len({tuple(row) for row in drawn}) == 30
    assert all(len(set(column)) > 1 for column in drawn.T)


def test_without_a_number_of_views_every_epoch_has_one_of_its_own_and_never_the_plain_one():
    assert [{view for _, view in pairs(epoch=epoch, views=None)} for epoch in range(3)] == [{1}, {2}, {3}]


@pytest.mark.parametrize("views", [3, None])
def test_a_resumed_run_sees_the_same_views(views):
    torch.manual_seed(1)
    before = pairs(7, 4, views)
    torch.manual_seed(2)
    assert pairs(7, 4, views) == before
    assert pairs(7, 5, views) != before
    assert views is None or sorted(pairs(8, 4, views)) != sorted(before)


@quick
@given(st.integers(0, 40), st.integers(1, 12), st.integers(1, 5), st.integers(0, 3), st.integers(0, 4))
def test_the_shares_of_all_processes_are_the_batches_of_one(n, size, world, epoch, seen):
    def batches(rank, world, resumed=(0, 0)):
        order = EpochSampler(np.arange(n), 1)
        order.set_epoch(epoch)
        return list(GlobalBatches(order, size, rank, world, resumed))

    alone = batches(0, 1)
    shares = [batches(rank, world) for rank in range(world)]
    assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == alone
    assert len(alone) == len(GlobalBatches(range(n), size))
    for parts in zip(*shares, strict=True):
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    # Resumed within this epoch, and within another one.
    assert batches(0, 1, (epoch, seen)) == alone[seen:]
    assert batches(0, 1, (epoch + 1, seen)) == alone
