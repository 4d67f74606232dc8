"""Pre-trained weights: from a local file, or the library's own, and never again once a model is trained."""

import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from mtpkdot.errors import ConfigError

PRETRAINED = "pretrained"
"""Value of a `weights` argument that asks for the library's own weights."""

# What training scripts put around a network, in files of weights.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "model.", "backbone.", "encoder.")
_HEADS = ("fc", "head", "classifier", "last_linear")
_TIMEOUT = 10.0

_skipped: ContextVar[bool] = ContextVar("without_pretrained", default=False)


@contextmanager
def without_pretrained() -> Iterator[None]:
    """Within this context encoders are built without their initial weights, whatever `weights` says.

    For models that are built again from a checkpoint: every weight is about to be replaced, and neither the network nor
    the file of the first weights may be needed for that.
    """
    token = _skipped.set(True)
    try:
        yield
    finally:
        _skipped.reset(token)


def wanted(weights: str | None) -> str | None:
    """The `weights` argument of an encoder, or None within `without_pretrained`."""
    return None if _skipped.get() else weights


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict.

    Args:
        path: `.safetensors`, or anything that `torch.save` wrote: a state dict, alone or as `state_dict`,
            `model_state_dict` or `model` of a larger dictionary.

    Returns:
        Name -> tensor, on the CPU.

    Raises:
        ConfigError: no such file, a damaged one, or one that holds more than tensors.
    """
    if not path.is_file():
        raise ConfigError(
            f"the weights {path} do not exist",
            f"Set `weights` to a .safetensors or .pth file, to `{PRETRAINED}`, or to null for random ones.",
        )
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise _damaged(path, error) from error
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    tensors = dict(content) if isinstance(content, Mapping) else {}
    if not tensors or not all(isinstance(name, str) and isinstance(x, Tensor) for name, x in tensors.items()):
        raise ConfigError(f"{path} holds no state dict", "Save `network.state_dict()` alone and name that file.")
    return tensors


def match_weights(
    state: Mapping[str, Tensor], network: nn.Module, path: Path, heads: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Bring the names of a state dict in line with a network without classifier.

    The prefixes `module.`, `model.`, `backbone.` and `encoder.` are stripped until the names fit; a classifier is
    dropped.

    Args:
        state: what the file holds.
        network: the network that is to adopt it; not changed.
        path: the file, for messages.
        heads: names of the classifier beside the usual ones.

    Returns:
        A state dict with the names of `network`. Shapes are not compared.

    Raises:
        ConfigError: names are missing or left over.
    """
    # Older files lack the batch counters, which torch then sets to zero.
    expected = set(network.state_dict())
    found = dict(state)
    while not expected & found.keys():
        prefix = next((prefix for prefix in _PREFIXES if any(name.startswith(prefix) for name in found)), None)
        if prefix is None:
            break
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    classifiers = tuple(f"{head}." for head in (*heads, *_HEADS))
    found = {name: tensor for name, tensor in found.items() if name in expected or not name.startswith(classifiers)}
    missing = sorted(name for name in expected - found.keys() if not name.endswith("num_batches_tracked"))
    unexpected = sorted(found.keys() - expected)
    if missing or unexpected:
        parts = [
            f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for kind, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        raise ConfigError(
            f"{path} does not fit the network {type(network).__name__}: weights {' and '.join(parts)}",
            "Name the model that these weights belong to, or other weights.",
        )
    return found


def adopt_weights(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a matched state dict into its network.

    Raises:
        ConfigError: shapes differ.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise misfit(path, error) from error


def misfit(path: Path, error: RuntimeError) -> ConfigError:
    """The message for weights whose shapes are not those of the network."""
    return ConfigError(
        f"{path} does not fit the network ({_one_line(error)})", "Name the model that these weights belong to."
    )


def fetch_weights(name: str, url: str, filename: str, hash_prefix: str | None = None) -> Path:
    """The library's weights: from torch's cache folder, or downloaded into it.

    Args:
        name: what they belong to, for messages.
        url: where they lie.
        filename: their name in the folder `checkpoints` of `torch.hub.get_dir()`.
        hash_prefix: first digits of the file's SHA-256.

    Raises:
        ConfigError: not there and not to be had, for example without network.
    """
    path = Path(torch.hub.get_dir(), "checkpoints", filename)
    if path.is_file():
        return path
    timeout = socket.getdefaulttimeout()
    # torch sets none: behind a firewall that drops packets the user would wait for minutes.
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix, progress=sys.stderr.isatty())
    except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: another hash
        raise ConfigError(
            f"the pre-trained weights of {name} are not in {path.parent} and cannot be downloaded ({_one_line(error)})",
            f"Download {url} where there is a network, and save it as {path} or set `weights` to its path.",
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
    return path


def _damaged(path: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"the weights {path} cannot be read ({_one_line(error)})",
        "Download the file again, or save a plain state dict: other objects than tensors are not loaded.",
    )


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."
