import pytest
import torch

from mtpkdot.losses import task_loss


@pytest.mark.parametrize("modality", ["video", "signal"])
def test_the_loss_is_that_of_labelled_samples_with_the_modality(load, batch, modality):
    module = load(f"backbone.{modality}").eval()
    batch.masks[modality][:4] = False
    known = batch.labelled.clone()
    known[:4] = False
    output = module.outputs(batch)[modality]
    torch.testing.assert_close(module.losses(batch)["loss"], task_loss("classification", output, batch.target, known))
    assert 0 < known.sum() < len(batch) - 4


def test_unlabelled_samples_are_not_even_loaded(load, data):
    assert not load("backbone.video").uses_unlabelled
    assert data.samples.labelled[data.positions("train", labelled_only=True)].all()
    assert not data.samples.labelled[data.positions("train")].all()
