import torch


def test_backbones_are_those_of_the_stage_before_and_stay_frozen(load, batch):
    teacher = load("teacher").train()
    for name, backbone in teacher.named_backbones():
        trained = load(f"backbone.{name}").backbone.state_dict()
        assert all(torch.equal(value, trained[key]) for key, value in backbone.state_dict().items())
        assert not backbone.training
    teacher.losses(batch)["loss"].backward()
    assert all(p.grad is None for p in teacher.backbones.parameters())
    assert all(p.grad is not None for p in teacher.fusion.parameters())


def test_the_gates_are_logged_and_sum_to_one(load, batch):
    terms = load("teacher").losses(batch)
    torch.testing.assert_close(terms["gate_video"] + terms["gate_signal"], torch.tensor(1.0))


def test_unlabelled_samples_do_not_reach_the_loss(load, batch):
    teacher = load("teacher").eval()
    before = teacher.losses(batch)["loss"]
    for values in batch.inputs.values():
        values[~batch.labelled] = torch.randn_like(values[~batch.labelled])
    batch.target[~batch.labelled] = 99
    torch.testing.assert_close(teacher.losses(batch)["loss"], before)
