import re
from pathlib import Path

import pytest
import yaml

from mtpkdot.data.synthetic.planted import PlantedData
from mtpkdot.errors import ConfigError
from mtpkdot.pipeline.config import parse
from mtpkdot.pipeline.planning import Plan, check_name, folds_of, read_study_file, settings_of

CONFIGS = Path(__file__).parent.parent.parent / "configs"


def plan(config=None, ablation=None, methods=(), folds=None, seeds=None, labelled=(), protocols=(), **more):
    name, given = more.pop("name", None), more.pop("given", ())
    return Plan(config, ablation, methods, folds, seeds, labelled, protocols, name, given, **more)


def test_a_plan_without_options_compares_the_papers_methods_on_the_configs_folds(tiny_config):
    made = plan(tiny_config).study()
    assert list(made.variants) == ["none", "pkdot", "mtpkdot"]
    assert made.name == "tiny-crossval"
    assert made.folds == tuple({"data.split.fold": fold} for fold in range(5))
    assert (made.seeds, made.settings, made.resample) == ((0,), {"all": {}}, "subject")


def test_the_basis_is_what_decides_the_cells_and_not_how_it_is_written(tiny_config, tmp_path):
    path = tmp_path / "c.yaml"
    config = yaml.safe_load(tiny_config.read_text())
    config["pipeline"] = {"root": str(tmp_path / "runs")}

    def basis(more="", **changes):
        path.write_text(more + yaml.safe_dump(config | changes))
        return plan(path).study().basis

    first = basis()
    assert basis("# a remark\n") == first
    assert basis(pipeline={"root": str(tmp_path / "elsewhere")}) == first
    faster = {**config["student"], "model": {**config["student"]["model"], "lr": 0.5}}
    assert basis(student=faster) != first
    assert basis(teacher={**config["teacher"], "fit": {"max_epochs": 7}}) != first
    assert basis(data={**config["data"], "init_args": {**config["data"]["init_args"], "nuisance": 3.0}}) != first


@pytest.mark.parametrize("name", ["base", "teacher", "backbone.video", "adapted.signal"])
def test_a_variant_cannot_take_the_name_of_another_model(tiny_config, tmp_path, name):
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump({"config": str(tiny_config), "variants": {name: {"student.model.method": "kd"}}}))
    with pytest.raises(ConfigError, match=f"a variant is named {name}"):
        plan(ablation=path).study()


def test_a_file_that_is_not_text_is_reported(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"variants: \xff\xfe")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        read_study_file(tmp_path / "a.yaml")


def test_seeds_count_from_the_configs_own(tiny_config):
    made = plan(tiny_config, seeds=3, given=("--seed_everything", "5")).study()
    assert made.seeds == (5, 6, 7)
    assert made.arguments == (f"--config={tiny_config}", "--seed_everything", "5")


def test_settings_are_every_combination_of_labels_and_protocols():
    assert settings_of([], []) == {"all": {}}
    assert settings_of(["all", "10", "0.1"], []) == {
        f"labelled_{count}": {"data.labelled_subjects": count} for count in ("all", "10", "0.1")
    }
    assert settings_of(["5"], ["clean", "clip_splits"]) == {
        "clean-labelled_5": {"protocol": "clean", "data.labelled_subjects": "5"},
        "clip_splits-labelled_5": {"protocol": {"clip_splits": True}, "data.labelled_subjects": "5"},
    }


@pytest.mark.parametrize("wrong", ["50%", "ten", "-1", "1e3", "0.5x"])
def test_labelled_people_are_a_number(wrong):
    with pytest.raises(ConfigError, match="not a number of people"):
        settings_of(["10", wrong], [])


def test_folds_are_given_made_or_one_per_person():
    data = PlantedData(subjects=6, samples_per_subject=2)
    assert [fold["data.split.fold"] for fold in folds_of("given", data)] == [0, 1, 2, 3, 4]
    assert folds_of("3", data)[2] == {"data.split.scheme": "kfold", "data.split.folds": 3, "data.split.fold": 2}
    loso = folds_of("loso", data)
    assert len(loso) == 6
    assert {fold["data.split.scheme"] for fold in loso} == {"loso"}
    for wrong in ("1", "-2", "many", "2.5"):
        with pytest.raises(ConfigError, match="folds is"):
            folds_of(wrong, data)


def test_given_folds_are_the_numbers_of_the_fold_column(monkeypatch):
    data = PlantedData(subjects=6, samples_per_subject=2)
    monkeypatch.setattr(PlantedData, "folds", [1, 2, 3])
    assert folds_of("given", data) == ({"data.split.fold": 1}, {"data.split.fold": 2}, {"data.split.fold": 3})


def test_a_split_that_is_given_is_one_fold():
    data = PlantedData(subjects=6, samples_per_subject=2)
    data.split.scheme = "holdout"
    assert folds_of("given", data) == ({},)


def test_the_planted_grid_is_a_study_of_its_own_worlds():
    file = read_study_file(CONFIGS / "ablations" / "planted.yaml")
    assert Path(file["config"]).resolve() == CONFIGS / "planted_few_labels.yaml"
    assert len(file["settings"]) >= 14
    assert file["resample"] == "seed"
    assert file["set"] == {"data.generator_seed": "20{seed}"}


def test_methods_of_the_command_line_replace_the_files_variants(tiny_config, tmp_path):
    path = tmp_path / "own.yaml"
    content = {
        "config": str(tiny_config),
        "variants": {3: {"student.model.structure.top_k": 3}},
        "folds": 2,
        "seeds": 2,
    }
    path.write_text(yaml.safe_dump({**content, "settings": {"a": {"data.nuisance": 0.5}}}))
    made = plan(ablation=path, labelled=["4"]).study()
    assert made.variants == {"3": {"student.model.structure.top_k": 3}}
    assert made.name == "own"
    assert made.settings == {"a-labelled_4": {"data.nuisance": 0.5, "data.labelled_subjects": "4"}}
    assert (len(made.folds), made.seeds) == (2, (0, 1))
    assert list(plan(ablation=path, methods=["kd"]).study().variants) == ["kd"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("variants: {", "not valid YAML"),
        ("[]", "no variants"),
        ("variants: {}", "no variants"),
        ("variants: {a: {}}\nmethod: x", "'method'"),
        ("variants: [a]", "is not a mapping"),
        ("variants: {a: 3}", "variants.a"),
        ("variants: {a: {}}\nsettings: [a]", "settings is not a mapping"),
        ("variants: {a: {}}\nsettings: {b: [c]}", "settings.b"),
        ("variants: {'a/b': {}}", "'a/b'"),
        ("variants: {upstream: {}}", "'upstream'"),
        ("variants: {a: {}}\nset: [x]", "set is not a mapping"),
        ("variants: {a: {}}\nseeds: many", "seeds is 'many'"),
        ("variants: {a: {}}\nresample: fold", "resample is 'fold'"),
    ],
)
def test_a_file_that_cannot_be_used_is_reported(text, words, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as error:
        read_study_file(path)
    assert "a.yaml" in str(error.value)


def test_a_missing_file_and_a_missing_experiment_are_reported(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        read_study_file(tmp_path / "none.yaml")
    (tmp_path / "a.yaml").write_text("variants: {a: {}}\nsettings:\nset:\n")
    with pytest.raises(ConfigError, match="no experiment"):
        plan(ablation=tmp_path / "a.yaml").study()


@pytest.mark.parametrize("seeds", [0, -1])
def test_a_study_needs_a_seed(seeds, tiny_config):
    with pytest.raises(ConfigError, match="seeds is"):
        plan(tiny_config, seeds=seeds).study()


def test_the_command_line_holds_over_what_a_file_sets_for_all_cells(tiny_config, tmp_path):
    path = tmp_path / "a.yaml"
    shared = {
        "student.fit.max_epochs": 77,
        "student.model.lr": 0.002,
        "teacher.model": {"lr": 0.003, "weight_decay": 0.25},
    }
    variants = {"kd": {"student.model.method": "kd"}, "slow": {"student.model.weight_decay": 0.5}}
    path.write_text(yaml.safe_dump({"config": str(tiny_config), "set": shared, "variants": variants}))
    said = ("--student.fit.max_epochs", "5", "--teacher.model.lr=0.5")
    for cell in plan(ablation=path, given=said).study().cells():
        found = parse("crossval", cell.arguments).config
        assert (found["student"]["fit"]["max_epochs"], found["student"]["model"]["lr"]) == (5, 0.002)
        assert (found["teacher"]["model"]["lr"], found["teacher"]["model"]["weight_decay"]) == (0.5, 0.25)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (("--student.model.method", "kd"), "none"),
        (("--student.model={method: kd}",), "none"),
        (("--data.init_args.labelled_subjects=3",), "labelled_2"),
        (("--data.split.fold=1",), "a fold"),
        (("--data.init_args.split.folds", "3"), "a fold"),
        (("--pipeline.name=other",), "the study"),
        (("--pipeline.stages=[backbone]",), "the study"),
        (("--pipeline={name: other}",), "the study"),
    ],
)
def test_an_option_that_a_setting_or_variant_would_override_is_reported(said, name, tiny_config):
    with pytest.raises(ConfigError, match=rf"^{re.escape(said[0])} has no effect on {name}, which sets .* itself"):
        plan(tiny_config, methods=["none"], labelled=["2", "all"], folds="2", given=said).study()


@pytest.mark.parametrize(
    ("own", "said", "key"),
    [
        ({"settings": {"few": {"data.labelled_subjects": 2}}}, {"labelled": ["3"]}, "data.labelled_subjects"),
        ({"variants": {"few": {"data.init_args.labelled_subjects": 2}}}, {"labelled": ["3"]}, "data.labelled_subjects"),
        ({"settings": {"few": {"protocol": {"clip_splits": True}}}}, {"protocols": ["released"]}, "protocol"),
    ],
)
def test_labels_and_protocols_of_an_ablation_cannot_be_given_again(own, said, key, tiny_config, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"config": str(tiny_config), "variants": {"few": {}}, **own}))
    option = f"--{next(iter(said))} {next(iter(said.values()))[0]}"
    with pytest.raises(ConfigError, match=f"^{option} has no effect on few, which sets {key} itself"):
        plan(ablation=path, **said).study()


@pytest.mark.parametrize("key", ["student.model.top_k", "student.model.structure.top_k"])
def test_an_old_key_that_a_variant_would_override_is_reported(key, tiny_config, tmp_path):
    path = tmp_path / "own.yaml"
    variants = {"wide": {"student.model.structure.top_k": 8}, "narrow": {"student.model.top_k": 4}}
    path.write_text(yaml.safe_dump({"config": str(tiny_config), "variants": variants}))
    with pytest.raises(ConfigError, match=rf"^--{key}=3 has no effect on (wide|narrow), which sets .*top_k itself"):
        plan(ablation=path, given=(f"--{key}=3",)).study()


def test_names_must_be_valid_folders():
    for name in ("a", "0.1", "labelled_0.1", "a+b", "T-Net"):
        check_name(name, "here")
    for name in ("", "..", "a b", "a/b", "-x", "upstream-x", "a\n"):
        with pytest.raises(ConfigError, match="cannot be used"):
            check_name(name, "here")


@pytest.mark.parametrize("where", ["settings", "variants"])
def test_no_setting_or_variant_is_named_as_the_store_of_stages(where, tmp_path, tiny_config):
    """A run looks for its stages in the nearest such folder above."""
    path = tmp_path / "a.yaml"
    text = {"config": str(tiny_config), "variants": {"none": {}}} | {where: {"stages": {}}}
    path.write_text(yaml.safe_dump(text))
    with pytest.raises(ConfigError, match=f"{where}: stages is the folder of all trained stages"):
        plan(ablation=path).study()


def test_seeds_are_draws_of_one_start(tmp_path, tiny_config):
    older, newer = plan(tiny_config, seeds=3).study(), plan(tiny_config, draws=3).study()
    assert older == newer
    assert (newer.seeds, newer.starts) == ((0, 1, 2), 1)
    assert plan(tiny_config, seeds=2, starts=3).study() == plan(tiny_config, draws=2, starts=3).study()
    with pytest.raises(ConfigError, match="--seeds and --draws both number the choices"):
        plan(tiny_config, seeds=2, draws=2).study()
    ablation = {"config": str(tiny_config), "draws": 4, "starts": 2, "variants": {"a": {"student.model.method": "kd"}}}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(ablation))
    of_file = plan(ablation=tmp_path / "a.yaml").study()
    assert (of_file.seeds, of_file.starts) == ((0, 1, 2, 3), 2)
    said = plan(ablation=tmp_path / "a.yaml", seeds=1, starts=1).study()
    assert (said.seeds, said.starts) == ((0,), 1)
    (tmp_path / "b.yaml").write_text(yaml.safe_dump(ablation | {"seeds": 4}))
    with pytest.raises(ConfigError, match="seeds and draws both"):
        read_study_file(tmp_path / "b.yaml")


@pytest.mark.parametrize(("wrong", "words"), [({"draws": 0}, "draws is 0"), ({"starts": 1001}, "starts is 1001")])
def test_draws_and_starts_are_within_their_seeds(tiny_config, wrong, words):
    with pytest.raises(ConfigError, match=words):
        plan(tiny_config, **wrong).study()


def test_labelled_people_that_are_fixed_are_not_drawn(tiny_config, tmp_path):
    fixed = ("--data.labelled_seed", "3")
    assert plan(tiny_config, given=fixed).study().arguments[-1] == "3"
    for more in ({"draws": 2}, {"starts": 2}):
        with pytest.raises(ConfigError, match="every draw of a study chooses other labelled people"):
            plan(tiny_config, given=fixed, **more).study()
    settings = {"config": str(tiny_config), "variants": {"a": {}}, "settings": {"b": {"data.labelled_seed": 1}}}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(ConfigError, match="labelled_seed is set"):
        plan(ablation=tmp_path / "a.yaml", draws=2).study()


def test_the_oracle_is_added_once(tiny_config):
    variants = plan(tiny_config, methods=["none", "kd"], oracle=True).study().variants
    assert variants["oracle"] == {"student.model.method": "oracle"}
    assert list(variants) == ["none", "kd", "oracle"]
    assert list(plan(tiny_config, methods=["oracle", "none"], oracle=True).study().variants) == ["oracle", "none"]
