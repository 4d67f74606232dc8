import subprocess
import sys

import pytest

from mtpkdot.errors import ConfigError
from mtpkdot.losses.rivals import RIVALS
from mtpkdot.modules import HallucinatorModule, StageModule, StudentModule
from mtpkdot.modules.declaration import LINKED
from mtpkdot.pipeline.stages import BUILT_IN, demanded, is_model_name, needed, plan, stage_classes


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
    stages = plan(["a", "b", "c"], "b", sections("mtpkdot_plus"))
    for position, stage in enumerate(stages):
        assert set(stage.upstream.values()) <= {earlier.name for earlier in stages[:position]}
    assert needed([stages[-1]], stages) == stages
    assert [stage.name for stage in needed([stages[1]], stages)] == ["backbone.b"]


def test_a_pool_is_trained_where_it_is_taken_or_named():
    every = {method: plan(["a", "b"], "a", sections(method)) for method in ("mtpkdot", "mtpkdot_plus")}
    pooled = {method: [s.name for s in demanded(stages, ["student"])] for method, stages in every.items()}
    assert "pool" in pooled["mtpkdot_plus"]
    assert "pool" not in pooled["mtpkdot"]
    assert "pool" in [stage.name for stage in demanded(every["mtpkdot"], ["pool"])]


class PerModality(StageModule):
    per_modality = True

    def __init__(self, backbone_ckpt=None, hallucinator_ckpt=None, **options):
        super().__init__(**options)


class Following(StageModule):
    def __init__(self, student_ckpt=None, **options):
        super().__init__(**options)


def with_own(*before_student, **after):
    found = list(stage_classes().items())
    return dict([*found[:-1], *before_student, found[-1], *after.items()])


def test_the_names_of_the_table_are_those_that_the_classes_declare():
    assert [module.section for module in stage_classes().values()] == list(BUILT_IN)


def test_the_names_are_known_without_torch():
    told = "import sys, mtpkdot.pipeline.stages; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", told], check=False).returncode == 0


def test_every_stage_gets_arguments_from_the_data_and_keeps_those_it_declares():
    for module in stage_classes().values():
        assert set(LINKED) <= module.filled()
        assert not set(module.upstream_arguments({"method": "mtpkdot", "weights": None})) & module.filled()
    assert "encoder" in StudentModule.filled()
    assert "encoder" not in stage_classes()["backbone"].filled()


def test_an_own_stage_per_modality_takes_the_backbone_of_its_own():
    stages = plan(["a", "b"], "b", sections("none"), with_own(("own", PerModality)))
    found = {stage.name: stage.upstream for stage in stages if stage.kind == "own"}
    assert found == {
        f"own.{name}": {"backbone_ckpt": f"backbone.{name}", "hallucinator_ckpt": "hallucinator"} for name in "ab"
    }
    assert [stage.name for stage in stages][-3:] == ["own.a", "own.b", "student"]


def test_stages_after_a_student_are_not_shared_by_students():
    stages = {stage.name: stage for stage in plan(["a"], "a", sections("none"), with_own(following=Following))}
    assert [name for name, stage in stages.items() if not stage.shared] == ["pool", "student", "following"]
    assert stages["following"].is_named(["downstream"])
    assert stages["teacher"].is_named(["upstream"])


def test_an_upstream_argument_takes_a_path_or_the_name_of_a_stage():
    own = with_own(("second", HallucinatorModule))
    config = sections("none")
    config["student"]["model"] |= {"hallucinator_ckpt": "second", "backbone_ckpt": "elsewhere/model.ckpt"}
    config["second"] = {"model": {"backbone_ckpts": {"a": "elsewhere/model.ckpt", "b": "backbone.a"}}}
    found = {stage.name: stage.upstream for stage in plan(["a", "b"], "b", config, own)}
    assert found["student"] == {"hallucinator_ckpt": "second"}
    assert found["second"] == {"backbone_ckpts.b": "backbone.a"}


def test_a_stage_that_needs_a_later_or_missing_one_is_refused():
    with pytest.raises(ConfigError, match="needs the stage student, which is trained after early"):
        plan(["a"], "a", sections("none"), {"early": Following, **stage_classes()})
    without = {name: module for name, module in stage_classes().items() if name != "teacher"}
    with pytest.raises(
        ConfigError, match=r"adapted\.model\.teacher_ckpt needs a stage 'teacher', which does not exist"
    ):
        plan(["a"], "a", sections("none"), without)


def test_names_of_shared_models_are_taken():
    taken = ["teacher", "hallucinator", "backbone.a", "adapted.a"]
    assert all(map(is_model_name, taken))
    assert not any(map(is_model_name, ["student", "none", "backbone", "adapted", "teacher.small", "own"]))
    assert is_model_name("own.a", with_own(("own", PerModality)))
