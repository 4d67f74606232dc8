import json
import sys
import time
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel

from mtpkdot.cli.main import main
from mtpkdot.pipeline import energy as module
from mtpkdot.pipeline import training
from mtpkdot.pipeline.energy import Energy

TURN = 1_000_000_000


def zone(folder, name, called, energy):
    (folder / name).mkdir(parents=True, exist_ok=True)
    for file, text in {"name": called, "energy_uj": energy, "max_energy_range_uj": TURN}.items():
        (folder / name / file).write_text(f"{text}\n")
    return folder / name / "energy_uj"


@pytest.fixture
def package(tmp_path):
    """The counter of the one processor."""
    return zone(tmp_path, "intel-rapl:0", "package-0", 0)


@pytest.fixture
def start(tmp_path):
    """Count for a trainer."""
    begun = []

    def begin(*devices, num_nodes=1):
        strategy = SimpleNamespace(root_device=torch.device(*devices or ("cpu",)))
        begun.append(Energy(tmp_path))
        begun[-1].setup(SimpleNamespace(strategy=strategy, num_nodes=num_nodes), None, "fit")
        return begun[-1]

    yield begin
    for energy in begun:
        energy.teardown(None, None, "fit")


def test_packages_are_summed_and_their_parts_are_not_counted_twice(package, tmp_path, start):
    core = zone(tmp_path, "intel-rapl:0:0", "core", 0)
    system = zone(tmp_path, "intel-rapl:2", "psys", 0)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 5_000_000)
    energy = start()
    assert energy.read() == {"processors": 0}
    for file, value in {package: 2_000_000, core: 900_000_000, system: 900_000_000, second: 5_500_000}.items():
        file.write_text(str(value))
    assert energy.read() == {"processors": 2.5}


def test_turns_of_a_counter_are_seen_whatever_the_training_is_at(package, start, monkeypatch):
    monkeypatch.setattr(module, "_EVERY", 0.01)
    package.write_text(str(TURN - 999_999))
    energy, reads = start(), []
    monkeypatch.setattr(energy, "read", lambda: reads.append(Energy.read(energy)))  # by the thread alone
    for value in (2_000_000, TURN, 1_999_999):
        new = package.with_suffix(".new")
        new.write_text(str(value))
        new.replace(package)
        before = len(reads)
        while len(reads) < before + 2:  # one may have been under way
            time.sleep(0.001)
    assert reads[-1]["processors"] == pytest.approx(TURN / 1e6 + 3.0)


@pytest.mark.parametrize("damage", ["secret", "no number", "several machines"])
def test_where_a_counter_is_missing_nothing_is_told(package, tmp_path, start, damage):
    file = zone(tmp_path, "intel-rapl:1", "package-1", 0)
    if damage == "secret":
        file.unlink()
        file.mkdir()  # cannot be read, by root either
    elif damage == "no number":
        file.write_text("n/a")
    assert start(num_nodes=2 if damage == "several machines" else 1).read() == {}


def test_a_machine_without_counters_tells_nothing(start):
    assert start().read() == {}


class Cards:
    """What of NVML is used."""

    class NVMLError(Exception):
        pass

    millijoules = 1000

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):
        assert uuid == "GPU-1234"
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, card):
        if self.millijoules is None:
            raise self.NVMLError("not supported")
        return self.millijoules


def test_cards_are_counted_where_they_tell_it(package, start, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1234"))
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed
    assert start("cuda", 0).read() == {"processors": 0.0}
    cards = Cards()
    monkeypatch.setitem(sys.modules, "pynvml", cards)
    energy = start("cuda", 0)
    cards.millijoules += 4500
    package.write_text("1000000")
    assert energy.read() == {"processors": 1.0, "cards": 4.5}
    cards.millijoules = None
    with pytest.warns(UserWarning, match="energy of the cards stays unknown: the card GPU-1234 no longer tells it"):
        assert energy.read() == {"processors": 1.0}
    cards.millijoules = 9000
    assert energy.read() == {"processors": 1.0}  # a counter that has come back has missed something
    cards.millijoules = None
    assert start("cuda", 0).read() == {"processors": 0.0}


class Using(Energy):
    """Sees 5 J used by every training."""

    def setup(self, *arguments, **named):
        super().setup(*arguments, **named)
        file = self.powercap / "intel-rapl:0/energy_uj"
        file.write_text(str(int(file.read_text()) + 5_000_000))


@pytest.mark.parametrize("counted", [True, False])
def test_a_resumed_training_goes_on_counting_if_all_was_counted(package, tmp_path, counted):
    def fit(energy, epochs, checkpoint=None):
        silent = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = L.Trainer(
            max_epochs=epochs, limit_train_batches=1, limit_val_batches=0, callbacks=energy, accelerator="cpu",
            default_root_dir=tmp_path, enable_checkpointing=False, **silent,
        )  # fmt: skip
        trainer.fit(BoringModel(), ckpt_path=checkpoint)
        return trainer

    file = tmp_path / "last.ckpt"
    fit([Using(tmp_path)] if counted else [], 1).save_checkpoint(file)
    energy = Using(tmp_path)
    fit([energy], 2, file)
    assert energy.read() == ({"processors": 10.0} if counted else {})


def test_a_stage_records_what_it_used(package, tmp_path, tiny_config, monkeypatch):
    monkeypatch.setattr(training, "Energy", lambda: Using(tmp_path))
    place = ["--pipeline.root", str(tmp_path / "runs"), "--pipeline.stages", "[backbone]"]
    assert main(["fit", "--config", str(tiny_config), *place]) == 0
    records = list((tmp_path / "runs/stages").glob("*/*/stage.json"))
    assert len(records) == 2
    assert [json.loads(path.read_text())["trained"]["joules"] for path in records] == [{"processors": 5.0}] * 2
