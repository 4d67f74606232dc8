import pytest

from mtpkdot.losses.rivals import RIVALS
from mtpkdot.pipeline.stages import needed, plan


def sections(method, weights=None):
    return {"student": {"model": {"method": method, "weights": weights}}}


@pytest.mark.parametrize(
    ("method", "teachers"),
    [
        ("none", set()),
        ("pkdot", {"teacher"}),
        ("mtpkdot", {"teacher", "adapted"}),
        *((method, {"teacher"}) for method in (*RIVALS, "rival")),
    ],
)
def test_a_student_depends_only_on_the_teachers_of_its_method(method, teachers):
    stages = plan(["video", "emg", "ecg"], "video", sections(method))
    student = stages[-1]
    assert set(student.upstream.values()) == {"backbone.video", "hallucinator"} | teachers


@pytest.mark.parametrize(
    ("method", "weights", "teachers"),
    [
        ("pkdot", {"transport": 0.0}, set()),
        ("kd", {"rival": 0.0}, set()),
        ("kd", {"rival": 0.0, "output": 1.0}, {"teacher"}),
        ("mtpkdot", {"transport": 0.0}, {"teacher", "adapted"}),
        ("none", {"task": 2.0}, set()),
    ],
)
def test_terms_without_weight_need_no_teacher(method, weights, teachers):
    student = plan(["video", "emg"], "video", sections(method, weights))[-1]
    assert set(student.upstream.values()) == {"backbone.video", "hallucinator"} | teachers


def test_every_stage_comes_after_those_it_needs():
    stages = plan(["a", "b", "c"], "b", sections("mtpkdot"))
    for position, stage in enumerate(stages):
        assert set(stage.upstream.values()) <= {earlier.name for earlier in stages[:position]}
    assert needed([stages[-1]], stages) == stages
    assert [stage.name for stage in needed([stages[1]], stages)] == ["backbone.b"]
