"""Trial of an encoder on some samples before anything is trained."""

from typing import Any

import torch
from torch import nn

from mtpkdot.data.base import BaseData
from mtpkdot.data.batch import SampleDataset
from mtpkdot.data.splits import PARTS
from mtpkdot.errors import ConfigError
from mtpkdot.models.backbone import Backbone
from mtpkdot.models.encoder import Encoder
from mtpkdot.tracebacks import place_of

_TRIED = 2  # samples of each part
# Errors that a wrong signature or wrong shapes may raise.
_RAISED = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError)
_EXPECTED = "It gets x (B, T, *steps.shape) and a mask (B, T), and returns features (B, T', dim) and a mask (B, T')"


def try_encoder(backbone: Backbone, modality: str, data: BaseData, key: str) -> None:
    """Pass some samples of each part through an encoder to check the shapes that it returns.

    Args:
        backbone: backbone with the encoder; it is left in eval mode.
        modality: name of the modality that it reads.
        data: the data set, already read.
        key: key of the encoder in the config, for the error.

    Raises:
        ConfigError: the encoder fails, or its result is not that of an encoder.
    """
    encoder, dataset = backbone.encoder, SampleDataset(data.samples, [modality])
    where = f"{key} {type(encoder).__name__}"
    backbone.eval()
    for part in PARTS:
        positions = data.positions(part)
        if not len(positions):
            continue
        batch = dataset.__getitems__([int(position) for position in positions[:_TRIED]])
        x, mask = batch.inputs[modality], batch.masks[modality]
        try:
            with torch.inference_mode(), torch.random.fork_rng(devices=[]):
                found = encoder(backbone.normalise(x), mask)
        except _RAISED as error:
            if type(encoder).__module__.startswith("mtpkdot."):
                raise
            message = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(
                f"{where} fails on {len(mask)} samples {tuple(x.shape)} of the {part} part: {type(error).__name__}: "
                f"{message} ({place_of(error)})",
                f"{_EXPECTED}.",
            ) from error
        problem = _problem(found, encoder, mask, data.per_step)
        if problem:
            raise ConfigError(f"{where} {problem} for x {tuple(x.shape)}", f"{_EXPECTED}; see mtpkdot.models.Encoder.")


def _problem(found: Any, encoder: nn.Module, mask: torch.Tensor, per_step: bool) -> str:
    """Return a description of the error in an encoder's result, or an empty string if it is correct."""
    if not (isinstance(found, tuple) and len(found) == 2 and all(isinstance(part, torch.Tensor) for part in found)):
        return f"returns {type(found).__name__}, not two tensors"
    features, steps = found
    assert isinstance(encoder, Encoder)
    if features.ndim != 3 or features.shape[0] != len(mask) or features.shape[2] != encoder.dim:
        return f"returns features {tuple(features.shape)}, not ({len(mask)}, T', {encoder.dim})"
    if steps.shape != features.shape[:2] or steps.dtype != torch.bool:
        return f"returns a mask {tuple(steps.shape)} of {steps.dtype}, not {tuple(features.shape[:2])} of torch.bool"
    if per_step and steps.shape != mask.shape:
        return f"turns {mask.shape[1]} steps into {steps.shape[1]}, but every step has a target of its own,"
    return ""
