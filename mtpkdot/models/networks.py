"""Networks of timm and torchvision without their classifiers, with random, pretrained or own weights."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mtpkdot.errors import ConfigError
from mtpkdot.models.weights import PRETRAINED, copy_weights, fetch_weights, match_weights, misfit, read_weights, wanted


def image_network(
    name: str, weights: str | None = None, channels: int = 3, size: tuple[int, int] | None = None
) -> tuple[nn.Module, int]:
    """Build a network of timm that maps pictures (N, channels, H, W) to features (N, F).

    Args:
        name: name in timm, with or without the tag of its weights (`resnet18`, `resnet18.a1_in1k`).
        weights: None for random, `pretrained` for timm's own, or the path of a file. Weights for colour pictures are
            adapted to other `channels` as in timm (summed for one channel).
        channels: number of input channels.
        size: (H, W) of the pictures, needed by networks that are built for one size; None if it varies.

    Returns:
        The network, and F.

    Raises:
        ConfigError: there is no such model, or the weights are not available or do not fit.
    """
    import timm
    from timm.models import get_pretrained_cfg

    if not timm.is_model(name):
        raise ConfigError(f"timm has no model {name!r}", "Choose one that `timm.list_models()` names.")
    try:
        config = get_pretrained_cfg(name)
    except RuntimeError as error:
        raise ConfigError(f"timm has no weights {name!r}", "See `timm.list_pretrained()`, or drop the tag.") from error
    arguments: dict[str, Any] = {"num_classes": 0, "in_chans": channels}
    if config is not None and config.fixed_input_size:
        if size is None:
            raise ConfigError(f"the model {name} reads pictures of one size only", "Choose a convolutional model.")
        arguments["img_size"] = size
    network: nn.Module = timm.create_model(name, **arguments)
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    if "img_size" in arguments and size and patch and (size[0] % patch[0] or size[1] % patch[1]):
        raise ConfigError(
            f"the model {name} reads patches of {patch[0]}x{patch[1]}; {size[0]}x{size[1]} is not a multiple of them",
            "Choose another size of the pictures, or a convolutional model.",
        )
    weights = wanted(weights)
    if weights is not None:
        path = _image_weights(name, config) if weights == PRETRAINED else Path(weights)
        state = read_weights(path)
        if weights != PRETRAINED:
            heads = config.classifier if config is not None else None
            state = match_weights(state, network, path, (heads,) if isinstance(heads, str) else heads or ())
        # timm adapts its weights to other channels and sizes, but only while it builds the network.
        overlay = {"state_dict": state, "custom_load": False}
        try:
            network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **arguments)
        except RuntimeError as error:
            raise misfit(path, error) from error
        network.pretrained_cfg.pop("state_dict")  # type: ignore[operator, union-attr] # a dict, or all weights twice
    return network, int(getattr(network, "head_hidden_size", None) or network.num_features)  # type: ignore[arg-type]


def video_network(name: str, weights: str | None = None) -> nn.Module:
    """Build a video network of torchvision that maps clips (N, 3, F, H, W) to features (N, 512).

    Args:
        name: `r3d_18`, `r2plus1d_18` or `mc3_18`.
        weights: None for random, `pretrained` for torchvision's own (Kinetics-400), or the path of a file.

    Raises:
        ConfigError: the weights are not available or do not fit.
    """
    from torchvision.models import get_model, get_model_weights  # type: ignore[import-untyped]

    network: nn.Module = get_model(name, weights=None)
    network.fc = nn.Identity()
    network.avgpool = _GlobalMean()
    weights = wanted(weights)
    if weights is not None:
        path = Path(weights)
        if weights == PRETRAINED:
            url = get_model_weights(name).DEFAULT.url
            filename = url.rsplit("/", 1)[1]
            path = fetch_weights(name, url, filename, Path(filename).stem.rsplit("-", 1)[1])
        copy_weights(network, match_weights(read_weights(path), network, path, ("fc",)), path)
    return network


class _GlobalMean(nn.Module):
    """Mean over time and space; the adaptive pooling of torchvision has no deterministic gradient on a GPU."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3, 4))


def _image_weights(name: str, config: Any) -> Path:
    """Return the file of timm's own weights, from the cache of huggingface_hub or torch, or downloaded."""
    if config is None or not (config.hf_hub_id or config.url):
        raise ConfigError(
            f"timm has no weights for the model {name}", "Set `weights` to null, or choose another model."
        )
    if not config.hf_hub_id:
        return fetch_weights(name, config.url, config.url.rsplit("/", 1)[1])
    from huggingface_hub import hf_hub_url, try_to_load_from_cache

    repository, _, revision = config.hf_hub_id.partition("@")
    filename = config.hf_hub_filename or "model.safetensors"
    cached = try_to_load_from_cache(repository, filename, revision=revision or None)
    if isinstance(cached, str):
        return Path(cached)
    # Not with huggingface_hub, which retries for half a minute without a network.
    url = hf_hub_url(repository, filename, revision=revision or None)
    return fetch_weights(name, url, f"{repository.replace('/', '--')}{Path(filename).suffix}")
