import pandas as pd

from mtpkdot.report.logs import Training
from mtpkdot.report.page import Figure, Text
from mtpkdot.report.sections.training import learnt

RECORD = {"trained": {"monitor": "val/accuracy"}}


def log(**columns):
    frame = pd.DataFrame({"train/loss": [2.0, 1.0, 0.5], **{f"train/{name}": of for name, of in columns.items()}})
    return Training(RECORD, frame)


def pooled(joint, trust):
    late = [None, joint, joint]
    return log(
        teacher_joint=[None, 1.0, 1.0],
        share_joint=late,
        share_video=[None, 1 - joint, 1 - joint],
        trust_output=[None, trust, trust],
        trust_structure=[None, 0.5, 0.5],
    )


def told(found, *students):
    blocks = learnt(found, students)
    figures = [block for block in blocks if isinstance(block, Figure) and "Shares of the teachers" in block.alt]
    return figures, " ".join(block.text for block in blocks if isinstance(block, Text))


def test_shares_and_trust_of_a_pool_are_reported_and_not_its_single_space():
    figures, text = told({"mtpkdot_plus": [pooled(0.2, 0.9), pooled(0.4, 0.7)]}, "mtpkdot_plus")
    (figure,) = figures
    assert "mtpkdot_plus: joint 30%, video 70%" in figure.alt
    assert ">joint<" in figure.svg
    assert ">video<" in figure.svg
    assert "No student had a choice" not in text
    assert "mtpkdot_plus output 0.80 (0.70 to 0.90), structure 0.50 (0.50 to 0.50)" in text


def test_teachers_that_are_chosen_by_their_loss_are_not_trusted_by_evidence():
    followed = log(teacher_joint=[0.5, 0.25, 0.0], teacher_video=[0.5, 0.75, 1.0])
    figures, text = told({"mtpkdot": [followed], "none": [log()]}, "none", "mtpkdot")
    (figure,) = figures
    assert "mtpkdot: joint 25%, video 75%" in figure.alt
    assert "none:" not in figure.alt
    assert "Trust" not in text


def test_students_of_one_teacher_had_no_choice():
    figures, text = told({"kd": [log(teacher_joint=[1.0, 1.0, 1.0])]}, "kd")
    assert not figures
    assert "No student had a choice of teachers" in text


def test_a_training_that_ended_before_its_teachers_were_weighed_has_no_trust():
    early = log(trust_output=[None] * 3, trust_structure=[None] * 3, share_joint=[None] * 3, share_video=[None] * 3)
    assert "Trust" not in told({"mtpkdot_plus": [early]}, "mtpkdot_plus")[1]
