import socket
import time
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mtpkdot.errors import ConfigError
from mtpkdot.models.weights import (
    copy_weights,
    fetch_weights,
    match_weights,
    read_weights,
    wanted,
    without_pretrained,
)


def network():
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4)))


def state():
    return {name: tensor.clone() for name, tensor in network().state_dict().items()}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of torch, and no network."""

    def refuse(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_state_dict"])
def test_a_state_dict_is_read_alone_or_out_of_a_checkpoint(wrapper, tmp_path):
    path, tensors = tmp_path / "w.pth", state()
    torch.save({wrapper: tensors, "epoch": 3} if wrapper else tensors, path)
    read = read_weights(path)
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


def test_safetensors_are_read(tmp_path):
    tensors = state()
    save_file(tensors, tmp_path / "w.safetensors")
    read = read_weights(tmp_path / "w.safetensors")
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("damage", ["missing", "empty", "text", "cut"])
def test_files_that_cannot_be_read_are_named_in_one_line(name, damage, tmp_path):
    path = tmp_path / name
    if damage == "empty":
        path.touch()
    elif damage == "text":
        path.write_text("<html>404</html>")
    elif damage == "cut":
        save_file(state(), path) if path.suffix == ".safetensors" else torch.save(state(), path)
        path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ConfigError, match=name) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


def test_a_file_with_code_in_it_is_not_run(tmp_path):
    torch.save({"state_dict": network()}, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match="plain state dict"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, {"state_dict": {"lr": 0.1}}])
def test_a_file_without_a_state_dict_is_reported(content, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match="holds no state dict"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "backbone.", "encoder.", "module.backbone.encoder."])
def test_prefixes_are_stripped_and_a_classifier_is_dropped(prefix, tmp_path):
    tensors = state()
    stored = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
    stored |= {"module.fc.weight": torch.zeros(2, 4), "classifier.bias": torch.zeros(2), "top.bias": torch.zeros(1)}
    matched = match_weights(stored, network(), tmp_path, heads=("top",)) if prefix != "" else None
    if matched is None:
        del stored["module.fc.weight"]
        matched = match_weights(stored, network(), tmp_path, heads=("top",))
    assert matched.keys() == tensors.keys()
    assert all(matched[name] is tensors[name] for name in tensors)


def test_a_layer_of_the_network_is_never_taken_for_a_classifier(tmp_path):
    layers = nn.Sequential(OrderedDict(head=nn.Linear(2, 2), body=nn.Linear(2, 2)))
    assert match_weights(layers.state_dict(), layers, tmp_path).keys() == layers.state_dict().keys()


def test_files_without_batch_counters_are_read(tmp_path):
    tensors = state()
    del tensors["norm.num_batches_tracked"]
    model = network()
    copy_weights(model, match_weights(tensors, model, tmp_path), tmp_path)
    assert torch.equal(model.conv.weight, tensors["conv.weight"])


def test_missing_and_unexpected_weights_are_named(tmp_path):
    tensors = state()
    del tensors["conv.bias"]
    tensors |= {f"extra.{index}": torch.zeros(1) for index in range(5)}
    with pytest.raises(ConfigError) as caught:
        match_weights(tensors, network(), tmp_path / "w.pth")
    assert "1 missing (conv.bias) and 5 unexpected (extra.0, extra.1, extra.2, ...)" in str(caught.value)
    assert "w.pth" in str(caught.value)


def test_weights_of_other_shapes_are_reported_in_one_line(tmp_path):
    tensors = state()
    tensors["conv.weight"] = torch.zeros(5, 3, 3, 3)
    with pytest.raises(ConfigError, match=r"w\.pth does not fit") as caught:
        copy_weights(network(), tensors, tmp_path / "w.pth")
    assert "\n" not in str(caught.value)


def test_without_network_the_message_names_the_download_and_its_place_at_once(hub):
    begin = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        fetch_weights("r3d_18", "https://example.org/r3d.pth", "r3d.pth")
    assert time.monotonic() - begin < 2
    for part in ("https://example.org/r3d.pth", str(hub / "r3d.pth"), "r3d_18", "`weights`"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert socket.getdefaulttimeout() is None


def test_a_file_in_the_cache_needs_no_network(hub):
    hub.mkdir(parents=True)
    (hub / "r3d.pth").touch()
    assert fetch_weights("r3d_18", "https://example.org/r3d.pth", "r3d.pth") == hub / "r3d.pth"


def test_a_download_is_kept_and_one_with_another_hash_is_refused(hub, tmp_path):
    source = tmp_path / "source.pth"
    source.write_bytes(b"weights")
    with pytest.raises(ConfigError, match="hash"):
        fetch_weights("net", source.as_uri(), "kept.pth", hash_prefix="0000")
    assert not (hub / "kept.pth").exists()
    assert fetch_weights("net", source.as_uri(), "kept.pth").read_bytes() == b"weights"


def test_a_model_that_is_built_again_wants_no_first_weights():
    assert wanted("pretrained") == "pretrained"
    with without_pretrained():
        with without_pretrained():
            assert wanted("pretrained") is None
        assert wanted("file.pth") is None
    assert wanted("pretrained") == "pretrained"
    with pytest.raises(KeyError), without_pretrained():
        raise KeyError
    assert wanted("file.pth") == "file.pth"
