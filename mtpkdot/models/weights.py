"""Pretrained weights, from a local file or from the library, which a trained checkpoint no longer needs."""

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
"""Value of a `weights` argument for the library's own weights."""

# Keys and prefixes that training scripts put around the weights of a network.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "model.", "backbone.", "encoder.")
_HEADS = ("fc", "head", "classifier", "last_linear")
_TIMEOUT = 10.0

_skipped: ContextVar[bool] = ContextVar("without_pretrained", default=False)


@contextmanager
def without_pretrained() -> Iterator[None]:
    """Build encoders within the block without their pretrained weights, regardless of `weights`.

    For models that are rebuilt from a checkpoint: every weight will be replaced, and loading must need neither the
    internet nor the file of the pretrained weights.
    """
    token = _skipped.set(True)
    try:
        yield
    finally:
        _skipped.reset(token)


def wanted(weights: str | None) -> str | None:
    """Return the `weights` argument of an encoder, or None within `without_pretrained`."""
    return None if _skipped.get() else weights


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict.

    Args:
        path: a `.safetensors` file, or a file of `torch.save` with a state dict, alone or under the key `state_dict`,
            `model_state_dict` or `model`.

    Returns:
        Tensors on the CPU, by name.

    Raises:
        ConfigError: the file does not exist, is damaged, or contains more than tensors.
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
    """Match the names of a state dict to those of a network without classifier.

    The prefixes `module.`, `model.`, `backbone.` and `encoder.` are removed until the names match; a classifier is
    dropped.

    Args:
        state: state dict of the file.
        network: network that the weights are for; not changed.
        path: the file, for messages.
        heads: names of the classifier, in addition to the usual ones.

    Returns:
        A state dict with the names of `network`; shapes are not checked.

    Raises:
        ConfigError: names are missing or left over.
    """
    # Older files have no batch counters, which torch then sets to zero.
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


def copy_weights(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a matched state dict into a network.

    Raises:
        ConfigError: shapes differ.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise misfit(path, error) from error


def misfit(path: Path, error: RuntimeError) -> ConfigError:
    """Return the error for weights whose shapes differ from those of the network."""
    return ConfigError(
        f"{path} does not fit the network ({_one_line(error)})", "Name the model that these weights belong to."
    )


def fetch_weights(name: str, url: str, filename: str, hash_prefix: str | None = None) -> Path:
    """Return the file of the library's weights from torch's cache folder, downloaded if it is not there.

    Args:
        name: name of the model, for messages.
        url: address of the file.
        filename: name of the file in the folder `checkpoints` of `torch.hub.get_dir()`.
        hash_prefix: first digits of the file's SHA-256.

    Raises:
        ConfigError: the file is not in the cache and cannot be downloaded, for example without a network.
    """
    path = Path(torch.hub.get_dir(), "checkpoints", filename)
    if path.is_file():
        return path
    timeout = socket.getdefaulttimeout()
    # torch sets no timeout: behind a firewall that drops packets the user would wait for minutes.
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix, progress=sys.stderr.isatty())
    except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: wrong hash
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
