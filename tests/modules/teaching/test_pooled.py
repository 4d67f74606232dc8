"""The teachers of mtpkdot_plus, and of its former version."""

from dataclasses import replace

import pytest
import torch

from mtpkdot.losses.evidence import Evidence
from mtpkdot.modules import AdaptedModule
from mtpkdot.modules.teaching.controls import OwnTeacher
from mtpkdot.modules.teaching.pooled import PooledNetworks, PooledTeachers
from tests.modules.conftest import batches


@pytest.fixture
def adapted(load, checkpoints) -> AdaptedModule:
    module = load("adapted")
    module.teacher_ckpt = str(checkpoints["teacher"])
    module.setup("predict")
    return module.eval().requires_grad_(False)


@pytest.fixture
def student(backbone):
    """What the pool is weighed against."""
    own = OwnTeacher(backbone, "video", "classification")
    return own.own


def test_the_pool_must_be_weighed_first(adapted, batch):
    with pytest.raises(RuntimeError, match="weigh"):
        PooledNetworks(adapted).spaces(batch)


@pytest.mark.parametrize("names", [None, ["joint"], ["signal", "video"]])
def test_the_pool_is_one_space_of_weighed_teachers(adapted, student, batch, data, names):
    teachers = PooledNetworks(adapted, names)
    logged = teachers.use(teachers.weigh_against(student, batches(data, "validation"), [], learned=True))
    used = names or ["video", "signal", "joint"]
    assert {key for key in logged if key.startswith("share_")} == {f"share_{name}" for name in used}
    assert sum(logged[f"share_{name}"] for name in used) == pytest.approx(1, abs=1e-5)
    assert teachers.trust == {
        "output": logged["trust_output"],
        "transport": logged["trust_structure"],
        "centroid": logged["trust_structure"],
    }
    space = teachers.spaces(batch)["joint"]
    assert space.feature.shape == (32, teachers.space_sizes["joint"])
    assert not space.output.requires_grad


def test_the_pool_teaches_only_what_its_teachers_were_not_trained_on(adapted, student, batch, data):
    teachers = PooledNetworks(adapted)
    teachers.use(teachers.weigh_against(student, batches(data, "validation"), [], learned=True))
    batch.labelled[:10], batch.labelled[10:] = True, False
    assert teachers.spaces(batch)["joint"].valid.tolist() == [False] * 10 + [True] * 22


def test_a_student_that_knows_better_is_hardly_taught(adapted, batch, data):
    def knowing(batch):
        space = adapted.spaces(batch)["joint"]
        right = torch.nn.functional.one_hot(batch.target.clamp_min(0), space.output.shape[1]).float()
        return replace(space, feature=right, output=5 * right)

    evidence = Evidence(**PooledNetworks(adapted).weigh_against(knowing, batches(data, "validation"), [], learned=True))
    assert evidence.output < 0.01
    assert evidence.structure < 0.01


def test_a_single_teacher_is_only_calibrated_by_the_pool(adapted, student, batch, data):
    teachers = PooledNetworks(adapted, ["signal"])
    teachers.use(teachers.weigh_against(student, batches(data, "validation"), [], learned=True))
    alone = adapted.spaces(batch)["signal"].output / teachers.shares.temperatures[0]
    torch.testing.assert_close(
        teachers.spaces(batch)["joint"].output.softmax(1), alone.softmax(1), atol=1e-5, rtol=1e-4
    )


@pytest.fixture
def pooled(adapted, pool):
    return PooledTeachers(adapted, None, pool)


def weighed(teachers, student, data):
    return teachers.weigh_against(student, batches(data, "validation"), [], learned=True)


def test_the_answers_of_the_pool_are_sharpened_and_teach_rows_without_a_label(pooled, pool, student, data):
    pooled.use(weighed(pooled, student, data))
    for batch in batches(data, "train"):
        space = pooled.spaces(batch)["joint"]
        assert torch.equal(space.valid, ~batch.labelled)
        expected = (2 * pool.table.output[batch.index]).softmax(dim=1)
        torch.testing.assert_close(space.output.softmax(dim=1), expected)


def test_rows_that_the_pool_has_not_answered_are_not_taught(pooled, student, data):
    pooled.use(weighed(pooled, student, data))
    batch = batches(data, "test")[0]
    batch.labelled[:] = False
    assert not pooled.spaces(batch)["joint"].valid.any()


def test_a_student_that_knows_better_than_the_pool_is_hardly_taught(pooled, adapted, data):
    def student(batch, sign):
        space = adapted.spaces(batch)["joint"]
        right = torch.nn.functional.one_hot(batch.target.clamp_min(0), space.output.shape[1]).float()
        return replace(space, output=sign * 5 * right)

    knows, errs = (weighed(pooled, lambda batch, s=sign: student(batch, s), data)["output"] for sign in (1, -1))
    assert knows < 0.1
    assert errs > 0.8
