"""Runs of the program in one or several processes that share its devices, and the losses of their steps."""

import json
import multiprocessing
import os
import socket
import sys
import traceback
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback

from mtpkdot.cli.main import main
from tests.plugs import gated, hourglass, transport

# MTPKDOT_EPOCHS=34 makes more than 200 steps of every stage.
EPOCHS = int(os.environ.get("MTPKDOT_EPOCHS", "4"))
EXACT: dict[str, Any] = {
    "seed_everything": 3,
    "data": {
        "class_path": "PlantedData",
        "init_args": {
            "subjects": 10,
            "samples_per_subject": 11,
            "steps": 2,
            # Nothing divides anything: the last batches have 3 and 6 samples.
            "batch_size": 9,
            "labelled": 0.7,
            "split": {"scheme": "kfold", "folds": 5},
        },
    },
    "trainer": {
        "accelerator": "cpu",
        "precision": "64-true",
        "callbacks": [{"class_path": "tests.pipeline.processes.LossCurve"}],
    },
    "backbone": {
        name: {
            "model": {"encoder": {"class_path": "FeatureEncoder", "init_args": {"dim": 16, "dropout": 0.0}}},
            "fit": {"max_epochs": EPOCHS},
        }
        for name in ("video", "signal")
    },
    "teacher": {"model": gated(dim=16, feedforward=16, dropout=0.0), "fit": {"max_epochs": EPOCHS}},
    "adapted": {"fit": {"max_epochs": EPOCHS}},
    "hallucinator": {"model": hourglass(hidden=[16]), "fit": {"max_epochs": EPOCHS}},
    "student": {
        "model": gated(dim=16, feedforward=16, dropout=0.0) | transport(top_k=4),
        "fit": {"max_epochs": EPOCHS},
    },
    "pipeline": {"name": "exact"},
}


class LossCurve(Callback):
    """Writes the loss of every step, and the logged means, into the stage's folder."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._write(trainer, [trainer.current_epoch, batch_idx, outputs["loss"].item()])

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        kept = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
        self._write(trainer, [trainer.current_epoch, None, kept])

    def _write(self, trainer: L.Trainer, line: list[Any]) -> None:
        with (Path(trainer.default_root_dir) / f"curve-{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


def curves(folder: Path, rank: int = 0) -> tuple[list[float], list[dict[str, float]]]:
    """Loss of every step, and metrics of every epoch, as a process has written them into a stage's folder."""
    lines = [json.loads(line) for line in (folder / f"curve-{rank}.jsonl").read_text().splitlines()]
    return [value for _, step, value in lines if step is not None], [v for _, step, v in lines if step is None]


def run(world: int, *commands: list[str], log: Path, codes: tuple[int, ...] | None = None) -> None:
    """Run commands one after the other, each in `world` processes at once, as torchrun and srun start them.

    They are forked from this process, so that what is slow to import is imported once.

    Args:
        world: processes.
        commands: arguments of the program.
        log: where the processes write, with their rank after it.
        codes: exit code that each must have; None for 0.
    """
    processes = begin(world, *commands, log=log)
    for process in processes:
        process.join()
    told = "\n".join(path.read_text() for path in sorted(log.parent.glob(f"{log.name}*")))
    assert tuple(process.exitcode for process in processes) == (codes or (0,) * world), told


def begin(world: int, *commands: list[str], log: Path) -> list[ForkProcess]:
    """Start what `run` runs, and do not wait for it."""
    ports = [_free_port() for _ in commands]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_start, args=(rank, world, commands, ports, log)) for rank in range(world)]
    for process in processes:
        process.start()
    return processes


def _start(rank: int, world: int, commands: tuple[list[str], ...], ports: list[int], log: Path) -> None:
    with Path(f"{log}-{rank}").open("w") as file:
        sys.stdout = sys.stderr = file
        torch.set_num_threads(1)
        for command, port in zip(commands, ports, strict=True):
            if world > 1:
                os.environ |= {
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(port),
                    "LOCAL_RANK": str(rank),
                    "NODE_RANK": "0",
                    "WORLD_SIZE": str(world),
                }
            try:
                code = main([*command, "--trainer.devices", str(world)])
            except BaseException:  # noqa: BLE001 - the forked process must not go on as a test
                traceback.print_exc(file=file)
                code = 1
            assert not dist.is_initialized()
            file.flush()
            if code:
                os._exit(code)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
