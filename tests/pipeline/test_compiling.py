"""Compiled encoders: the same answers, weights and names, and never the results of others."""

import json
import shutil

import numpy as np
import pytest
import torch

from mtpkdot.cli.main import main
from mtpkdot.errors import ConfigError
from mtpkdot.models.encoder import FeatureEncoder, Steps
from mtpkdot.models.signal import SignalEncoder
from mtpkdot.pipeline.compiling import check_compiler, compile_encoders, forget_compiled
from tests.pipeline.test_features import Project, Strided

OWN = ["--backbone.video.model.encoder", "tests.pipeline.test_features.Strided"]


def is_compiled(module):
    return module._compiled_call_impl is not None


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """A run with compiled encoders beside one without, of the same experiment, and the cached features of both."""
    project = Project(tmp_path_factory.mktemp("compiled"), epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(project.root / "compiler"))
        for name, compiled in (("eager", "false"), ("compiled", "true")):
            arguments = project.arguments("--pipeline.name", name, *OWN, "--pipeline.compile", compiled)
            assert main(["fit", *arguments]) == 0
    return project


def test_results_are_the_same_up_to_rounding(twins):
    keys = ["stage", "split", "id", "target"]
    eager, compiled = (twins.predictions(name).sort_values(keys)["prediction"] for name in ("eager", "compiled"))
    np.testing.assert_allclose(compiled.to_numpy(dtype=float), eager.to_numpy(dtype=float), atol=1e-4)


def test_weights_keep_their_names_and_those_of_the_encoders_their_values(twins):
    eager, compiled = twins.weights("eager"), twins.weights("compiled")
    assert eager.keys() == compiled.keys()
    for name in (name for name in eager if name.startswith("backbone.")):
        # Adam makes steps of rounding where there is no gradient, as behind attention's keys.
        value = eager[name]
        torch.testing.assert_close(compiled[name], value, atol=1e-4, rtol=1e-4, msg=name)


def test_neither_run_takes_stages_or_features_of_the_other(twins):
    eager, compiled = (
        json.loads((twins.root / name / "run.json").read_text())["stages"] for name in ("eager", "compiled")
    )
    assert all(eager[stage]["hash"] != compiled[stage]["hash"] for stage in eager)
    kept = [json.loads(path.read_text())["keys"] for path in twins.root.glob("features/video/*/record.json")]
    assert sorted(keys.get("compile", False) for keys in kept) == [False, True]


def test_encoders_of_media_are_compiled_and_those_of_features_are_not():
    media, given = SignalEncoder(Steps((1,), 100.0), dim=8), FeatureEncoder(Steps((4,)), dim=8)
    parts = torch.nn.ModuleList([media, given])
    compile_encoders(parts)
    assert is_compiled(media)
    assert not is_compiled(given)
    assert not is_compiled(parts)


def test_compiled_code_for_batches_of_other_sizes_is_read_back(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    encoder = Strided(Steps((4,), 25.0))

    def answers(module):
        forget_compiled()
        outputs = []
        for rows in (4, 6, 5):
            output, _ = module(torch.ones(rows, 3, 4), torch.ones(rows, 3, dtype=torch.bool))
            output.sum().backward()
            outputs.append(output.detach())
        return outputs

    expected = answers(encoder)
    compile_encoders(torch.nn.ModuleList([encoder]))
    torch.testing.assert_close(answers(encoder), expected)
    if not (tmp_path / "aotautograd").is_dir():
        pytest.skip("this torch keeps its graphs elsewhere")
    shutil.rmtree(tmp_path / "aotautograd")  # as where the code has changed, but not what it computes
    torch.testing.assert_close(answers(encoder), expected)


def test_a_missing_compiler_is_reported_before_anything_is_trained(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", (None, str(tmp_path / "none")))
    torch._dynamo.reset()
    with pytest.raises(ConfigError, match="leave it out"):
        check_compiler(torch.device("cpu"))
