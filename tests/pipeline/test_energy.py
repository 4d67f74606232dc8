import sys
from types import SimpleNamespace

import pytest
import torch

from mtpkdot.pipeline.energy import Energy

TURN = 1_000_000_000


def zone(folder, name, called, energy):
    (folder / name).mkdir(parents=True, exist_ok=True)
    for file, text in {"name": called, "energy_uj": energy, "max_energy_range_uj": TURN}.items():
        (folder / name / file).write_text(f"{text}\n")
    return folder / name / "energy_uj"


def trainer(*devices):
    return SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(*devices or ("cpu",))))


def counting(folder, *devices):
    energy = Energy(folder)
    energy.setup(trainer(*devices), None, "fit")
    return energy


def test_packages_are_summed_and_their_parts_are_not_counted_twice(tmp_path):
    first = zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    core = zone(tmp_path, "intel-rapl:0:0", "core", 0)
    system = zone(tmp_path, "intel-rapl:2", "psys", 0)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 0)
    energy = counting(tmp_path)
    assert energy.joules == 0
    for file, value in {first: 7_000_000, core: 900_000_000, system: 900_000_000, second: 500_000}.items():
        file.write_text(str(value))
    assert energy.joules == 2.5


def test_a_counter_that_starts_again_goes_on(tmp_path):
    file = zone(tmp_path, "intel-rapl:0", "package-0", TURN - 999_999)
    energy = counting(tmp_path)
    for value in (2_000_000, TURN, 1_999_999):
        file.write_text(str(value))
        energy.read -= 61  # a minute has passed
        energy.on_train_batch_end()
    assert energy.joules == pytest.approx((3_000_000 + (TURN - 2_000_000) + 2_000_000) / 1e6)


def test_the_energy_of_earlier_processes_counts_up_to_their_last_checkpoint(tmp_path):
    file = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    first = counting(tmp_path)
    file.write_text("3000000")
    kept = first.state_dict()
    file.write_text("9000000")  # lost
    second = counting(tmp_path)
    second.load_state_dict(kept)
    file.write_text("10000000")
    assert second.joules == 4.0
    second.load_state_dict({"joules": None})
    assert second.joules is None


@pytest.mark.parametrize("damage", ["nothing", "secret", "no number"])
def test_where_a_counter_is_missing_nothing_is_told(tmp_path, damage):
    zone(tmp_path, "intel-rapl:0", "package-0", 0)
    file = zone(tmp_path, "intel-rapl:1", "package-1", 0)
    if damage == "nothing":
        assert counting(tmp_path / "elsewhere").joules is None
        return
    file.unlink()
    if damage == "secret":
        file.mkdir()  # cannot be read, by root either
    else:
        file.write_text("n/a")
    assert counting(tmp_path).joules is None


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


def test_cards_are_counted_beside_processors_or_nothing_is(tmp_path, monkeypatch):
    file = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1234"))
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed
    assert counting(tmp_path, "cuda", 0).joules is None
    cards = Cards()
    monkeypatch.setitem(sys.modules, "pynvml", cards)
    energy = counting(tmp_path, "cuda", 0)
    cards.millijoules += 4500
    file.write_text("1000000")
    assert energy.joules == 5.5
    kept, cards.millijoules = cards.millijoules, None
    assert energy.joules is None
    cards.millijoules = kept
    assert energy.joules is None  # a counter that has come back has missed something
    cards.millijoules = None
    assert counting(tmp_path, "cuda", 0).joules is None
