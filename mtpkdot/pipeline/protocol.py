"""Evaluation protocols: the clean one, and the released one with the faults of the papers' code as switches."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

ProtocolName = Literal["clean", "released"]


@dataclass(frozen=True)
class Protocol:
    """Faults of the released code that are reproduced; none by default.

    Args:
        clip_splits: fault 1: splits are made by clip, so that a person is in training and test.
        select_on_test: fault 2: the epoch is chosen on the test part.
        shared_backbone: fault 3: the backbones are trained on all parts, test clips included.
        batch_attention: fault 4: attention runs across the batch, so that predictions depend on batch-mates.
        frozen_projections: fault 5: the projections before the fusion stay random.
        drop_last: fault 6: evaluation drops the last partial batch.
    """

    clip_splits: bool = False
    select_on_test: bool = False
    shared_backbone: bool = False
    batch_attention: bool = False
    frozen_projections: bool = False
    drop_last: bool = False

    @property
    def name(self) -> str:
        """Name of the protocol: `clean`, `released`, or the faults that are switched on."""
        on = [name for name, value in asdict(self).items() if value]
        if not on:
            return "clean"
        return "released" if len(on) == len(fields(self)) else "+".join(on)

    def data_arguments(self, switches: Collection[str] = ()) -> dict[str, Any]:
        """Return the arguments of the DataModule in a stage.

        Args:
            switches: those that the stage declares, see `StageDeclaration`.
        """
        return {
            "clip_splits": self.clip_splits,
            "select_on_test": self.select_on_test,
            "drop_last": self.drop_last,
            "train_on_all": self.shared_backbone and "shared_backbone" in switches,
        }

    def model_arguments(self, switches: Collection[str]) -> dict[str, Any]:
        """Return the arguments of a stage's module.

        Args:
            switches: those that the stage declares, see `StageDeclaration`.
        """
        known = {"batch_attention": self.batch_attention, "frozen_projections": self.frozen_projections}
        return {name: value for name, value in known.items() if name in switches}


def expand(protocol: "ProtocolName | Protocol") -> Protocol:
    """Return the switches that a name stands for."""
    if isinstance(protocol, Protocol):
        return protocol
    return Protocol(**{field.name: protocol == "released" for field in fields(Protocol)})
