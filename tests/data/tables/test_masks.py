"""Masks are True where a step was recorded; every other kind is refused with the way to make one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtpkdot.data.tables.feature_files import read_features
from tests.data.helpers import ARRAY_SUFFIXES, complaint, quick, read_or_rejected, write_arrays

CLIPS = np.random.default_rng(0).normal(size=(3, 5, 2)).astype(np.float32)
VALID = np.arange(5)[None] < np.array([[5], [2], [3]])

# What other programs call a mask, and what the line must name.
OTHERS = {
    "additive": (np.where(VALID, 0.0, -np.inf), "`mask == 0`"),
    "additive, the lowest number of its type": (np.where(VALID, 0, np.finfo(np.float32).min), "`mask == 0`"),
    "additive, -10000": (np.where(VALID, 0, -10000).astype(np.int32), "-10000"),
    "additive without padding": (np.zeros((3, 5)), "0 throughout"),
    "signs": (np.where(VALID, 1, -1), "`mask > 0`"),
    "255": (np.where(VALID, 255, 0).astype(np.uint8), "255"),
    "confidences": (np.where(VALID, 0.93, 0.1), "`mask > 0.5`"),
    "NaN": (np.where(VALID, 1, np.nan), "nan"),
    "number of the step": (np.where(VALID, np.arange(1, 6)[None], 0), "0, 1, 2, 3, ..."),
    "padding": (~VALID, "`~mask`"),
}


@pytest.mark.parametrize("suffix", ARRAY_SUFFIXES)
@pytest.mark.parametrize("kind", OTHERS)
def test_another_kind_of_mask_is_refused_with_the_way_out(kind, suffix, tmp_path):
    mask, says = OTHERS[kind]
    path = write_arrays(tmp_path / f"face{suffix}", CLIPS * VALID[:, :, None], ["a", "b", "c"], mask)
    message = complaint(lambda: read_features(path, "id"))
    assert f"face{suffix}: the mask" in message
    assert says in message


def test_a_mask_that_is_true_for_padding_of_nan_is_refused_before_the_padding_is(tmp_path):
    path = write_arrays(tmp_path / "face.npz", np.where(VALID[:, :, None], CLIPS, np.nan), mask=~VALID)
    assert "`~mask`" in complaint(lambda: read_features(path, "id"))


@pytest.mark.parametrize("kind", [np.bool_, np.int8, np.uint8, np.int64, np.float16, np.float32, np.float64])
def test_true_and_false_and_one_and_zero_of_any_type_are_the_same_mask(kind, tmp_path):
    path = write_arrays(tmp_path / "face.npz", CLIPS, mask=VALID.astype(kind))
    np.testing.assert_array_equal(read_features(path, "id").mask, VALID)


def test_text_is_not_a_mask(tmp_path):
    path = write_arrays(tmp_path / "face.npz", CLIPS, mask=VALID.astype(str))
    assert "the mask holds False, True (<U5)" in complaint(lambda: read_features(path, "id"))


@quick
@given(st.lists(st.sampled_from([0, 1, -1, 2, 0.5, np.nan, np.inf, -np.inf]), min_size=15, max_size=15))
def test_a_mask_is_read_as_it_stands_or_not_at_all(tmp_path_factory, cells):
    mask = np.array(cells, dtype=np.float64).reshape(3, 5)
    path = write_arrays(tmp_path_factory.getbasetemp() / "any.npz", CLIPS, mask=mask)
    file = read_or_rejected(lambda: read_features(path, "id"))
    assert (file is not None) == bool(np.isin(mask, (0, 1)).all() and mask.any())
    assert file is None or np.array_equal(file.mask, mask == 1)
