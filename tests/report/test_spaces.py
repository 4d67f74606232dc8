import shutil

import numpy as np
import pytest
import torch

from mtpkdot.errors import UserError
from mtpkdot.losses.structure import StructuralTransport
from mtpkdot.modules import StudentModule
from mtpkdot.modules.teaching.joint import AdaptedTeachers
from mtpkdot.report.gather import gather
from mtpkdot.report.sources import sources
from mtpkdot.report.spaces import spaces, transport_plan, tsne


@pytest.fixture
def models(trained_root):
    (source,) = sources([trained_root / "tiny"])
    return {"mtpkdot": gather(source.entries).models["all", "mtpkdot", 0, 0]}


def test_spaces_are_those_of_the_stored_models_on_the_test_part(models, trained_root):
    found = spaces(models, "mtpkdot")
    assert found.labels.shape == (24,)
    assert (np.diff(found.labels) >= 0).all()
    assert found.bounds == [int(np.searchsorted(found.labels, c)) for c in np.unique(found.labels)[1:]]
    assert {name: value.shape for name, value in found.before.items()} == {"video": (24, 16), "signal": (24, 16)}
    assert list(found.after) == ["video", "signal", "joint"]
    (folder,) = (trained_root / "stages" / "student").iterdir()
    student = StudentModule.load_from_checkpoint(folder / "model.ckpt", map_location="cpu").eval()
    # The head on the features gives the answers that the run has written.
    import pandas as pd

    table = pd.read_parquet(trained_root / "tiny" / "predictions.parquet")
    table = table[(table["stage"] == "student") & (table["split"] == "test")]
    answers = student.model.head(torch.from_numpy(found.students["mtpkdot"])).softmax(dim=1).detach().numpy()
    wanted = table[[f"p_state{c}" for c in range(4)]].to_numpy()
    names = np.array([int(name.removeprefix("state")) for name in table["truth"]])
    np.testing.assert_allclose(answers, wanted[np.argsort(names, kind="stable")], atol=1e-5)


def test_the_plan_moves_all_mass_once(models):
    found = spaces(models, "mtpkdot")
    assert found.planned == "mtpkdot"
    np.testing.assert_allclose(found.plan.sum(axis=0), 1 / 24, atol=1e-5)
    np.testing.assert_allclose(found.plan.sum(axis=1), 1 / 24, atol=1e-5)


def test_a_student_of_pooled_teachers_has_no_plan_of_the_joint_one(models, monkeypatch):
    monkeypatch.setattr(AdaptedTeachers, "pooled", True)
    assert spaces(models, "mtpkdot").plan is None


@pytest.mark.parametrize("mode", ["rows", "paired", "gromov", "fused"])
def test_every_mode_has_a_plan(mode):
    features = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    plan = transport_plan(StructuralTransport(4, eps=1e-3, mode=mode), features, features)
    assert plan.shape == (12, 12)
    assert plan.sum() == pytest.approx(1, abs=1e-4)
    if mode != "rows":
        assert plan.trace() == pytest.approx(1, abs=1e-4)


def test_missing_and_changed_inputs_are_reported(trained_root, tmp_path):
    shutil.copytree(trained_root, tmp_path / "runs")

    def message():
        (source,) = sources([tmp_path / "runs" / "tiny"])
        with pytest.raises(UserError) as error:
            spaces({"m": gather(source.entries).models["all", "mtpkdot", 0, 0]}, "m")
        return str(error.value)

    (student,) = (tmp_path / "runs" / "stages" / "student").iterdir()
    shutil.move(student, tmp_path / "aside")
    assert "is gone" in message()
    config = tmp_path / "runs" / "tiny" / "config.yaml"
    config.write_text(config.read_text().replace("generator_seed: 0", "generator_seed: 1"))
    assert "have changed" in message()
    config.unlink()
    assert "is gone" in message()


def test_a_map_keeps_groups_together_whatever_the_features_scale():
    random = np.random.default_rng(0)
    features = np.concatenate([random.normal(size=(15, 4)), random.normal(size=(15, 4)) + 40])
    place = tsne(features * 1000)
    assert place.shape == (30, 2)
    near = np.linalg.norm(place[:, None] - place, axis=2)
    np.fill_diagonal(near, np.inf)
    assert ((near.argmin(axis=1) < 15) == (np.arange(30) < 15)).all()
    assert np.isfinite(tsne(np.ones((6, 3)))).all()
