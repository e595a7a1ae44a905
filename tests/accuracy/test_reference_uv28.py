"""The table of 28 cities: estimates, intervals and calibration as R's survey package gives them."""

import pandas as pd
import pytest

from accuracy.arrays import SampleArrays
from accuracy.errors import LonelyUnitError
from accuracy.estimation.calibration import calibrate
from accuracy.estimation.estimation import estimate, estimate_arrays
from accuracy.estimation.options import EstimateOptions
from accuracy.measures import confusion_indicators
from accuracy.survey.design import SamplingDesign
from accuracy.survey.design_arrays import build_arrays
from accuracy.survey.sample import ReferenceSample

pytestmark = pytest.mark.shared
approx = pytest.approx
REL = 1e-8
PRINTED = {"rel": 1e-8, "abs": 1e-14}  # the cases are stored with 12 digits


def sample_of(points, **design):
    return ReferenceSample(table=points, design=SamplingDesign(**{"psu_selection": "probability", **design}))


NAMES = {
    "UA": "UA",
    "PA": "PA",
    "F1": "F1",
    "IoU": "IoU",
    "OA": "OA",
    "area_prop ref": "area",
    "area_prop map": "area_map",
    "NPV": "NPV",
    "Specificity": "specificity",
    "total ref px": "area_total",
    "total px": "total",
}


def check_uv28(sample, want, **options):
    chosen = EstimateOptions(measures=tuple(NAMES.values()), **options)
    whole = estimate(sample, chosen)
    by_region = estimate(sample, chosen, domain=sample.design.stratum)
    compared = 0
    for quantity, (value, se) in want.items():
        if quantity in NAMES:
            row = whole.get(NAMES[quantity])
        elif quantity.startswith("region "):
            _, region, name = quantity.split(" ", 2)
            row = by_region.get(NAMES[name], region)
        else:
            continue
        assert row["estimate"] == approx(value, **PRINTED), quantity
        assert row["se"] == approx(se, rel=REL, abs=1e-7 if "total" in quantity else 1e-14), quantity
        compared += 1
    assert compared == 41
    return whole


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("uv28_2stage", {"variance": "two_stage"}),
        ("uv28_wr", {"variance": "with_replacement"}),
        ("uv28_cities_fixed", {"variance": "cities_fixed"}),
        ("uv28_cities_fixed_fpc", {"variance": "cities_fixed", "fpc_in_cells": True}),
    ],
)
@pytest.mark.parametrize("shuffled", [False, True])
def test_28_cities_equal_r_survey_whatever_the_order_and_the_names(points, expected, case, options, shuffled):
    want = expected(case)
    if shuffled:
        rename = dict(zip(["North", "East", "South", "Central", "West"], "zbqa1", strict=True))
        points = points.sample(frac=1, random_state=3)[points.columns[::-1]]
        points = points.assign(region=points["region"].map(rename), city=points["city"].map(lambda c: c[::-1]))
        want = {
            f"region {rename[k.split()[1]]} {k.split(' ', 2)[2]}" if k.startswith("region") else k: v
            for k, v in want.items()
        }
    whole = check_uv28(sample_of(points), want, **options)
    if not options.get("fpc_in_cells"):
        assert whole.get("OA")["deff"] == approx(want["deff OA"][0], rel=REL)
    assert whole.get("OA")["df"] == want["degf"][0]


def test_one_stage_with_finite_population(points, expected):
    """The cities as the only stage: between-city term alone, as if each city were seen completely."""
    sample = sample_of(points)
    arrays = sample.arrays
    complete = SampleArrays(
        **{
            **{k: getattr(arrays, k) for k in arrays.__dataclass_fields__},
            "ssu_population": arrays.ssu_sampled.astype(float),
        }
    )
    cells = confusion_indicators(sample.mapped, sample.reference)
    want = expected("uv28_1stage_fpc")
    compared = 0
    for domain in (None, "region"):
        values = None if domain is None else sample.codes(domain).to_numpy()
        got = estimate_arrays(
            complete, cells, EstimateOptions(measures=tuple(NAMES.values())), values=values, domain=domain
        )
        for quantity, (value, se) in want.items():
            region, name = quantity.split(" ", 2)[1:] if quantity.startswith("region ") else (None, quantity)
            if name in NAMES and (region is None) == (domain is None):
                row = got.get(NAMES[name], region or "all")
                assert row["estimate"] == approx(value, **PRINTED)
                assert row["se"] == approx(se, rel=REL, abs=1e-12)
                compared += 1
    assert compared == 41
    assert estimate_arrays(complete, cells).get("OA")["deff"] == approx(want["deff OA"][0], rel=REL)


def test_single_cities_equal_r_survey(points, expected):
    got = estimate(sample_of(points), EstimateOptions(variance="cities_fixed", fpc_in_cells=True), domain="city")
    want = expected("uv28_per_city")
    assert len(want) == 168
    for quantity, (value, se) in want.items():
        city, name = quantity.split(" ", 1)
        row = got.get(NAMES[name], city)
        assert row["estimate"] == approx(value, **PRINTED)
        assert row["se"] == approx(se, **PRINTED)


@pytest.mark.parametrize(("kind", "variance"), [("wr", "with_replacement"), ("two", "two_stage")])
def test_calibration_to_map_totals_equals_post_stratification(cases, points, kind, variance):
    totals = pd.read_csv(cases / "f_uv28_map_totals.csv")
    known = {tuple(name.rsplit("_", 1)): float(v) for name, v in zip(totals["rm"], totals["Freq"], strict=True)}
    sample = sample_of(points.sample(frac=1, random_state=1))
    got = estimate(sample, EstimateOptions(variance=variance), calibrate_to=known)
    want = pd.read_csv(cases / "f_survey_poststrat.csv").query("design == @kind")
    names = {**NAMES, "mean ok": "OA", "mean ref": "area", "mean map": "area_map"}
    for _, row in want.iterrows():
        mine = got.get(names[row["quantity"]])
        assert mine["estimate"] == approx(row["estimate"], rel=1e-8)
        assert mine["se"] == approx(row["se"], rel=1e-6, abs=1e-12)


def test_wald_interval_of_recall(points, survey):
    want = survey[(survey["case"] == "uv28_2stage") & (survey["quantity"] == "PA ci95 t")].iloc[0]
    row = estimate(sample_of(points), EstimateOptions(interval_kind="wald_t")).get("PA")
    assert (row["ci_low"], row["ci_high"]) == approx((want["lo"], want["hi"]), rel=REL)


@pytest.mark.parametrize("rule", ["remove", "certainty", "adjust", "average", "fail"])
def test_region_with_one_city(points, expected, rule):
    # the reference drops West's second city and keeps the weights
    want = expected(f"uv27_lonely_{rule}")
    rule = "certainty" if rule == "remove" else rule  # two names of R for a stratum that adds nothing
    kept = points[points["city"] != "C28"]
    kept = kept.assign(w=kept["N_city"] / kept["n_city"] * kept["M_pix"] / kept["m_pts"])
    sample = sample_of(kept, psu_selection="pps", weight="w")
    if rule == "fail":
        with pytest.raises(LonelyUnitError, match=r"West.*1 sampled primary unit"):
            estimate(sample, EstimateOptions(variance="with_replacement"))
        return
    measures = ("PA", "area", "area_total")
    got = estimate(sample, EstimateOptions(variance="with_replacement", lonely_psu=rule, measures=measures))
    for name, quantity in (("PA", "PA"), ("area", "area_prop ref"), ("area_total", "total ref")):
        assert got.get(name)["estimate"] == approx(want[quantity][0], rel=REL)
        assert got.get(name)["se"] == approx(want[quantity][1], rel=REL)


@pytest.mark.parametrize(
    ("case", "kind"), [("uv28_blocks_2stage", "two_stage"), ("uv28_blocks_wr", "with_replacement")]
)
def test_blocks(cases, expected, case, kind):
    blocks = pd.read_csv(cases / "f_uv28_blocks.csv").sample(frac=1, random_state=5)
    design = SamplingDesign(
        psu_selection="probability",
        ssu="block_id",
        second_stage_strata=(),
        ssu_population="M_block",
        ssu_sampled="m_block",
    )
    cells = blocks[["tp", "fp", "fn", "tn"]].to_numpy(dtype=float)
    got = estimate_arrays(build_arrays(design, blocks), cells, EstimateOptions(variance=kind))
    compared = 0
    for quantity, (value, se) in expected(case).items():
        row = got.get({"area_prop ref": "area", "area_prop": "area"}.get(quantity, quantity))
        assert row["estimate"] == approx(value, rel=REL), quantity
        assert row["se"] == approx(se, rel=REL), quantity
        compared += 1
    assert compared == 6


def test_calibration_cells_must_fit(points):
    keys = pd.DataFrame({"region": ["a", "b"]})
    with pytest.raises(Exception, match="no known map total for b"):
        calibrate(keys, {("a",): 5})
    with pytest.raises(Exception, match="map total 7 of c has no sampled point"):
        calibrate(keys, {("a",): 5, ("b",): 5, ("c",): 7})
