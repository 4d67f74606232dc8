import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mtpkdot.report.statistics import (
    Draws,
    bootstrap_p,
    corrected_t,
    holm,
    mean_interval,
    percentile_interval,
    ratio_mean_interval,
    ratio_percentile_interval,
)


def test_a_draw_takes_as_many_clusters_as_there_are_with_replacement():
    draws = Draws(7, 250)
    assert draws.counts.shape == (250, 7)
    assert (draws.counts.sum(axis=1) == 7).all()
    assert draws.counts.std() > 0.5
    np.testing.assert_array_equal(draws.counts, Draws(7, 250).counts)
    assert (Draws(7, 250, seed=1).counts != draws.counts).any()


def test_sums_over_drawn_clusters_are_those_of_a_loop():
    random = np.random.default_rng(0)
    of_clusters = random.normal(size=(9, 3))
    draws = Draws(9, 130)
    rows = [np.repeat(np.arange(9), counts) for counts in draws.counts]
    np.testing.assert_allclose(draws.sums(of_clusters), [of_clusters[row].sum(axis=0) for row in rows])


def test_the_interval_of_a_mean_over_subjects_has_its_nominal_coverage():
    # People differ, and each brings samples that resemble one another.
    random = np.random.default_rng(1)
    covered, naive = 0, 0
    for trial in range(400):
        of_people = random.normal(0.5, 1.0, size=40)
        values = of_people[:, None] + random.normal(size=(40, 10))
        sums = np.stack([values.sum(axis=1), np.full(40, 10.0)], axis=1)
        drawn = Draws(40, 400, seed=trial).sums(sums)
        low, high = percentile_interval(drawn[:, 0] / drawn[:, 1])
        covered += low <= 0.5 <= high
        half = 1.96 * values.std() / np.sqrt(values.size)
        naive += abs(values.mean() - 0.5) <= half
    assert 0.90 <= covered / 400 <= 0.98
    assert naive / 400 < 0.75


def test_the_p_value_is_right_where_nothing_differs():
    random = np.random.default_rng(2)
    found = []
    for trial in range(400):
        sums = np.stack([random.normal(size=40), np.ones(40)], axis=1)
        drawn = Draws(40, 400, seed=trial).sums(sums)
        found.append(bootstrap_p(drawn[:, 0] / drawn[:, 1], 30))
    assert 0.02 <= np.mean(np.array(found) < 0.05) <= 0.09


def test_p_values_equal_those_of_plain_cases():
    assert bootstrap_p(np.zeros(99), 30) == 1.0
    assert bootstrap_p(np.ones(99), 30) == pytest.approx(0.02)
    assert bootstrap_p(-np.ones(99), 30) == pytest.approx(0.02)
    assert bootstrap_p(np.r_[-np.ones(9), np.ones(90)], 30) == pytest.approx(0.2)


@pytest.mark.parametrize(("people", "least"), [(1, 1.0), (2, 0.5), (3, 0.25), (6, 1 / 32), (12, 2 / 2001)])
def test_few_people_show_no_more_than_their_signs_could(people, least):
    assert bootstrap_p(np.ones(2000), people) == pytest.approx(least)


def test_the_corrected_t_test_equals_a_hand_computed_case():
    # Mean 0.03, variance 0.0002, (1/5 + 1/4) * 0.0002 = 0.00009: t = 0.03 / 0.0094868 = 3.1623, 4 degrees of freedom.
    differences = np.array([0.01, 0.02, 0.03, 0.04, 0.05]) * np.sqrt(0.8) + 0.03 * (1 - np.sqrt(0.8))
    assert differences.var(ddof=1) == pytest.approx(0.0002)
    assert corrected_t(differences, 0.25) == pytest.approx(0.0341, abs=1e-4)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12))
@settings(deadline=None)
def test_without_correction_it_is_the_paired_t_test(values):
    differences = np.array(values)
    differences[0] += 0.5
    if differences.std() > 1e-6:
        expected = stats.ttest_1samp(differences, 0.0)
        assert corrected_t(differences, 0.0) == pytest.approx(expected.pvalue, abs=1e-9)
        assert corrected_t(differences, 0.3) >= corrected_t(differences, 0.0)
        low, high = expected.confidence_interval(0.95)
        assert mean_interval(differences) == pytest.approx((low, high))


def test_too_few_values_have_no_interval_and_no_test():
    one = np.array([0.2])
    for found in (corrected_t(one, 0.0), *mean_interval(one), *ratio_mean_interval(one, one)):
        assert np.isnan(found)
    assert corrected_t(np.zeros(3), 0.2) == 1.0
    assert np.isnan(corrected_t(np.ones(3), 0.2))  # no spread is known: that would be p = 0 of two equal folds
    assert np.isnan(corrected_t(np.array([0.05, 0.05 + 1e-17, 0.1 - 0.05]), 0.2))


def test_holm_equals_a_hand_computed_case():
    # 0.01 * 4; 0.02 * 3; 0.03 * 2 = 0.06; 0.04 * 1 = 0.04, raised to the one before.
    found = holm({"a": 0.01, "d": 0.04, "b": 0.02, "c": 0.03, "n": float("nan")})
    assert {name: p for name, p in found.items() if name != "n"} == pytest.approx(
        {"a": 0.04, "b": 0.06, "c": 0.06, "d": 0.06}
    )
    assert np.isnan(found["n"])
    assert holm({"a": 0.7, "b": 0.9}) == {"a": 1.0, "b": 1.0}


@given(st.dictionaries(st.text(min_size=1), st.floats(0, 1), max_size=8))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(values):
    found = holm(values)
    assert all(values[name] <= found[name] <= min(1, len(values) * values[name]) + 1e-12 for name in values)
    names = sorted(values, key=lambda name: values[name])
    assert [found[name] for name in names] == sorted(found.values())


def test_the_interval_of_the_ratio_by_fieller_has_its_nominal_coverage():
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(500):
        gap = random.normal(0.2, 0.05, size=10)
        gain = 0.4 * gap + random.normal(0, 0.03, size=10)
        low, high = ratio_mean_interval(gain, gap)
        covered += low <= 0.4 <= high
    assert 0.92 <= covered / 500 <= 0.98


def test_a_gap_that_may_be_zero_has_no_ratio():
    assert np.isnan(ratio_mean_interval(np.array([1.0, 2.0, 3.0]), np.array([-1.0, 0.5, 1.0]))).all()


def test_replicates_without_a_gap_widen_the_interval_of_the_ratio():
    gap = np.ones(1000)
    gain = np.linspace(0, 1, 1000)
    assert ratio_percentile_interval(gain, gap) == pytest.approx((0.025, 0.975), abs=2e-3)
    gap[-20:] = -1.0  # fewer than the upper tail holds
    low, high = ratio_percentile_interval(gain, gap)
    assert high == pytest.approx(0.975, abs=2e-3)
    gap[-40:] = -1.0
    assert ratio_percentile_interval(gain, gap)[1] == np.inf
    assert low == pytest.approx(0.025, abs=2e-3)
