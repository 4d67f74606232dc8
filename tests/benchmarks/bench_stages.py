"""What the stages after the backbones cost beside one encoder pass per view.

`make bench`. A generated twin with the networks and epochs of configs/biovid.yaml (R3D-18 on 10 x 112 x 112 clips).
Stages cost start-up and epochs times samples, a pass costs views times samples.
"""

import json
import shutil
import time
from pathlib import Path

import pytest
import torch

from mtpkdot.cli.main import main
from mtpkdot.pipeline.features import computes_bfloat16

CONFIG = Path(__file__).parent.parent.parent / "configs" / "biovid.yaml"
STAGES = "[teacher,adapted,hallucinator,student]"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> list[str]:
    """Arguments of a run whose backbones are trained (for one step: how well does not matter here)."""
    folder = tmp_path_factory.mktemp("stages")
    twin = ["--subjects", "8", "--clips", "3", "--classes", "BL1", "PA4", "--size", "112"]
    assert main(["data", "synthesize", "biovid", str(folder / "biovid"), *twin]) == 0
    arguments = [
        "--config",
        str(CONFIG),
        "--data.root",
        str(folder / "biovid"),
        "--pipeline.root",
        str(folder / "runs"),
    ]
    arguments += ["--data.pictures.crop=centre", "--data.num_workers=0", "--student.model.structure.top_k=15"]
    arguments += ["--data.batch_size=64", "--backbone.video.fit.max_epochs=1", "--backbone.gsr.fit.max_epochs=1"]
    if not computes_bfloat16(torch.device("cpu")):
        arguments += ["--trainer.precision=32-true"]
    assert main(["fit", *arguments, "--pipeline.stages=[backbone]", "--pipeline.name=backbones"]) == 0
    return arguments


def bench_stages_after_the_backbones(benchmark, prepared):
    root = Path(prepared[prepared.index("--pipeline.root") + 1])

    def stages(name: str) -> float:
        for stage in ("teacher", "adapted", "hallucinator", "student"):
            shutil.rmtree(root / "stages" / stage, ignore_errors=True)
        start = time.perf_counter()
        assert main(["fit", *prepared, f"--pipeline.stages={STAGES}", f"--pipeline.name={name}"]) == 0
        return time.perf_counter() - start

    # Features of the backbones' evaluation are there already: the pass is timed with an empty cache.
    shutil.rmtree(root / "features")
    cold = stages("cold")
    warm = benchmark.pedantic(stages, ("warm",), rounds=1)
    benchmark.extra_info["encoder pass, all views (s)"] = round(cold - warm, 1)
    benchmark.extra_info["stages with the cache (s)"] = round(warm, 1)
    benchmark.extra_info["stages / pass"] = round(warm / (cold - warm), 3)
    print("\n" + json.dumps(benchmark.extra_info, indent=2))
