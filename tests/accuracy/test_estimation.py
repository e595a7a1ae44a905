"""Properties that a sound estimate has, and what it does with samples that cannot carry it."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accuracy.errors import DesignError, LonelyUnitError, SampleTableError
from accuracy.estimation.calibration import Calibration
from accuracy.estimation.error_matrix import tabulate_errors
from accuracy.estimation.estimation import estimate
from accuracy.estimation.options import EstimateOptions
from accuracy.estimation.replication import draw_rao_wu_multipliers, make_jackknife_multipliers, replicate
from accuracy.estimation.table_estimates import estimate_replicated, estimate_table, read_map_totals
from accuracy.estimation.variance import design_variance
from accuracy.measures import confusion_indicators
from accuracy.reporting.wording import write_estimate
from accuracy.survey.design import SamplingDesign
from accuracy.survey.design_arrays import build_arrays
from accuracy.survey.design_checks import find_problems
from accuracy.survey.sample import ReferenceSample

approx = pytest.approx


def make_points(seed=0, *, regions=("R1", "R2"), cities=3, frame=9, points=(12, 15), omission=0.15, commission=0.2):
    """A small two-stage sample: strata `uv` (mapped) and `rest` in every city."""
    rng = np.random.default_rng(seed)
    rows = []
    for region in regions:
        for c in range(cities):
            for stratum, mapped, m, rate in (
                ("uv", 1, points[0], 1 - commission),
                ("rest", 0, points[1], omission),
            ):
                size = int(rng.integers(200, 3000)) * (1 if mapped else 20)
                rows += [
                    {
                        "region": region,
                        "city": f"{region}c{c}",
                        "map_stratum": stratum,
                        "map": mapped,
                        "ref": int(rng.random() < rate),
                        "N_city": frame,
                        "n_city": cities,
                        "M_pix": size,
                        "m_pts": m,
                    }
                    for _ in range(m)
                ]
    return pd.DataFrame(rows).assign(point_id=range(len(rows)))


def sample_of(table, **design):
    options = {"psu_selection": "probability", **design}
    return ReferenceSample(table=table, design=SamplingDesign(**options))


def row(sample, measure, **options):
    return estimate(sample, EstimateOptions(**options)).get(measure)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["two_stage", "with_replacement", "cities_fixed"]))
def test_f1_and_iou_are_one_confusion_in_value_and_standard_error(seed, kind):
    got = estimate(sample_of(make_points(seed)), EstimateOptions(variance=kind))
    f1, iou, ua, pa = (got.get(m) for m in ("F1", "IoU", "UA", "PA"))
    assert f1["estimate"] == approx(2 * iou["estimate"] / (1 + iou["estimate"]), rel=1e-12)
    assert iou["estimate"] == approx(f1["estimate"] / (2 - f1["estimate"]), rel=1e-12)
    assert f1["se"] == approx(2 / (1 + iou["estimate"]) ** 2 * iou["se"], rel=1e-9)
    harmonic = 2 * ua["estimate"] * pa["estimate"] / (ua["estimate"] + pa["estimate"])
    assert f1["estimate"] == approx(harmonic, rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_order_of_rows_columns_and_names_does_not_matter(seed):
    table = make_points(seed)
    renamed = table.sample(frac=1, random_state=seed)[table.columns[::-1]].assign(
        region=lambda t: t["region"].map({"R1": "z", "R2": "a"}),
        map_stratum=lambda t: t["map_stratum"].map({"uv": "zz", "rest": "aa"}),
    )
    for kind in ("two_stage", "with_replacement", "cities_fixed"):
        a, b = (estimate(sample_of(t), EstimateOptions(variance=kind)) for t in (table, renamed))
        np.testing.assert_allclose(a.frame["estimate"], b.frame["estimate"], rtol=1e-12)
        np.testing.assert_allclose(a.frame["se"], b.frame["se"], rtol=1e-8, atol=1e-14)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_two_stage_variance_equals_a_plain_double_loop(seed):
    table = make_points(seed)
    sample = sample_of(table)
    arrays = sample.arrays
    rng = np.random.default_rng(seed)
    y = rng.normal(size=len(table))
    z = arrays.weight * y
    frame = table.assign(z=z)
    expected = 0.0
    for _, region in frame.groupby("region"):
        N, n = region["N_city"].iloc[0], region["city"].nunique()
        totals = region.groupby("city")["z"].sum()
        expected += (1 - n / N) * n * totals.var(ddof=1)
        for _, cell in region.groupby(["city", "map_stratum"]):
            M, m = cell["M_pix"].iloc[0], len(cell)
            expected += n / N * (1 - m / M) * m * cell["z"].var(ddof=1)
    assert design_variance(z[:, None], arrays, kind="two_stage")[0] == approx(expected, rel=1e-10)


def test_domains_keep_the_full_design():
    table = make_points(4).assign(size=lambda t: np.where(t["city"].str.endswith("0"), "large", "small"))
    full = estimate(sample_of(table), domain="size").get("F1", "small")
    subset = table[table["size"] == "small"].assign(n_city=2)
    alone = estimate(sample_of(subset)).get("F1")
    assert full["estimate"] == approx(alone["estimate"], rel=1e-12)
    assert abs(full["se"] - alone["se"]) > 1e-3


def test_equal_weights_would_give_another_answer():
    table = make_points(5)
    right = row(sample_of(table), "PA")["estimate"]
    wrong = ((table["map"] == 1) & (table["ref"] == 1)).sum() / (table["ref"] == 1).sum()
    assert abs(right - wrong) > 0.1


def test_map_equal_to_reference_is_a_bound_not_a_certainty():
    table = make_points(6, omission=0, commission=0)
    got = estimate(sample_of(table))
    for measure in ("UA", "PA", "F1", "IoU", "OA"):
        cell = got.get(measure)
        assert (cell["estimate"], cell["se"]) == (1, 0)
        assert "zero_count" in cell["flags"] and cell["one_sided"]
        assert 0 < cell["ci_low"] < 1 == cell["ci_high"]
        assert write_estimate(got.nested()["two_stage"]["all"][measure]).startswith(">= ")
    # 72 mapped points without commission: Clopper-Pearson one-sided with Kish's effective number
    w = sample_of(table).arrays.weight[(table["map"] == 1).to_numpy()]
    kish = w.sum() ** 2 / (w**2).sum()
    assert got.get("UA")["ci_low"] == approx(0.05 ** (1 / kish), rel=1e-9)


def test_zero_of_hundred_gives_the_rule_of_three():
    from accuracy.intervals import zero_count_bound

    assert zero_count_bound(np.array([100, 300, 1000])) == approx([0.0295, 0.0099, 0.0030], abs=5e-5)


@pytest.mark.parametrize(("absent", "measure"), [("map", "UA"), ("ref", "PA")])
def test_class_absent_is_not_estimable_with_a_reason(absent, measure):
    table = make_points(7)
    table[absent] = 0
    cell = row(sample_of(table), measure)
    assert np.isnan(cell["estimate"]) and cell["flags"] == ("not_estimable",)
    assert "no urban village" in cell["reason"]
    assert write_estimate(estimate(sample_of(table)).nested()["two_stage"]["all"][measure]) == "not estimable"


def test_census_region_adds_no_variance_between_cities():
    table = make_points(8, frame=3)
    two, fixed = (
        row(sample_of(table), "F1", variance="two_stage"),
        row(sample_of(table), "F1", variance="cities_fixed", fpc_in_cells=True),
    )
    assert two["se"] == approx(fixed["se"], rel=1e-12)
    census = row(sample_of(table, psu_selection="census"), "F1", variance="two_stage")
    assert census["se"] == approx(two["se"], rel=1e-12)
    with pytest.raises(DesignError, match=r"census.*3 of 9"):
        estimate(sample_of(make_points(8), psu_selection="census"))


def test_purposive_cities_speak_for_themselves_only():
    sample = sample_of(make_points(9), psu_selection="purposive")
    with pytest.raises(DesignError, match="on purpose"):
        estimate(sample, EstimateOptions(variance="two_stage"))
    got = estimate_table(sample)
    assert any("assessed cities only" in n for n in got.notes)
    nested = got.nested()
    assert nested["two_stage"]["all"]["F1"]["se"] is None
    assert nested["cities_fixed"]["all"]["F1"]["se"] > 0
    weights = sample.arrays.weight
    assert weights.sum() == approx(make_points(9).drop_duplicates(["city", "map_stratum"])["M_pix"].sum())


def test_orientation_rows_are_the_map(estimate_counts):
    counts = [[40, 10], [2, 100]]
    sizes = {"uv": 10.0, "rest": 90.0}
    got = estimate_counts(counts, sizes, classes=["uv", "rest"]).set_index(["class", "measure"])
    assert got.loc[("uv", "UA"), "estimate"] == approx(0.8)
    table = make_points(10)
    flipped = table.rename(columns={"map": "ref", "ref": "map"})
    a, b = estimate(sample_of(table)), estimate(sample_of(flipped))
    assert a.get("UA")["estimate"] == approx(b.get("PA")["estimate"])
    assert a.get("PA")["se"] == approx(b.get("UA")["se"])
    matrix = tabulate_errors(sample_of(table), as_="counts")
    assert matrix.loc["1", "0"] == ((table["map"] == 1) & (table["ref"] == 0)).sum()
    assert tabulate_errors(sample_of(table)).to_numpy().sum() == approx(1)


def test_calibration_meets_the_known_totals_and_takes_map_variance_away():
    table = make_points(11)
    known = {("R1", "1"): 2e4, ("R1", "0"): 4e5, ("R2", "1"): 2e4, ("R2", "0"): 5e5}
    got = estimate(sample_of(table), calibrate_to=known)
    assert got.get("area_map")["estimate"] == approx(4e4 / 94e4, rel=1e-12)
    assert got.get("area_map")["se"] == approx(0, abs=1e-12)
    again = read_map_totals(
        pd.DataFrame([(*k, v) for k, v in known.items()], columns=["region", "map", "size"]), ["region", "map"]
    )
    assert again == known


# --- replication ---------------------------------------------------------------------------------------------------


def every_replicate(arrays):
    """float64 (B, P): every distinct Rao-Wu replicate of strata with two cities each."""
    assert (arrays.psu_sampled == 2).all()
    strata = len(arrays.psu_sampled)
    out = np.zeros((2**strata, len(arrays.stratum_of_psu)))
    for b in range(2**strata):
        for h in range(strata):
            members = np.flatnonzero(arrays.stratum_of_psu == h)
            out[b, members[(b >> h) & 1]] = 2.0
    return out


def test_rao_wu_enumerated_equals_the_reference_and_linearisation(shared):
    import json

    scd = pd.read_csv(shared / "reference" / "accuracy" / "data" / "scd.csv")
    want = json.loads((shared / "reference" / "accuracy" / "g_raowu_enumeration_scd.json").read_text())
    design = SamplingDesign(
        psu_selection="pps",
        stratum="ESA",
        psu="ambulance",
        ssu=None,
        second_stage_strata=(),
        weight="one",
        ssu_population=None,
    )
    arrays = build_arrays(design, scd.assign(one=1.0))
    cells = np.stack([scd["alive"], scd["arrests"] - scd["alive"], 0 * scd["alive"], 0 * scd["alive"]], 1).astype(float)
    everyone = np.ones((1, len(scd)), dtype=bool)
    multipliers = every_replicate(arrays)
    got = replicate(arrays, cells, everyone, multipliers, measures=("UA", "area_total"))
    assert np.sort(got.estimates[:, 0, 0]) == approx(sorted(r for _, r in want["replicates"]))
    assert got.se()[0, 1] == approx(want["se_total"])
    assert got.se()[0, 0] == approx(want["se_ratio_about_full"])
    dropped, factor = make_jackknife_multipliers(arrays)
    jack = replicate(arrays, cells, everyone, dropped, measures=("UA",), kind="jackknife", factor=factor)
    assert jack.se(about="mean")[0, 0] == approx(0.009846457204, rel=1e-9)
    # R's balanced half-samples of these data (BRR) through the same replicates
    half = 2.0 * np.array([[1, 0, 1, 0, 1, 0], [1, 0, 0, 1, 0, 1], [0, 1, 1, 0, 0, 1], [0, 1, 0, 1, 1, 0]])
    balanced = replicate(arrays, cells, everyone, half, measures=("UA",))
    assert balanced.se(about="mean")[0, 0] == approx(0.00941840066992, rel=1e-9)


@pytest.mark.shared
def test_jackknife_and_bootstrap_of_the_28_cities(points, survey):
    sample = sample_of(points)
    arrays, cells = sample.arrays, confusion_indicators(sample.mapped, sample.reference)
    names, everyone = ("UA", "PA", "F1", "IoU"), np.ones((1, len(points)), dtype=bool)
    dropped, factor = make_jackknife_multipliers(arrays)
    jack = replicate(arrays, cells, everyone, dropped, measures=names, kind="jackknife", factor=factor)
    want = survey[survey["case"] == "uv28_wr_JKn"].set_index("quantity")
    for k, name in enumerate(names):
        assert jack.se(about="mean")[0, k] == approx(want.loc[name, "se"], rel=1e-8)
    got = estimate_replicated(sample, replicates=400, seed=1)
    got = got[got["value"] == "all"].set_index(["variance", "measure"])
    want = survey[survey["case"] == "uv28_wr_RaoWu_B400"].set_index("quantity")
    for name in names:
        assert got.loc[("bootstrap", name), "se"] == approx(want.loc[name, "se"], rel=0.12)
        assert got.loc[("jackknife", name), "se"] == approx(jack.se()[0, names.index(name)], rel=1e-12)


def test_bootstrap_redoes_the_calibration_in_every_replicate():
    table = make_points(12)
    sample = sample_of(table)
    arrays, onehot = sample.arrays, confusion_indicators(sample.mapped, sample.reference)
    cell = sample.mapped.astype(np.int64)
    calibration = Calibration(cell=cell, totals=np.array([1e6, 2e4]), names=("0", "1"))
    multipliers = draw_rao_wu_multipliers(arrays, replicates=50, seed=3)
    everyone = np.ones((1, len(table)), dtype=bool)
    got = replicate(arrays, onehot, everyone, multipliers, measures=("F1", "area_map"), calibration=calibration)
    assert got.estimates[:, 0, 1] == approx(2e4 / 1.02e6)
    for b in (0, 7):  # by brute force: point weights times multipliers, calibrated, then F1
        w = arrays.weight * multipliers[b][arrays.psu]
        g = calibration.totals / np.bincount(cell, w)
        tp, fp, fn, _ = (w * g[cell]) @ onehot
        assert got.estimates[b, 0, 0] == approx(2 * tp / (2 * tp + fp + fn), rel=1e-12)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_bootstrap_is_deterministic_and_never_negative(seed):
    arrays = sample_of(make_points(seed)).arrays
    a = draw_rao_wu_multipliers(arrays, replicates=200, seed=seed)
    assert np.array_equal(a, draw_rao_wu_multipliers(arrays, replicates=200, seed=seed))
    assert (a >= 0).all()
    assert draw_rao_wu_multipliers(arrays, replicates=4000, seed=seed).mean(axis=0) == approx(np.ones(6), abs=0.1)


# --- bad input -----------------------------------------------------------------------------------------------------


def broken(**change):
    return make_points(1).assign(**change)


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (make_points(1).drop(columns="N_city"), DesignError, r"column 'N_city' is not in the table"),
        (make_points(1).iloc[:0], SampleTableError, r"no row of 0"),
        (make_points(1).iloc[:-1], DesignError, r"'m_pts' says 15 .* 14 are here, .*weights do not sum"),
        (pd.concat([make_points(1), make_points(1).iloc[[3]]]), DesignError, r"point '3' .* 2 times"),
        (broken(M_pix=0), DesignError, r"'M_pix' holds"),
        (broken(M_pix=5), DesignError, r"(12|15) points of 5 units"),
        (broken(N_city=2), DesignError, r"says 2 units in the frame but 3"),
        (broken(n_city=4), DesignError, r"'n_city' says 4 sampled units but the table holds 3"),
        (broken(map="x"), SampleTableError, r"'map' holds 'x', which is neither 1 nor 0"),
        (broken(map=""), SampleTableError, r"outside the map"),
        (broken(ref=""), SampleTableError, r"no row of 162 has an answer"),
        (broken(region=""), DesignError, r"'region' is empty in 162 rows"),
        (make_points(1, regions=("R1",), cities=1), LonelyUnitError, r"'R1' has 1 sampled primary unit of 9"),
        (make_points(1, points=(1, 5)), LonelyUnitError, r"R1/R1c0/uv.* has 1 labelled point"),
        (make_points(1).drop(columns="ref"), SampleTableError, r"column 'ref' is not in the table"),
    ],
)
def test_bad_tables_get_typed_errors_that_name_the_conflict(table, error, message):
    with pytest.raises(error, match=message):
        estimate(sample_of(table))


def test_conflicting_sizes_and_weights_and_frame():
    table = make_points(1)
    table.loc[0, "M_pix"] += 7
    assert [p.code for p in find_problems(SamplingDesign(psu_selection="probability"), table)] == ["size_conflict"]
    table = make_points(1).assign(w=1.0)
    problems = find_problems(SamplingDesign(psu_selection="probability", weight="w"), table)
    assert {p.code for p in problems} == {"weights_area"} and len(problems) == 12
    frame = make_points(1).drop_duplicates(["city", "map_stratum"])
    fewer = make_points(1).query("not (city == 'R1c0' and map_stratum == 'rest')")
    codes = [p.code for p in find_problems(SamplingDesign(psu_selection="probability"), fewer, frame=frame)]
    assert codes == ["missing_stratum"]
    codes = [
        p.code for p in find_problems(SamplingDesign(psu_selection="probability"), make_points(1), frame=frame.iloc[1:])
    ]
    assert codes == ["outside_frame"]


def test_psu_selection_has_no_default():
    with pytest.raises(TypeError, match="psu_selection"):
        SamplingDesign()
    with pytest.raises(DesignError, match="'random' is none of probability"):
        SamplingDesign(psu_selection="random")
    with pytest.raises(DesignError, match="without a weight column"):
        SamplingDesign(psu_selection="pps")


def test_non_response_spreads_the_weight_and_is_reported():
    table = make_points(2)
    table["ref"] = table["ref"].astype(object)
    table.loc[[0, 20], "ref"] = ["?", "cannot say"]
    sample = sample_of(table)
    full = sample_of(make_points(2))
    assert sample.arrays.weight.sum() == approx(full.arrays.weight.sum())
    assert "2 of 162 units (1.2%)" in estimate_table(sample).notes[0]
    table.loc[table["map_stratum"].eq("uv") & table["city"].eq("R1c1"), "ref"] = None
    with pytest.raises(DesignError, match=r"R1/R1c1/uv.*12 drawn points but none"):
        estimate(sample_of(table))


def test_flags_of_small_samples():
    got = estimate(sample_of(make_points(3, cities=2, points=(3, 4))))
    flags = got.get("PA")["flags"]
    assert {"few_points", "few_psu", "few_omissions"} <= set(flags)
