import copy
from typing import get_args

from mtpkdot.losses.methods import WEIGHTS, Method, Term, needs_teachers, term_weights
from mtpkdot.losses.rivals import RIVALS
from tests.loops import over

PAPERS = {
    "none": {"task": 1.0},
    "pkdot": {"task": 1.0, "transport": 0.6},
    "mtpkdot": {"task": 0.8, "transport": 0.2, "centroid": 0.2},
}
OWN = ("mtpkdot_plus", "selftraining", "labelprop")


def test_every_method_has_weights_and_every_rival_is_a_method():
    assert set(get_args(Method)) == set(WEIGHTS) == {*PAPERS, *OWN, *RIVALS, "rival"}
    assert {name for weights in WEIGHTS.values() for name in weights} <= set(get_args(Term))


@over("method", PAPERS)
def test_the_papers_methods_have_the_papers_weights(method):
    assert term_weights(method, None) == PAPERS[method]


@over("method", OWN)
def test_methods_for_samples_without_labels_pass_outputs_on(method):
    assert {"task", "output"} <= term_weights(method, None).keys()
    assert needs_teachers(method, None)


@over("method", [*RIVALS, "rival"])
def test_a_rival_is_learned_beside_the_task(method):
    weights = term_weights(method, None)
    assert weights.keys() == {"task", "rival"}
    assert all(weight > 0 for weight in weights.values())
    assert needs_teachers(method, None)


def test_the_users_weights_take_the_place_of_the_methods_own_and_zero_leaves_a_term_out():
    before = copy.deepcopy(WEIGHTS)
    assert term_weights("mtpkdot", {"transport": 0.7}) == {"task": 0.8, "transport": 0.7, "centroid": 0.2}
    assert term_weights("mtpkdot", {"task": 0.0, "output": 2.0}) == {"transport": 0.2, "centroid": 0.2, "output": 2.0}
    assert term_weights("none", {"task": 0.0}) == {}
    assert term_weights("kd", {}) == WEIGHTS["kd"]
    assert before == WEIGHTS


def test_methods_without_a_term_of_a_teacher_need_none():
    assert not needs_teachers("none", None)
    assert not needs_teachers("none", {"transport": 1.0})
    assert needs_teachers("pkdot", None)
    assert not needs_teachers("pkdot", {"transport": 0.0})
    assert needs_teachers("pkdot", {"transport": 0.0, "output": 1.0})
    assert needs_teachers("kd", {"task": 0.0})
    assert not needs_teachers("kd", {"rival": 0.0})
