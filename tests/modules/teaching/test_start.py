"""What a student starts from, judged by hand."""

import pytest
import torch

from mtpkdot.data.batch import Batch
from mtpkdot.metrics.collections import task_metrics
from mtpkdot.models.backbone import Backbone
from mtpkdot.models.encoder import Steps
from mtpkdot.modules.teaching.start import Start


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return Backbone(Steps((3,), None), 2).eval()


@pytest.fixture
def batches():
    """Two batches, of which the second has no label."""
    torch.manual_seed(1)
    made = []
    for labelled in (torch.tensor([True, True, False, True]), torch.zeros(4, dtype=torch.bool)):
        target = torch.where(labelled, torch.tensor([0, 1, 1, 1]), -1)
        inputs, masks = {"video": torch.randn(4, 2, 3)}, {"video": torch.ones(4, 2, dtype=torch.bool)}
        made.append(Batch(torch.arange(4), inputs, masks, target, labelled, {}))
    return made


def test_the_start_is_scored_on_its_answers_to_labelled_samples(backbone, batches):
    start = Start()
    start.evaluate(backbone, "video", batches, task_metrics("classification", 2))
    first = batches[0]
    answers = backbone.read(*backbone.features(first.inputs["video"], first.masks["video"]))[1]
    right = (answers.argmax(1) == first.target)[first.labelled]
    assert float(start.scores["val/accuracy"]) == pytest.approx(float(right.float().mean()))
    expected = torch.nn.functional.cross_entropy(answers[first.labelled], first.target[first.labelled])
    assert float(start.scores["val/loss"]) == pytest.approx(float(expected.detach()), abs=1e-6)


def test_features_at_hand_give_the_same_scores(backbone, batches):
    raw, ahead = Start(), Start()
    raw.evaluate(backbone, "video", batches, task_metrics("classification", 2))
    for batch in batches:
        batch.encoded["video"] = backbone.features(batch.inputs.pop("video"), batch.masks.pop("video"))
    ahead.evaluate(backbone, "video", batches, task_metrics("classification", 2))
    assert ahead.scores == raw.scores


def test_raw_steps_are_preferred_to_features_which_may_be_those_of_another_encoder(backbone, batches):
    raw, both = Start(), Start()
    raw.evaluate(backbone, "video", batches, task_metrics("classification", 2))
    for batch in batches:
        feature, mask = backbone.features(batch.inputs["video"], batch.masks["video"])
        batch.encoded["video"] = torch.full_like(feature, 5.0), mask
    both.evaluate(backbone, "video", batches, task_metrics("classification", 2))
    assert both.scores == raw.scores


@pytest.mark.parametrize(
    ("monitor", "start", "reached", "better"),
    [
        ("val/accuracy", 0.1, 0.2, False),
        ("val/accuracy", 0.1, 0.1, True),
        ("val/macro_f1", 0.3, 0.2, True),
        ("val/macro_f1", 0.1, float("nan"), True),
        ("val/loss", 0.1, 0.2, True),
        ("val/loss", 0.2, 0.1, False),
        ("val/loss", 0.2, float("nan"), True),
    ],
)
def test_the_start_is_better_unless_the_monitored_metric_says_otherwise(monitor, start, reached, better):
    judged = Start()
    judged.scores = {monitor: torch.tensor(start), "val/qwk": torch.tensor(0.0)}
    judged.compare({monitor: torch.tensor(reached), "val/qwk": torch.tensor(1.0)}, monitor)
    assert judged.is_better == better
