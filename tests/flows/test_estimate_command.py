"""`uvmap estimate` as a user meets it: output, robustness, one-line errors."""

import numpy as np
import pandas as pd
import pytest

from accuracy.errors import AccuracyError
from tests.support.accuracy_commands import DESIGN, estimates, run, toy


@pytest.mark.shared
def test_the_28_cities_come_out_as_asked(shared):
    folder = shared / "reference" / "accuracy"
    got = estimates(folder / "f_uv28_points.csv")
    assert list(got) == ["two_stage", "with_replacement", "cities_fixed"]
    assert set(got["two_stage"]) == {"all", "North", "East", "South", "Central", "West"}
    survey = pd.read_csv(folder / "f_survey_reference.csv")
    names = {"UA": "UA", "PA": "PA", "F1": "F1", "IoU": "IoU", "OA": "OA", "area_prop ref": "area"}
    cases = {"uv28_2stage": "two_stage", "uv28_wr": "with_replacement", "uv28_cities_fixed": "cities_fixed"}
    compared = 0
    for row in survey[survey["case"].isin(cases)].to_dict("records"):
        words = row["quantity"].split(" ", 2)
        domain, name = (words[1], words[2]) if words[0] == "region" else ("all", row["quantity"])
        if name in names:
            cell = got[cases[row["case"]]][domain][names[name]]
            assert cell["estimate"] == pytest.approx(row["estimate"], rel=1e-8)
            assert cell["se"] == pytest.approx(row["se"], rel=1e-8, abs=1e-14)
            compared += 1
    assert compared == 3 * 6 * 6


def same(a, b, rename=None):
    for kind, domains in a.items():
        for domain, measures in domains.items():
            other = b[kind][(rename or {}).get(domain, domain)]
            for name, cell in measures.items():
                for key in ("estimate", "se"):
                    left, right = cell[key], other[name][key]
                    assert left == right or left == pytest.approx(right, rel=1e-9, abs=1e-14), (kind, domain, name)


def test_order_extra_columns_separators_and_numeric_ids_do_not_matter(tmp_path):
    table = toy()
    table.to_csv(tmp_path / "a.csv", index=False)
    expected = estimates(tmp_path / "a.csv")
    other = table.sample(frac=1, random_state=1)[table.columns[::-1]]
    other = other.assign(region=other["region"].map({"A": 2, "B": 1}), city=other["city"].str[-1].astype(int))
    other["map_stratum"] = other["map"] + 7
    other["note"] = "x, y"
    other["ref"] = other["ref"].astype(float)
    other.to_csv(tmp_path / "b.csv", index=False, sep=";", encoding="utf-8-sig")
    same(expected, estimates(tmp_path / "b.csv"), {"A": "2", "B": "1"})
    other.drop(columns=["n_city", "m_pts"]).to_parquet(tmp_path / "c.parquet")
    same(expected, estimates(tmp_path / "c.parquet"), {"A": "2", "B": "1"})
    named = table.rename(columns={"map": "predicted", "ref": "truth", "N_city": "frame"})
    named["truth"] = named["truth"].map({1: "village", 0: "field"})
    named["predicted"] = named["predicted"].map({1: "village", 0: "field"})
    named.to_csv(tmp_path / "d.csv", index=False, sep="\t")
    options = ("--map", "predicted", "--ref", "truth", "--psu-population", "frame", "--positive", "village")
    same(expected, estimates(tmp_path / "d.csv", *options))


def test_tables_without_strata_without_second_stage_and_single_stage(tmp_path):
    one = toy().query("region == 'A'").assign(region="all")
    one.to_csv(tmp_path / "one.csv", index=False)
    with_stratum = estimates(tmp_path / "one.csv")
    without = estimates(tmp_path / "one.csv", design=[*DESIGN[2:]])
    same(with_stratum, without)
    plain = toy().assign(M_pix=5000, m_pts=40).drop(columns="map_stratum")
    plain.to_csv(tmp_path / "plain.csv", index=False)
    got = estimates(tmp_path / "plain.csv", design=DESIGN[:6])
    assert got["two_stage"]["A"]["F1"]["se"] > 0
    single = toy().drop(columns=["city", "N_city", "n_city"]).assign(M_pix=9000, m_pts=60)
    single.to_csv(tmp_path / "single.csv", index=False)
    got = estimates(tmp_path / "single.csv", design=["--stratum", "region", "--second-stage-stratum", "map_stratum"])
    uv = single.query("map == 1")["ref"].mean()
    assert got["two_stage"]["all"]["UA"]["estimate"] == pytest.approx(uv)


def test_designs_without_a_variance_keep_the_estimate_and_say_why(tmp_path):
    toy().to_csv(tmp_path / "t.csv", index=False)
    got = estimates(tmp_path / "t.csv", selection="purposive")
    cell = got["two_stage"]["all"]["F1"]
    assert cell["estimate"] > 0 and cell["se"] is None and "on purpose" in cell["reason"]
    assert got["cities_fixed"]["all"]["F1"]["se"] > 0
    weighted = toy().assign(w=lambda t: t["N_city"] / t["n_city"] * t["M_pix"] / t["m_pts"])
    weighted.to_csv(tmp_path / "w.csv", index=False)
    pps = estimates(tmp_path / "w.csv", "--weight", "w", selection="pps")
    same({"with_replacement": estimates(tmp_path / "t.csv")["with_replacement"]}, pps)
    assert pps["two_stage"]["all"]["F1"]["se"] is None


def test_text_shows_intervals_bounds_and_flags(tmp_path):
    table = toy().assign(ref=lambda t: t["map"])
    table.to_csv(tmp_path / "t.csv", index=False)
    out = run("estimate", tmp_path / "t.csv", *DESIGN, "--psu-selection", "probability").stdout
    assert ">= 0.9" in out and "zero_count" in out
    assert "1.000 [1.000" not in out


def test_further_domains_replicates_and_calibration(tmp_path):
    toy().assign(size=lambda t: np.where(t["city"].str.endswith("0"), "big", "small")).to_csv(
        tmp_path / "t.csv", index=False
    )
    got = estimates(tmp_path / "t.csv", "--by", "size", "--replicates", "50")
    assert {"size=big", "size=small"} < set(got["two_stage"])
    assert got["bootstrap"]["A"]["F1"]["se"] > 0 and got["jackknife"]["all"]["PA"]["se"] > 0
    totals = pd.DataFrame({"region": list("AABB"), "map": [0, 1, 0, 1], "pixels": [9e5, 2e4, 8e5, 3e4]})
    totals.to_csv(tmp_path / "m.csv", index=False)
    known = estimates(tmp_path / "t.csv", "--map-totals", tmp_path / "m.csv")
    assert known["two_stage"]["all"]["area_map"]["estimate"] == pytest.approx(5e4 / 17.5e5)


def test_two_maps_on_the_same_points(tmp_path):
    rng = np.random.default_rng(4)
    table = toy().assign(other=lambda t: np.where(rng.random(len(t)) < 0.9, t["map"], 1 - t["map"]))
    table.to_csv(tmp_path / "t.csv", index=False)
    got = estimates(tmp_path / "t.csv", "--compare-with", "other")
    rows = {row["measure"]: row for row in got["measures"]}
    own, theirs = (estimates(tmp_path / "t.csv", "--map", name)["two_stage"]["all"] for name in ("map", "other"))
    for name in ("UA", "PA", "F1"):
        gap = own[name]["estimate"] - theirs[name]["estimate"]
        assert rows[name]["difference"] == pytest.approx(gap)
        # the maps agree on most points, so the difference is surer than that of two independent samples
        assert 0 < rows[name]["se"] < np.hypot(own[name]["se"], theirs[name]["se"])
    with pytest.raises(AccuracyError, match="'third' is not in the table"):
        estimates(tmp_path / "t.csv", "--compare-with", "third")


def test_every_class_of_a_map_of_classes(tmp_path):
    names = {1: "village", 0: "field"}
    table = toy().assign(map=lambda t: t["map"].map(names), ref=lambda t: t["ref"].map(names))
    table.to_csv(tmp_path / "t.csv", index=False)
    rows = estimates(tmp_path / "t.csv", "--per-class")["classes"]
    toy().to_csv(tmp_path / "b.csv", index=False)
    binary = estimates(tmp_path / "b.csv")["two_stage"]["all"]
    got = {(row["class"], row["measure"]): row for row in rows}
    assert {c for c, _ in got} == {"", "village", "field"}
    for name in ("UA", "PA", "F1"):
        assert got["village", name]["se"] == pytest.approx(binary[name]["se"])
    assert got["", "OA"]["estimate"] == pytest.approx(binary["OA"]["estimate"])


def one_city_in_a(table):
    table = table.query("region == 'B' or city == 'A0'")
    return table.assign(n_city=table.groupby("region")["city"].transform("nunique"))


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda t: t.drop(columns="map"), [], "column 'map' is not in the table"),
        (lambda t: t, ["--psu-selection", "lucky"], "'lucky' is none of probability, pps"),
        (lambda t: t.query("city != 'B2'"), [], "'B': 'n_city' says 3"),
        (one_city_in_a, [], "'A' has 1 sampled primary unit"),
        (lambda t: t.assign(region=t["region"].replace("A", "all")), [], "a value 'all'"),
        (lambda t: pd.concat([t, t.iloc[:1]]), [], "point '0'"),
        (lambda t: t.assign(ref="maybe"), [], "'maybe', which is neither 1 nor 0"),
    ],
)  # fmt: skip
def test_bad_tables_are_typed_errors(tmp_path, change, options, message):
    change(toy()).to_csv(tmp_path / "t.csv", index=False)
    selection = [] if "--psu-selection" in options else ["--psu-selection", "probability"]
    with pytest.raises(AccuracyError, match=message):
        run("estimate", tmp_path / "t.csv", *DESIGN, *selection, *options)


def test_missing_file_and_missing_selection(tmp_path):
    with pytest.raises(AccuracyError, match="does not exist"):
        run("estimate", tmp_path / "none.csv", *DESIGN, "--psu-selection", "census")
    assert run("estimate", tmp_path / "none.csv", *DESIGN).exit_code == 2


def test_estimates_corrected_for_interpreters_errors(tmp_path):
    rng = np.random.default_rng(1)
    table = toy()
    other = np.where(rng.random(len(table)) < 0.9, table["ref"], 1 - table["ref"])
    told = [f"Ann={a}; Bo={b}" for a, b in zip(table["ref"], other, strict=True)]
    table.assign(readings=told).to_csv(tmp_path / "t.csv", index=False)
    got = estimates(tmp_path / "t.csv", "--correct-reference")
    rows = {row["measure"]: row for row in got["measures"]}
    own = estimates(tmp_path / "t.csv")["two_stage"]["all"]
    assert rows["F1"]["uncorrected"] == pytest.approx(own["F1"]["estimate"]) and got["basis"] == "model"
    assert {r["interpreter"] for r in got["interpreters"]} == {"Ann", "Bo"}
    assert "not design-based" in run("estimate", tmp_path / "t.csv", "--correct-reference", *DESIGN,
                                     "--psu-selection", "probability").stdout  # fmt: skip
