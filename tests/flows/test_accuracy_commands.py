"""`uvmap estimate`, `sample`, `label` and `assess` as a user meets them: output, robustness, one-line errors."""

import json

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from accuracy.errors import AccuracyError
from flows.commands import assess as assess_command
from flows.commands import estimate as estimate_command
from flows.commands import label as label_command
from flows.commands import sample as sample_command
from tests.support.rasters import grid_at, write_raster

DESIGN = [
    "--stratum", "region", "--psu", "city", "--ssu", "point_id", "--second-stage-stratum", "map_stratum",
]  # fmt: skip


def run(*arguments, command=estimate_command):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    command.register(app)
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def estimates(path, *options, selection="probability", design=DESIGN):
    result = run("estimate", path, *design, "--psu-selection", selection, "--json", *options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def toy(seed=0, cities=3):
    rng = np.random.default_rng(seed)
    rows = [
        {
            "region": region, "city": f"{region}{c}", "map_stratum": stratum, "map": mapped,
            "ref": int(rng.random() < (0.8 if mapped else 0.1)), "N_city": 9, "n_city": cities,
            "M_pix": 1000 * (c + 1) * (1 if mapped else 30), "m_pts": 20,
        }
        for region in "AB" for c in range(cities) for stratum, mapped in (("uv", 1), ("rest", 0)) for _ in range(20)
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(point_id=range(len(rows)))


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


# --- uvmap sample ---------------------------------------------------------------------------------------------------


def make_product(folder, seed=0, side=120):
    """Scores and published polygons of a city; the polygons are not the scores cut at 0.5."""
    import geopandas as gpd
    import shapely

    from pipeline.product.files import mask_path, scores_path, write_polygons
    from pipeline.product.mask import write_polygon_mask

    adcode = folder.name
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 15, (side, side)).astype(np.uint8)
    villages = []
    for k in range(6):
        r, c = rng.integers(0, side - 20, 2)
        scores[r : r + 16, c : c + 16] = rng.integers(40, 250)
        if k % 3 < 2:  # published with a part beyond the high scores; every third village was taken out
            x, y = 500_000 + 10 * c, 2_500_000 - 10 * r
            villages.append(shapely.box(x + 31, y - 124, x + 187, y - 28))
    scores[0] = 255
    folder.mkdir(parents=True, exist_ok=True)
    grid = grid_at(500_000, 2_500_000, scores.shape, resolution_m=10.0)
    write_raster(scores_path(folder, adcode), grid, scores, nodata=255)
    polygons = gpd.GeoDataFrame(geometry=villages, crs="EPSG:32649")
    write_polygons(polygons, folder, adcode)
    write_polygon_mask(scores_path(folder, adcode), polygons, mask_path(folder, adcode))
    return folder


def test_size_answers_the_planning_question():
    got = json.loads(
        run("sample", "size", "--measure", "PA", "--target-se", "0.05", "--json", command=sample_command).stdout
    )
    assert got["points_if_independent"] == 2028
    assert got["planned_se"] == pytest.approx(0.05, rel=0.01)
    assert [r["stratum"] for r in got["strata"]] == ["mapped", "candidate", "rest"]
    cheap, dear = (
        json.loads(
            run(
                "sample", "size", f"--stratum=uv:0.1:1:0.8:{cost}", "--stratum=rest:0.9:0:0.02:1",
                "--method", "cost", "--city-cost", "50",
                "--json", command=sample_command,
            ).stdout
        )
        for cost in (1, 16)
    )  # fmt: skip
    assert cheap["strata"][0]["points"] > 1.5 * dear["strata"][0]["points"]
    assert cheap["two_stage"]["points_per_city"] == round((50 * 0.98 / 0.02) ** 0.5)
    with pytest.raises(AccuracyError, match="must be above 0"):
        run("sample", "size", "--stratum", "uv:0.1:1:0.8:0", command=sample_command)
    with pytest.raises(AccuracyError, match="write name:share"):
        run("sample", "size", "--stratum", "uv", command=sample_command)


def test_cities_of_the_national_frame_are_28_in_seven_regions(tmp_path):
    out = tmp_path / "cities.csv"
    got = json.loads(run("sample", "cities", "--seed", "7", "--out", out, "--json", command=sample_command).stdout)
    drawn = pd.read_csv(out, dtype=str)
    assert got["frame"] == 342 and len(drawn) == 28
    assert drawn.groupby("region").size().to_dict() == dict.fromkeys(sorted(drawn["region"].unique()), 4)
    assert drawn["region"].nunique() == 7
    assert drawn.groupby("region")["N_city"].first().astype(int).sum() == 342


def test_points_and_blocks_of_drawn_cities(tmp_path):
    cities = pd.DataFrame(
        {"adcode": ["990001", "990002"], "region": ["North"] * 2, "N_city": [5] * 2, "n_city": [2] * 2}
    )
    cities.to_csv(tmp_path / "cities.csv", index=False)
    for k, code in enumerate(cities["adcode"]):
        make_product(tmp_path / "out" / code, seed=k)
    common = [
        "--cities",
        tmp_path / "cities.csv",
        "--products",
        tmp_path / "out",
        "--seed",
        "3",
        "--out",
        tmp_path / "s",
    ]
    got = json.loads(run("sample", "points", *common, "--json", command=sample_command).stdout)
    assert got["points"] == 2 * (30 + 60 + 120)
    import geopandas as gpd

    design = gpd.read_parquet(tmp_path / "s" / "points_design.parquet")
    given = gpd.read_file(tmp_path / "s" / "points_to_label.gpkg")
    assert not {"map", "map_stratum", "M_pix", "draw_order"} & set(given.columns)
    sizes = design["N_city"] / design["n_city"] * design["M_pix"] / design["m_pts"]
    assert (1 / design["pi"]).to_numpy() == pytest.approx(sizes.to_numpy())
    labelled = design.assign(ref=design["map"])
    labelled.to_parquet(tmp_path / "labelled.parquet")
    assert estimates(tmp_path / "labelled.parquet")["two_stage"]["North"]["UA"]["estimate"] == 1
    run("sample", "blocks", *common, "--block-px", "32", command=sample_command)
    assert len(gpd.read_file(tmp_path / "s" / "blocks_to_digitise.gpkg")) >= 8
    (tmp_path / "out" / "990002" / "990002_uv_mask.tif").unlink()
    with pytest.raises(AccuracyError, match="1 of 2 drawn cities have no whole product"):
        run("sample", "points", *common, command=sample_command)


@pytest.mark.parametrize("seed", [1, 6])
def test_a_sample_says_what_the_published_polygons_say_at_its_points(tmp_path, seed):
    import geopandas as gpd
    import rasterio
    import shapely

    folder = make_product(tmp_path / "990001", seed=seed)
    scores, mask = folder / "990001_scores.tif", folder / "990001_uv_mask.tif"
    allocation = ["--mapped", "200", "--candidate", "200", "--rest", "100"]
    run(
        "sample", "points", "--score", scores, "--mask", mask, "--city", "990001", "--seed", "3", *allocation,
        "--out", tmp_path / "s", command=sample_command,
    )  # fmt: skip
    design = gpd.read_parquet(tmp_path / "s" / "points_design.parquet").to_crs("EPSG:32649")
    published = shapely.union_all(gpd.read_parquet(folder / "990001_uv.parquet").geometry.to_numpy())
    inside = shapely.contains_xy(published, design.geometry.x, design.geometry.y)
    assert design["map"].astype(bool).tolist() == inside.tolist()
    assert (design["map_stratum"] == "mapped").tolist() == inside.tolist()
    with rasterio.open(scores) as raster:
        at = np.array([v[0] for v in raster.sample(zip(design.geometry.x, design.geometry.y, strict=True))])
    high = at >= 125
    assert (high & ~inside).any() and (inside & ~high).any()  # the scores cut at 0.5 would say otherwise


def test_scores_without_the_mask_of_the_published_polygons_are_refused(tmp_path):
    folder = make_product(tmp_path / "990001")
    with pytest.raises(AccuracyError, match="--score without --mask"):
        run(
            "sample", "points", "--score", folder / "990001_scores.tif", "--seed", "3", "--out", tmp_path / "s",
            command=sample_command,
        )  # fmt: skip


# --- uvmap label and assess ------------------------------------------------------------------------------------------


def test_the_chain_draw_label_assess(tmp_path):
    import geopandas as gpd

    cities = pd.DataFrame({"adcode": ["990001", "990002", "990003"], "region": "North", "N_city": 5, "n_city": 3})
    cities.to_csv(tmp_path / "cities.csv", index=False)
    for k, code in enumerate(cities["adcode"]):
        make_product(tmp_path / "out" / code, seed=k)
    common = [
        "--cities",
        tmp_path / "cities.csv",
        "--products",
        tmp_path / "out",
        "--seed",
        "3",
        "--out",
        tmp_path / "s",
    ]
    run("sample", "points", *common, command=sample_command)
    given = gpd.read_file(tmp_path / "s" / "points_to_label.gpkg")
    design = gpd.read_parquet(tmp_path / "s" / "points_design.parquet").set_index("point_id")
    rng = np.random.default_rng(0)
    truth = [
        int(rng.random() < {"mapped": 0.8, "candidate": 0.3, "rest": 0.02}[design.loc[p, "map_stratum"]])
        for p in given["point_id"]
    ]
    for name, flip in (("ann", 0.0), ("bo", 0.03)):
        answers = [t if rng.random() >= flip else 1 - t for t in truth]
        pd.DataFrame({"point_id": given["point_id"], "label": answers, "interpreter": name}).to_csv(
            tmp_path / f"{name}.csv", index=False
        )
    merged = run(
        "label", "merge", tmp_path / "s" / "points_design.parquet", tmp_path / "ann.csv", tmp_path / "bo.csv",
        "--out", tmp_path / "labelled.parquet", "--json", command=label_command,
    )  # fmt: skip
    got = json.loads(merged.stdout)
    assert got["points"] == 630 and got["disagreed"] == got["unanswered"] > 0
    assert got["agreement"][0]["overall"] > 0.9
    result = run(
        "assess", "sample", tmp_path / "labelled.parquet", "--psu-selection", "probability",
        "--out", tmp_path / "report",
        "--labels", tmp_path / "ann.csv", "--labels", tmp_path / "bo.csv", "--pixel-m", "10", "--replicates", "50",
        "--json", command=assess_command,
    )  # fmt: skip
    data = json.loads(result.stdout)
    assert 0.6 < data["estimates"]["UA"]["estimate"] < 0.95
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "forgiven" in page and "How alike errors are" in page
    alike = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))["autocorrelation"]
    strata = {row["stratum"]: row for row in alike["strata"]}
    assert set(strata) == {"mapped", "candidate", "rest", "all"}
    # answers were drawn point by point: nothing is alike but by chance
    assert all(abs(strata[name]["rho"]) < 0.2 for name in ("mapped", "candidate"))
    assert strata["all"]["joins"] > 600
    missing = run("assess", "sample", tmp_path / "labelled.parquet", command=assess_command)
    assert missing.exit_code == 2 and "--psu-selection" in missing.output


def test_assess_a_product_against_complete_reference(tmp_path):
    import geopandas as gpd
    import shapely

    folder = tmp_path / "990001"
    make_product(folder, seed=4)
    reference = gpd.GeoDataFrame(geometry=[shapely.box(500_100, 2_499_200, 500_700, 2_499_900)], crs="EPSG:32649")
    reference.to_file(tmp_path / "truth.gpkg")
    areas = gpd.GeoDataFrame(
        {"name": ["west", "east"], "role": ["assess", "train"]},
        geometry=[
            shapely.box(500_000, 2_498_800, 500_600, 2_500_000),
            shapely.box(500_600, 2_498_800, 501_200, 2_500_000),
        ],
        crs="EPSG:32649",
    )
    areas.to_file(tmp_path / "areas.gpkg")
    arguments = ["assess", "map", folder, "--reference", tmp_path / "truth.gpkg", "--areas", tmp_path / "areas.gpkg"]
    arguments += ["--out", tmp_path / "r", "--json"]
    got = json.loads(run(*arguments, "--role", "assess", command=assess_command).stdout)
    assert [a["area"] for a in got["areas"]] == ["west"]
    total = got["total"]
    assert got["map"] == "polygons" and total["not_predicted_px"] == 60
    # by shapely, without the mask: the centre of a pixel lies in a published polygon, in the reference, in the area
    x, y = np.meshgrid(500_005 + 10 * np.arange(60), 2_499_985 - 10 * np.arange(119))
    inside = {
        name: shapely.contains_xy(shapely.union_all(shapes), x, y)
        for name, shapes in (
            ("map", gpd.read_parquet(folder / "990001_uv.parquet").geometry.to_numpy()),
            ("reference", reference.geometry.to_numpy()),
        )
    }
    assert total["tp"] == (inside["map"] & inside["reference"]).sum()
    assert total["fp"] == (inside["map"] & ~inside["reference"]).sum() > 0
    assert total["fn"] == (~inside["map"] & inside["reference"]).sum() > 0
    scores = json.loads(run(*arguments, "--role", "assess", "--map", "scores", command=assess_command).stdout)
    assert scores["map"] == "scores >= 0.5 (diagnostic)" and scores["total"]["tp"] != total["tp"]
    assert "scores &gt;= 0.5 (diagnostic)" in (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert total["F1"] == pytest.approx(2 * total["IoU"] / (1 + total["IoU"]))
    assert "census" in (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    with pytest.raises(AccuracyError, match="no area with role 'lost'"):
        run(*arguments, "--role", "lost", command=assess_command)
    assert run("assess", "map", folder, command=assess_command).exit_code == 2
    (tmp_path / "areas.csv").write_text("name,role\nwest,assess\n", encoding="utf-8")
    with pytest.raises(AccuracyError, match="holds no geometry"):
        run(*arguments[:5], "--areas", tmp_path / "areas.csv", command=assess_command)
    with pytest.raises(AccuracyError, match="leave it out, or give --map scores"):
        run(*arguments, "--threshold", "0.4", command=assess_command)
    with pytest.raises(AccuracyError, match="is no product folder"):
        run("assess", "map", folder / "990001_scores.tif", *arguments[3:], command=assess_command)
    (folder / "990001_uv_mask.tif").unlink()
    with pytest.raises(AccuracyError, match=r"holds 0 files \*_uv_mask\.tif"):
        run(*arguments, command=assess_command)


def test_a_reference_mask_leaves_its_unlabelled_ground_out(tmp_path):
    import rasterio

    folder = make_product(tmp_path / "990001", seed=4)
    with rasterio.open(folder / "990001_uv_mask.tif") as mask:
        ours, profile = mask.read(1), mask.profile
    truth = (np.indices(ours.shape).sum(axis=0) % 90 < 30).astype(np.uint8)
    truth[:, 80:] = 255
    profile.update(driver="GTiff", nodata=255)
    with rasterio.open(tmp_path / "truth.tif", "w", **profile) as dst:
        dst.write(truth, 1)
    arguments = ["--reference", tmp_path / "truth.tif", "--out", tmp_path / "r", "--json"]
    total = json.loads(run("assess", "map", folder, *arguments, command=assess_command).stdout)["total"]
    known = (truth != 255) & (ours != 255)
    assert total["tp"] == (known & (ours == 1) & (truth == 1)).sum()
    assert total["tn"] == (known & (ours == 0) & (truth == 0)).sum()
    assert total["not_predicted_px"] == ((truth != 255) & (ours == 255)).sum()


def test_assess_with_blocks_and_training(tmp_path):
    import geopandas as gpd
    import shapely

    cities = pd.DataFrame({"adcode": ["990001", "990002"], "region": "North", "N_city": 5, "n_city": 2})
    cities.to_csv(tmp_path / "cities.csv", index=False)
    for k, code in enumerate(cities["adcode"]):
        make_product(tmp_path / "out" / code, seed=k)
    common = [
        "--cities",
        tmp_path / "cities.csv",
        "--products",
        tmp_path / "out",
        "--seed",
        "3",
        "--out",
        tmp_path / "s",
    ]
    run("sample", "points", *common, command=sample_command)
    run("sample", "blocks", *common, "--block-px", "40", command=sample_command)
    design = gpd.read_parquet(tmp_path / "s" / "points_design.parquet")
    rng = np.random.default_rng(1)
    design.assign(ref=np.where(rng.random(len(design)) < 0.9, design["map"], 1 - design["map"])).to_parquet(
        tmp_path / "l.parquet"
    )
    blocks = gpd.read_parquet(tmp_path / "s" / "blocks_design.parquet").to_crs("EPSG:32649")
    villages = [b.centroid.buffer(60) for b in blocks.geometry]
    gpd.GeoDataFrame(geometry=villages, crs="EPSG:32649").to_file(tmp_path / "digitised.gpkg")
    moved = [shapely.affinity.translate(v, 20, 0) for v in villages]
    gpd.GeoDataFrame(geometry=moved, crs="EPSG:32649").to_parquet(tmp_path / "uv.parquet")
    gpd.GeoDataFrame({"id": ["t1"], "city": ["990001"]}, geometry=[shapely.box(400_000, 2e6, 400_100, 2e6 + 100)],
                     crs="EPSG:32649").to_file(tmp_path / "training.gpkg")  # fmt: skip
    result = run(
        "assess", "sample", tmp_path / "l.parquet", "--psu-selection", "probability", "--out", tmp_path / "r",
        "--blocks", tmp_path / "s" / "blocks_design.parquet", "--digitised", tmp_path / "digitised.gpkg",
        "--polygons", tmp_path / "uv.parquet", "--resolution-m", "10", "--training", tmp_path / "training.gpkg",
        "--replicates", "0", "--lonely-psu", "certainty", command=assess_command,
    )  # fmt: skip
    assert "recall" in result.stdout
    data = json.loads((tmp_path / "r" / "report.json").read_text(encoding="utf-8"))
    kinds = {(r["kind"], r["measure"]) for r in data["blocks"]}
    assert {("objects", "F1"), ("boundary", "boundary IoU"), ("pixels", "IoU"), ("objects", "PQ")} <= kinds
    assert data["leakage"]["clean"] and data["leakage"]["counts"]["city_seen"] == 210


def test_label_page_command(tmp_path):
    import geopandas as gpd
    import shapely

    points = gpd.GeoDataFrame(
        {"point_id": ["a", "b"], "city": "1"},
        geometry=shapely.points([500_050, 500_060], [2_499_950] * 2),
        crs="EPSG:32649",
    )
    points.to_file(tmp_path / "p.gpkg")
    grid = grid_at(500_000, 2_500_000, (50, 50), resolution_m=2.0)
    write_raster(tmp_path / "i.tif", grid, np.full((3, 50, 50), 99, np.uint8))
    arguments = [
        "label",
        "page",
        tmp_path / "p.gpkg",
        "--imagery",
        tmp_path / "i.tif",
        "--out",
        tmp_path / "o",
        "--json",
    ]
    got = json.loads(run(*arguments, command=label_command).stdout)
    assert got["points"] == 2 and len(got["pages"]) == 1
