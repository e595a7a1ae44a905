"""Single-stage cases: the papers' own examples and those of the R package mapaccuracy."""

import json

import numpy as np
import pandas as pd
import pytest

from accuracy.estimation.error_matrix import (
    estimate_matrix_se,
    estimate_per_class,
    tabulate_errors,
)
from accuracy.estimation.options import EstimateOptions
from accuracy.survey.design import SamplingDesign
from accuracy.survey.sample import ReferenceSample

pytestmark = pytest.mark.shared
approx = pytest.approx
REL = 1e-8
PRINTED = {"rel": 1e-8, "abs": 1e-14}  # the cases are stored with 12 digits


def olofsson(case, estimate_counts):
    return estimate_counts(
        case["counts"],
        dict(zip(case["classes"], case["mapped_pixels"], strict=True)),
        classes=case["classes"],
    ).set_index(["class", "measure"])


def test_olofsson_2014(cases, estimate_counts):
    case = json.loads((cases / "a_olofsson2014.json").read_text())
    got = olofsson(case, estimate_counts)
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


def test_olofsson_2014_with_finite_populations(cases, estimate_counts):
    case = json.loads((cases / "a_olofsson2014.json").read_text())
    sizes = dict(zip(case["classes"], case["mapped_pixels"], strict=True))
    got = estimate_counts(case["counts"], sizes, classes=case["classes"], finite=True)
    got = got.set_index(["class", "measure"])
    assert got.loc[("", "OA"), "se"] == approx(case["computed_with_fpc"]["se_OA"], rel=REL)
    for name in case["classes"]:
        assert got.loc[(name, "area"), "se"] == approx(case["computed_with_fpc"]["se_area_prop"][name], rel=REL)


@pytest.mark.parametrize("example", ["example1", "example2"])
def test_olofsson_2013(cases, estimate_counts, example):
    case = json.loads((cases / "b_olofsson2013.json").read_text())[example]
    sizes = case.get("mapped_pixels") or case["weights"]
    names = ["1", "2", "3"]
    got = estimate_counts(case["counts"], dict(zip(names, sizes, strict=True)), classes=names)
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
    got = estimate_per_class(sample, EstimateOptions(variance=variance)).set_index(["class", "measure"])
    want = case["computed"][name]
    assert got.loc[("", "OA"), "se"] == approx(want["se_OA"], rel=REL)
    for cls in "ABCD":
        for mine, theirs in (("UA", "UA"), ("PA", "PA"), ("F1", "F1"), ("IoU", "IoU"), ("area", "area_prop")):
            assert got.loc[(cls, mine), "estimate"] == approx(want[theirs][cls], rel=REL)
            assert got.loc[(cls, mine), "se"] == approx(want[f"se_{theirs}"][cls], rel=REL)
    shares, errors = tabulate_errors(sample), estimate_matrix_se(sample, EstimateOptions(variance=variance))
    for a in "ABCD":
        for b in "ABCD":
            assert shares.loc[a, b] == approx(want["cell_prop"][a + b], abs=1e-12)
            assert errors.loc[a, b] == approx(want["se_cell_prop"][a + b], rel=REL, abs=1e-14)


def mapaccuracy_case(cases, name, estimate_counts):
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
        return estimate_per_class(sample, classes=classes), tabulate_errors(sample, classes=classes)
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
    got = estimate_counts(counts, dict(zip(classes, sizes, strict=True)), classes=classes)
    return got, pd.DataFrame(shares, index=classes, columns=classes)


MAPACCURACY = [
    "olofsson2013_ex1", "olofsson2013_ex2", "olofsson2014", "olofsson_extra_empty_class",
    "olofsson_map_class_not_in_ref", "olofsson_ref_class_not_in_map", "stehman2014", "stehman2014_five_strata",
    "stehman2014_map_class_not_in_ref", "stehman2014_ref_class_not_in_map",
]  # fmt: skip


@pytest.mark.parametrize("case", MAPACCURACY)
def test_mapaccuracy_examples(cases, estimate_counts, case):
    table = pd.read_csv(cases / "e_mapaccuracy_doc_examples.csv", dtype=str, keep_default_na=False)
    assert set(table["case"]) == set(MAPACCURACY)
    want = table[table["case"] == case]
    order = list(want["class"][want["quantity"] == "UA"])
    rename = dict(zip(order, "1234", strict=False)) if case == "olofsson2014" else {}
    got, shares = mapaccuracy_case(cases, case, estimate_counts)
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
