"""What `trainer.precision` and `pipeline.compile` do to the time of a training step, and to its answers.

`make bench`. An R3D-18 backbone on 4 clips of 10 x 112 x 112, forward, backward and Adam. `difference` is the largest
change of a logit against float32 in eager mode, from the same weights, in units of the logits' standard deviation. On
processors Lightning takes 16-mixed as bf16-mixed.
"""

import time

import pytest
import torch

from mtpkdot.models import Steps, VideoEncoder
from mtpkdot.models.backbone import Backbone
from mtpkdot.pipeline.compiling import compile_encoders

CLIPS, CLASSES = 4, 4


def backbone() -> Backbone:
    torch.manual_seed(0)
    return Backbone(Steps((3, 112, 112)), CLASSES, VideoEncoder)


def clips() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 255, (CLIPS, 10, 3, 112, 112), dtype=torch.uint8, generator=generator)
    return frames, torch.ones(CLIPS, 10, dtype=torch.bool)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("bf16", [False, True], ids=["32-true", "bf16-mixed"])
def bench_backbone_step(benchmark, bf16, compiled):
    module, (frames, mask) = backbone(), clips()
    with torch.inference_mode():
        plain = module.eval()(frames, mask)[1]
    if compiled:
        compile_encoders(module)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, bf16):
        found = module(frames, mask)[1].float()
    benchmark.extra_info["difference"] = float((found - plain).abs().max() / plain.std())
    module.train()
    optimizer, target = torch.optim.Adam(module.parameters(), 1e-4, fused=True), torch.arange(CLIPS) % CLASSES

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, bf16):
            loss = torch.nn.functional.cross_entropy(module(frames, mask)[1], target)
        loss.backward()
        optimizer.step()

    start = time.perf_counter()
    step()
    benchmark.extra_info["first step (s)"] = round(time.perf_counter() - start, 1)
    benchmark.pedantic(step, rounds=5, warmup_rounds=1)
    print(f"\n{dict(benchmark.extra_info)}")
