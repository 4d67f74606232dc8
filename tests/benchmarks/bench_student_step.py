"""A student's training step from cached features, with and without distillation, and what its encoders would add.

`make bench`. Sizes of the released BioVid recipe: B = 128, features of 512, T-Net 2048-...-2048, joint feature 512,
k = 30; two R3D-18 on 10 x 112 x 112 clips. The encoders are timed on 4 clips; for 128 it is 32 times as much.
A processor without instructions for bfloat16 runs float32 alone.
"""

from functools import partial

import pytest
import torch

from mtpkdot.data import Batch
from mtpkdot.models import GatedFusion, Hourglass, Steps, VideoEncoder
from mtpkdot.modules import AdaptedModule, StudentModule, TeacherModule
from mtpkdot.modules.teaching.joint import AdaptedTeachers
from mtpkdot.pipeline.features import computes_bfloat16

B, DIM, CLIPS = 128, 512, 4
NAMES = ["video", "emg"]
COMMON = {
    "task": "classification",
    "targets": ["BL1", "PA4"],
    "modalities": {name: [DIM] for name in NAMES},
    "prevalent": "video",
}
FUSION = partial(GatedFusion, dim=DIM, feedforward=512)
TNET = partial(Hourglass, hidden=[2048, 1024, 512, 256, 512, 1024, 2048], activation=False)


def student(train_tnet: bool, method: str) -> StudentModule:
    """A student with its teachers if it has any, untrained: the step costs the same."""
    encoder = {"encoders": {name: lambda steps: _encoder(steps) for name in NAMES}}
    teacher = TeacherModule(**COMMON, **encoder, fusion=FUSION).eval().requires_grad_(False)
    adapted = AdaptedModule(**COMMON, bottleneck=256)
    adapted.frozen["joint"] = teacher
    joint = {"dim": DIM, "protocol": teacher.fusion.protocol}
    adapted.build({"features": dict.fromkeys(NAMES, DIM), "fusion": joint, "teacher": ""})
    adapted.eval().requires_grad_(False)
    module = StudentModule(**COMMON, fusion=FUSION, tnet=TNET, encoder=_encoder, train_tnet=train_tnet, method=method)
    module.build({"tnets": {"emg": DIM}, "spaces": {} if method == "none" else adapted.space_sizes})
    if method != "none":
        module.teaching.teachers = module.frozen["teachers"] = AdaptedTeachers(adapted)
    return module.train()


def _encoder(steps: Steps) -> torch.nn.Module:
    from mtpkdot.models import FeatureEncoder

    return FeatureEncoder(steps, dim=DIM)


def cached_batch() -> Batch:
    """Features of 128 clips, one step each."""
    torch.manual_seed(0)
    mask = torch.ones(B, 1, dtype=torch.bool)
    encoded = {name: (torch.randn(B, 1, DIM), mask) for name in NAMES}
    target, labelled = torch.randint(2, (B,)), torch.ones(B, dtype=torch.bool)
    return Batch(torch.arange(B), {}, dict.fromkeys(NAMES, mask), target, labelled, encoded)


def step_of(module: StudentModule, batch: Batch, bf16: bool):
    """One optimiser step, in float32 or under bf16-mixed as in configs/biovid.yaml."""
    trained = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, 5e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = module.losses(batch)["loss"]
        loss.backward()
        optimizer.step()

    return step


BFLOAT16 = computes_bfloat16(torch.device("cpu"))


@pytest.mark.parametrize("bf16", [False, True][: 1 + BFLOAT16], ids=["fp32", "bf16"][: 1 + BFLOAT16])
@pytest.mark.parametrize("train_tnet", [False, True], ids=["tnet_frozen", "tnet_trained"])
@pytest.mark.parametrize("method", ["none", "mtpkdot"])
def bench_step_from_cached_features(benchmark, method, train_tnet, bf16):
    """With distillation it should cost less than twice what it does without."""
    module = student(train_tnet, method)
    benchmark.extra_info["batch"] = B
    benchmark.pedantic(step_of(module, cached_batch(), bf16), rounds=15, warmup_rounds=3)


@pytest.mark.parametrize("best", [True, False], ids=["best_inference", "as_released"])
def bench_two_encoders_on_four_clips(benchmark, best):
    """Times 32 is what they add to the step above: in inference mode with bfloat16, and as released, float32."""
    encoder = VideoEncoder(Steps((3, 112, 112))).eval().requires_grad_(False)
    frames = torch.randint(0, 255, (CLIPS, 10, 3, 112, 112), dtype=torch.uint8)
    mask = torch.ones(CLIPS, 10, dtype=torch.bool)

    def forward() -> None:
        with torch.inference_mode(best), torch.no_grad(), torch.autocast("cpu", torch.bfloat16, best and BFLOAT16):
            for _ in range(2):
                encoder(frames, mask)

    benchmark.extra_info["clips"] = CLIPS
    benchmark.pedantic(forward, rounds=3, warmup_rounds=1)
