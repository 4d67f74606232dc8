"""Annotations over time: windows that overlap give every frame one result, the mean over those that hold it."""

import numpy as np
import pytest
import torch

from mtpkdot.data import AffWild2
from mtpkdot.data.media.pictures import PictureSettings

FRAMES, CLIPS, HOP = 4, 3, 1


@pytest.fixture(scope="module")
def data(affwild2_twin, tmp_path_factory):
    return AffWild2(
        root=str(affwild2_twin),
        store=str(tmp_path_factory.mktemp("store")),
        pictures=PictureSettings(size=32, crop="whole"),
        frames=FRAMES,
        clips=CLIPS,
        hop=HOP,
        prepare_workers=1,
    )


def all_steps(data, part):
    return (data.positions(part)[:, None] * CLIPS + np.arange(CLIPS)).ravel()


def test_a_frame_in_several_windows_is_scored_once_by_their_mean(data):
    index = all_steps(data, "test")
    output = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (len(index), 2)).astype(np.float32))
    rows, values = data.compared(index, output)
    assert len(set(rows.ids.tolist())) == len(rows.ids) == len(values)
    found = {}
    for row, window in zip(data.positions("test"), output.view(-1, CLIPS, 2).numpy(), strict=True):
        recording, first = data.samples.ids[row].rsplit("-", 1)
        for step in range(CLIPS):
            found.setdefault((recording, int(first) + step), []).append(window[step])
    assert max(map(len, found.values())) == CLIPS
    for id, value in zip(rows.ids.tolist(), values.numpy(), strict=True):
        recording, frame = id.rsplit("/", 1)
        np.testing.assert_allclose(
            value, np.mean(found[recording, (int(frame) - 1) // FRAMES], axis=0), rtol=1e-5, atol=1e-6
        )


def test_overlapping_windows_hold_the_steps_of_those_that_do_not_overlap(data, affwild2_twin):
    tiles = AffWild2(
        root=str(affwild2_twin),
        store=str(data.store),
        pictures=PictureSettings(size=32, crop="whole"),
        frames=FRAMES,
        clips=CLIPS,
        prepare_workers=1,
    )
    where = {id: row for row, id in enumerate(data.samples.ids.tolist())}
    assert len(data.samples) > 2 * len(tiles.samples)
    for row, id in enumerate(tiles.samples.ids.tolist()):
        if id not in where:  # the overlapping ones end with the recording
            continue
        for name in tiles.modality_names:
            own, other = (of.samples.features[name] for of in (tiles, data))
            rows = np.array([row]), np.array([where[id]])
            zero = np.array([0])
            assert torch.equal(own.read(rows[0], zero), other.read(rows[1], zero))
        np.testing.assert_array_equal(tiles.samples.target[row], data.samples.target[where[id]])
