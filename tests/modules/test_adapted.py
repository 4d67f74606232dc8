from functools import partial

import pytest
import torch
import torch.nn.functional as F

from mtpkdot.errors import RunError
from mtpkdot.losses import task_loss
from mtpkdot.models import GatedFusion
from mtpkdot.modules import AdaptedModule


@pytest.fixture
def make(checkpoints, data):
    def adapted(**changes):
        module = AdaptedModule(
            task=data.task,
            targets=data.targets,
            modalities=data.modalities,
            prevalent="video",
            teacher_ckpt=str(checkpoints["teacher"]),
            **{"fusion": partial(GatedFusion, dim=16, feedforward=16), **changes},
        )
        module.setup("fit")
        return module.train()

    return adapted


def test_the_loss_is_that_of_the_paper(make, batch):
    module = make(teacher="cotrained").eval()
    spaces, known = module.spaces(batch), batch.labelled
    align = sum((1 - F.cosine_similarity(spaces[m].feature, spaces["joint"].feature)).mean() for m in module.steps)
    tasks = {name: task_loss("classification", space.output, batch.target, known) for name, space in spaces.items()}
    expected = 0.5 * align + 0.5 * (tasks["joint"] + 0.5 * tasks["video"] + 0.5 * tasks["signal"])
    torch.testing.assert_close(module.losses(batch)["loss"], expected)


def test_a_frozen_teacher_gets_no_gradient_and_a_cotrained_copy_does(make, batch):
    frozen, cotrained = make(teacher="frozen"), make(teacher="cotrained")
    for module in (frozen, cotrained):
        module.losses(batch)["loss"].backward()
        assert all(p.grad is None for p in module.joint_teacher.parameters())
    assert not hasattr(frozen, "fusion")
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in cotrained.fusion.parameters())


def test_a_sample_without_the_modality_does_not_pull_on_its_adapter(make, batch):
    module = make().eval()
    batch.masks["signal"][5:] = False
    module.losses(batch)["align_signal"].backward()
    gradient = module.adapters[1].down.weight.grad.clone()
    module.zero_grad()
    batch.inputs["signal"][5:] = torch.randn_like(batch.inputs["signal"][5:])
    module.losses(batch)["align_signal"].backward()
    torch.testing.assert_close(module.adapters[1].down.weight.grad, gradient)


def test_adapters_refuse_a_teacher_they_were_not_trained_on(load, checkpoints, tmp_path):
    other = torch.load(checkpoints["teacher"], weights_only=True)
    other["state_dict"]["head.bias"] += 1
    torch.save(other, tmp_path / "other.ckpt")
    adapted = load("adapted")
    adapted.teacher_ckpt = str(tmp_path / "other.ckpt")
    with pytest.raises(RunError, match="not the teacher"):
        adapted.setup("predict")


def test_shuffled_adapters_read_the_features_of_other_samples(make, batch):
    module, control = make().eval(), make(shuffle=True).eval()
    control.load_state_dict(module.state_dict())
    torch.testing.assert_close(
        control.spaces(batch)["signal"].feature, module.spaces(batch)["signal"].feature.roll(1, dims=0)
    )
    torch.testing.assert_close(control.spaces(batch)["joint"].feature, module.spaces(batch)["joint"].feature)


@pytest.mark.parametrize("other", [{"heads": 4}, {"dim": 24}])
def test_a_copy_of_the_fusion_is_refused_where_the_teacher_has_another_one(make, other):
    with pytest.raises(RunError, match=r"has another fusion than teacher\.model\.fusion"):
        make(teacher="cotrained", fusion=partial(GatedFusion, **{"dim": 16, "feedforward": 16, **other}))
    make(teacher="frozen", fusion=partial(GatedFusion, **{"dim": 16, "feedforward": 16, **other}))
