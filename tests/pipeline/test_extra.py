"""Stages of the user on a command line and in config files."""

import pytest

from mtpkdot.pipeline.extra import names_in

STAGE = "{class_path: my_project.MyStage}"


@pytest.mark.parametrize(
    "words",
    [
        [f"--pipeline.extra_stages={{own: {STAGE}}}"],
        ["--pipeline.extra_stages", f"{{own: {STAGE}}}"],
        [f"--pipeline.extra_stages.own={STAGE}"],
        ["--pipeline.extra_stages.own", STAGE],
        ["--pipeline.extra_stages.own.class_path=my_project.MyStage"],
        [f"--pipeline={{extra_stages: {{own: {STAGE}}}}}"],
        [f"--config={{pipeline: {{extra_stages: {{own: {STAGE}}}}}}}"],
    ],
)
def test_names_of_extra_stages_are_found_in_every_spelling(words):
    assert names_in([*words, "--own.model.lr=1", *words]) == ("own",)


def test_names_that_are_taken_or_no_names_are_left_to_the_parser():
    assert names_in([f"--pipeline.extra_stages={{student: {STAGE}, a-b: {STAGE}}}", "--pipeline.extra_stages=3"]) == ()
