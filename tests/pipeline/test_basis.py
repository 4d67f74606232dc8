"""A cell is finished for the files, the code and the version that it was run with alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from mtpkdot.errors import ConfigError
from mtpkdot.losses.rivals import RIVALS
from mtpkdot.modules.teaching import METHODS
from mtpkdot.pipeline import basis
from mtpkdot.pipeline.basis import founded
from mtpkdot.pipeline.config import parse
from mtpkdot.pipeline.study import Study

CODE = """
from mtpkdot.models import FeatureEncoder


class Own(FeatureEncoder):
    pass
"""


def write(folder: Path, seed: int = 0) -> Path:
    """Data of four people."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(seed)
    ids = [f"c{i}" for i in range(16)]
    manifest = pd.DataFrame({"id": ids, "subject": np.arange(16) // 4, "y": [f"k{i % 2}" for i in range(16)]})
    manifest.to_csv(folder / "m.csv", index=False)
    for name in ("video", "signal"):
        pd.DataFrame(random.normal(size=(16, 3))).assign(id=ids).to_csv(folder / f"{name}.csv", index=False)
    return folder


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "w0", "w1"):
        write(Path(name))
    data = {"manifest": "a/m.csv", "features": {"video": "a/video.csv", "signal": "a/signal.csv"}, "target": "y"}
    text = {"data": {"class_path": "FeatureData", "init_args": {**data, "prevalent": "video", "batch_size": 4}}}
    Path("c.yaml").write_text(yaml.safe_dump(text))
    return "c.yaml"


def bases(config, settings=None, variants=None, seeds=(0, 1), shared=None):
    variants = variants or {"none": {"student.model.method": "none"}}
    made = Study("s", (f"--config={config}",), settings or {"all": {}}, variants, ({},), seeds, shared=shared or {})
    return founded(made)


def changed(before, after):
    cells = zip(before.cells(), after.cells(), strict=True)
    return {f"{a.setting}/{a.variant}/{a.seed}" for a, b in cells if before.basis_of(a) != after.basis_of(b)}


def revise(monkeypatch, number):
    monkeypatch.setitem(METHODS, "kd", replace(METHODS["kd"], revision=number))


def test_data_that_a_setting_names_are_its_own_basis(config):
    settings = {"one": {}, "two": {"data.features.video": "b/video.csv"}}
    before = bases(config, settings)
    assert all(before.basis_of(cell) for cell in before.cells())
    write(Path("b"), 1)
    found = changed(before, bases(config, settings))
    assert found == {f"two/{variant}/{seed}" for variant in ("upstream", "none") for seed in (0, 1)}


def test_data_of_every_seed_are_the_basis_of_that_seed(config):
    shared = {"data.features.video": "w{seed}/video.csv"}
    before = bases(config, shared=shared)
    write(Path("w1"), 1)
    assert changed(before, bases(config, shared=shared)) == {"all/upstream/1", "all/none/1"}


def test_code_that_a_variant_names_is_its_own_basis(config, tmp_path, monkeypatch):
    Path("encoder_of_a_variant.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    encoder = {"backbone.video.model.encoder": {"class_path": "encoder_of_a_variant.Own"}}
    variants = {"none": {"student.model.method": "none"}, "own": encoder}
    before = bases(config, variants=variants)
    Path("encoder_of_a_variant.py").write_text(CODE + "    extra = 1\n")
    after = changed(before, bases(config, variants=variants))
    assert after == {f"all/{variant}/{seed}" for variant in ("upstream-own", "own") for seed in (0, 1)}


def test_more_settings_variants_and_seeds_keep_finished_cells(config):
    before = bases(config, {"one": {}})
    more = {"kd": {"student.model.method": "kd"}, "none": {"student.model.method": "none"}}
    after = bases(config, {"one": {}, "two": {"data.labelled_subjects": 1}}, more, (0, 1, 2))
    kept = {cell.place: after.basis_of(cell) for cell in after.cells()}
    assert all(kept[cell.place] == before.basis_of(cell) for cell in before.cells())


def test_a_revised_method_is_another_basis_of_its_own_cells(config, monkeypatch):
    variants = {name: {"student.model.method": name} for name in ("none", "kd")}
    before = bases(config, variants=variants)
    revise(monkeypatch, 7)
    first = changed(before, bases(config, variants=variants))
    assert first == {"all/kd/0", "all/kd/1"}
    revise(monkeypatch, 8)
    assert changed(before, bases(config, variants=variants)) == first


@pytest.mark.parametrize(
    "own",
    [{"student.model": {"method": "kd", "eps": 0.5}}, {"student.model": {"eps": 0.5}, "student.model.method": "kd"}],
)
def test_a_revised_method_is_seen_under_whichever_key(own, config, monkeypatch):
    variants = {"none": {"student.model.method": "none"}, "other": own}
    before = bases(config, variants=variants)
    revise(monkeypatch, 7)
    assert changed(before, bases(config, variants=variants)) == {"all/other/0", "all/other/1"}


def test_a_revised_method_of_all_cells_is_seen(config, monkeypatch):
    variants = {"a": {"student.model.structure.eps": 0.5}, "b": {"student.model.structure.eps": 0.6}}
    before = bases(config, variants=variants, shared={"student.model.method": "kd"})
    revise(monkeypatch, 7)
    found = changed(before, bases(config, variants=variants, shared={"student.model.method": "kd"}))
    assert {"all/a/0", "all/b/1"} <= found


def test_seeds_in_a_setting_and_data_without_a_mark_of_a_file_are_seen(config):
    settings = {"all": {"data.features.video": "w{seed}/video.csv"}}
    before = bases(config, settings)
    write(Path("w1"), 1)
    assert changed(before, bases(config, settings)) == {"all/upstream/1", "all/none/1"}
    for seed in (0, 1):
        Path(f"m{seed}").write_bytes(Path("a/m.csv").read_bytes())
    before = bases(config, shared={"data.manifest": "m{seed}"})
    Path("m1").write_text(Path("m1").read_text().replace("k0", "k2"))
    assert changed(before, bases(config, shared={"data.manifest": "m{seed}"})) == {"all/upstream/1", "all/none/1"}


def test_overrides_of_numbers_and_names_need_no_further_parse(config, monkeypatch):
    """A parse for each of a thousand cells would take minutes."""
    shared = {"data.split.seed": "20{seed}", "teacher.model.lr": "0.1"}
    parsed = []
    monkeypatch.setattr(basis, "parse", lambda *given: parsed.append(given) or parse(*given))
    bases(
        config, variants={"a": {"student.model.method": "kd"}, "b": {"student.model.structure.eps": 0.5}}, shared=shared
    )
    assert len(parsed) == 1


def test_a_rival_whose_code_has_changed_is_another_basis_of_its_own_cells(config, monkeypatch):
    variants = {name: {"student.model.method": name} for name in ("none", "kd", "sp")}
    before = bases(config, variants=variants)
    monkeypatch.setitem(METHODS, "kd", replace(METHODS["kd"], rival=RIVALS["at"]))
    assert changed(before, bases(config, variants=variants)) == {"all/kd/0", "all/kd/1"}


def test_a_mistake_names_the_setting(config):
    with pytest.raises(ConfigError, match=r"^two/upstream: "):
        bases(config, {"one": {}, "two": {"data.nonsense": 1}})
