"""What an agent of a W&B sweep does, without a server: it draws values and runs the file's command on them."""

import os
import random
import sys
from pathlib import Path
from typing import Any

import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

ROOT = Path(__file__).parents[2]


def command(sweep: dict[str, Any], values: dict[str, Any]) -> list[str]:
    """The command line of a trial, put together as the agent does it."""
    filled = create_sweep_command_args({"args": {key: {"value": value} for key, value in values.items()}})
    words = [str(word) for word in create_sweep_command(sweep["command"])]
    line: list[str] = []
    for word in words:
        line += {"${env}": ["/usr/bin/env"], "${args}": filled["args"]}.get(word, [word])
    at = line.index("mtpkdot")
    return [sys.executable, "-m", *line[at:]]


def drawn(parameters: dict[str, Any], random: random.Random) -> dict[str, Any]:
    """Values of a trial."""

    def one(spec: dict[str, Any]) -> Any:
        if "value" in spec:
            return spec["value"]
        if "values" in spec:
            return random.choice(spec["values"])
        low, high = spec["min"], spec["max"]
        return random.randint(low, high) if "int" in spec["distribution"] else low * (high / low) ** random.random()

    return {key: one(spec) for key, spec in parameters.items()}


def environment(trial: str, sweep: str = "s1") -> dict[str, str]:
    """Of a trial, as the agent sets it; without credentials."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    return {**kept, "WANDB_SWEEP_ID": sweep, "WANDB_RUN_ID": trial, "NETRC": "/nonexistent", "PYTHONPATH": str(ROOT)}


def load(name: str) -> dict[str, Any]:
    """A sweep file."""
    sweep: dict[str, Any] = yaml.safe_load((ROOT / "configs" / "sweeps" / f"{name}.yaml").read_text())
    return sweep
