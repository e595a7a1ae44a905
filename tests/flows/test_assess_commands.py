"""`uvmap label` and `uvmap assess` as a user meets them: from drawn points to a report."""

import json

import numpy as np
import pandas as pd
import pytest

from accuracy.errors import AccuracyError
from flows.commands import assess as assess_command
from flows.commands import label as label_command
from flows.commands import sample as sample_command
from tests.support.accuracy_commands import make_product, run
from tests.support.rasters import grid_at, write_raster


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
    tables = [tmp_path / "s" / "points_design.parquet", tmp_path / "ann.csv", tmp_path / "bo.csv"]
    with pytest.raises(AccuracyError, match=r"points have different answers.*uvmap label reread"):
        run("label", "merge", *tables, "--out", tmp_path / "labelled.parquet", command=label_command)
    ordered = run(
        "label", "reread", *tables, "--seed", "5", "--out", tmp_path / "again", "--json", command=label_command
    )
    wanted = json.loads(ordered.stdout)
    open_points = wanted["reasons"]["answers differ"]
    assert open_points == sum(a != b for a, b in zip(*(pd.read_csv(t)["label"] for t in tables[1:]), strict=True)) > 0
    to_read = gpd.read_file(tmp_path / "again" / "points_to_reread.gpkg")
    assert len(to_read) == wanted["points"] >= 2 * open_points - 1
    assert set(to_read.columns) == set(given.columns) and to_read["label"].isna().all()
    told = dict(zip(given["point_id"], truth, strict=True))
    pd.DataFrame(
        {"point_id": to_read["point_id"], "label": [told[p] for p in to_read["point_id"]], "interpreter": "cy"}
    ).to_csv(tmp_path / "cy.csv", index=False)
    tables.append(tmp_path / "cy.csv")
    nothing = run("label", "reread", *tables, "--seed", "5", "--out", tmp_path / "no", command=label_command)
    assert "nothing needs another reading" in nothing.stdout and not (tmp_path / "no").exists()
    merged = run("label", "merge", *tables, "--out", tmp_path / "labelled.parquet", "--json", command=label_command)
    got = json.loads(merged.stdout)
    assert got["points"] == 630 and got["disagreed"] == open_points and got["unanswered"] == 0
    assert got["agreement"][0]["overall"] > 0.9 and got["undated"] == 630 and got["omissions_read_once"] == 0
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
    import rasterio
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
    with rasterio.open(folder / "990001_scores.tif") as raster:
        values = raster.read(1)[1:, :60]  # the first row is not predicted
    known = values != 255
    scores_known, true = values[known] / 250, inside["reference"][known]
    bins = np.minimum((values[known].astype(int) * 10) // 250, 9)
    gaps = [abs((scores_known[bins == k] - true[bins == k]).sum()) for k in range(10)]
    assert got["ece"] == pytest.approx(sum(gaps) / known.sum())
    assert sum(row["pixels"] for row in got["reliability"]) == known.sum()
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


def places(folder, x, cities):
    import geopandas as gpd
    import shapely

    points = gpd.GeoDataFrame(
        {"point_id": [f"p{k}" for k in range(len(x))], "city": cities},
        geometry=shapely.points(x, [2_499_950] * len(x)),
        crs="EPSG:32649",
    )
    points.to_file(folder / "p.gpkg")
    return folder / "p.gpkg"


def scene(path, left_m, *, day=None):
    grid = grid_at(left_m, 2_500_000, (50, 50), resolution_m=2.0)
    write_raster(path, grid, np.full((3, 50, 50), 99, np.uint8))
    if day:
        import rasterio

        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(TIFFTAG_DATETIME=f"{day} 03:10:00")
    return path


def test_label_page_takes_several_rasters_with_their_dates_and_names_points_without_picture(tmp_path):
    points = places(tmp_path, [500_050, 500_060, 600_050, 700_000], ["1", "1", "2", "2"])
    west, east = scene(tmp_path / "w.tif", 500_000, day="2024:05:01"), scene(tmp_path / "e.tif", 600_000)
    common = ["label", "page", points, "--imagery", west, "--imagery", east, "--out", tmp_path / "o"]
    result = run(*common, "--json", command=label_command)
    got = json.loads(result.stdout)
    assert got["points"] == 3 and len(got["pages"]) == 1 and got["without_picture"] == ["p3"] and got["undated"] == 1
    assert pd.read_csv(got["without_picture_file"])["point_id"].tolist() == ["p3"]
    assert "1 of 4 points are shown by no raster" in result.stderr
    page = (tmp_path / "o" / "labels_001.html").read_text(encoding="utf-8")
    assert page.count('"date": "2024-05-01"') == 2  # the file's own tag
    dates = ["--image-date", "2024-05-01", "--image-date", "2022-01-31"]
    assert json.loads(run(*common, *dates, "--json", command=label_command).stdout)["undated"] == 0
    with pytest.raises(AccuracyError, match="2 --image-date for 3 --imagery"):
        run(*common, "--imagery", west, *dates, command=label_command)
    with pytest.raises(AccuracyError, match=r"no points of --city 3 \(it has 1, 2\)"):
        run(*common, "--city", "3", command=label_command)
    with pytest.raises(AccuracyError, match="must be above 0 and fit into the chip"):
        run(*common, "--pixel-m", "300", command=label_command)


def test_seeds_below_zero_and_empty_tables_are_users_mistakes(tmp_path):
    with pytest.raises(AccuracyError, match="--seed -1 is negative"):
        run("sample", "cities", "--seed", "-1", "--out", tmp_path / "c.csv", command=sample_command)
    assert run("sample", "points", "--seed", "-1", "--out", tmp_path / "s", command=sample_command).exit_code == 2
    (tmp_path / "l.csv").write_text("point_id,label,interpreter,date_ref,comment\n", encoding="utf-8")
    pd.DataFrame({"point_id": ["p0"], "map": [1]}).to_parquet(tmp_path / "d.parquet")
    with pytest.raises(AccuracyError, match=r"l\.csv holds no rows"):
        run(
            "label", "merge", tmp_path / "d.parquet", tmp_path / "l.csv", "--out", tmp_path / "o.csv",
            command=label_command,
        )  # fmt: skip
    negative = run(
        "label", "reread", tmp_path / "d.parquet", tmp_path / "l.csv", "--seed", "-2", "--out", tmp_path / "o",
        command=label_command,
    )  # fmt: skip
    assert negative.exit_code == 2


def test_attributes_of_villages_against_surveyed_ones(tmp_path):
    import geopandas as gpd
    import shapely

    rng = np.random.default_rng(0)
    n = 60
    ids = [f"v{k}" for k in range(n)]
    height = rng.uniform(5, 20, n).round(1)
    own = gpd.GeoDataFrame(
        {"uv_id": ids, "building_height_mean": height, "image_date": "2024-06-01", "boundary": "model"},
        geometry=[shapely.box(3e2 * k, 0, 3e2 * k + 100, 100) for k in range(n)], crs=32649,
    )  # fmt: skip
    own.loc[:5, "building_height_mean"] = None
    (tmp_path / "out" / "990001").mkdir(parents=True)
    own.to_parquet(tmp_path / "out" / "990001" / "990001_uv.parquet")
    given = pd.DataFrame({"uv_id": [*ids[:50], "gone"], "height_m": np.append(height[:50] - 1, 9), "region": "R",
                          "boundary_ref": ["model", "sam"] * 25 + ["sam"], "image_date": "2024-05-22"})  # fmt: skip
    given.to_csv(tmp_path / "r.csv", index=False)
    arguments = ["assess", "attributes", tmp_path / "r.csv", "--product", tmp_path / "out", "--out", tmp_path / "a"]
    asked = ["--field", "building_height_mean=height_m", "--field", "boundary", "--field", "image_date"]
    got = json.loads(run(*arguments, *asked, "--json", command=assess_command).stdout)
    rows = {(r["field"], r["measure"]): r for r in got["measures"]}
    assert rows["building_height_mean", "bias"]["estimate"] == pytest.approx(1)
    assert rows["building_height_mean", "has_value"]["estimate"] == pytest.approx(44 / 50)
    assert rows["building_height_mean", "bias"]["unit"] == "m" and rows["image_date", "bias"]["estimate"] == 10
    assert rows["boundary", "agreement"]["estimate"] == pytest.approx(0.5) and got["unmatched"] == 1
    page = (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    assert "1 of 51 reference rows meet no village" in page and "building_height_mean (m)" in page
    pairs = pd.read_csv(tmp_path / "a" / "pairs.csv")
    assert len(pairs) == 150 and set(pairs["field"]) == {"building_height_mean", "boundary", "image_date"}
    both = json.loads(run(*arguments, "--json", command=assess_command).stdout)["measures"]
    assert {r["field"] for r in both} == {"boundary", "image_date"}  # those that both sides name
    with pytest.raises(AccuracyError, match="has no column 'floors'"):
        run(*arguments, "--field", "building_height_mean=floors", command=assess_command)
