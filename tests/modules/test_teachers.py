"""Teachers that do more than answer."""

from dataclasses import replace

import pytest
import torch

from mtpkdot.modules import AdaptedModule
from mtpkdot.modules.teachers import OwnTeacher, PooledTeachers, SpreadLabels


@pytest.fixture
def backbone(load):
    return load("backbone.video").backbone.eval()


@pytest.fixture
def adapted(load, checkpoints) -> AdaptedModule:
    module = load("adapted")
    module.teacher_ckpt = str(checkpoints["teacher"])
    module.setup("predict")
    return module.eval().requires_grad_(False)


def batches(data, part):
    rows = data.positions(part).tolist()
    return [data.dataset.__getitems__(rows[start : start + 20]) for start in range(0, len(rows), 20)]


@pytest.fixture
def student(backbone):
    """What the pool is weighed against."""
    own = OwnTeacher(backbone, "video")
    return lambda batch: own.spaces(batch)["joint"]


def test_the_own_teacher_answers_as_the_backbone(backbone, batch):
    own = OwnTeacher(backbone, "video")
    space = own.spaces(batch)["joint"]
    feature, output = backbone(batch.inputs["video"], batch.masks["video"])
    torch.testing.assert_close(space.output, output)
    torch.testing.assert_close(space.feature, feature)
    assert own.space_sizes == {"joint": backbone.dim}


def test_the_own_teacher_reads_features_at_hand(backbone, batch):
    own = OwnTeacher(backbone, "video")
    expected = own.spaces(batch)["joint"].output
    batch.encoded["video"] = backbone.features(batch.inputs.pop("video"), batch.masks["video"])
    torch.testing.assert_close(own.spaces(batch)["joint"].output, expected)


def test_the_pool_must_be_weighed_first(adapted, batch):
    with pytest.raises(RuntimeError, match="weigh"):
        PooledTeachers(adapted).spaces(batch)


@pytest.mark.parametrize("names", [None, ["joint"], ["signal", "video"]])
def test_the_pool_is_one_space_of_weighed_teachers(adapted, student, batch, data, names):
    teachers = PooledTeachers(adapted, names)
    told = teachers.adopt(teachers.weigh(batches(data, "validation"), student))
    used = names or ["video", "signal", "joint"]
    assert {key for key in told if key.startswith("share_")} == {f"share_{name}" for name in used}
    assert sum(told[f"share_{name}"] for name in used) == pytest.approx(1, abs=1e-5)
    assert teachers.trust == {
        "output": told["trust_output"],
        "transport": told["trust_structure"],
        "centroid": told["trust_structure"],
    }
    space = teachers.spaces(batch)["joint"]
    assert space.feature.shape == (32, teachers.space_sizes["joint"])
    assert not space.output.requires_grad


def test_the_pool_teaches_only_what_its_teachers_were_not_trained_on(adapted, student, batch, data):
    teachers = PooledTeachers(adapted)
    teachers.adopt(teachers.weigh(batches(data, "validation"), student))
    batch.labelled[:10], batch.labelled[10:] = True, False
    assert teachers.spaces(batch)["joint"].valid.tolist() == [False] * 10 + [True] * 22


def test_a_student_that_knows_better_is_hardly_taught(adapted, batch, data):
    def knowing(batch):
        space = adapted.spaces(batch)["joint"]
        right = torch.nn.functional.one_hot(batch.target.clamp_min(0), space.output.shape[1]).float()
        return replace(space, feature=right, output=5 * right)

    evidence = PooledTeachers(adapted).weigh(batches(data, "validation"), knowing)
    assert evidence.output < 0.01
    assert evidence.structure < 0.01


def test_a_single_teacher_is_only_calibrated_by_the_pool(adapted, student, batch, data):
    teachers = PooledTeachers(adapted, ["signal"])
    teachers.adopt(teachers.weigh(batches(data, "validation"), student))
    alone = adapted.spaces(batch)["signal"].output / teachers.evidence.temperatures[0]
    torch.testing.assert_close(
        teachers.spaces(batch)["joint"].output.softmax(1), alone.softmax(1), atol=1e-5, rtol=1e-4
    )


def test_labels_spread_to_training_samples_and_the_given_ones_weigh_most(backbone, data):
    teachers = SpreadLabels(backbone, "video", "classification")
    training = batches(data, "train")
    teachers.prepare(training)
    right = total = 0
    for batch in training:
        answers = teachers.spaces(batch)["joint"].output
        assert answers.isfinite().all()
        right += int((answers.argmax(1) == batch.target)[batch.labelled].sum())
        total += int(batch.labelled.sum())
    assert right / total > 0.6


def test_spread_labels_do_not_read_hidden_ones(backbone, data):
    training = [data.dataset.__getitems__(data.positions("train").tolist())]
    first = SpreadLabels(backbone, "video", "classification")
    first.prepare(training)
    training[0].target[~training[0].labelled] = 3
    second = SpreadLabels(backbone, "video", "classification")
    second.prepare(training)
    torch.testing.assert_close(first.table, second.table)
