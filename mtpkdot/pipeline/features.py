"""Features of frozen encoders for the loaders: computed once per view, then read from the cache."""

import copy
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from mtpkdot.data.base import BaseData
from mtpkdot.data.batch import Batch, Clips, IntArray, SampleDataset
from mtpkdot.data.cache import Block, CachedFeatures, cached, cached_by_all
from mtpkdot.models.backbone import Backbone
from mtpkdot.models.encoder import Steps
from mtpkdot.modules import StageModule
from mtpkdot.pipeline.compiling import check_compiler, compile_encoders, forget_compiled
from mtpkdot.pipeline.ranks import Ranks
from mtpkdot.progress import progress

Precision = Literal["auto", "float32", "bfloat16", "off"]
_PASSING = ("training", "_is_full_backward_hook")  # State of every torch module, not settings.
_PLAIN = (bool, int, float, str, type(None), Steps)


@dataclass(frozen=True)
class FeatureCache:
    """Cache of encoder features, with everything that decides them beside the weights of the encoder.

    Attributes:
        root: folder of the caches.
        precision: precision of the encoder pass: bfloat16, float32, `auto` for bfloat16 where the processor computes
            with it, or `off` for no cache at all.
        keys: data section, contents of the data, and the code that reads them, as plain data; see `identity.data_keys`.
        encoders: configuration and code of the encoder of each modality; see `identity.encoder_keys`.
        compiled: True if encoders of media are compiled, here and in training.
        ranks: the processes of the run, which attach features together and share the work.
    """

    root: Path
    precision: Precision
    keys: dict[str, Any]
    encoders: dict[str, Any]
    compiled: bool = False
    ranks: Ranks | None = None

    def attach(self, module: StageModule, data: BaseData, fitting: bool, device: torch.device) -> None:
        """Let the loaders of `data` read features instead of raw steps for every frozen encoder of `module`.

        Data in memory are left unchanged, because their encoders are small.

        Args:
            module: the stage, set up.
            data: the data set, set up.
            fitting: True before training, False before prediction.
            device: device of the encoders.
        """
        if self.compiled:
            forget_compiled()
        at_hand: dict[str, CachedFeatures] = {}
        clips = {name for name, values in data.samples.features.items() if isinstance(values, Clips)}
        frozen = {name: backbones for name, backbones in module.frozen_encoders(fitting).items() if name in clips}
        views = data.views if fitting else 1
        for name, backbones in frozen.items() if self.precision != "off" else ():
            # Stages that read one modality with several encoders (one of them fine-tuned) compute features themselves.
            if len({_digest(backbone) for backbone in backbones}) == 1:
                folders = [self._view(backbones[0], data, name=name, view=view, device=device) for view in range(views)]
                at_hand[name] = CachedFeatures(folders)
        raw = [name for name in module.modalities if name not in at_hand]
        # The stage must see the same values whether features are cached or computed in every step.
        data.attach([*raw, *module.raw_modalities(fitting)], at_hand, views if frozen else None)
        if self.compiled and compile_encoders(module):
            check_compiler(device)

    def _view(self, backbone: Backbone, data: BaseData, name: str, view: int, device: torch.device) -> Path:
        positions = data.positions("train") if view else np.arange(len(data.samples))
        together = self.ranks if self.ranks is not None and self.ranks.size > 1 else None
        dtype = _dtype(self.precision, device)
        if together is not None:
            dtype = together.decided(lambda: dtype)
        keys = {
            "weights": _digest(backbone),
            "encoder": self.encoders.get(name),
            "data": self.keys,
            "view": view,
            "positions": hashlib.sha256(positions.tobytes()).hexdigest(),
            "dtype": str(dtype),
            "device": device.type,
            **({"compile": True} if self.compiled else {}),
        }

        rank, processes = (together.rank, together.size) if together is not None else (0, 1)

        def compute() -> Iterable[Block]:
            """Compute the share of this process."""
            title = f"features of {name}" + (f", view {view + 1}/{data.views}" if data.views > 1 else "")
            # Whole batches, the same as with a single process: the rounding of a convolution depends on its batch.
            batch = np.arange(len(positions)) // data.batch_size
            own = positions[batch % processes == rank]
            return encode(
                backbone,
                data,
                modality=name,
                positions=own,
                view=view,
                device=device,
                dtype=dtype,
                title="" if rank else title,
                compiled=self.compiled,
            )

        total = len(data.samples)
        if together is None:
            return cached(self.root, name, keys=keys, size=total, compute=compute)
        return cached_by_all(
            self.root, name, keys=keys, size=total, compute=compute, count=len(positions), processes=together
        )


def encode(
    backbone: Backbone,
    data: BaseData,
    modality: str,
    positions: IntArray,
    view: int,
    device: torch.device,
    dtype: torch.dtype,
    title: str,
    compiled: bool = False,
) -> Iterable[Block]:
    """Yield features (B, T', dim) and masks (B, T') of samples in one view, block by block, in evaluation mode.

    Args:
        backbone: backbone that computes them, in any precision and on any device.
        data: the data set.
        modality: modality of the encoder.
        positions: positions of the samples.
        view: number of the view.
        device: device of the computation.
        dtype: float32 or bfloat16.
        title: title of the progress bar; empty for none.
        compiled: compile the encoder.
    """
    dataset = SampleDataset(data.samples, [modality])
    pairs = [(int(position), view) for position in positions]
    loader = DataLoader(
        dataset,
        data.batch_size,
        sampler=pairs,
        num_workers=data.num_workers,
        collate_fn=_as_is,
    )
    # A copy, because the Trainer may keep the original in another precision and on another device.
    encoder = copy.deepcopy(backbone).float().eval().to(device)
    if compiled and compile_encoders(encoder):
        check_compiler(device)
    bar = progress(len(pairs), 0, title, "sample", leave=False, shown=bool(title))
    done = 0
    with bar, torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, dtype == torch.bfloat16):
        for batch in loader:
            assert isinstance(batch, Batch)
            x, mask = batch.inputs[modality].to(device), batch.masks[modality].to(device)
            features, steps = encoder.features(x, mask)
            where = positions[done : done + len(mask)]
            done += len(mask)
            bar.update(len(mask))
            yield where, features.float().cpu().numpy(), steps.cpu().numpy()


class FeaturesAtHand(Callback):
    """Callback that attaches cached features before the loaders of a fit are made.

    Args:
        cache: the cache.
    """

    def __init__(self, cache: FeatureCache) -> None:
        self.cache = cache

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Attach features after set-up and restoring, before any loader is made."""
        data = getattr(trainer, "datamodule", None)
        assert isinstance(pl_module, StageModule)
        assert isinstance(data, BaseData)
        self.cache.attach(pl_module, data, True, trainer.strategy.root_device)


def _dtype(precision: Precision, device: torch.device) -> torch.dtype:
    if precision == "auto":
        return torch.bfloat16 if computes_bfloat16(device) else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def computes_bfloat16(device: torch.device) -> bool:
    """Return whether the device has instructions for bfloat16; emulated, it is far slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # PyTorch has no public test for processors yet.
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and asked is not None and bool(asked())


def _digest(backbone: Backbone) -> str:
    """Return a digest of what computes the features: structure, plain settings and weights, without the head."""
    digest = hashlib.sha256(str(backbone).encode())
    for name, module in backbone.named_modules():
        kept = {key: value for key, value in vars(module).items() if key not in _PASSING}
        settings = {key: value for key, value in kept.items() if isinstance(value, _PLAIN)}
        digest.update(f"{name} {type(module).__qualname__} {sorted(settings.items())}".encode())
    for key, value in sorted(backbone.state_dict().items()):
        if not key.startswith("head."):
            value = value.detach().cpu()
            # A Trainer of another precision casts the weights to a type that numpy may not have.
            value = value.float() if value.is_floating_point() else value
            digest.update(key.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def _as_is(batch: Sequence[Any]) -> Any:
    return batch
