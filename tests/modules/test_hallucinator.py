import torch


def test_the_hallucinator_trains_on_unlabelled_samples_that_have_both_modalities(load, batch):
    module = load("hallucinator")
    module.setup("fit")
    batch.labelled[:] = False
    module.losses(batch)["loss"].backward()
    assert all(p.grad.abs().sum() > 0 for p in module.tnets.parameters())


def test_a_sample_without_the_privileged_modality_does_not_count(load, batch):
    module = load("hallucinator")
    module.setup("predict")
    batch.masks["signal"][10:] = False
    before = module.losses(batch)["loss"]
    batch.inputs["video"][10:] = 0.0
    torch.testing.assert_close(module.losses(batch)["loss"], before)


def test_the_student_starts_from_its_tnets(load):
    tnets, student = load("hallucinator").tnets.state_dict(), load("student").model.tnets.state_dict()
    assert tnets.keys() == student.keys()
    assert all(torch.equal(tnets[key], student[key]) for key in tnets)
