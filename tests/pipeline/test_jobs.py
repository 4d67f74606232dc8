"""The hash covers what decides a result, and nothing else."""

import pandas as pd
import pytest

from mtpkdot.pipeline.config import parse
from mtpkdot.pipeline.jobs import make_jobs, wanted_stages


@pytest.fixture
def hashes(tiny_config):
    def of(*overrides):
        experiment = parse("fit", ["--config", str(tiny_config), *overrides])
        _, stages = wanted_stages(experiment)
        return {name: job.stored.hash for name, job in make_jobs(experiment, stages).items()}

    return of


ALL = {"backbone.video", "backbone.signal", "teacher", "adapted", "hallucinator", "student"}


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [
        (["--pipeline.root", "elsewhere", "--pipeline.name", "x", "--data.init_args.num_workers", "3"], set()),
        (["--trainer.accelerator", "auto", "--trainer.log_every_n_steps", "7"], set()),
        (["--student.model.lr", "0.5"], {"student"}),
        (["--student.fit.max_epochs", "9"], {"student"}),
        (["--hallucinator.model.discrepancy", "mmd"], {"hallucinator", "student"}),
        (["--adapted.model.bottleneck", "3"], {"adapted", "student"}),
        (["--teacher.model.dim", "8"], {"teacher", "adapted", "student"}),
        (["--backbone.signal.model.lr", "0.5"], ALL - {"backbone.video"}),
        (["--student.model.method", "none"], {"student"}),
        (["--seed_everything", "1"], ALL),
        (["--trainer.precision", "bf16-mixed"], ALL),
        (["--trainer.limit_train_batches", "1"], ALL),
        (["--data.init_args.batch_size", "16"], ALL),
        (["--data.init_args.split.fold", "1"], ALL),
        (["--data.init_args.generator_seed", "1"], ALL),
        (["--protocol", "released"], ALL),
        (["--protocol.batch_attention", "true"], {"teacher", "adapted", "student"}),
        (["--protocol.shared_backbone", "true"], ALL),
    ],
)
def test_an_override_changes_the_hash_of_the_stages_it_reaches(overrides, changed, hashes):
    before, after = hashes(), hashes(*overrides)
    assert {name for name in before if before[name] != after[name]} == changed


def test_the_hash_follows_the_contents_of_files_and_not_their_place(tiny_config, tmp_path, hashes):
    def write(folder, last):
        folder.mkdir()
        ids = [f"s{i}" for i in range(12)]
        frame = pd.DataFrame(
            {"id": ids, "subject": ids, "split": ["train", "val", "test"] * 4, "y": [0, 0, 0, 1, 1, 1] * 2}
        )
        frame.to_csv(folder / "manifest.csv", index=False)
        for name in ("video", "signal"):
            pd.DataFrame({"id": ids, "x": [*range(11), last]}).to_csv(folder / f"{name}.csv", index=False)
        config = (
            f"class_path: FeatureData\ninit_args:\n  manifest: {folder}/manifest.csv\n  target: y\n  prevalent: video\n"
            f"  features: {{video: {folder}/video.csv, signal: {folder}/signal.csv}}\n"
        )
        (folder / "data.yaml").write_text(config)
        return ["--data", str(folder / "data.yaml")]

    one, same, other = write(tmp_path / "a", 1), write(tmp_path / "b", 1), write(tmp_path / "c", 2)
    assert hashes(*one) == hashes(*same)
    assert not set(hashes(*one).values()) & set(hashes(*other).values())
