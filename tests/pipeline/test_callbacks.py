from types import SimpleNamespace

import torch

from mtpkdot.pipeline.callbacks import StageProgressBar, StepSeed, Stopwatch


def drawn(seed, epoch, batch):
    torch.rand(3)  # whatever was drawn before
    trainer = SimpleNamespace(current_epoch=epoch, global_rank=0)
    StepSeed(seed).on_train_batch_start(trainer, None, None, batch)
    return torch.rand(4)


def test_a_step_draws_the_same_whatever_was_drawn_before():
    assert torch.equal(drawn(0, 3, 5), drawn(0, 3, 5))


def test_steps_epochs_and_seeds_draw_differently():
    draws = [drawn(seed, epoch, batch) for seed in (0, 1) for epoch in (0, 1) for batch in (0, 1)]
    assert len({tuple(values.tolist()) for values in draws}) == 8


def test_the_stopwatch_counts_earlier_processes_up_to_their_last_checkpoint():
    first = Stopwatch()
    first.started -= 100.0
    kept = first.state_dict()
    first.started -= 50.0  # lost
    second = Stopwatch()
    second.load_state_dict(kept)
    second.started -= 7.0
    assert 107.0 <= second.seconds < 110.0
    assert second.state_dict()["seconds"] >= 107.0


def test_the_progress_bar_shows_stage_and_epoch():
    bar = StageProgressBar("[2/6] teacher")
    shown = []
    bar.train_progress_bar = SimpleNamespace(reset=lambda: None, set_description=shown.append)
    bar._trainer = SimpleNamespace(
        num_training_batches=4, fit_loop=SimpleNamespace(max_batches=4, epoch_loop=None), current_epoch=2, max_epochs=15
    )
    bar.on_train_epoch_start(SimpleNamespace(current_epoch=2, max_epochs=15))
    assert shown[-1] == "[2/6] teacher, epoch 3/15"
