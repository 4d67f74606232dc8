"""`--help SECTION` and `--help CLASS` of the verbs that take the keys of a config."""

import re

import pytest

from mtpkdot.cli.help import SECTIONS
from mtpkdot.cli.main import main
from mtpkdot.modules.teaching import METHODS
from mtpkdot.pipeline.stages import stage_classes


def shown(capsys, *argv: str) -> set[str]:
    """The keys that a help explains."""
    assert main(list(argv)) == 0
    return set(re.findall(r"^  --([\w.]+)", capsys.readouterr().out, re.MULTILINE))


def test_the_sections_are_those_of_the_printed_config(tiny_config, capsys):
    assert main(["fit", "--config", str(tiny_config), "--print_config"]) == 0
    printed = re.findall(r"^(\w+):", capsys.readouterr().out, re.MULTILINE)
    assert set(printed) == set(SECTIONS)
    assert set(stage_classes()) < set(SECTIONS)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_has_its_own_keys_and_no_others(section, capsys):
    keys = shown(capsys, "fit", "--help", section)
    assert keys
    assert {key.partition(".")[0] for key in keys} == {section}


def test_keys_come_with_their_defaults_in_every_spelling_and_verb(capsys):
    assert main(["fit", "--help=student"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--student.fit.max_epochs MAX_EPOCHS passes over the training part. (type: int, default: 20)" in text
    assert main(["crossval", "--help", "student"]) == 0
    assert " ".join(capsys.readouterr().out.split()) == text
    for verb in ("stage", "validate", "test"):
        assert "trainer.devices" in shown(capsys, verb, "--help", "trainer")
    assert "usage: mtpkdot crossval" in (main(["crossval", "--help"]), capsys.readouterr().out)[1]


def test_the_methods_are_listed_with_the_keys_of_the_student(capsys):
    assert main(["fit", "--help", "student"]) == 0
    listed = capsys.readouterr().out.partition("methods of student.model.method:\n")[2]
    assert re.findall(r"^  (\w+)", listed, re.MULTILINE) == list(METHODS)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("BioVid", "data.signals"),
        ("FeatureData", "data.subject_zscore"),
        ("FrameEncoder", "backbone.MODALITY.model.encoder.temporal_layers"),
        ("ContrastiveDistillation", "student.model.rival.temperature"),
    ],
)
def test_a_class_that_a_config_names_has_its_keys(name, key, capsys):
    assert key in shown(capsys, "fit", "--help", name)


def test_the_help_of_a_class_by_the_key_that_names_it_still_works(capsys):
    assert main(["fit", "--data.help=BioVid"]) == 0
    assert "--data.signals" in capsys.readouterr().out


def test_an_unknown_section_or_class_is_one_line_with_a_guess(complaint):
    assert "Did you mean student?" in complaint(["fit", "--help", "studnet"])
    assert "Did you mean BioVid?" in complaint(["stage", "--help", "Biovid"])
