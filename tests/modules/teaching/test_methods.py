import copy
from typing import get_args

from mtpkdot.losses.rivals import RIVALS
from mtpkdot.losses.weighting import Term
from mtpkdot.modules.teaching.methods import METHODS
from tests.loops import over

PAPERS = {
    "none": {"task": 1.0},
    "pkdot": {"task": 1.0, "transport": 0.6},
    "mtpkdot": {"task": 0.8, "transport": 0.2, "centroid": 0.2},
}
OWN = ("mtpkdot_plus", "mtpkdot_plus_2", "selftraining", "labelprop", "oracle")


def test_every_method_has_weights_and_every_rival_is_a_method():
    assert set(METHODS) == {*PAPERS, *OWN, *RIVALS, "rival"}
    assert all(method.about for method in METHODS.values())
    assert {name for method in METHODS.values() for name in method.weights} <= set(get_args(Term))


@over("method", PAPERS)
def test_the_papers_methods_have_the_papers_weights(method):
    assert METHODS[method].terms() == PAPERS[method]


@over("method", OWN)
def test_methods_for_samples_without_labels_pass_outputs_on(method):
    assert {"task", "output"} <= METHODS[method].terms().keys()
    assert METHODS[method].teachers_for() is not None


@over("method", [*RIVALS, "rival"])
def test_a_rival_is_learned_beside_the_task(method):
    weights = METHODS[method].terms()
    assert weights.keys() == {"task", "rival"}
    assert all(weight > 0 for weight in weights.values())
    assert METHODS[method].teachers_for() is not None


def test_the_users_weights_take_the_place_of_the_methods_own_and_zero_leaves_a_term_out():
    before = copy.deepcopy(METHODS)
    assert METHODS["mtpkdot"].terms({"transport": 0.7}) == {"task": 0.8, "transport": 0.7, "centroid": 0.2}
    assert METHODS["mtpkdot"].terms({"task": 0.0, "output": 2.0}) == {"transport": 0.2, "centroid": 0.2, "output": 2.0}
    assert METHODS["none"].terms({"task": 0.0}) == {}
    assert METHODS["kd"].terms({}) == METHODS["kd"].weights
    assert before == METHODS


def test_methods_without_a_term_of_a_teacher_need_none():
    assert METHODS["none"].teachers_for() is None
    assert METHODS["none"].teachers_for({"transport": 1.0}) is None
    assert METHODS["pkdot"].teachers_for() is not None
    assert METHODS["pkdot"].teachers_for({"transport": 0.0}) is None
    assert METHODS["pkdot"].teachers_for({"transport": 0.0, "output": 1.0}) is not None
    assert METHODS["kd"].teachers_for({"task": 0.0}) is not None
    assert METHODS["kd"].teachers_for({"rival": 0.0}) is None
