"""Teachers that see no privileged modality."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mtpkdot.data import PlantedData
from mtpkdot.data.batch import Batch
from mtpkdot.data.splits import Split
from mtpkdot.losses.task import output_loss
from mtpkdot.models.backbone import Backbone
from mtpkdot.models.encoder import Steps
from mtpkdot.modules.teaching.controls import HiddenLabels, OwnTeacher, SpreadLabels
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


@pytest.fixture
def hiding():
    """Data that hide the labels of all but two people; a few recordings have no label at all."""
    sizes = {"subjects": 10, "samples_per_subject": 12, "steps": 2, "batch_size": 32}
    data = PlantedData(**sizes, labelled=0.7, labelled_subjects=2, split=Split("kfold", folds=5))
    data.setup("fit")
    return data


def test_the_oracle_answers_every_hidden_label_and_nothing_else(backbone, hiding):
    oracle = HiddenLabels(backbone, "video", "classification")
    oracle.look_at(hiding.revealed_loader())
    true, taught = hiding._loaded, []
    for batch in hiding.evaluation_loader("train"):
        space = oracle.spaces(batch)["joint"]
        rows = batch.index[space.valid]
        taught += rows.tolist()
        answers = space.output[space.valid]
        assert answers.argmax(1).tolist() == true.target[rows].tolist()
        assert answers.div(2).softmax(1).max(1).values.min() == 1  # also where softened
        loss = output_loss("classification", answers, teacher=answers, valid=torch.ones(len(rows), dtype=torch.bool))
        assert loss == 0
    assert sorted(taught) == hiding.hidden.nonzero()[0].tolist()
    assert 0 < len(taught) < (hiding.parts == "train").sum() - hiding.samples.known[hiding.parts == "train"].sum()


@pytest.mark.parametrize("task", ["ordinal", "regression"])
def test_the_oracle_answers_thresholds_and_values(task):
    target = torch.tensor([2, -1, 0]) if task == "ordinal" else torch.tensor([[0.5, -2.0], [float("nan")] * 2, [3, 4]])
    steps = torch.zeros(3, 1, 4)
    batch = Batch(
        torch.tensor([1, 2, 4]),
        {"video": steps},
        masks={"video": torch.ones(3, 1, dtype=torch.bool)},
        target=target,
        labelled=torch.tensor([True, False, True]),
    )
    oracle = HiddenLabels(Backbone(Steps((4,)), 2), "video", task)
    oracle.look_at([batch])
    space = oracle.spaces(replace(batch, labelled=torch.tensor([False, False, True])))["joint"]
    assert space.valid.tolist() == [True, False, False]
    expected = [1, 1] if task == "ordinal" else [0.5, -2.0]
    assert (space.output[0].sigmoid() if task == "ordinal" else space.output[0]).tolist() == expected
