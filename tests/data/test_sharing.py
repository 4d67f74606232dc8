"""A data set is read once by all DataModules that would read the same."""

import numpy as np
import pytest

from mtpkdot.data import Split
from tests.data.test_base import Given, make


class Told:
    """An argument without an equality of its own."""

    def __init__(self, value):
        self.value = value


class Counted(Given):
    """Counts how often it is read."""

    reads = 0

    def __init__(self, samples, told=None, **options):
        super().__init__(samples, **options)

    def load(self):
        type(self).reads += 1
        return self.given


def test_only_data_of_equal_arguments_share_what_has_been_read(monkeypatch):
    monkeypatch.setattr(Counted, "reads", 0)
    samples = make().given
    first = Counted(samples, told=Told([1, 2]), batch_size=3, split=Split(scheme="kfold"))
    expected = first.samples
    same = Counted(samples, told=Told([1, 2]), batch_size=7, split=Split(scheme="kfold"), seed=4, drop_last=True)
    same.share(first)
    assert same.samples is expected
    assert Counted.reads == 1
    for other, named in (
        ({"told": Told([1, 3])}, "told"),
        ({"told": Told([1, 2]), "split": Split(scheme="kfold", folds=3)}, "split"),
        ({"told": Told([1, 2]), "clip_splits": True}, "clip_splits"),
        ({"told": Told([1, 2]), "prevalent": "signal"}, "prevalent"),
        ({"told": None}, "told"),
    ):
        with pytest.raises(ValueError, match=f"of another {named} has read"):
            Counted(samples, **{"split": Split(scheme="kfold"), **other}).share(first)
    with pytest.raises(ValueError, match="Given cannot take what one of another class has read"):
        Given(samples).share(first)


def test_arguments_in_lists_and_mappings_are_compared_one_by_one():
    samples = make().given

    def made(value):
        return Counted(samples, told=[Told(value), {"filter": Told(value), "table": np.arange(value)}])

    first = made(2)
    assert made(2).differing(first) == []
    assert made(3).differing(first) == ["told"]
    assert Counted(samples, told=[Told(2)]).differing(first) == ["told"]
