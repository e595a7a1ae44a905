"""`uvmap check`: what stands in the way of a map is said before a model runs."""

import json
import os
import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import yaml
from PIL import Image

from flows import stage_process, stages
from flows.secret_blocks import provide_secrets
from flows.stages import FETCH
from pipeline.city.extent import CityExtent
from pipeline.city.readiness import CELL_PX, Looked, _count_cells, completeness, warnings_of
from pipeline.fetch.declared import needs_fetch
from regions.campaign import load_campaign
from regions.demo import generate_demo_city
from regions.raster.grid import Grid
from regions.registry import find_city
from tests.support.command_line import json_of


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    root = tmp_path_factory.mktemp("check")
    generate_demo_city(root / "990001", seed=3, side_m=1000, adcode="990001")
    return root


def test_a_whole_city(demo, tmp_path):
    facts = json_of("check", "990001", "--data-root", demo, "--out", tmp_path, "--json")
    assert facts["imagery"]["covered"] > 0.99 and facts["imagery"]["cloud"] == 0 and not facts["warnings"]
    assert {s["date"] for s in facts["scenes"]} == {"2023-10-28", "2023-03-12"}
    assert facts["map"]["buildings_per_km2"] > 300
    with Image.open(facts["picture"]) as picture:
        assert picture.size == (1000, 1000)
    page = Path(facts["page"]).read_text(encoding="utf-8")
    assert "covered by imagery" in page and "data:image/png" in page


def test_half_a_city_under_clouds_and_without_a_map(demo, tmp_path):
    folder = tmp_path / "990001"
    (folder / "imagery").mkdir(parents=True)
    west = demo / "990001" / "imagery" / "scene_west.tif"
    shutil.copy(west, folder / "imagery")
    shutil.copy(next((demo / "990001").glob("aoi.*")), folder)
    with rasterio.open(folder / "imagery" / "scene_west.tif", "r+") as scene:
        white = np.full((3, 300, 300), 235, np.uint8)
        scene.write(white, window=rasterio.windows.Window(0, 0, 300, 300))
    facts = json_of("check", "990001", "--data-root", tmp_path, "--out", tmp_path / "out", "--json")
    assert 0.4 < facts["imagery"]["covered"] < 0.7 and facts["imagery"]["cloud"] > 0.08
    assert facts["offset"] is None and facts["map"]["features"] == 0
    assert "imagery covers" in facts["warnings"][0] and "looks like cloud" in facts["warnings"][1]


def test_clouds_are_counted_by_cells():
    pixels = np.random.default_rng(0).integers(20, 200, (3, 10 * CELL_PX, 10 * CELL_PX)).astype(np.uint8)
    pixels[:, : 4 * CELL_PX, : 5 * CELL_PX] = 230
    pixels[:, 6 * CELL_PX : 7 * CELL_PX, 6 * CELL_PX : 7 * CELL_PX] = 230  # a roof
    found = Looked()
    _count_cells(pixels, np.ones(pixels.shape[1:], bool), found)
    assert (found.cells, found.cloud_cells) == (100, 20)


def test_sparse_maps_are_named_by_built_up_land():
    grid = Grid("EPSG:32649", 1.0, 0, 0, 1000, 1000)
    left, bottom, _, _ = grid.bounds_m
    boxes = [shapely.box(left + 50 * k, bottom + 10, left + 50 * k + 9, bottom + 19) for k in range(20)]
    table = gpd.GeoDataFrame({"tags": ['{"building":"yes"}'] * 20}, geometry=boxes, crs=grid.crs)
    extent = CityExtent(grid, None)
    found = completeness(table, extent, 0.5)
    assert found["buildings_per_km2"] == 20 and found["buildings_per_built_km2"] == 40
    imagery = {"covered": 1.0, "cloud": 0.0}
    assert "mapped in part" in warnings_of({"imagery": imagery, "map": found, "offset": None})[0]
    assert not warnings_of({"imagery": imagery, "map": completeness(table, extent, None), "offset": None})


def test_a_city_with_declared_sources_is_fetched_first(demo, tmp_path):
    """Not missing: a step before the stages brings its sources; then it is a city as if laid out by hand."""
    folder = demo / "990001"
    licence = {"name": "CC0-1.0", "derivatives": True}
    with rasterio.open(folder / "imagery" / "scene_west.tif") as scene:
        box = rasterio.warp.transform_bounds(scene.crs, "EPSG:4326", *scene.bounds)
    data = {
        "name": "made", "version": "1.0.0", "cities": ["990001"], "data_root": str(tmp_path / "data"),
        "out_root": str(tmp_path / "out"), "checkpoint": "none",
        "sources": {
            "imagery": [{"kind": "local", "path": f"{folder}/imagery/*.tif", "order": "newest", "licence": licence}],
            "vectors": [{"kind": "pbf", "path": str(next(folder.glob("vectors/*.osm.pbf")))}],
            "bounds_lonlat": [float(v) for v in box],
        },
    }  # fmt: skip
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(data))
    campaign, city = load_campaign(tmp_path / "c.yaml"), find_city("990001")
    orders = stages.Orders()
    names = [step.name for step in stages._steps(city, campaign, orders)]
    assert names[:2] == [FETCH, "graph"] and "check" in names
    request = stages._request(FETCH, city, campaign, None, orders=orders, processors=1)
    done = stage_process.KINDS[request.pop("kind")](**json.loads(json.dumps(request)))
    assert len(done["files"]) == 2 and not needs_fetch(campaign, city)
    assert stages._steps(city, campaign, orders)[0].name == "graph"
    facts = json_of("check", "990001", "--campaign", tmp_path / "c.yaml", "--json")
    assert facts["imagery"]["licence"].startswith("CC0-1.0") and facts["scenes"][0]["fetched"]
    changed = campaign.model_copy(update={"grid": campaign.grid.model_copy(update={"resolution_m": 2.0})})
    assert needs_fetch(changed, city)


def test_secrets_of_blocks_stand_in_for_variables(monkeypatch):
    monkeypatch.setenv("TILES_KEY", "")
    sources = load_campaign("tiles").sources_of("440300")
    asked = []

    def load(block):
        asked.append(block)
        return "hush"

    provide_secrets(sources, load=load)
    assert asked == ["tiles-key"] and os.environ["TILES_KEY"] == "hush"
    provide_secrets(sources, load=load)  # the environment goes first
    assert asked == ["tiles-key"]
    monkeypatch.setenv("TILES_KEY", "")

    def absent(block):
        raise ValueError(block)

    provide_secrets(sources, load=absent)
    assert not os.environ["TILES_KEY"]
