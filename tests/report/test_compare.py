import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from mtpkdot.pipeline.study import BASE
from mtpkdot.report import compare
from mtpkdot.report.compare import Comparison
from mtpkdot.report.gather import gather, of_study
from mtpkdot.report.sections.results import people
from mtpkdot.report.statistics import Draws
from tests.report import fake


def comparison(made, resample="subject"):
    return Comparison(gather(of_study(made)), "all", resample)


def by_method(differences, reference=BASE):
    return {difference.method: difference for difference in differences if difference.reference == reference}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three folds, two seeds, and a pkdot that gains."""
    made = fake.study(tmp_path_factory.mktemp("runs") / "s")
    fake.write(made, {"none": 0.62, "pkdot": 0.8, "mtpkdot": 0.7})
    return made


@pytest.fixture(scope="module")
def table(made):
    """All predictions, as they are written."""
    gather(of_study(made), made.folder / "predictions.parquet")
    return pd.read_parquet(made.folder / "predictions.parquet")


def accuracy(rows):
    return (rows["truth"] == rows["prediction"]).mean()


def base_of(table, part="test"):
    """The lower bound, by the definition: per fold and seed the better one on validation."""
    found = []
    for _, cell in table[table["method"].isin(["backbone.video", "none"])].groupby(["fold", "seed"]):
        validation = cell[cell["split"] == "validation"].groupby("method").apply(accuracy, include_groups=False)
        best = "none" if validation["none"] > validation["backbone.video"] else "backbone.video"
        found.append(cell[(cell["method"] == best) & (cell["split"] == part)])
    return pd.concat(found)


def test_values_are_means_over_seeds_of_all_folds_together(made, table):
    values = {(v.method, v.metric): v for v in comparison(made).values()}
    for method in ("pkdot", "teacher"):
        rows = table[(table["method"] == method) & (table["split"] == "test")]
        of_seeds = [part for _, part in rows.groupby("seed")]
        assert values[method, "accuracy"].value == pytest.approx(np.mean([accuracy(part) for part in of_seeds]))
        f1 = np.mean([f1_score(part["truth"], part["prediction"], average="macro") for part in of_seeds])
        assert values[method, "macro_f1"].value == pytest.approx(f1)
        cells = rows.groupby(["fold", "seed"]).apply(accuracy, include_groups=False)
        assert values[method, "accuracy"].sd == pytest.approx(cells.std(ddof=1))
        assert (values[method, "accuracy"].cells, values[method, "accuracy"].subjects) == (6, 12)


def test_the_base_is_chosen_on_validation_in_every_cell(made, table):
    found = comparison(made)
    values = {(v.method, v.metric): v.value for v in found.values()}
    expected = np.mean([accuracy(part) for _, part in base_of(table).groupby("seed")])
    assert values[BASE, "accuracy"] == pytest.approx(expected)
    assert set(found.origins[BASE].values()) <= {"backbone.video", "none"}
    assert [model.stage for model in found.models(BASE)]


def test_intervals_are_those_of_a_loop_that_resamples_subjects(made, table):
    found = comparison(made)
    test = table[table["split"] == "test"]
    people = sorted(test["subject"].unique())
    rows = {(method, seed): part for (method, seed), part in test.groupby(["method", "seed"])}
    rows |= {(BASE, seed): part for seed, part in base_of(table).groupby("seed")}
    found._draws[len(people)] = Draws(len(people), 150)
    drawn = [np.repeat(people, counts) for counts in found._draws[len(people)].counts]

    def replicate(method, who):
        whole = []
        for seed in (0, 1):
            groups = dict(list(rows[method, seed].groupby("subject")))
            whole.append(accuracy(pd.concat([groups[name] for name in who])))
        return np.mean(whole)

    base, pkdot = ([replicate(method, who) for who in drawn] for method in (BASE, "pkdot"))
    value = next(v for v in found.values() if (v.method, v.metric) == ("pkdot", "accuracy"))
    assert (value.low, value.high) == pytest.approx(tuple(np.quantile(pkdot, [0.025, 0.975])))
    difference = by_method(found.differences([BASE]))["pkdot"]
    ends = np.quantile(np.subtract(pkdot, base), [0.025, 0.975])
    assert (difference.low, difference.high) == pytest.approx(tuple(ends))


def test_the_t_test_has_one_value_per_fold(made, table):
    raw = {}
    test, base = table[table["split"] == "test"], base_of(table)
    for method in ("none", "pkdot", "mtpkdot"):
        folds = []
        for fold in range(3):
            own, other = (t[(t["fold"] == fold)] for t in (test[test["method"] == method], base))
            folds.append(
                np.mean(
                    [accuracy(own[own["seed"] == seed]) - accuracy(other[other["seed"] == seed]) for seed in (0, 1)]
                )
            )
        scale = np.sqrt(np.var(folds, ddof=1) * (1 / 3 + 0.5))
        raw[method] = 2 * stats.t.sf(abs(np.mean(folds)) / scale, 2)
    order = sorted(raw, key=raw.get)
    largest = 0.0
    found = by_method(comparison(made).differences([BASE]))
    for rank, method in enumerate(order):
        largest = max(largest, min(1.0, (3 - rank) * raw[method]))
        assert found[method].p_t == pytest.approx(largest)


def test_the_share_of_the_gap_is_that_of_the_differences(made):
    found = comparison(made)
    differences = by_method(found.differences([BASE]))
    values = {v.method: v.value for v in found.values() if v.metric == "accuracy"}
    share = (values["pkdot"] - values[BASE]) / (values["teacher"] - values[BASE])
    assert differences["pkdot"].gap_closed == pytest.approx(share)
    assert differences["pkdot"].gap_low < share < differences["pkdot"].gap_high
    assert np.isnan(by_method(found.differences(["pkdot"]), "pkdot")["mtpkdot"].gap_closed)


def test_without_a_clear_gap_there_is_no_share_of_it(tmp_path, monkeypatch):
    monkeypatch.setitem(fake.SKILL, "teacher", 0.6)
    made = fake.study(tmp_path / "s")
    fake.write(made)
    assert all(np.isnan(d.gap_closed) for d in comparison(made).differences([BASE]))


def test_methods_are_compared_on_the_cells_that_both_have(tmp_path):
    made = fake.study(tmp_path / "s")
    fake.write(made, skip={f"all/pkdot/fold{fold}-seed1" for fold in range(3)} | {"all/mtpkdot/fold2-seed0"})
    found = comparison(made)
    whole = found.differences([BASE, "pkdot"])
    assert found.common("pkdot", "mtpkdot") == ((0, 0), (1, 0))
    pair = next(d for d in whole if (d.method, d.reference) == ("mtpkdot", "pkdot"))
    cells = [[found._cell(method, cell) for cell in ((0, 0), (1, 0))] for method in ("mtpkdot", "pkdot")]
    assert pair.value == pytest.approx(np.mean(cells[0]) - np.mean(cells[1]))
    values = {v.method: v for v in found.values() if v.metric == "accuracy"}
    assert (values["pkdot"].cells, values["mtpkdot"].cells) == (3, 5)


def test_intervals_are_about_the_people_that_a_method_was_tested_on(tmp_path):
    """As in a study that is not finished: whoever was not tested is nobody's mistake."""
    made = fake.study(tmp_path / "s", ("none", "pkdot"), seeds=1)
    fake.write(made, skip={"all/pkdot/fold1-seed0", "all/pkdot/fold2-seed0"})
    whole = {(v.method, v.metric): v for v in comparison(made).values()}["pkdot", "accuracy"]
    alone = fake.study(tmp_path / "t", ("none", "pkdot"), folds=1, seeds=1)
    fake.write(alone)
    part = {(v.method, v.metric): v for v in comparison(alone).values()}["pkdot", "accuracy"]
    assert (whole.value, whole.low, whole.high) == (part.value, part.low, part.high)


def test_ties_are_ties_whatever_the_rounding(made, monkeypatch):
    found = comparison(made)
    exact = found._points

    def rounded(method, cells):
        return {metric: values + 1e-15 * (method == "none") for metric, values in exact("pkdot", cells).items()}

    monkeypatch.setattr(found, "_points", rounded)
    monkeypatch.setattr(found, "_resampled", rounded)
    monkeypatch.setattr(found, "_cell", lambda method, cell: 0.5 + cell[0] + 1e-15 * cell[1] * (method == "none"))
    points, resampled = found._both("none", "pkdot", found.cells("pkdot"))
    assert not points.any()
    assert not resampled.any()
    assert found._tests("none", "pkdot") == (1.0, 1.0)


def test_a_method_without_any_common_cell_is_not_compared(tmp_path):
    made = fake.study(tmp_path / "s", folds=1, seeds=2)
    fake.write(made, skip={"all/pkdot/fold0-seed0", "all/mtpkdot/fold0-seed1"})
    found = comparison(made).differences(["pkdot"])
    assert {d.method for d in found} == {"none"}


def test_no_reference_gives_no_comparison_and_no_error(tmp_path):
    made = fake.study(tmp_path / "s", ("kd",))
    fake.write(made)
    found = comparison(made)
    assert found.differences(["pkdot", "selftraining"]) == []


def test_the_backbone_alone_is_a_reference_but_not_a_base(tmp_path):
    made = fake.study(tmp_path / "s", ("kd",))
    fake.write(made)
    found = comparison(made)
    assert found.bases == {"kd": "backbone.video"}
    assert not found.origins
    assert BASE not in found.methods
    (difference,) = found.differences([BASE])
    assert difference.reference == "backbone.video"
    assert np.isnan(difference.gap_closed)
    values = {v.method: v.value for v in found.values() if v.metric == "accuracy"}
    assert difference.value == pytest.approx(values["kd"] - values["backbone.video"])


def test_every_student_is_compared_with_the_base_of_its_own_upstream_models(tmp_path):
    variants = {
        "none": {"student.model.method": "none"},
        "wide": {"teacher.model.fusion.dim": 32},
        "other": {"backbone.video.model.lr": 0.1},
    }
    made = fake.study(tmp_path / "s", variants_of=variants)
    fake.write(made)
    found = comparison(made)
    assert found.bases == {"none": BASE, "wide": BASE, "other": "backbone.video@other"}
    assert found.teacher("wide") == "teacher@wide"
    values = {v.method: v.value for v in found.values() if v.metric == "accuracy"}
    differences = {(d.method, d.reference): d for d in found.differences([BASE])}
    assert differences.keys() == {("none", BASE), ("wide", BASE), ("other", "backbone.video@other")}
    difference = differences["other", "backbone.video@other"]
    assert difference.value == pytest.approx(values["other"] - values["backbone.video@other"])


def test_upstream_models_with_a_student_without_teachers_have_a_base_of_their_own(tmp_path):
    own = {"backbone.video.model.lr": 0.1}
    variants = {
        "none": {"student.model.method": "none"},
        "other": own,
        "bare": {**own, "student.model.method": "none"},
    }
    made = fake.study(tmp_path / "s", variants_of=variants)
    fake.write(made)
    found = comparison(made)
    assert found.bases == {"none": BASE, "other": "base@other", "bare": "base@other"}
    assert set(found.origins["base@other"].values()) <= {"backbone.video@other", "bare"}


def test_another_hallucinator_of_the_same_backbone_shares_the_base(tmp_path):
    """Two bases of one backbone would tell of the same accuracy as a loss and as a gain."""
    variants = {"none": {"student.model.method": "none"}, "mmd": {"hallucinator.model.discrepancy": "mmd"}}
    made = fake.study(tmp_path / "s", variants_of=variants)
    fake.write(made)
    found = comparison(made)
    assert found.gathered.upstream["all", "mmd"]["hallucinator"] == "hallucinator@mmd"
    assert found.gathered.upstream["all", "mmd"]["backbone.video"] == "backbone.video"
    assert found.bases == {"none": BASE, "mmd": BASE}


def test_differences_have_an_interval_over_seeds(tmp_path):
    made = fake.study(tmp_path / "s", ("none", "pkdot"), seeds=4)
    fake.write(made, {"none": 0.5, "pkdot": 0.7})
    found = comparison(made)
    difference = by_method(found.differences([BASE]))["pkdot"]
    points = found._points("pkdot", found.cells("pkdot")), found._points(BASE, found.cells("pkdot"))
    gains = points[0][found.primary] - points[1][found.primary]
    assert len(gains) == 4
    expected = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    assert (difference.seeds_low, difference.seeds_high) == pytest.approx(expected)
    one = by_method(comparison(fake_of_one_seed(tmp_path)).differences([BASE]))["pkdot"]
    assert np.isnan([one.seeds_low, one.seeds_high]).all()


def fake_of_one_seed(folder):
    made = fake.study(folder / "one", ("none", "pkdot"), seeds=1)
    fake.write(made)
    return made


def test_seeds_of_data_of_their_own_are_resampled_as_such(tmp_path):
    made = fake.study(tmp_path / "s", folds=1, seeds=6)
    fake.write(made, {"none": 0.62, "pkdot": 0.8})
    found = comparison(made, "seed")
    value = next(v for v in found.values() if (v.method, v.metric) == ("pkdot", "accuracy"))
    cells = np.array([found._cell("pkdot", cell) for cell in found.cells("pkdot")])
    assert (value.low, value.high) == pytest.approx(stats.ttest_1samp(cells, 0).confidence_interval(0.95))
    difference = by_method(found.differences([BASE]))["pkdot"]
    assert np.isnan(difference.p_bootstrap)
    assert difference.gap_low < difference.gap_closed < difference.gap_high


def test_one_cell_and_one_person_have_values_but_no_intervals(tmp_path):
    made = fake.study(tmp_path / "s", folds=1, seeds=1)
    fake.write(made, people=1)
    for resample in ("subject", "seed"):
        found = comparison(made, resample)
        assert all(np.isnan([v.low, v.high, v.sd]).all() and np.isfinite(v.value) for v in found.values())
        for d in found.differences([BASE, "pkdot"]):
            assert np.isnan([d.low, d.high, d.p_bootstrap, d.p_t, d.gap_closed]).all()


def test_gains_per_subject_are_those_of_the_subject_alone(made, table):
    found = comparison(made)
    rows = table[(table["method"] == "pkdot") & (table["split"] == "test")]
    expected = rows.groupby(["subject", "seed"]).apply(accuracy, include_groups=False).groupby("subject").mean()
    np.testing.assert_allclose(found.per_subject("pkdot"), expected[found.subjects])
    part = found.per_subject("pkdot", ((0, 0),))
    assert np.isnan(part).sum() == 8


def test_rounding_does_not_count_as_a_gain_of_a_subject(made, monkeypatch):
    found = comparison(made)
    of = {"pkdot": 0.1 + 0.2, "mtpkdot": 0.4}
    monkeypatch.setattr(found, "per_subject", lambda method, _: np.full(len(found.subjects), of.get(method, 0.3)))
    figure = people(found, ["pkdot", "mtpkdot"])[0]
    everybody = len(found.subjects)
    assert f"pkdot better for 0 of {everybody}; mtpkdot better for {everybody} of {everybody}" in figure.alt
    assert "pkdot: mean +0.000, 0 better, 0 worse" in figure.svg


def test_values_have_the_metrics_of_regression(tmp_path):
    made = fake.study(tmp_path / "s")
    fake.write(made, task="regression", targets=["valence", "arousal"])
    found = comparison(made)
    assert found.primary == ("ccc", "mean")
    names = {(v.metric, v.target) for v in found.values()}
    assert names == {(m, t) for m in ("ccc", "pearson", "mae") for t in ("valence", "arousal", "mean")}


def test_replicates_are_enough_for_the_corrected_tests():
    # The smallest p, corrected for ten methods, is still below 0.05.
    assert 10 * 2 / (compare.REPLICATES + 1) < 0.05


@pytest.fixture
def started(tmp_path):
    """Two folds and three draws of two starts, of which the last draw has lost one."""
    made = fake.study(tmp_path / "s", ("none", "pkdot"), folds=2, seeds=3, starts=2)
    lost = {f"all/{name}/fold{fold}-seed2-start1" for name in ("upstream", "none", "pkdot") for fold in (0, 1)}
    fake.write(made, {"none": 0.62, "pkdot": 0.8}, skip=lost)
    gather(of_study(made), made.folder / "predictions.parquet")
    table = pd.read_parquet(made.folder / "predictions.parquet")
    return comparison(made), table[table["split"] == "test"]


def by_start(table, method):
    rows = table[table["method"] == method]
    return rows.groupby(["draw", "seed"]).apply(accuracy, include_groups=False)


def test_starts_are_averaged_before_draws(started):
    found, table = started
    assert table.groupby("draw")["seed"].unique().map(list).to_dict() == {0: [0, 1000], 1: [1, 1001], 2: [2]}
    value = next(v for v in found.values() if (v.method, v.metric) == ("pkdot", "accuracy"))
    cells = by_start(table, "pkdot")
    of_draws = cells.groupby("draw").mean()
    assert value.value == pytest.approx(of_draws.mean())
    assert abs(of_draws.mean() - cells.mean()) > 1e-4  # the draw with one start counts as much as the others
    assert value.sd_draws == pytest.approx(of_draws.std(ddof=1))
    within = (cells - cells.groupby("draw").transform("mean")) ** 2
    assert value.sd_starts == pytest.approx(np.sqrt(within.sum() / 2))
    assert found.gathered.repetitions == (2, 3, 2)


def test_people_are_the_unit_of_resampling_and_a_draw_counts_once(started):
    found, table = started
    people = sorted(table["subject"].unique())
    found._draws[len(people)] = Draws(len(people), 150)
    groups = {key: dict(list(rows.groupby("subject"))) for key, rows in table.groupby(["method", "draw", "seed"])}

    def replicate(who):
        of = {key: accuracy(pd.concat([rows[name] for name in who])) for key, rows in groups.items()}
        return pd.Series(of).loc["pkdot"].groupby(level=0).mean().mean()

    drawn = [np.repeat(people, counts) for counts in found._draws[len(people)].counts]
    value = next(v for v in found.values() if (v.method, v.metric) == ("pkdot", "accuracy"))
    assert (value.low, value.high) == pytest.approx(
        tuple(np.quantile([replicate(who) for who in drawn], [0.025, 0.975]))
    )


def test_the_spread_of_a_gain_is_that_of_pairs(started):
    found, table = started
    gains = by_start(table, "pkdot") - by_start(table, "none")
    difference = by_method(found.differences(["none"]), "none")["pkdot"]
    of_draws = gains.groupby("draw").mean()
    assert difference.value == pytest.approx(of_draws.mean())
    assert difference.sd_draws == pytest.approx(of_draws.std(ddof=1))
    within = (gains - gains.groupby("draw").transform("mean")) ** 2
    assert difference.sd_starts == pytest.approx(np.sqrt(within.sum() / 2))
    expected = stats.ttest_1samp(of_draws, 0).confidence_interval(0.95)
    assert (difference.seeds_low, difference.seeds_high) == pytest.approx(expected)


def test_draws_of_data_of_their_own_are_resampled_with_their_starts_averaged(tmp_path):
    made = fake.study(tmp_path / "s", ("none", "pkdot"), folds=1, seeds=4, starts=2)
    fake.write(made)
    found = comparison(made, "seed")
    value = next(v for v in found.values() if (v.method, v.metric) == ("pkdot", "accuracy"))
    cells = {cell: found._cell("pkdot", cell) for cell in found.cells("pkdot")}
    of_draws = [(cells[0, draw] + cells[0, draw + 1000]) / 2 for draw in range(4)]
    assert (value.low, value.high) == pytest.approx(stats.ttest_1samp(of_draws, 0).confidence_interval(0.95))


def test_the_share_of_the_oracle_gap_is_that_of_the_differences(tmp_path):
    made = fake.study(tmp_path / "s", ("none", "pkdot", "oracle"))
    fake.write(made, {"none": 0.62, "pkdot": 0.75, "oracle": 0.9})
    found = comparison(made)
    assert found.oracles == ["oracle"]
    differences = by_method(found.differences([BASE]))
    values = {v.method: v.value for v in found.values() if v.metric == "accuracy"}
    share = (values["pkdot"] - values[BASE]) / (values["oracle"] - values[BASE])
    assert differences["pkdot"].oracle_closed == pytest.approx(share)
    assert differences["pkdot"].oracle_low < share < differences["pkdot"].oracle_high
    assert differences["pkdot"].gap_closed != pytest.approx(share)
    oracle = differences["oracle"]
    assert np.isnan([oracle.oracle_closed, oracle.p_bootstrap, oracle.p_t]).all()
    # It is no method: the others are corrected for each other alone.
    plain = fake.study(tmp_path / "t", ("none", "pkdot"))
    fake.write(plain, {"none": 0.62, "pkdot": 0.75})
    assert by_method(comparison(plain).differences([BASE]))["pkdot"].p_bootstrap == differences["pkdot"].p_bootstrap


def test_without_a_clear_oracle_gap_there_is_no_share_of_it(tmp_path):
    made = fake.study(tmp_path / "s", ("none", "pkdot", "oracle"))
    fake.write(made, {"none": 0.62, "pkdot": 0.75, "oracle": 0.6})
    assert all(np.isnan(d.oracle_closed) for d in comparison(made).differences([BASE]))


def test_who_is_trained_on_the_validation_part_is_no_base_and_is_compared_with_the_first(tmp_path):
    variants = {
        "none": {"student.model.method": "none"},
        "kd": {"student.model.method": "kd"},
        "fuller": {"student.model.method": "none", "data.validation_labels": "train"},
        "oracle": {"student.model.method": "oracle"},
    }
    made = fake.study(tmp_path / "s", variants_of=variants)
    fake.write(made, {"none": 0.6, "kd": 0.7, "fuller": 0.75, "oracle": 0.95})
    found = comparison(made)
    assert found.bases == dict.fromkeys(variants, BASE)
    assert set(found.origins) == {BASE}
    assert set(found.origins[BASE].values()) <= {"backbone.video", "none"}
    fuller = by_method(found.differences([BASE]))["fuller"]
    assert np.isnan(fuller.gap_closed)
    assert 0 < fuller.oracle_closed < 1
