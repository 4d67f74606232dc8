import pytest
import yaml

from mtpkdot.errors import ConfigError, UserError
from mtpkdot.pipeline.config import parse, parse_content


def test_every_modality_has_a_section_with_defaults(tiny_config):
    config = parse("fit", ["--config", str(tiny_config)]).config
    assert set(config["backbone"]) == {"video", "signal"}
    assert config["backbone"]["signal"]["model"]["weight_decay"] == 0.01
    assert config["backbone"]["signal"]["fit"]["max_epochs"] == 2


def test_a_failed_command_line_does_not_affect_the_next(tiny_config, capsys):
    line = ["--config", str(tiny_config)]
    expected = parse("fit", line).text
    for wrong in ("--backbone.video.model.bogus=1", "--student.model.lr=x", "--data.nothing=1"):
        with pytest.raises(UserError):
            parse("fit", [*line, "--print_config", wrong, "--teacher.model.lr=0.5"])
        capsys.readouterr()
        assert parse("fit", line).text == expected
        assert capsys.readouterr().out == ""


def test_arguments_that_the_pipeline_fills_cannot_be_given(tiny_config):
    for key in ("student.model.task", "teacher.model.encoders", "student.model.batch_attention"):
        with pytest.raises(ConfigError):
            parse("fit", ["--config", str(tiny_config), f"--{key}", "classification"])
    with pytest.raises(UserError):
        parse("fit", ["--config", str(tiny_config), "--data.init_args.select_on_test", "true"])


def test_another_optimiser_does_not_inherit_the_weight_decay_of_the_default(tiny_config):
    own = ["--student.model.optimizer", "torch.optim.SGD", "--student.model.optimizer.lr", "0.1"]
    optimizer = parse("fit", ["--config", str(tiny_config), *own]).config["student"]["model"]["optimizer"]
    assert optimizer["init_args"]["weight_decay"] == 0


def test_a_modality_name_that_is_not_a_key_is_refused():
    data = ["--data", "FeatureData", "--data.manifest", "m.csv", "--data.target", "y", "--data.prevalent", "video"]
    with pytest.raises(UserError, match=r"a\.b"):
        parse("fit", [*data, "--data.features", '{"a.b": "x.csv", "video": "y.csv"}'])


def test_an_error_is_one_line(tiny_config):
    with pytest.raises(ConfigError) as caught:
        parse("fit", ["--config", str(tiny_config), "--teacher.model.fusion.dim", "wide"])
    assert "\n" not in str(caught.value)
    assert "teacher.model.fusion.dim" in str(caught.value)


@pytest.mark.parametrize("stage", ["student", "warm"])
def test_a_user_defined_class_keeps_its_own_defaults(stage, tiny_config):
    """And not those of the built-in class in its place, here a `dim` of 128."""
    extra = {"class_path": "mtpkdot.modules.StudentModule", "init_args": {"method": "none"}, "before": None}
    content = yaml.safe_load(tiny_config.read_text())
    content["student"]["model"].pop("fusion", None)
    content["pipeline"] = {"extra_stages": {"warm": extra}}
    own = f"--{stage}.model.fusion=tests.extending.parts.Beside"
    config = parse_content("fit", content, [own, f"--{stage}.model.lr=0.5"]).config
    assert config[stage]["model"]["fusion"]["init_args"] == {"dim": 16}
    assert config[stage]["model"]["lr"] == 0.5
    assert config["teacher"]["model"]["fusion"]["class_path"].endswith("GatedFusion")
