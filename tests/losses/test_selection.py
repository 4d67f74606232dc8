import math
from itertools import permutations

import torch

from mtpkdot.losses.selection import select_teacher


def scalars(**losses):
    return {name: torch.tensor(value) for name, value in losses.items()}


def test_the_teacher_with_the_lowest_loss_is_selected_wherever_it_is_named():
    for names in permutations(["joint", "video", "audio"]):
        losses = {name: scalars(joint=0.5, video=0.2, audio=0.9)[name] for name in names}
        assert select_teacher(losses, fallback="joint") == "video"


def test_a_tie_goes_to_the_teacher_named_first():
    assert select_teacher(scalars(audio=0.3, video=0.3), fallback="video") == "audio"
    assert select_teacher(scalars(video=0.3, audio=0.3), fallback="audio") == "video"


def test_without_any_loss_the_fallback_is_selected():
    assert select_teacher({}, fallback="joint") == "joint"


def test_a_single_teacher_is_selected_and_not_the_fallback():
    assert select_teacher(scalars(audio=5.0), fallback="joint") == "audio"


def test_a_teacher_whose_loss_is_undefined_is_never_the_best():
    assert select_teacher(scalars(video=math.nan, audio=3.0), fallback="joint") == "audio"
    assert select_teacher(scalars(audio=3.0, video=math.nan), fallback="joint") == "audio"
