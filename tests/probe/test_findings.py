"""The answer of a probe, in worlds where it is known."""

from dataclasses import replace

import pytest

from mtpkdot.probe.findings import command_after
from tests.probe.worlds import probed, world


@pytest.fixture(scope="module")
def helps():
    return probed(world())


def test_a_signal_that_shows_the_state_pays(helps):
    assert helps.answer == "yes"
    assert helps.method == "mtpkdot_plus"
    now = helps.now
    assert now.together.low > now.base.high
    assert now.over_control.low > 0
    assert now.gain.low <= now.gain.value <= now.gain.high
    assert "so the privileged modalities add" in helps.reason


def test_a_signal_of_pure_noise_does_not_pay():
    findings = probed(world(privileged_noise=True))
    assert findings.answer != "yes"
    assert findings.method != "mtpkdot_plus"
    assert findings.now.gain.low < 0
    assert "privileged modalities add" not in findings.reason


def test_with_all_labels_nothing_is_gained_and_few_labels_are_tried():
    findings = probed(world(labelled_subjects="all"), points=[3, 20], draws=1)
    few, every = findings.points
    assert (findings.answer, findings.method) == ("no", "none")
    assert every.gain is None
    assert few.oracle_gain.value >= few.gain.value > 0
    assert few.base.value < every.base.value
    assert "With the labels of 3 people only" in findings.reason


def test_values_are_scored_by_concordance():
    findings = probed(world(task="regression"), draws=1)
    assert findings.plan.question.metric == "ccc"
    assert findings.now.together.low > findings.now.base.value
    assert findings.now.gain.value > 0


def test_ordered_classes_are_scored_by_kappa(helps):
    ordered = replace(helps.plan, question=replace(helps.plan.question, task="ordinal"), draws=1)
    findings = replace(helps, plan=ordered, scores=ordered.scores(1))
    assert ordered.question.metric == "qwk"
    assert findings.now.together.value > findings.now.base.value


def test_the_text_states_the_rule_and_every_model(helps):
    text = helps.text()
    for words in ("video", "signal", "all together", "pool of them", "Rule: yes if", "The test part is not used"):
        assert words in text
    models = {(each["kind"], *each["modalities"]) for each in helps.plain()["models"]}
    groups = (("video",), ("signal",), ("video", "signal"))
    assert models == {(kind, *group) for kind in ("linear", "graph") for group in groups}


def test_the_next_command_follows_from_the_answer():
    arguments = ["--config", "a.yaml", "--pipeline.name", "x", "--data.labelled_subjects=5"]
    assert command_after("yes", arguments)[0][-2:] == ["--student.model.method", "mtpkdot_plus"]
    assert command_after("no", arguments)[0][-1] == "none"
    compared = command_after("unknown", arguments)[0]
    assert compared[:5] == ["mtpkdot", "crossval", "--config", "a.yaml", "--data.labelled_subjects=5"]
    assert compared[-1] == "none,selftraining,mtpkdot_plus"
