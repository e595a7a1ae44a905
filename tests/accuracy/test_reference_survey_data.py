"""The data sets of R's survey package: clusters, strata, two stages, ratios and intervals of proportions."""

import numpy as np
import pandas as pd
import pytest

from accuracy.arrays import SampleArrays
from accuracy.estimation.describe import DomainFacts
from accuracy.estimation.estimation import srs_variance
from accuracy.estimation.variance import design_variance
from accuracy.intervals import asin, korn_graubard, likelihood, logit_t, wald_t
from accuracy.survey.design import SamplingDesign, codes
from accuracy.survey.design_arrays import build_arrays

pytestmark = pytest.mark.shared
approx = pytest.approx
REL = 1e-8


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
    built = build_arrays(design, table)
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


def test_apiclus1(cases, expected):
    data = pd.read_csv(cases / "data" / "apiclus1.csv")
    arrays = arrays_of(data, psu="dnum", N=data["fpc"], weight=data["pw"])
    # one-stage cluster sample: every school of a district is in it
    full = SampleArrays(
        **{
            **{k: getattr(arrays, k) for k in arrays.__dataclass_fields__},
            "ssu_population": arrays.ssu_sampled.astype(float),
        }
    )
    check_api(data, full, expected("apiclus1_fpc"), kind="two_stage")


def test_apiclus2_two_stage_and_with_replacement(cases, expected):
    data = pd.read_csv(cases / "data" / "apiclus2.csv")
    arrays = arrays_of(data, psu="dnum", N=data["fpc1"], M=data["fpc2"], weight=data["pw"])
    data["enroll"] = data["enroll"].astype(float)
    check_api(data, arrays, expected("apiclus2_2stage_fpc"), kind="two_stage")
    check_api(data, arrays, expected("apiclus2_wr"), kind="with_replacement")


@pytest.mark.parametrize(("case", "kind"), [("fpc", "two_stage"), ("nofpc", "with_replacement")])
def test_apistrat(cases, expected, case, kind):
    data = pd.read_csv(cases / "data" / "apistrat.csv").assign(row=range(200))
    arrays = arrays_of(data, stratum="stype", psu="row", N=data["fpc"], M=np.ones(200), weight=data["pw"])
    check_api(data, arrays, expected(f"apistrat_{case}"), kind=kind)


def test_mu284(cases, expected):
    data = pd.read_csv(cases / "data" / "mu284.csv")
    weight = 50 / 5 * data["n2"] / 3
    arrays = arrays_of(data, psu="id1", N=data["n1"], M=data["n2"], weight=weight)
    got, se = total(arrays, data["y1"], kind="two_stage")
    assert got == approx(15080)
    assert se**2 == approx(expected("mu284")["var total y1"][0], rel=REL)


def test_scd_ratio_with_every_method(cases, expected):
    data = pd.read_csv(cases / "data" / "scd.csv")
    arrays = arrays_of(data, stratum="ESA", psu="ambulance", N=np.full(6, 5), weight=np.ones(6))
    complete = SampleArrays(
        **{**{k: getattr(arrays, k) for k in arrays.__dataclass_fields__}, "ssu_population": np.ones(6)}
    )
    for case, kind in (("scd_fpc", "two_stage"), ("scd_nofpc", "with_replacement")):
        want = expected(case)
        assert ratio(complete, data["alive"], data["arrests"], kind=kind) == approx(
            want["ratio alive/arrests"], rel=REL
        )
        assert total(complete, data["alive"], kind=kind) == approx(want["total alive"], rel=REL)
