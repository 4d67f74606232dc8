from dataclasses import fields

from mtpkdot.pipeline.protocol import Protocol, expand


def test_clean_reproduces_no_fault_and_released_all_six():
    assert expand("clean") == Protocol()
    assert [getattr(expand("released"), field.name) for field in fields(Protocol)] == [True] * 6


def test_names_show_which_faults_are_on():
    assert Protocol().name == "clean"
    assert expand("released").name == "released"
    assert Protocol(select_on_test=True, drop_last=True).name == "select_on_test+drop_last"


def test_only_backbones_see_all_parts():
    released = expand("released")
    assert released.data_arguments({"shared_backbone"})["train_on_all"]
    assert not released.data_arguments()["train_on_all"]
    assert released.data_arguments()["select_on_test"]
