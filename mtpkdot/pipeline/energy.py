"""Energy of a training, from the counters of the machine where it has some."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

POWERCAP = Path("/sys/class/powercap")
_EVERY = 60.0  # seconds between readings: a processor's counter starts again within less than an hour

Counter = Callable[[], float]


class Energy(Callback):
    """What processors and graphics cards use while a stage trains.

    The counters are of whole processors and cards, so that other work on them counts as well; memory and the rest of
    the machine do not. Processors tell by RAPL, where Linux lets the user read it, NVIDIA cards by NVML, where the
    package `nvidia-ml-py` is installed. Of several machines that train together it is that of the first.

    Args:
        powercap: where Linux shows RAPL.
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self.powercap = powercap
        self.counters: list[Counter] = []
        self.before, self.read = 0.0, time.monotonic()

    @property
    def joules(self) -> float | None:
        """Up to now, with that of the processes it was resumed from, up to their last checkpoint; None if unknown."""
        try:
            return self.before + sum(counter() for counter in self.counters) if self.counters else None
        except (OSError, ValueError):  # a counter has gone; the training has not
            self.counters = []
            return None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Start to count."""
        devices = getattr(trainer.strategy, "parallel_devices", None) or [trainer.strategy.root_device]
        cards = [device for device in devices if device.type == "cuda"]
        processors, found = _processors(self.powercap), _cards(cards)
        # A part of what there is would be told as the whole.
        self.counters = processors + found if processors and len(found) == len(cards) else []

    def on_train_batch_end(self, *arguments: Any, **keywords: Any) -> None:
        """Read the counters often enough to see every turn of theirs."""
        if time.monotonic() - self.read > _EVERY:
            self.read = time.monotonic()
            _ = self.joules

    def state_dict(self) -> dict[str, Any]:
        """For the process that goes on."""
        return {"joules": self.joules}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on; where an earlier process could not count, the whole stays unknown."""
        if state_dict["joules"] is None:
            self.counters = []
        else:
            self.before = state_dict["joules"]


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
        try:
            return float(nvml.nvmlDeviceGetTotalEnergyConsumption(card) - start) / 1e3
        except nvml.NVMLError as error:
            raise OSError(f"the card {uuid} no longer tells its energy") from error

    return since
