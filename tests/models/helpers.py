"""Random batches with gaps, and the comparisons that all models share."""

import torch


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_mask(batch, steps, seed=0, present=0.6):
    return torch.rand(batch, steps, generator=torch.Generator().manual_seed(seed)) < present


def built(build, seed=0):
    """A module in eval mode, the same for the same seed. No parameter is left at a neutral 0 or 1."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        module = build().eval()
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        return module


def assert_finite_gradients(model, *outputs):
    """Every output is finite, and so is the gradient of every parameter."""
    loss = 0
    for output in outputs:
        assert output.isfinite().all()
        loss = loss + (output * random(*output.shape, seed=99)).sum()
    model.zero_grad()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def gradients(model, *outputs):
    """Gradient of a fixed weighting of the outputs for every parameter, zeros where there is none."""
    loss = sum((output * random(*output.shape, seed=99)).sum() for output in outputs)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def assert_close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
