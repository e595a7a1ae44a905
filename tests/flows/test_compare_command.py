"""`uvmap compare` as a user meets it: releases, another product's polygons, and what is refused."""

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from accuracy.errors import AccuracyError
from flows.commands import compare as compare_command
from flows.commands import sample as sample_command
from tests.support.accuracy_commands import make_product, run


@pytest.fixture
def labelled(tmp_path):
    """Points of two cities of release v1, labelled, and release v2 of the same cities."""
    cities = pd.DataFrame({"adcode": ["990001", "990002"], "region": "North", "N_city": 5, "n_city": 2})
    cities.to_csv(tmp_path / "cities.csv", index=False)
    for k, code in enumerate(cities["adcode"]):
        make_product(tmp_path / "v1" / code, seed=k)
        make_product(tmp_path / "v2" / code, seed=k + 7)
    run(
        "sample", "points", "--cities", tmp_path / "cities.csv", "--products", tmp_path / "v1", "--seed", "3",
        "--out", tmp_path / "s", command=sample_command,
    )  # fmt: skip
    design = gpd.read_parquet(tmp_path / "s" / "points_design.parquet")
    rng = np.random.default_rng(0)
    answers = np.where(rng.random(len(design)) < 0.9, design["map"], 1 - design["map"])
    design.assign(ref=answers, guess=rng.integers(0, 2, len(design))).to_parquet(tmp_path / "l.parquet")
    return tmp_path / "l.parquet"


def compare(labelled, *options):
    result = run(
        "compare", labelled, "--psu-selection", "probability", "--out", labelled.parent / "r", "--json", *options,
        command=compare_command,
    )  # fmt: skip
    return json.loads(result.stdout)


def test_releases_polygons_and_columns(tmp_path, labelled):
    parts = [gpd.read_parquet(p).to_crs(4326) for p in sorted((tmp_path / "v2").glob("*/*_uv.parquet"))]
    theirs = pd.concat(parts)[["geometry"]]
    theirs.to_file(tmp_path / "theirs.gpkg")
    points = gpd.read_parquet(labelled)
    inside = shapely.contains_xy(shapely.union_all(theirs.geometry.to_numpy()), points.geometry.x, points.geometry.y)
    points.assign(by_hand=inside.astype(int)).to_parquet(labelled)
    got = compare(
        labelled, "--map", f"v1={tmp_path / 'v1'}", "--map", f"v2={tmp_path / 'v2'}",
        "--map", f"theirs={tmp_path / 'theirs.gpkg'}", "--column", "guess", "--column", "by_hand",
    )  # fmt: skip
    value = {(r["map"], r["measure"]): r["estimate"] for r in got["maps"]}
    gap = {(r["map"], r["less"], r["measure"]): r for r in got["differences"]}
    assert {m for m, _ in value} == {"map", "guess", "by_hand", "v1", "v2", "theirs"}
    assert value["v1", "F1"] == value["map", "F1"]  # the release is what the sample was drawn from
    assert gap["map", "v1", "F1"]["se"] == 0 == gap["map", "v1", "F1"]["difference"]
    assert value["theirs", "IoU"] == value["by_hand", "IoU"]
    row = gap["map", "v2", "F1"]
    assert row["difference"] == pytest.approx(value["map", "F1"] - value["v2", "F1"]) and row["se"] > 0
    page = (labelled.parent / "r" / "report.html").read_text(encoding="utf-8")
    assert "map - v2" in page and "not biased" in page
    assert {"maps.csv", "differences.csv", "agreement.csv", "report.json"} <= {
        p.name for p in (tmp_path / "r").iterdir()
    }
    alone = compare(labelled, "--map", f"v2={tmp_path / 'v2'}", "--column", "guess", "--drawn-from", "")
    assert {r["map"] for r in alone["maps"]} == {"v2", "guess"}


def test_what_a_release_does_not_cover(tmp_path, labelled):
    import shutil

    shutil.rmtree(tmp_path / "v2" / "990002")
    arguments = ["--map", f"v2={tmp_path / 'v2'}"]
    with pytest.raises(AccuracyError, match=r"2\d\d of 420 points lie where map 'v2' says nothing"):
        compare(labelled, *arguments)
    filled = compare(labelled, *arguments, "--uncovered", "not_village")
    assert filled["left_out"] == 0
    with pytest.raises(AccuracyError, match="none with an answer"):  # a whole city is gone: no common ground there
        compare(labelled, *arguments, "--uncovered", "leave_out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--map", "v2"], "write NAME=PATH"),
        (["--map", "v2=none"], "none does not exist"),
        (["--map", "v2=."], "holds no product"),
        (["--map", "ref=cities.csv"], "holds no geometry"),
        (["--column", "gone"], "has no column 'gone'"),
        (["--column", "map"], "two maps are called 'map'"),
        ([], "cannot be compared"),
        (["--column", "guess", "--uncovered", "maybe"], "none of fail, not_village, leave_out"),
    ],
)
def test_users_mistakes(tmp_path, labelled, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    options = [o.replace("v2=.", "v2=empty") for o in options]
    with pytest.raises(AccuracyError, match=message):
        compare(labelled, *options)


def test_tables_without_places(tmp_path, labelled):
    table = pd.DataFrame(gpd.read_parquet(labelled).drop(columns="geometry"))
    table.to_csv(tmp_path / "t.csv", index=False)
    assert {r["map"] for r in compare(tmp_path / "t.csv", "--column", "guess")["maps"]} == {"map", "guess"}
    with pytest.raises(AccuracyError, match="holds no places"):
        compare(tmp_path / "t.csv", "--map", f"v2={tmp_path / 'v2'}")
