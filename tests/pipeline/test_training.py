"""Training of one stage."""

import yaml

from mtpkdot.data import PlantedData
from tests.conftest import TINY

OWN = "tests.pipeline.test_training"


class Opaque:
    """Object without an equality of its own, and without attributes to compare."""

    __slots__ = ("value",)

    def __init__(self, value: int = 1) -> None:
        self.value = value


class Holding(PlantedData):
    """Data with such an object as an argument."""

    def __init__(self, held: Opaque | None = None, **options) -> None:
        super().__init__(**options)
        self.held = held


def test_an_argument_of_own_data_that_cannot_be_compared_is_named_in_one_line(tmp_path, complaint):
    arguments = {**TINY["data"]["init_args"], "held": {"class_path": f"{OWN}.Opaque"}}
    config = {**TINY, "data": {"class_path": f"{OWN}.Holding", "init_args": arguments}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    line = complaint(["fit", "--config", str(tmp_path / "own.yaml"), "--pipeline.root", str(tmp_path / "runs")])
    assert "data.init_args.held of Holding is not equal to another object of the same settings" in line
    assert line.endswith("Give its class an __eq__, for example by @dataclass.")
