"""Published and independently computed cases: R survey, mapaccuracy and the papers' own equations.

The table of 28 cities and the survey package's data sets lie in the shared data; values of the papers are here.
"""

import json

import numpy as np
import pandas as pd
import pytest

from accuracy.arrays import SampleArrays
from accuracy.calibration import calibrate
from accuracy.describe import DomainFacts
from accuracy.design import SamplingDesign, codes
from accuracy.error_matrix import error_matrix, error_matrix_se, per_class_estimates, stratified_from_counts
from accuracy.errors import LonelyUnitError
from accuracy.estimation import estimate, estimate_arrays, srs_variance
from accuracy.intervals import asin, korn_graubard, likelihood, logit_t, wald_t
from accuracy.measures import confusion_indicators
from accuracy.sample import ReferenceSample
from accuracy.variance import design_variance

pytestmark = pytest.mark.shared
approx = pytest.approx
REL = 1e-8
PRINTED = {"rel": 1e-8, "abs": 1e-14}  # the cases are stored with 12 digits


@pytest.fixture(scope="module")
def cases(shared):
    return shared / "reference" / "accuracy"


@pytest.fixture(scope="module")
def survey(cases):
    return pd.read_csv(cases / "f_survey_reference.csv")


@pytest.fixture(scope="module")
def points(cases):
    return pd.read_csv(cases / "f_uv28_points.csv")


def expected(survey, case):
    rows = survey[survey["case"] == case]
    return {q: (e, s) for q, e, s in zip(rows["quantity"], rows["estimate"], rows["se"], strict=True)}


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
    whole = estimate(sample, measures=tuple(NAMES.values()), **options)
    by_region = estimate(sample, measures=tuple(NAMES.values()), domain=sample.design.stratum, **options)
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
def test_28_cities_equal_r_survey_whatever_the_order_and_the_names(points, survey, case, options, shuffled):
    want = expected(survey, case)
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


def test_one_stage_with_finite_population(points, survey):
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
    want = expected(survey, "uv28_1stage_fpc")
    compared = 0
    for domain in (None, "region"):
        values = None if domain is None else sample.codes(domain).to_numpy()
        got = estimate_arrays(complete, cells, values, domain=domain, measures=tuple(NAMES.values()))
        for quantity, (value, se) in want.items():
            region, name = quantity.split(" ", 2)[1:] if quantity.startswith("region ") else (None, quantity)
            if name in NAMES and (region is None) == (domain is None):
                row = got.get(NAMES[name], region or "all")
                assert row["estimate"] == approx(value, **PRINTED)
                assert row["se"] == approx(se, rel=REL, abs=1e-12)
                compared += 1
    assert compared == 41
    assert estimate_arrays(complete, cells, None).get("OA")["deff"] == approx(want["deff OA"][0], rel=REL)


def test_single_cities_equal_r_survey(points, survey):
    got = estimate(sample_of(points), domain="city", variance="cities_fixed", fpc_in_cells=True)
    want = expected(survey, "uv28_per_city")
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
    got = estimate(sample_of(points.sample(frac=1, random_state=1)), variance=variance, calibrate_to=known)
    want = pd.read_csv(cases / "f_survey_poststrat.csv").query("design == @kind")
    names = {**NAMES, "mean ok": "OA", "mean ref": "area", "mean map": "area_map"}
    for _, row in want.iterrows():
        mine = got.get(names[row["quantity"]])
        assert mine["estimate"] == approx(row["estimate"], rel=1e-8)
        assert mine["se"] == approx(row["se"], rel=1e-6, abs=1e-12)


def test_wald_interval_of_recall(points, survey):
    want = survey[(survey["case"] == "uv28_2stage") & (survey["quantity"] == "PA ci95 t")].iloc[0]
    row = estimate(sample_of(points), interval_kind="wald_t").get("PA")
    assert (row["ci_low"], row["ci_high"]) == approx((want["lo"], want["hi"]), rel=REL)


@pytest.mark.parametrize("rule", ["remove", "certainty", "adjust", "average", "fail"])
def test_region_with_one_city(points, survey, rule):
    # the reference drops West's second city and keeps the weights
    want = expected(survey, f"uv27_lonely_{rule}")
    rule = "certainty" if rule == "remove" else rule  # two names of R for a stratum that adds nothing
    kept = points[points["city"] != "C28"]
    kept = kept.assign(w=kept["N_city"] / kept["n_city"] * kept["M_pix"] / kept["m_pts"])
    sample = sample_of(kept, psu_selection="pps", weight="w")
    if rule == "fail":
        with pytest.raises(LonelyUnitError, match=r"West.*1 sampled primary unit"):
            estimate(sample, variance="with_replacement")
        return
    got = estimate(sample, variance="with_replacement", lonely_psu=rule, measures=("PA", "area", "area_total"))
    for name, quantity in (("PA", "PA"), ("area", "area_prop ref"), ("area_total", "total ref")):
        assert got.get(name)["estimate"] == approx(want[quantity][0], rel=REL)
        assert got.get(name)["se"] == approx(want[quantity][1], rel=REL)


@pytest.mark.parametrize(
    ("case", "kind"), [("uv28_blocks_2stage", "two_stage"), ("uv28_blocks_wr", "with_replacement")]
)
def test_blocks(cases, survey, case, kind):
    from accuracy.block_measures import estimate_blocks

    blocks = pd.read_csv(cases / "f_uv28_blocks.csv").sample(frac=1, random_state=5)
    design = SamplingDesign(
        psu_selection="probability",
        ssu="block_id",
        second_stage_strata=(),
        ssu_population="M_block",
        ssu_sampled="m_block",
    )
    got = estimate_blocks(blocks, design, variance=kind)
    compared = 0
    for quantity, (value, se) in expected(survey, case).items():
        row = got.get({"area_prop ref": "area", "area_prop": "area"}.get(quantity, quantity))
        assert row["estimate"] == approx(value, rel=REL), quantity
        assert row["se"] == approx(se, rel=REL), quantity
        compared += 1
    assert compared == 6


# --- single-stage cases -----------------------------------------------------------------------------------------


def olofsson(case):
    return stratified_from_counts(
        case["counts"],
        dict(zip(case["classes"], case["mapped_pixels"], strict=True)),
        classes=case["classes"],
    ).set_index(["class", "measure"])


def test_olofsson_2014(cases):
    case = json.loads((cases / "a_olofsson2014.json").read_text())
    got = olofsson(case)
    want = case["computed"]
    assert got.loc[("", "OA"), "estimate"] == approx(want["OA"], rel=REL)
    assert got.loc[("", "OA"), "se"] == approx(want["se_OA"], rel=REL)
    for name in case["classes"]:
        for mine, theirs in (("UA", "UA"), ("PA", "PA"), ("area", "area_prop")):
            assert got.loc[(name, mine), "estimate"] == approx(want[theirs][name], rel=REL)
            assert got.loc[(name, mine), "se"] == approx(want[f"se_{theirs}"][name], rel=REL)
        for mine in ("F1", "IoU"):
            theirs = case["computed_F1_IoU_per_class"][name]
            assert got.loc[(name, mine), "estimate"] == approx(theirs[mine], rel=REL)
            assert got.loc[(name, mine), "se"] == approx(theirs[f"se_{mine}"], rel=REL)
    ha = sum(case["mapped_pixels"]) * case["pixel_ha"]
    for name, printed, half in zip(
        case["classes"], case["published"]["area_ha"], case["published"]["area_hw95_ha"], strict=True
    ):
        assert ha * got.loc[(name, "area"), "estimate"] == approx(printed, abs=0.5)
        assert 1.96 * ha * got.loc[(name, "area"), "se"] == approx(half, abs=0.5)
    # the naive ways to a standard error of F1 give other numbers
    contrast = json.loads((cases / "x_f1_se_contrast.json").read_text())
    for wrong in contrast.values():
        assert abs(got.loc[("deforestation", "F1"), "se"] - wrong) > 1e-3


def test_olofsson_2014_with_finite_populations(cases):
    case = json.loads((cases / "a_olofsson2014.json").read_text())
    sizes = dict(zip(case["classes"], case["mapped_pixels"], strict=True))
    got = stratified_from_counts(case["counts"], sizes, classes=case["classes"], finite=True)
    got = got.set_index(["class", "measure"])
    assert got.loc[("", "OA"), "se"] == approx(case["computed_with_fpc"]["se_OA"], rel=REL)
    for name in case["classes"]:
        assert got.loc[(name, "area"), "se"] == approx(case["computed_with_fpc"]["se_area_prop"][name], rel=REL)


@pytest.mark.parametrize("example", ["example1", "example2"])
def test_olofsson_2013(cases, example):
    case = json.loads((cases / "b_olofsson2013.json").read_text())[example]
    sizes = case.get("mapped_pixels") or case["weights"]
    names = ["1", "2", "3"]
    got = stratified_from_counts(case["counts"], dict(zip(names, sizes, strict=True)), classes=names)
    got = got.set_index(["class", "measure"])
    want = case["computed"]
    assert got.loc[("", "OA"), "estimate"] == approx(want["OA"], rel=REL)
    assert got.loc[("", "OA"), "se"] == approx(want["se_OA"], rel=REL)
    for name in names:
        for mine, theirs in (("UA", "UA"), ("PA", "PA"), ("area", "area_prop")):
            value, se = want[theirs], want[f"se_{theirs}"]
            key = name if isinstance(value, dict) else int(name) - 1
            assert got.loc[(name, mine), "estimate"] == approx(value[key], rel=REL)
            assert got.loc[(name, mine), "se"] == approx(se[key], rel=REL)


def stehman(units, **options):
    design = SamplingDesign(
        psu_selection="probability",
        stratum="stratum",
        psu=None,
        ssu="unit",
        second_stage_strata=(),
        ssu_population="N_h",
        ssu_sampled=None,
    )
    return ReferenceSample(table=units, design=design, map_column="map", reference_column="reference", **options)


@pytest.mark.parametrize(("name", "variance"), [("fpc", "two_stage"), ("no_fpc", "with_replacement")])
def test_stehman_2014(cases, name, variance):
    case = json.loads((cases / "c_stehman2014.json").read_text())
    units = pd.read_csv(cases / "c_stehman2014_units.csv").sample(frac=1, random_state=2)
    sample = stehman(units)
    got = per_class_estimates(sample, variance=variance).set_index(["class", "measure"])
    want = case["computed"][name]
    assert got.loc[("", "OA"), "se"] == approx(want["se_OA"], rel=REL)
    for cls in "ABCD":
        for mine, theirs in (("UA", "UA"), ("PA", "PA"), ("F1", "F1"), ("IoU", "IoU"), ("area", "area_prop")):
            assert got.loc[(cls, mine), "estimate"] == approx(want[theirs][cls], rel=REL)
            assert got.loc[(cls, mine), "se"] == approx(want[f"se_{theirs}"][cls], rel=REL)
    shares, errors = error_matrix(sample), error_matrix_se(sample, variance=variance)
    for a in "ABCD":
        for b in "ABCD":
            assert shares.loc[a, b] == approx(want["cell_prop"][a + b], abs=1e-12)
            assert errors.loc[a, b] == approx(want["se_cell_prop"][a + b], rel=REL, abs=1e-14)


def from_counts(rows, sizes, classes):
    return stratified_from_counts(rows, dict(zip(classes, sizes, strict=True)), classes=classes)


def mapaccuracy_case(cases, name):
    """The documented examples, built from the published counts; estimates and the matrix of area shares."""
    first = json.loads((cases / "b_olofsson2013.json").read_text())
    if name.startswith("stehman2014"):
        units = pd.read_csv(cases / "c_stehman2014_units.csv").astype({"map": object, "reference": object})
        if name != "stehman2014":  # stratum A cut in two
            units.loc[units.index[5:10], "stratum"] = "AA"
            units.loc[units.index[:10], "N_h"] = 20000
        classes = list("ABCD")
        if "map_class" in name:
            units.loc[39, "map"] = "XX"
            classes += ["XX"]
        if "ref_class" in name:
            units.loc[39, "reference"] = "YY"
            classes += ["YY"]
        sample = stehman(units)
        return per_class_estimates(sample, classes=classes), error_matrix(sample, classes=classes)
    if name == "olofsson2014":
        full = json.loads((cases / "a_olofsson2014.json").read_text())
        counts, sizes, classes = full["counts"], full["mapped_pixels"], list("1234")
    elif name == "olofsson2013_ex2":
        counts, sizes, classes = first["example2"]["counts"], first["example2"]["weights"], list("123")
    else:
        counts, sizes, classes = first["example1"]["counts"], first["example1"]["mapped_pixels"], list("123")
    if name == "olofsson_map_class_not_in_ref":
        counts = [[97, 0, 3, 0], [3, 279, 18, 0], [2, 1, 95, 0], [0, 0, 2, 0]]
        sizes, classes = [*sizes, 10], list("1234")
    elif name != "olofsson2013_ex1" and name.startswith("olofsson_"):
        counts = [[97, 0, 3, 0], [3, 279, 18, 0], [2, 1, 95, 2], [0, 0, 0, 0]]
        sizes, classes = [*sizes, 0], list("1234")
        if "empty" in name:
            counts = [[*row, 0] for row in counts] + [[0] * 5]
            sizes, classes = [*sizes, 0], [*classes, "9"]
    shares = np.array(counts, dtype=float)
    W = np.array(sizes, dtype=float) / sum(sizes)
    shares *= (W / np.maximum(shares.sum(axis=1), 1))[:, None]
    return from_counts(counts, sizes, classes), pd.DataFrame(shares, index=classes, columns=classes)


MAPACCURACY = [
    "olofsson2013_ex1", "olofsson2013_ex2", "olofsson2014", "olofsson_extra_empty_class",
    "olofsson_map_class_not_in_ref", "olofsson_ref_class_not_in_map", "stehman2014", "stehman2014_five_strata",
    "stehman2014_map_class_not_in_ref", "stehman2014_ref_class_not_in_map",
]  # fmt: skip


@pytest.mark.parametrize("case", MAPACCURACY)
def test_mapaccuracy_examples(cases, case):
    table = pd.read_csv(cases / "e_mapaccuracy_doc_examples.csv", dtype=str, keep_default_na=False)
    assert set(table["case"]) == set(MAPACCURACY)
    want = table[table["case"] == case]
    order = list(want["class"][want["quantity"] == "UA"])
    rename = dict(zip(order, "1234", strict=False)) if case == "olofsson2014" else {}
    got, shares = mapaccuracy_case(cases, case)
    got = got.set_index(["class", "measure"])
    for quantity, cls, text in want[["quantity", "class", "value"]].itertuples(index=False):
        value = np.nan if text == "NA" else float(text)
        if quantity == "matrix":
            row, col = (rename.get(c, c) for c in cls.split("|"))
            if "sum" not in (row, col):
                assert shares.loc[row, col] == approx(0 if text == "NA" else value, **PRINTED)
            continue
        column = "se" if quantity.startswith("SE") else "estimate"
        name = {"SEoa": "OA", "SEua": "UA", "SEpa": "PA", "SEa": "area"}.get(quantity, quantity)
        mine = got.loc[(rename.get(cls, cls), name), column]
        assert mine == approx(value, **PRINTED, nan_ok=True), (quantity, cls)


# --- survey's own data sets ---------------------------------------------------------------------------------------


def arrays_of(table, *, stratum=None, psu, cells=(), N, M=None, weight):
    design = SamplingDesign(
        psu_selection="pps",
        stratum=stratum,
        psu=psu,
        ssu=None,
        second_stage_strata=cells,
        weight="w",
        psu_sampled=None,
        ssu_sampled=None,
        ssu_population=None,
    )
    table = table.assign(w=weight).reset_index(drop=True)
    built = design.arrays(table)
    stratum_of = codes(design.keys(table), ["stratum"])[0]
    cell_of = codes(design.keys(table), ["stratum", "psu", "second"])[0]
    psu_population = pd.Series(np.asarray(N, dtype=float)).groupby(stratum_of).first().to_numpy()
    ones = np.full(len(table), np.inf) if M is None else np.asarray(M, dtype=float)
    ssu_population = pd.Series(ones).groupby(cell_of).first().to_numpy()
    return SampleArrays(
        **{
            **{k: getattr(built, k) for k in built.__dataclass_fields__},
            "psu_population": psu_population,
            "ssu_population": ssu_population,
        }
    )


def total(arrays, y, **kind):
    z = arrays.weight * np.asarray(y, dtype=float)
    return z.sum(), float(np.sqrt(design_variance(z[:, None], arrays, **kind)[0]))


def ratio(arrays, y, x, **kind):
    y, x = np.asarray(y, dtype=float), np.asarray(x, dtype=float)
    X = arrays.weight @ x
    r = arrays.weight @ y / X
    return r, total(arrays, (y - r * x) / X, **kind)[1]


def check_api(data, arrays, want, *, kind):
    one = np.ones(len(data))
    facts = DomainFacts.of(arrays, arrays.weight, np.zeros((len(data), 4)), one > 0, kind)
    assert facts.df == want["degf"][0]
    mean, se = ratio(arrays, data["api00"], one, kind=kind)
    simple = srs_variance(((data["api00"] - mean) / arrays.weight.sum()).to_numpy()[:, None], arrays.weight)
    assert se**2 / simple[0] == approx(want["deff mean api00"][0], rel=REL)
    both = data["enroll"].notna() & data["api.stu"].notna()
    pairs = {
        "mean api00": (mean, se),
        "total enroll": total(arrays, data["enroll"].fillna(0), kind=kind),
        "ratio api.stu/enroll": ratio(arrays, data["api.stu"].where(both, 0), data["enroll"].where(both, 0), kind=kind),
        "prop sch.wide": ratio(arrays, data["sch.wide"] == "Yes", one, kind=kind),
    }
    for stype in "EHM":
        here = (data["stype"] == stype).astype(float)
        pairs[f"total stype stype{stype}"] = total(arrays, here, kind=kind)
        pairs[f"mean stype stype{stype}"] = ratio(arrays, here, one, kind=kind)
        pairs[f"domain mean api00 stype {stype}"] = ratio(arrays, data["api00"] * here, here, kind=kind)
    for quantity, got in pairs.items():
        assert got[0] == approx(want[quantity][0], rel=REL), quantity
        assert got[1] == approx(want[quantity][1], rel=REL, abs=1e-6), quantity


@pytest.mark.parametrize(
    ("case", "n"),
    [
        ("apistrat_fpc", 200), ("apistrat_nofpc", 200), ("apiclus1_fpc", 183),
        ("apiclus2_2stage_fpc", 126), ("apiclus2_wr", 126),
    ],
)  # fmt: skip
def test_intervals_of_r_survey(survey, case, n):
    rows = survey[survey["case"] == case].set_index("quantity")
    df = float(rows.loc["degf", "estimate"])
    for kind, degrees in (("normal", np.inf), ("t", df)):
        mean = rows.loc[f"ci95 {kind} mean api00", ["estimate", "se", "lo", "hi"]].astype(float)
        low, high = wald_t(mean["estimate"], mean["se"], degrees)
        assert (float(low), float(high)) == approx((mean["lo"], mean["hi"]), rel=REL)
    p, se = rows.loc["prop sch.wide", ["estimate", "se"]].astype(float)
    made = {
        "logit": (logit_t(p, se, df), 1e-8),
        "beta": (korn_graubard(p, se, df, n, cap_at_n=False), 1e-8),
        "mean": (wald_t(p, se, df), 1e-8),
        "asin": (asin(p, se, df), 1e-8),
        "likelihood": (likelihood(p, se, df, n), 2e-5),  # R interpolates
    }
    for method, ((low, high), precision) in made.items():
        assert low == approx(rows.loc[f"svyciprop sch.wide {method}", "lo"], rel=precision), method
        assert high == approx(rows.loc[f"svyciprop sch.wide {method}", "hi"], rel=precision), method


def test_apiclus1(cases, survey):
    data = pd.read_csv(cases / "data" / "apiclus1.csv")
    arrays = arrays_of(data, psu="dnum", N=data["fpc"], weight=data["pw"])
    # one-stage cluster sample: every school of a district is in it
    full = SampleArrays(
        **{
            **{k: getattr(arrays, k) for k in arrays.__dataclass_fields__},
            "ssu_population": arrays.ssu_sampled.astype(float),
        }
    )
    check_api(data, full, expected(survey, "apiclus1_fpc"), kind="two_stage")


def test_apiclus2_two_stage_and_with_replacement(cases, survey):
    data = pd.read_csv(cases / "data" / "apiclus2.csv")
    arrays = arrays_of(data, psu="dnum", N=data["fpc1"], M=data["fpc2"], weight=data["pw"])
    data["enroll"] = data["enroll"].astype(float)
    check_api(data, arrays, expected(survey, "apiclus2_2stage_fpc"), kind="two_stage")
    check_api(data, arrays, expected(survey, "apiclus2_wr"), kind="with_replacement")


@pytest.mark.parametrize(("case", "kind"), [("fpc", "two_stage"), ("nofpc", "with_replacement")])
def test_apistrat(cases, survey, case, kind):
    data = pd.read_csv(cases / "data" / "apistrat.csv").assign(row=range(200))
    arrays = arrays_of(data, stratum="stype", psu="row", N=data["fpc"], M=np.ones(200), weight=data["pw"])
    check_api(data, arrays, expected(survey, f"apistrat_{case}"), kind=kind)


def test_mu284(cases, survey):
    data = pd.read_csv(cases / "data" / "mu284.csv")
    weight = 50 / 5 * data["n2"] / 3
    arrays = arrays_of(data, psu="id1", N=data["n1"], M=data["n2"], weight=weight)
    got, se = total(arrays, data["y1"], kind="two_stage")
    assert got == approx(15080)
    assert se**2 == approx(expected(survey, "mu284")["var total y1"][0], rel=REL)


def test_scd_ratio_with_every_method(cases, survey):
    data = pd.read_csv(cases / "data" / "scd.csv")
    arrays = arrays_of(data, stratum="ESA", psu="ambulance", N=np.full(6, 5), weight=np.ones(6))
    complete = SampleArrays(
        **{**{k: getattr(arrays, k) for k in arrays.__dataclass_fields__}, "ssu_population": np.ones(6)}
    )
    for case, kind in (("scd_fpc", "two_stage"), ("scd_nofpc", "with_replacement")):
        want = expected(survey, case)
        assert ratio(complete, data["alive"], data["arrests"], kind=kind) == approx(
            want["ratio alive/arrests"], rel=REL
        )
        assert total(complete, data["alive"], kind=kind) == approx(want["total alive"], rel=REL)


def test_calibration_cells_must_fit(points):
    keys = pd.DataFrame({"region": ["a", "b"]})
    with pytest.raises(Exception, match="no known map total for b"):
        calibrate(keys, {("a",): 5})
    with pytest.raises(Exception, match="map total 7 of c has no sampled point"):
        calibrate(keys, {("a",): 5, ("b",): 5, ("c",): 7})
