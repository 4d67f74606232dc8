import torch
from hypothesis import given
from hypothesis import strategies as st

from mtpkdot.teachers.rows import Rows, Scaling


def some_rows(scale: float = 1.0, shift: float = 0.0) -> Rows:
    random = torch.Generator().manual_seed(0)
    values = {"face": scale * torch.randn(40, 3, generator=random) + shift, "voice": torch.randn(40, 2)}
    rows = Rows.of(values, torch.zeros(40, dtype=torch.int64))
    rows.present["voice"] = torch.arange(40) >= 10
    return rows


@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3))
def test_standardised_features_have_mean_0_and_deviation_1_where_present(scale, shift):
    rows = some_rows(scale, shift * scale)
    scaled = Scaling.fit(rows, ["face", "voice"])(rows)
    assert torch.allclose(scaled[:, :3].mean(dim=0), torch.zeros(3, dtype=torch.float64), atol=1e-4)
    assert torch.allclose(scaled[:, :3].std(dim=0, unbiased=False), torch.ones(3, dtype=torch.float64), rtol=1e-3)
    assert torch.allclose(scaled[10:, 3:].std(dim=0, unbiased=False), torch.ones(2, dtype=torch.float64), rtol=1e-6)
    assert not scaled[:10, 3:].any()


def test_a_block_has_a_summed_variance_of_1_and_keeps_its_proportions():
    rows = some_rows()
    rows.values["face"][:, 0] *= 10
    scaled = Scaling.fit(rows, ["face"], block=True)(rows)
    variance = scaled.var(dim=0, unbiased=False)
    assert torch.isclose(variance.sum(), torch.ones((), dtype=torch.float64))
    assert variance[0] > 50 * variance[1]


def test_a_constant_feature_is_zero_also_for_other_values():
    rows = some_rows()
    rows.values["face"][:, 1] = 1e4
    scaling = Scaling.fit(rows, ["face"])
    rows.values["face"][:, 1] = 3.0
    assert not scaling(rows)[:, 1].any()


def test_values_of_absent_modalities_are_never_read():
    rows = some_rows()
    rows.values["voice"][:10] = torch.nan
    scaled = Scaling.fit(rows, ["face", "voice"])(rows)
    assert scaled.isfinite().all()


def test_rows_are_seen_if_one_of_the_modalities_is_present():
    rows = some_rows()
    assert rows.seen(["voice"]).tolist() == [False] * 10 + [True] * 30
    assert rows.seen(["face", "voice"]).all()
    assert list(rows.only(["voice"]).values) == ["voice"]
    assert len(rows.keep(rows.present["voice"])) == 30
