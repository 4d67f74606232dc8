"""Teachers that see no privileged modality."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mtpkdot.modules.teaching.controls import OwnTeacher, SpreadLabels
from mtpkdot.teachers import Calibration
from tests.modules.conftest import batches


def test_the_own_teacher_answers_as_the_backbone(backbone, batch):
    own = OwnTeacher(backbone, "video", "classification")
    space = own.spaces(batch)["joint"]
    feature, output = backbone(batch.inputs["video"], batch.masks["video"])
    torch.testing.assert_close(space.output, output)
    torch.testing.assert_close(space.feature, feature)
    assert own.space_sizes == {"joint": backbone.dim}


def test_the_own_teacher_reads_features_at_hand(backbone, batch):
    own = OwnTeacher(backbone, "video", "classification")
    expected = own.spaces(batch)["joint"].output
    batch.encoded["video"] = backbone.features(batch.inputs.pop("video"), batch.masks["video"])
    torch.testing.assert_close(own.spaces(batch)["joint"].output, expected)


@pytest.fixture
def knowing(backbone):
    """A student that knows every answer; with -1 one that is sure of wrong ones."""
    own = OwnTeacher(backbone, "video", "classification")

    def make(sign):
        def student(batch):
            space = own.own(batch)
            right = F.one_hot(batch.target.clamp_min(0), space.output.shape[1]).float()
            return replace(space, output=sign * 5 * right)

        return student

    return make


def test_the_student_teaches_itself_where_it_is_better_on_held_out_people(backbone, data, knowing):
    own = OwnTeacher(backbone, "video", "classification")
    assert own.evidence is None
    student, training = knowing(1), batches(data, "train")
    logged = own.use(own.weigh_against(student, batches(data, "validation"), training, learned=True))
    assert logged == {"share_backbone": 0.0, "share_student": 1.0}
    for batch in training:
        space = own.spaces(batch)["joint"]
        assert torch.equal(space.output.argmax(dim=1), batch.target.clamp_min(0))
        assert torch.equal(space.valid, ~batch.labelled)
        torch.testing.assert_close(space.feature, own.own(batch).feature)


def test_the_backbone_teaches_a_student_that_is_worse(backbone, data, knowing):
    own = OwnTeacher(backbone, "video", "classification")
    held_out, training = batches(data, "validation"), batches(data, "train")
    logged = own.use(own.weigh_against(knowing(-1), held_out, training, learned=True))
    assert logged == {"share_backbone": 1.0, "share_student": 0.0}
    outputs = torch.cat([own.own(part).output for part in held_out])
    calibration = Calibration.fit("classification", outputs, torch.cat([part.target for part in held_out]))
    for batch in training:
        expected = (2 * calibration(own.own(batch).output)).softmax(dim=1)
        torch.testing.assert_close(own.spaces(batch)["joint"].output.softmax(dim=1), expected.float())


def test_without_a_held_out_label_the_backbone_teaches(backbone, data, knowing):
    own = OwnTeacher(backbone, "video", "classification")
    held_out = batches(data, "validation")
    for part in held_out:
        part.labelled[:] = False
    assert not own.weigh_against(knowing(1), held_out, batches(data, "train"), learned=True)["of_student"]


def test_labels_spread_to_training_samples_and_the_given_ones_weigh_most(backbone, data):
    teachers = SpreadLabels(backbone, "video", "classification")
    training = batches(data, "train")
    teachers.look_at(training)
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
    first.look_at(training)
    training[0].target[~training[0].labelled] = 3
    second = SpreadLabels(backbone, "video", "classification")
    second.look_at(training)
    torch.testing.assert_close(first.table, second.table)


@pytest.mark.parametrize("kind", [OwnTeacher, SpreadLabels])
def test_the_last_recordings_may_lack_the_prevalent_modality(backbone, data, knowing, kind):
    training = batches(data, "train")
    for batch in training[-2:]:
        batch.masks["video"][:] = False
    teachers = kind(backbone, "video", "classification")
    teachers.look_at(training)
    teachers.use(teachers.weigh_against(knowing(1), batches(data, "validation"), training, learned=True))
    assert len(teachers.table)
    assert not teachers.spaces(training[-1])["joint"].valid.any()
    space = teachers.spaces(training[0])["joint"]
    assert torch.equal(space.valid, ~training[0].labelled if kind is OwnTeacher else torch.ones_like(space.valid))
    assert space.output.abs().sum(dim=1).min() > 0
