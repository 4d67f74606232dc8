"""Energy of a training, from the counters of the machine where it has some."""

from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn

POWERCAP = Path("/sys/class/powercap")
_EVERY = 30.0  # seconds: the counter of a busy processor starts again within minutes

Counter = Callable[[], float]


class Energy(Callback):
    """What processors and graphics cards use while a stage trains.

    The counters are of whole processors and cards, so that other work on them counts as well; memory and the rest of
    the machine do not. Processors tell by RAPL, where Linux lets the user read it, NVIDIA cards by NVML, where the
    package `nvidia-ml-py` is installed. Of trainings on several machines nothing is known.

    Args:
        powercap: where Linux shows RAPL.
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self.powercap = powercap
        self.counters: dict[str, list[Counter]] = {}
        self.before: dict[str, float] = {}
        self.reading, self.over = Lock(), Event()

    def read(self) -> dict[str, float]:
        """Joules up to now of `processors` and `cards`, of whichever all are known.

        Those of the processes it was resumed from are in it, up to their last checkpoint.
        """
        with self.reading:
            known = {}
            for name, counters in list(self.counters.items()):
                try:
                    known[name] = self.before.get(name, 0.0) + sum(counter() for counter in counters)
                except (OSError, ValueError) as error:
                    rank_zero_warn(f"The energy of the {name} stays unknown: {error}")
                    del self.counters[name]
            return known

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Start to count."""
        devices = getattr(trainer.strategy, "parallel_devices", None) or [trainer.strategy.root_device]
        found = {
            "processors": _processors(self.powercap),
            "cards": _cards([device for device in devices if device.type == "cuda"]),
        }
        self.counters = {name: counters for name, counters in found.items() if counters and trainer.num_nodes == 1}
        if self.counters:
            Thread(target=self._watch, daemon=True).start()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """No turn of a counter can be missed between now and the last reading."""
        self.over.set()

    def _watch(self) -> None:
        """Read often enough to see every turn of a counter, whatever the training is at."""
        while not self.over.wait(_EVERY):
            self.read()

    def state_dict(self) -> dict[str, Any]:
        """For the process that goes on."""
        return {"joules": self.read()}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on; what an earlier process did not count stays unknown.

        Not `load_state_dict`, which is not called where the checkpoint has no state of this callback.
        """
        with self.reading:
            self.before = checkpoint["callbacks"].get(self.state_key, {}).get("joules", {})
            self.counters = {name: counters for name, counters in self.counters.items() if name in self.before}


def _processors(powercap: Path) -> list[Counter]:
    """One per package, the zones `intel-rapl:N` (of AMD's processors too); none unless all can be read."""
    try:
        return [
            _turning(zone / "energy_uj", int((zone / "max_energy_range_uj").read_text()))
            for zone in sorted(powercap.glob("intel-rapl:*"))
            if zone.name.count(":") == 1 and (zone / "name").read_text().startswith("package")
        ]
    except (OSError, ValueError):
        return []


def _turning(file: Path, turn: int) -> Counter:
    """Joules since now, from a counter of microjoules that starts again after `turn`."""
    last, total = int(file.read_text()), 0

    def since() -> float:
        """Right if called at least once in every turn."""
        nonlocal last, total
        now = int(file.read_text())
        total += (now - last) % (turn + 1)
        last = now
        return total / 1e6

    return since


def _cards(devices: list[torch.device]) -> list[Counter]:
    """One per card; none where there is no NVML or a card has no such counter."""
    if not devices:
        return []
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        return [_of_card(pynvml, f"GPU-{torch.cuda.get_device_properties(device).uuid}") for device in devices]
    except pynvml.NVMLError:
        return []


def _of_card(nvml: Any, uuid: str) -> Counter:
    """Joules since now, from a counter of millijoules."""
    card = nvml.nvmlDeviceGetHandleByUUID(uuid)
    start = nvml.nvmlDeviceGetTotalEnergyConsumption(card)

    def since() -> float:
        """It counts from the driver's start and does not turn."""
        try:
            return float(nvml.nvmlDeviceGetTotalEnergyConsumption(card) - start) / 1e3
        except nvml.NVMLError as error:
            raise OSError(f"the card {uuid} no longer tells it") from error

    return since
