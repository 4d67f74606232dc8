"""First config for the user's own features: the guessed data section, and sections of stages that follow from it."""

import math

import yaml

from mtpkdot.data.tables.guess import Guess
from mtpkdot.pipeline.stages import BACKBONE, STUDENT, TEACHER, StageFit

_STEPS, _MOST_PASSES = 300, 200  # About the number of steps of 20 passes over 1,000 samples.


def first_config(guess: Guess, name: str, command: str) -> str:
    """Return an experiment as commented YAML.

    Args:
        guess: guess of the data section.
        name: name of the run.
        command: command that writes the config.
    """
    anchors = {"class_path": "StructuralTransport", "init_args": {"top_k": max(2, min(30, guess.samples // 10))}}
    lines = [
        ("data:", ""),
        ("  class_path: FeatureData", "its keys: mtpkdot fit --help FeatureData"),
        ("  init_args:", ""),
        *((f"    {key}: {_yaml(value)}", comment) for key, value, comment in guess.arguments),
        *_upstream(guess),
        (f"{STUDENT}:", ""),
        ("  model:", ""),
        ("    method: auto", "mtpkdot_plus if targets are missing, else none"),
        (f"    structure: {_yaml(anchors)}", "anchors, fewer than batch_size"),
        (f"pipeline: {_yaml({'name': name})}", "folder of the run below runs/"),
    ]
    head = [f"Written by `{command}` from what the files look like. Correct what is wrong.", *guess.notes]
    body = [f"{line:<47} # {_one_line(comment)}" if comment else line for line, comment in lines]
    return "\n".join([*(f"# {_one_line(line)}" for line in head), "", *body, ""])


def _upstream(guess: Guess) -> list[tuple[str, str]]:
    """Return lines with comments for the stages that learn from labelled samples alone."""
    passes = _passes(guess.labelled, guess.batch_size)
    if passes is None:
        empty: dict[str, object] = {name: {} for name in guess.modalities}
        return [(f"{BACKBONE}: {_yaml(empty)}", "a section each; {} takes the defaults")]
    backbones = {name: {"fit": {"max_epochs": passes}} for name in guess.modalities}
    comment = f"passes; {StageFit.max_epochs}, the default, would be few steps for so few labels"
    return [
        (f"{BACKBONE}: {_yaml(backbones)}", comment),
        (f"{TEACHER}: {_yaml({'fit': {'max_epochs': passes}})}", "likewise"),
    ]


def _passes(labelled: int, batch_size: int) -> int | None:
    """Return the passes over few labelled samples that make `_STEPS` steps; None if the default makes as many."""
    passes = min(_MOST_PASSES, math.ceil(_STEPS / math.ceil(labelled / batch_size)))
    return passes if passes > StageFit.max_epochs else None


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _yaml(value: object) -> str:
    """Return a value on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")
