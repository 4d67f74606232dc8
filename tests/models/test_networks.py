import subprocess
import sys

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file

from mtpkdot.errors import ConfigError
from mtpkdot.models.networks import image_network, video_network
from mtpkdot.models.weights import without_pretrained
from tests.loops import over
from tests.models.helpers import assert_close, random

TINY = "test_resnet"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Empty caches, and no network."""

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def seeded(build, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build().eval()


def with_classifier(name=TINY):
    return seeded(lambda: timm.create_model(name, num_classes=7), seed=5)


@pytest.mark.slow
def test_the_libraries_are_loaded_only_when_a_network_is_built():
    modules = "visual, audio, signal, networks, weights"
    heavy = "{'timm', 'torchvision', 'torchaudio', 'huggingface_hub', 'lightning'}"
    code = f"import sys; from mtpkdot.models import {modules}; print({heavy} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


@over("name", [TINY, "test_convnext", "mobilenetv3_small_050"])
def test_the_feature_size_is_that_of_the_output(name):
    network, size = image_network(name)
    assert network.eval()(random(2, 3, 32, 32)).shape == (2, size)


def test_a_network_for_one_size_takes_the_size_of_the_pictures_and_needs_it():
    network, size = image_network("test_vit", size=(32, 48))
    assert network.eval()(random(2, 3, 32, 48)).shape == (2, size)
    with pytest.raises(ConfigError, match="one size only"):
        image_network("test_vit")
    with pytest.raises(ConfigError, match="64x21 is not a multiple"):
        image_network("test_vit", size=(64, 21))


@over("name, message", [("resnet999", "no model"), ("resnet18.nope", "no weights")])
def test_unknown_models_are_reported(name, message):
    with pytest.raises(ConfigError, match=message):
        image_network(name)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_a_local_file_are_used_without_their_classifier(suffix, tmp_path):
    source, path, x = with_classifier(), tmp_path / f"w{suffix}", random(2, 3, 32, 32)
    state = {f"module.{name}": tensor for name, tensor in source.state_dict().items()}
    save_file(state, path) if suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    network = image_network(TINY, str(path))[0].eval()
    assert_close(network(x), source.forward_head(source.forward_features(x), pre_logits=True))
    assert "state_dict" not in network.pretrained_cfg


def test_weights_for_colours_are_summed_for_one_channel(tmp_path):
    path, grey = tmp_path / "w.safetensors", random(2, 1, 32, 32)
    save_file(with_classifier().state_dict(), path)
    colour, one = image_network(TINY, str(path))[0].eval(), image_network(TINY, str(path), channels=1)[0].eval()
    assert_close(one(grey), colour(grey.expand(-1, 3, -1, -1)))


def test_positions_are_adapted_to_the_size_of_the_pictures(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(with_classifier("test_vit").state_dict(), path)
    network, _ = image_network("test_vit", str(path), size=(48, 48))
    assert network.pos_embed.shape[1] == 10
    assert torch.equal(network.blocks[0].attn.qkv.weight, with_classifier("test_vit").blocks[0].attn.qkv.weight)


def test_weights_of_another_model_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file(with_classifier("test_byobnet").state_dict(), path)
    with pytest.raises(ConfigError, match=r"other\.safetensors does not fit"):
        image_network(TINY, str(path))
    with pytest.raises(ConfigError, match=r"other\.safetensors does not fit"):
        video_network("mc3_18", str(path))


def test_weights_with_other_shapes_are_refused_in_one_line(tmp_path):
    path, state = tmp_path / "w.safetensors", with_classifier().state_dict()
    state["layer1.0.conv1.weight"] = torch.zeros(3, 3, 3, 3)
    save_file(state, path)
    with pytest.raises(ConfigError, match=r"w\.safetensors does not fit") as caught:
        image_network(TINY, str(path))
    assert "\n" not in str(caught.value)


def test_the_librarys_own_weights_come_from_the_cache(hub, monkeypatch):
    source = with_classifier()
    save_file(source.state_dict(), hub / "timm--test_resnet.r160_in1k.safetensors")
    network, _ = image_network(TINY, "pretrained")
    assert torch.equal(network.conv1[0].weight, source.conv1[0].weight)
    other = seeded(lambda: timm.create_model(TINY), seed=6)
    save_file(other.state_dict(), hub / "of_huggingface.safetensors")
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(hub / "of_huggingface.safetensors")
    )
    assert torch.equal(image_network(TINY, "pretrained")[0].conv1[0].weight, other.conv1[0].weight)


def test_without_network_the_file_and_its_place_are_named(hub):
    with pytest.raises(ConfigError) as caught:
        image_network("resnet18.a1_in1k", "pretrained")
    assert "https://huggingface.co/timm/resnet18.a1_in1k/resolve/main/model.safetensors" in str(caught.value)
    assert str(hub / "timm--resnet18.a1_in1k.safetensors") in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        video_network("mc3_18", "pretrained")
    assert "https://download.pytorch.org/models/mc3_18-a90a0ba3.pth" in str(caught.value)
    assert str(hub / "mc3_18-a90a0ba3.pth") in str(caught.value)


def test_a_model_without_weights_in_the_library_is_reported():
    with pytest.raises(ConfigError, match="timm has no weights"):
        image_network("test_mambaout", "pretrained")


def test_a_model_that_is_built_again_needs_neither_network_nor_file(hub):
    with without_pretrained():
        image_network(TINY, "pretrained")
        image_network(TINY, "gone.pth")
        video_network("mc3_18", "pretrained")
    assert not [path for path in hub.rglob("*") if path.is_file()]


def test_video_weights_come_from_the_cache_without_their_classifier(hub):
    from torchvision.models.video import mc3_18

    source = seeded(mc3_18, seed=5)
    torch.save(source.state_dict(), hub / "mc3_18-a90a0ba3.pth")
    network = video_network("mc3_18", "pretrained").eval()
    x = random(1, 3, 2, 16, 16)
    assert_close(source.fc(network(x)), source(x))
