"""A city's stages: what is done is not done again, what changed is, and ids survive a release."""

import json
import shutil

import geopandas as gpd
import numpy as np
import pytest
import rasterio

from pipeline.city.extent import NoOverlapError, city_extent
from pipeline.city.plan import Throughput, plan_city
from pipeline.city.stages import STAGE_NAMES, UnknownStageError, map_city, run_stage
from pipeline.product.files import ProductError, check_product, read_manifest
from pipeline.reference.areas import read_polygons
from regions.settings import GridConfig, PolygonConfig

pytestmark = pytest.mark.xdist_group("city")


@pytest.fixture
def random_job(job, tmp_path):
    """The demo city with thresholds at which random weights find something."""
    settings = PolygonConfig(seed=0.3, grow=0.25, min_area_m2=500, min_hole_m2=100, barriers=None)
    changes = {"out": tmp_path / "out", "work": tmp_path / "work", "polygons": settings}
    return job.model_copy(update=changes | {"grid": GridConfig(stride_px=224)})


def test_job_survives_json(random_job):
    assert type(random_job).model_validate_json(random_job.model_dump_json()) == random_job


def test_done_is_done_and_change_is_redone(random_job, tmp_path):
    first = map_city(random_job)
    assert first["reused"] is False
    files = {p.name: p.read_bytes() for p in random_job.out.iterdir()}
    assert map_city(random_job)["reused"] is True
    # another work folder, the same bytes
    again = random_job.model_copy(update={"out": tmp_path / "o2", "work": tmp_path / "w2"})
    map_city(again)
    assert {p.name: p.read_bytes() for p in again.out.iterdir()} == files
    # another threshold: scores stay, polygons and product are made anew
    settings = random_job.polygons.model_copy(update={"min_area_m2": 3000.0})
    other = random_job.model_copy(update={"polygons": settings})
    assert run_stage("scores", other)["reused"] is True
    assert map_city(other)["reused"] is False
    # a damaged product is made anew
    (random_job.out / "report.html").write_text("damaged", encoding="utf-8")
    assert map_city(other)["reused"] is False
    assert check_product(random_job.out) == []


def test_ids_survive_a_release_that_is_named(random_job, tmp_path):
    map_city(random_job)
    settings = random_job.polygons.model_copy(update={"simplify_m": 4.0})
    later = random_job.model_copy(
        update={"out": tmp_path / "v2", "version": "2.0.0", "previous": random_job.out, "polygons": settings}
    )
    map_city(later)
    name = f"{random_job.adcode}_uv.parquet"
    old, new = gpd.read_parquet(random_job.out / name), gpd.read_parquet(later.out / name)
    assert len(old)
    assert set(new["uv_id"]) == set(old["uv_id"])
    assert set(new["release"]) == {"2.0.0"}
    with pytest.raises(ProductError, match="both the previous product and the new one"):
        map_city(later.model_copy(update={"previous": later.out}))


def test_no_map_at_all(random_job):
    bare = random_job.sources.__class__(**{**vars(random_job.sources), "vectors": ()})
    summary = map_city(random_job.model_copy(update={"sources": bare}))
    manifest = read_manifest(random_job.out)
    assert manifest["counts"]["graph"]["features"] == 0
    assert summary["scores"]["predicted_px"] > 0
    villages = gpd.read_parquet(random_job.out / f"{random_job.adcode}_uv.parquet")
    assert villages["building_count"].isna().all()


def test_manifest_tells_the_lineage(random_job):
    map_city(random_job)
    manifest = read_manifest(random_job.out)
    assert {"scene_east.tif", "scene_west.tif", "demo.osm.pbf"} <= set(manifest["inputs"]["files"])
    assert manifest["inputs"]["lineage"]["image_date"].startswith("20")
    assert manifest["parameters"]["polygons"]["seed"] == 0.3
    assert [scene["file"] for scene in manifest["inputs"]["imagery"]["scenes"]] == ["scene_east.tif", "scene_west.tif"]
    assert str(random_job.out.parent) not in json.dumps(manifest)
    assert str(random_job.out.parent) not in (random_job.out / "report.html").read_text(encoding="utf-8")


def test_disagreement_is_a_second_band(random_job):
    job = random_job.model_copy(update={"grid": GridConfig(stride_px=224, symmetries=2)})
    map_city(job)
    with rasterio.open(job.out / f"{job.adcode}_scores.tif") as raster:
        assert raster.count == 2
        scores, disagreement = raster.read()
    np.testing.assert_array_equal(scores == 255, disagreement == 255)
    assert disagreement[disagreement != 255].max() > 0
    assert check_product(job.out) == []


def test_unknown_stage(random_job):
    with pytest.raises(UnknownStageError, match=", ".join(STAGE_NAMES)):
        run_stage("sores", random_job)


def test_plan_counts_tiles_and_blocks(random_job):
    plan = plan_city(random_job, throughput=Throughput(10.0, "here", 8))
    extent = city_extent(random_job)
    assert plan.pixels == extent.grid.height_px * extent.grid.width_px
    assert plan.area_km2 == pytest.approx(1.0, rel=0.05)
    assert plan.tiles == pytest.approx((1000 / 224 + 1) ** 2, rel=0.25)
    assert plan.seconds == plan.tiles / 10
    assert not random_job.work.exists()


def test_area_elsewhere_is_refused(random_job, tmp_path):
    moved = read_polygons([random_job.sources.aoi], crs=random_job.crs).translate(50_000, 0)
    gpd.GeoDataFrame(geometry=moved, crs=random_job.crs).to_file(tmp_path / "aoi.gpkg")
    sources = random_job.sources.__class__(**{**vars(random_job.sources), "aoi": tmp_path / "aoi.gpkg"})
    with pytest.raises(NoOverlapError, match=r"aoi\.gpkg.*does not meet the imagery"):
        map_city(random_job.model_copy(update={"sources": sources}))


def test_missing_scene_is_named(random_job, tmp_path):
    copy = tmp_path / "scene_east.tif"
    shutil.copy(random_job.sources.imagery[0], copy)
    copy.write_bytes(copy.read_bytes()[: copy.stat().st_size // 2])
    sources = random_job.sources.__class__(**{**vars(random_job.sources), "imagery": (copy,)})
    with pytest.raises(Exception, match=r"scene_east\.tif") as caught:
        map_city(random_job.model_copy(update={"sources": sources}))
    assert caught.type.__module__.startswith("pipeline.")
