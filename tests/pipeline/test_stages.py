import pytest

from mtpkdot.pipeline.stages import needed, plan


def sections(method, weights=None):
    return {"student": {"model": {"method": method, "weights": weights}}}


@pytest.mark.parametrize(
    ("method", "teachers"), [("none", set()), ("pkdot", {"teacher"}), ("mtpkdot", {"teacher", "adapted"})]
)
def test_a_student_depends_only_on_the_teachers_of_its_method(method, teachers):
    stages = plan(["video", "emg", "ecg"], "video", sections(method))
    student = stages[-1]
    assert set(student.upstream.values()) == {"backbone.video", "hallucinator"} | teachers


def test_every_stage_comes_after_those_it_needs():
    stages = plan(["a", "b", "c"], "b", sections("mtpkdot"))
    for position, stage in enumerate(stages):
        assert set(stage.upstream.values()) <= {earlier.name for earlier in stages[:position]}
    assert needed([stages[-1]], stages) == stages
    assert [stage.name for stage in needed([stages[1]], stages)] == ["backbone.b"]
