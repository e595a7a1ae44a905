"""`uvmap sample` as a user meets it: plans, cities, points and blocks."""

import json

import numpy as np
import pandas as pd
import pytest

from accuracy.errors import AccuracyError
from flows.commands import sample as sample_command
from tests.support.accuracy_commands import estimates, make_product, run


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


def test_the_draw_is_recorded_with_the_files_it_was_drawn_from(tmp_path):
    import hashlib

    import geopandas as gpd
    import rasterio
    import shapely

    from accuracy.survey.record import read_survey

    cities = pd.DataFrame({"adcode": ["440300", "990002"], "region": "South", "N_city": 5, "n_city": 2})
    cities.to_csv(tmp_path / "cities.csv", index=False)
    for k, code in enumerate(cities["adcode"]):
        folder = make_product(tmp_path / "out" / code, seed=k)
        lineage = {"image_date": f"202{k}-05-01", "release": "2024.1"}
        (folder / "manifest.json").write_text(json.dumps({"inputs": {"lineage": lineage}}), encoding="utf-8")
    run(
        "sample", "points", "--cities", tmp_path / "cities.csv", "--products", tmp_path / "out", "--seed", "3",
        "--out", tmp_path / "s", command=sample_command,
    )  # fmt: skip
    survey = read_survey(tmp_path / "s" / "survey.json")
    assert (survey.seed, survey.frame) == (3, "5 cities in 1 regions")
    assert [(c.city, c.name, c.map_date, c.release) for c in survey.cities] == [
        ("440300", "Shenzhen 深圳市", "2020-05-01", "2024.1"),
        ("990002", "Demo 0002 示范市0002", "2021-05-01", "2024.1"),
    ]  # fmt: skip
    for city in survey.cities:
        for name, digest in city.files.items():
            assert hashlib.sha256((tmp_path / "out" / city.city / name).read_bytes()).hexdigest() == digest
        assert set(city.files) == {f"{city.city}_{x}" for x in ("uv_mask.tif", "scores.tif", "uv.parquet")}
        with rasterio.open(tmp_path / "out" / city.city / f"{city.city}_uv_mask.tif") as mask:
            assert city.stratum_px["mapped"] == (mask.read(1) == 1).sum()
    design = gpd.read_parquet(tmp_path / "s" / "points_design.parquet")
    assert dict(zip(design["city"], design["map_date"], strict=True)) == {
        "440300": "2020-05-01",
        "990002": "2021-05-01",
    }
    assert design["village_m2"].notna().tolist() == design["map"].astype(bool).tolist()
    one = design[(design["city"] == "440300") & (design["map"] == 1)].to_crs("EPSG:32649").iloc[0]
    villages = gpd.read_parquet(tmp_path / "out" / "440300" / "440300_uv.parquet").geometry
    hit = villages[villages.intersects(one.geometry)]
    assert shapely.area(hit.iloc[0]) == pytest.approx(one["village_m2"], rel=2e-3)


def test_scores_without_the_mask_of_the_published_polygons_are_refused(tmp_path):
    folder = make_product(tmp_path / "990001")
    with pytest.raises(AccuracyError, match="--score without --mask"):
        run(
            "sample", "points", "--score", folder / "990001_scores.tif", "--seed", "3", "--out", tmp_path / "s",
            command=sample_command,
        )  # fmt: skip


def test_totals_written_from_products_calibrate_areas_of_cities_of_any_resolution(tmp_path):
    import geopandas as gpd

    frame = pd.DataFrame({"adcode": [f"99000{k}" for k in range(1, 6)], "region": "North"})
    frame.to_csv(tmp_path / "frame.csv", index=False)
    for k, code in enumerate(frame["adcode"]):
        make_product(tmp_path / "out" / code, seed=k)
    frame.iloc[:2].assign(N_city=5, n_city=2).to_csv(tmp_path / "cities.csv", index=False)
    common = ["--products", tmp_path / "out", "--out", tmp_path / "s"]
    totals = ["sample", "totals", "--frame", tmp_path / "frame.csv", *common]
    got = json.loads(run(*totals, "--json", command=sample_command).stdout)
    assert got["cities"] == 5
    run("sample", "points", "--cities", tmp_path / "cities.csv", "--seed", "3", *common, command=sample_command)
    design = gpd.read_parquet(tmp_path / "s" / "points_design.parquet")
    design.assign(ref=design["map"]).to_parquet(tmp_path / "l.parquet")
    known = pd.read_csv(tmp_path / "s" / "map_totals.csv").set_index("map")["area_m2"]
    cities = pd.read_csv(tmp_path / "s" / "city_totals.csv")
    assert known[1] == pytest.approx(cities["mapped_m2"].sum())
    cell = estimates(tmp_path / "l.parquet", "--map-totals", tmp_path / "s" / "map_totals.csv")["two_stage"]["all"]
    assert cell["area_map"]["estimate"] == pytest.approx(known[1] / known.sum(), rel=1e-6)
    assert (cell["area"]["weights"], cell["F1"]["weights"]) == ("calibrated", "design")
    (tmp_path / "out" / "990004" / "990004_uv_mask.tif").unlink()
    with pytest.raises(AccuracyError, match=r"1 of 5 cities of the frame have no mask \(first: .*990004"):
        run(*totals, command=sample_command)
    pd.concat([frame, frame.iloc[[0]]]).to_csv(tmp_path / "frame.csv", index=False)
    with pytest.raises(AccuracyError, match=r"frame\.csv has city '990001' twice"):
        run(*totals, command=sample_command)


def test_cities_by_size_beside_those_done_go_through_to_the_estimate(tmp_path):
    import geopandas as gpd

    frame = pd.DataFrame({"adcode": [f"99000{k}" for k in range(1, 8)], "region": "North"})
    frame.to_csv(tmp_path / "frame.csv", index=False)
    for k, code in enumerate(frame["adcode"]):
        make_product(tmp_path / "out" / code, seed=k)
    common = ["--products", tmp_path / "out", "--out", tmp_path / "s"]
    run("sample", "totals", "--frame", tmp_path / "frame.csv", *common, command=sample_command)
    frame.iloc[[0]].to_csv(tmp_path / "done.csv", index=False)
    draw = [
        "sample", "cities", "--frame", tmp_path / "frame.csv", "--seed", "4", "--per-region", "3",
        "--certainty", tmp_path / "done.csv", "--out", tmp_path / "c.csv",
    ]  # fmt: skip
    by_size = ["--design", "pps", "--sizes", tmp_path / "s" / "city_totals.csv"]
    for options in (by_size, []):
        got = json.loads(run(*draw, *options, "--json", command=sample_command).stdout)
        assert got["psu_selection"] == "pps" and len(got["cities"]) == 4
        chances = {c["adcode"]: c["pi_city"] for c in got["cities"]}
        assert chances["990001"] == 1 and all(0 < p < 1 for code, p in chances.items() if code != "990001")
        run("sample", "points", "--cities", tmp_path / "c.csv", "--seed", "3", *common, command=sample_command)
        design = gpd.read_parquet(tmp_path / "s" / "points_design.parquet")
        assert (design["pi"] / design["pi_point"]).to_numpy() == pytest.approx(design["pi_city"].to_numpy())
        answers = np.where(np.arange(len(design)) % 9, design["map"], 1 - design["map"])
        design.assign(ref=answers).to_parquet(tmp_path / "l.parquet")
        cell = estimates(tmp_path / "l.parquet", selection="pps")["two_stage"]["all"]["F1"]
        assert 0 < cell["se"] < 0.3 and cell["df"] == 2
        totals = tmp_path / "s" / "city_totals.csv"
        ground = estimates(tmp_path / "l.parquet", "--city-totals", totals, selection="pps")
        known = pd.read_csv(totals)["mapped_m2"].sum() / 1e6
        by = {row["method"]: row for row in ground["ground"] if row["value"] == "all"}
        assert by["ratio"]["mapped_km2"] == pytest.approx(known)
        assert by["ratio"]["ci_low"] < by["ratio"]["km2"] < by["ratio"]["ci_high"]
        assert "cities" not in ground  # four cities are too few for a model
        spread = ["--sizes", totals, "--mapped", "8", "--candidate", "8", "--rest", "40"]
        drawn = ["sample", "points", "--cities", tmp_path / "c.csv", "--seed", "3", *common, *spread, "--json"]
        counts = json.loads(run(*drawn, command=sample_command).stdout)["cities"].values()
        rest = [c["per_stratum"]["rest"] for c in counts]
        assert sum(rest) == 160 and min(rest) >= 4 and len(set(rest)) > 1
        design = gpd.read_parquet(tmp_path / "s" / "points_design.parquet")
        design.assign(ref=design["map"]).to_parquet(tmp_path / "l.parquet")  # weights fit their sizes, or it is refused
        assert estimates(tmp_path / "l.parquet", selection="pps")["two_stage"]["all"]["F1"]["estimate"] == 1
        with pytest.raises(AccuracyError, match="say --psu-selection pps"):
            estimates(tmp_path / "l.parquet")
    with pytest.raises(AccuracyError, match="--design pps without --sizes"):
        run(*draw, "--design", "pps", command=sample_command)
    with pytest.raises(AccuracyError, match="--design srs draws all alike"):
        run(*draw, *by_size[2:], command=sample_command)
