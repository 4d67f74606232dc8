import math

import pytest
import torch
from safetensors.torch import save_file

from mtpkdot.models.backbone import Backbone
from mtpkdot.models.encoder import Steps
from mtpkdot.models.visual import FrameEncoder, Pictures, VideoEncoder
from mtpkdot.models.weights import without_pretrained
from tests.loops import over
from tests.models.helpers import assert_close, assert_finite_gradients, gradients, random_mask

PICTURE, CLIP = (3, 32, 32), (2, 3, 32, 32)
KINDS = {
    "frames": (FrameEncoder, PICTURE, {"dim": 8}),
    "frames over time": (FrameEncoder, PICTURE, {"dim": 8, "temporal_layers": 1}),
    "frames of clips": (FrameEncoder, CLIP, {}),
    "one clip": (VideoEncoder, PICTURE, {"dim": 8}),
    "clips": (VideoEncoder, CLIP, {}),
}
every_kind = over("kind", KINDS)


def seeded(build, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build().eval()


def encoder(kind):
    cls, shape, settings = KINDS[kind]
    model = "test_resnet" if cls is FrameEncoder else "mc3_18"
    return seeded(lambda: cls(Steps(shape, 25.0), model=model, **settings))


def pictures(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def batch(kind, samples=4, steps=3):
    mask = random_mask(samples, steps, seed=1)
    mask[0], mask[1] = False, True
    return pictures(samples, steps, *KINDS[kind][1]), mask


@every_kind
def test_a_sample_depends_neither_on_its_batch_mates_nor_on_appended_masked_steps(kind):
    model, (x, mask) = encoder(kind), batch(kind)
    longer = torch.cat([x, pictures(4, 2, *x.shape[2:], seed=2)], dim=1)
    longer_mask = torch.cat([mask, torch.zeros(4, 2, dtype=torch.bool)], dim=1)
    with torch.no_grad():
        together, mask_out = model(x, mask)
        padded, _ = model(longer, longer_mask)
        for i in range(4):
            assert_close(together[i], model(x[i : i + 1], mask[i : i + 1])[0][0])
    assert_close(padded[:, : together.shape[1]], together)
    assert torch.equal(together[~mask_out], torch.zeros_like(together[~mask_out]))
    assert float(together[mask_out].abs().max(dim=-1).values.min()) > 0


@pytest.mark.slow
@every_kind
@over("garbage", [math.nan, math.inf])
def test_masked_steps_reach_neither_output_nor_gradient_nor_batch_statistics(kind, garbage):
    (x, mask), found = batch(kind), []
    x = x.float()
    for value in (0.0, garbage):
        model = encoder(kind)
        x[~mask] = value
        encoded = model(x, mask)[0]
        model.train()(x, mask)
        statistics = [buffer for name, buffer in model.named_buffers() if "running" in name]
        found.append((encoded, gradients(model.eval(), encoded), statistics))
    (clean, clean_gradients, clean_statistics), (dirty, dirty_gradients, dirty_statistics) = found
    assert torch.equal(clean, dirty)
    assert all(torch.equal(a, b) for a, b in zip(clean_gradients, dirty_gradients, strict=True))
    assert clean_statistics
    assert all(torch.equal(a, b) for a, b in zip(clean_statistics, dirty_statistics, strict=True))


@every_kind
@over("training", [True, False])
def test_a_batch_without_a_real_step_is_zero_with_zero_gradients(kind, training):
    model, (x, mask) = encoder(kind).train(training), batch(kind)
    encoded, mask_out = model(x, torch.zeros_like(mask))
    assert torch.equal(encoded, torch.zeros_like(encoded))
    assert not mask_out.any()
    assert_finite_gradients(model, encoded)
    assert all(p.grad is not None for p in model.network.parameters())


@every_kind
def test_bytes_and_floats_of_the_same_range_are_the_same_picture(kind):
    model, (x, mask) = encoder(kind), batch(kind)
    with torch.no_grad():
        assert torch.equal(model(x, mask)[0], model(x.float(), mask)[0])


@every_kind
def test_chunks_change_nothing(kind):
    model, (x, mask) = encoder(kind), batch(kind)
    with torch.no_grad():
        whole = model(x, mask)[0]
        model.chunk = 2
        assert_close(model(x, mask)[0], whole)


def test_pictures_are_normalised_per_colour():
    x = pictures(2, 3, 4, 4)
    mean, scale = (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
    expected = torch.stack([(x[:, c] / 255.0 - mean[c]) / scale[c] for c in range(3)], dim=1)
    assert_close(Pictures(mean, scale)(x), expected)


def test_a_frame_is_what_the_network_alone_makes_of_it():
    import timm

    model, x = seeded(lambda: FrameEncoder(Steps(PICTURE), model="resnet18")), pictures(1, 1, *PICTURE)
    bare = timm.create_model("resnet18", num_classes=0).eval()
    bare.load_state_dict(model.network.state_dict())
    mean, std = (torch.tensor(bare.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    assert model.dim == 512
    assert_close(model(x, torch.ones(1, 1, dtype=torch.bool))[0][0], bare((x[0] / 255.0 - mean) / std))


def test_a_step_of_several_frames_is_their_mean():
    frames, clips = encoder("frames"), seeded(lambda: FrameEncoder(Steps(CLIP), model="test_resnet", dim=8))
    x, mask = pictures(2, 3, *CLIP), torch.ones(2, 3, dtype=torch.bool)
    single = frames(x.flatten(1, 2), torch.ones(2, 6, dtype=torch.bool))[0]
    assert_close(clips(x, mask)[0], single.view(2, 3, 2, 8).mean(dim=2))


@pytest.mark.slow
@over("name", ["r3d_18", "r2plus1d_18"])
def test_a_clip_is_what_torchvision_makes_of_it(name):
    from torchvision.models import get_model, get_model_weights

    whole = seeded(lambda: VideoEncoder(Steps((3, 112, 112)), model=name))
    per_step = seeded(lambda: VideoEncoder(Steps((2, 3, 112, 112)), model=name))
    x = pictures(1, 2, 3, 112, 112)
    bare = get_model(name, weights=None).eval()
    bare.fc = torch.nn.Identity()
    bare.load_state_dict(whole.network.state_dict())
    # Of the size that torchvision resizes and crops to: what is left of its transform is the normalisation.
    transform = get_model_weights(name).DEFAULT.transforms(crop_size=(112, 112), resize_size=(112, 112))
    with torch.no_grad():
        expected = bare(transform(x))
        assert_close(whole(x, torch.ones(1, 2, dtype=torch.bool))[0][:, 0], expected)
        assert_close(per_step(x[None], torch.ones(1, 1, dtype=torch.bool))[0][:, 0], expected)


def test_a_masked_frame_within_a_clip_is_replaced_by_its_neighbour():
    model, x = encoder("one clip"), pictures(1, 5, *PICTURE)
    mask = torch.tensor([[False, True, False, True, False]])
    with torch.no_grad():
        filled = model(x[:, [1, 1, 1, 3]], torch.ones(1, 4, dtype=torch.bool))[0]
        assert_close(model(x, mask)[0], filled)


def test_a_vision_transformer_takes_the_size_of_the_steps():
    model = seeded(lambda: FrameEncoder(Steps((3, 48, 32)), model="test_vit"))
    encoded, _ = model(pictures(1, 2, 3, 48, 32), torch.ones(1, 2, dtype=torch.bool))
    assert encoded.shape == (1, 2, model.dim)


@over("cls", [FrameEncoder, VideoEncoder])
@over("shape", [(512,), (1, 32, 32), (32, 32, 3), (2, 2, 3, 32, 32)])
def test_other_steps_are_refused(cls, shape):
    with pytest.raises(ValueError, match="reads pictures"):
        cls(Steps(shape))


def test_a_backbone_leaves_pictures_to_their_encoder_and_is_built_again_without_first_weights(tmp_path):
    path, source = tmp_path / "w.safetensors", encoder("frames")
    save_file(source.network.state_dict(), path)

    def build():
        return Backbone(
            Steps(PICTURE), 2, lambda steps: FrameEncoder(steps, "test_resnet", dim=8, weights=str(path))
        ).eval()

    trained = seeded(build, seed=1)
    first = trained.encoder.network.conv1[0].weight
    assert torch.equal(first, source.network.conv1[0].weight)
    path.unlink()
    with without_pretrained():
        again = seeded(build, seed=2)
    again.load_state_dict(trained.state_dict())
    x, mask = pictures(2, 3, *PICTURE), torch.ones(2, 3, dtype=torch.bool)
    assert torch.equal(again(x, mask)[1], trained(x, mask)[1])
