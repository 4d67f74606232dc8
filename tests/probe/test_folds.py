"""Inner folds over people."""

import numpy as np
import pytest

from mtpkdot.errors import ConfigError
from mtpkdot.probe.folds import Sizes, cells
from mtpkdot.probe.reading import read
from tests.probe.worlds import world


def test_people_are_tested_once_and_have_one_role_in_a_fold():
    material = read(world(), "")
    sizes = Sizes.of(material, 5)
    assert (sizes.folds, sizes.held_out, sizes.labelled) == (5, 14, 6)
    tested, labelled = [], {}
    for number, cell in cells(material, "video", sizes, [2, 6], draw=0, seed=0):
        roles = [set(rows.people.tolist()) for rows in (cell.training, cell.held_out, cell.tested)]
        assert not roles[0] & roles[1] | roles[0] & roles[2] | roles[1] & roles[2]
        assert len(roles[1]) == 14
        assert cell.held_out.labelled.all()
        assert cell.tested.labelled.all()
        with_labels = set(cell.training.people[cell.training.labelled].tolist())
        assert len(with_labels) == number
        labelled.setdefault(number, []).append(with_labels)
        if number == 2:
            tested += sorted(roles[2])
    assert len(tested) == len(set(tested)) == 25
    assert all(few <= many for few, many in zip(labelled[2], labelled[6], strict=True))


def test_draws_differ_and_are_repeatable():
    material = read(world(), "")
    sizes = Sizes.of(material, 5)

    def first(draw):
        return next(cells(material, "video", sizes, [6], draw=draw, seed=0))[1].tested.people

    assert np.array_equal(first(0), first(0))
    assert not np.array_equal(first(0), first(1))


def test_points_are_round_numbers_and_the_largest_possible():
    sizes = Sizes(folds=5, held_out=6, labelled=27)
    assert sizes.points(1) == [5, 10, 20, 27]
    assert sizes.points(1, asked=[3]) == [3, 27]
    assert Sizes(folds=5, held_out=9, labelled=1).points(1) == [1]
    with pytest.raises(ConfigError, match="--labelled 28 is more than the 27"):
        sizes.points(1, asked=[28])
