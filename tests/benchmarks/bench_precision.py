"""What `trainer.precision` and `pipeline.compile` do to time and result.

`make bench`. The experiment of configs/planted.yaml in every precision; and an R3D-18 backbone on 4 clips of
10 x 112 x 112, forward, backward and Adam, with and without compilation. `difference` is the largest change of a logit
by compilation, in units of their standard deviation. On processors Lightning takes 16-mixed as bf16-mixed.
"""

import json
import time
from pathlib import Path

import pytest
import torch

from mtpkdot.cli.main import main
from mtpkdot.models import Steps, VideoEncoder
from mtpkdot.models.backbone import Backbone
from mtpkdot.pipeline.compiling import compile_encoders

CLIPS, CLASSES = 4, 4
CONFIG = Path(__file__).parents[2] / "configs" / "planted.yaml"


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed", "64-true"])
def bench_a_run(benchmark, precision, tmp_path):
    arguments = ["fit", "--config", str(CONFIG), "--pipeline.root", str(tmp_path), "--trainer.precision", precision]
    assert benchmark.pedantic(main, (arguments,), rounds=1) == 0
    for row in json.loads((tmp_path / "planted" / "results.json").read_text()):
        if (row["stage"], row["split"], row["metric"]) in {(s, "test", "accuracy") for s in ("teacher", "student")}:
            benchmark.extra_info[row["stage"]] = round(row["value"], 4)
    print(f"\n{precision}: {benchmark.extra_info}")


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def bench_backbone_step(benchmark, compiled):
    torch.manual_seed(0)
    module = Backbone(Steps((3, 112, 112)), CLASSES, VideoEncoder)
    frames, mask = torch.randint(0, 255, (CLIPS, 10, 3, 112, 112), dtype=torch.uint8), torch.ones(CLIPS, 10).bool()
    with torch.inference_mode():
        plain = module.eval()(frames, mask)[1]
        if compiled:
            compile_encoders(module)
        found = module(frames, mask)[1]
    benchmark.extra_info["difference"] = float((found - plain).abs().max() / plain.std())
    module.train()
    optimizer, target = torch.optim.Adam(module.parameters(), 1e-4, fused=True), torch.arange(CLIPS) % CLASSES

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(module(frames, mask)[1], target).backward()
        optimizer.step()

    start = time.perf_counter()
    step()
    benchmark.extra_info["first step (s)"] = round(time.perf_counter() - start, 1)
    benchmark.pedantic(step, rounds=5, warmup_rounds=1)
    print(f"\n{benchmark.extra_info}")
