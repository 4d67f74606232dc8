"""`wandb agent` itself before a server that is a folder: `<trial>.json` has the values of a trial that waits.

Takes the agent's command line, with the folder in place of ENTITY/PROJECT/SWEEP; its `command` is that of the sweep.
"""

import argparse
import json
import os
from multiprocessing import Queue
from pathlib import Path
from typing import Any

import wandb
from wandb import wandb_agent
from wandb.apis.public import sweeps
from wandb.cli.cli import cli


def next_trial(folder: Path) -> list[dict[str, Any]]:
    """What the server answers to an agent that has nothing to do; a trial that is taken is `<trial>.running`."""
    for path in sorted(folder.glob("*.json")):
        taken = path.with_suffix(".running")
        try:
            path.rename(taken)
        except FileNotFoundError:
            continue  # by another agent
        values = {key: {"value": value} for key, value in json.loads(taken.read_text()).items()}
        return [{"type": "run", "run_id": path.stem, "program": "mtpkdot", "args": values}]
    return [{"type": "exit"}]


def main() -> None:
    """Run trials until there is none."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("verb", choices=["agent"])
    parser.add_argument("--forward-signals", action="store_true")
    parser.add_argument("--count", type=int)
    parser.add_argument("sweep", type=Path)
    given = parser.parse_args()
    config = json.dumps({"command": json.loads((given.sweep / "command").read_text())})
    os.environ[wandb.env.SWEEP_ID] = given.sweep.name
    # Of the agent's own command, and of the functions that ask the server: another wandb may have neither.
    assert "--forward-signals" in {name for option in cli.commands["agent"].params for name in option.opts}
    assert all(hasattr(sweeps, name) for name in ("_sweep_with_runs", "_register_agent", "_agent_heartbeat"))
    wandb.Api = lambda: None
    sweeps._sweep_with_runs = lambda *_: {"config": config}
    sweeps._register_agent = lambda *_, **__: {"id": "agent"}
    sweeps._agent_heartbeat = lambda _, agent, metrics, running: [] if running else next_trial(given.sweep)
    wandb_agent.Agent.POLL_INTERVAL = 0.2
    wandb_agent.Agent(None, Queue(), given.sweep.name, None, False, given.count, given.forward_signals).run()


if __name__ == "__main__":
    main()
