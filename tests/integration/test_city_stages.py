"""A city's stages: what is done is not done again, what changed is, and ids survive a release."""

import dataclasses
import json
import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch

from models.calibration import Calibration
from models.checkpoints import ModelCard, load_config, save_checkpoint
from models.geolink.config import GeoLinkConfig
from models.geolink.sentence_text import SentenceTagEncoder
from models.geolink.text import TagTable, TagTextError
from models.segmentation.config import SegmentationConfig
from models.segmentation.model import GeoLinkSegmenter
from models.tiles.semantics import tag_encoder_id
from pipeline.city.extent import NoOverlapError
from pipeline.city.plan import Throughput, plan_city
from pipeline.city.stage_store import stage_result
from pipeline.city.stage_table import STAGES, Stage, UnknownStageError, stage_names
from pipeline.city.stages import map_city, run_stage
from pipeline.graph import CityGraph
from pipeline.product.files import ProductError, check_product, read_manifest
from pipeline.reference.areas import read_polygons
from regions.settings import GridConfig, PolygonConfig, TextConfig
from tests.support.sentence_model import write_sentence_model

pytestmark = pytest.mark.xdist_group("city")


def small_settings(job, folder):
    """The demo city with thresholds at which random weights find something."""
    settings = PolygonConfig(seed=0.3, grow=0.25, min_area_m2=500, min_hole_m2=100, barriers=None)
    changed = job.model_copy(update={"out": folder / "out", "polygons": settings})
    return on_ground(changed, work=folder / "work", grid=GridConfig(stride_px=224))


@pytest.fixture
def random_job(job, tmp_path):
    """A city of which nothing is done yet."""
    return small_settings(job, tmp_path)


@pytest.fixture(scope="module")
def mapped(job, tmp_path_factory):
    """A city that is mapped; tests read it."""
    done = small_settings(job, tmp_path_factory.mktemp("mapped"))
    map_city(done)
    return done


def on_ground(job, **changes):
    """The job with other values of its ground."""
    return job.model_copy(update={"ground": job.ground.model_copy(update=changes)})


def with_sources(job, **changes):
    """The job with other files."""
    return on_ground(job, sources=dataclasses.replace(job.ground.sources, **changes))


def test_job_survives_json(random_job):
    assert type(random_job).model_validate_json(random_job.model_dump_json()) == random_job


def test_done_is_done_and_change_is_redone(random_job, tmp_path):
    first = map_city(random_job)
    assert first["reused"] is False
    files = {p.name: p.read_bytes() for p in random_job.out.iterdir()}
    assert map_city(random_job)["reused"] is True
    # another work folder, the same bytes
    again = on_ground(random_job.model_copy(update={"out": tmp_path / "o2"}), work=tmp_path / "w2")
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


def test_every_file_of_a_product_is_documented(mapped):
    text = (Path(__file__).resolve().parents[2] / "docs" / "product.md").read_text(encoding="utf-8")
    manifest = read_manifest(mapped.out)
    for path in mapped.out.iterdir():
        assert f"| `{path.name.replace(mapped.adcode, '{adcode}')}` |" in text, path.name
    assert f"{mapped.adcode}_uv_mask.tif" in manifest["files"]
    for key in manifest:
        assert f"| `{key}` |" in text, key


def test_ids_survive_a_release_that_is_named(mapped, tmp_path):
    settings = mapped.polygons.model_copy(update={"simplify_m": 4.0})
    later = mapped.model_copy(
        update={"out": tmp_path / "v2", "version": "2.0.0", "previous": mapped.out, "polygons": settings}
    )
    map_city(later)
    name = f"{mapped.adcode}_uv.parquet"
    old, new = gpd.read_parquet(mapped.out / name), gpd.read_parquet(later.out / name)
    assert len(old)
    assert set(new["uv_id"]) == set(old["uv_id"])
    assert set(new["release"]) == {"2.0.0"}
    with pytest.raises(ProductError, match="both the previous product and the new one"):
        map_city(later.model_copy(update={"previous": later.out}))


def test_no_map_at_all(random_job):
    summary = map_city(with_sources(random_job, vectors=()))
    manifest = read_manifest(random_job.out)
    assert manifest["counts"]["graph"]["features"] == 0
    assert summary["scores"]["predicted_px"] > 0
    villages = gpd.read_parquet(random_job.out / f"{random_job.adcode}_uv.parquet")
    assert villages["building_count"].isna().all()


def test_manifest_tells_the_lineage(mapped):
    manifest = read_manifest(mapped.out)
    assert {"scene_east.tif", "scene_west.tif", "demo.osm.pbf"} <= set(manifest["inputs"]["files"])
    assert manifest["inputs"]["lineage"]["image_date"].startswith("20")
    assert manifest["parameters"]["polygons"]["seed"] == 0.3
    assert [scene["file"] for scene in manifest["inputs"]["imagery"]["scenes"]] == ["scene_east.tif", "scene_west.tif"]
    assert str(mapped.out.parent) not in json.dumps(manifest)
    assert str(mapped.out.parent) not in (mapped.out / "report.html").read_text(encoding="utf-8")


def test_a_text_model_reads_each_tag_once_and_is_that_of_the_training(random_job, tmp_path, monkeypatch):
    folder = write_sentence_model(tmp_path / "minilm")
    text = SentenceTagEncoder.load(folder)
    torch.manual_seed(0)
    config = SegmentationConfig.of_size("tiny", encoder=GeoLinkConfig.tiny(semantic_width=text.width))
    save_checkpoint(
        tmp_path / "model",
        weights=GeoLinkSegmenter(config).state_dict(),
        config=dataclasses.replace(
            load_config(random_job.checkpoint), model=config.model_dump(mode="json"), tag_encoder=tag_encoder_id(text)
        ),
        card=ModelCard(title="random weights"),
    )
    given = {"checkpoint": tmp_path / "model", "text": TextConfig(weights=folder)}
    job = random_job.model_copy(update=given)
    first = run_stage("scores", job)
    assert first["predicted_px"] > 0
    (kept,) = (job.ground.work / "tag_vectors").iterdir()
    with job.ground.open() as city:
        tags = {tag for tag_set in city.city_map.tag_sets for tag in tag_set.items()}
    assert set(TagTable.load(kept).rows) == tags
    # another checkpoint of the same text model: no tag is read again
    monkeypatch.setattr(SentenceTagEncoder, "encode", lambda *_: pytest.fail("a tag is read twice"))
    warm = dataclasses.replace(load_config(tmp_path / "model"), calibration=Calibration(temperature=2.0))
    weights = GeoLinkSegmenter(config).state_dict()
    save_checkpoint(tmp_path / "warm", weights=weights, config=warm, card=ModelCard(title="warm"))
    assert run_stage("scores", job.model_copy(update={"checkpoint": tmp_path / "warm"}))["sha256"] != first["sha256"]
    missing = TextConfig(weights=tmp_path / "none")
    with pytest.raises(TagTextError, match="no such file"):
        run_stage("scores", on_ground(job.model_copy(update={"text": missing}), work=tmp_path / "w2"))


def test_disagreement_is_a_second_band(random_job):
    job = on_ground(random_job, grid=GridConfig(stride_px=224, symmetries=2))
    map_city(job)
    with rasterio.open(job.out / f"{job.adcode}_scores.tif") as raster:
        assert raster.count == 2
        scores, disagreement = raster.read()
    np.testing.assert_array_equal(scores == 255, disagreement == 255)
    assert disagreement[disagreement != 255].max() > 0
    assert check_product(job.out) == []


def test_unknown_stage(random_job):
    with pytest.raises(UnknownStageError, match=", ".join(stage_names())):
        run_stage("sores", random_job)


def test_a_stage_is_one_entry(random_job):
    def count_pixels(run, done):
        def build(folder):
            with rasterio.open(done["scores"].folder / "scores.tif") as raster:
                high = int((raster.read(1) < 255).sum())
            (folder / "pixels.txt").write_text(str(high))
            return {"pixels": high}

        return stage_result(run.job.ground.work, "pixels", {"scores": done["scores"].key}, build)

    stages = (*STAGES, Stage("pixels", count_pixels, needs=("scores",)))
    said = run_stage("pixels", random_job, stages=stages)
    assert said["pixels"] == run_stage("scores", random_job)["predicted_px"] > 0
    assert run_stage("pixels", random_job, stages=stages)["reused"] is True
    made = {path.name.split("-")[0] for path in random_job.ground.work.iterdir()}
    assert {"graph", "scores", "pixels"} <= made
    assert not {"polygons", "refinement"} & made  # only what it needs
    with pytest.raises(UnknownStageError, match="needs scores"):
        run_stage("pixels", random_job, stages=(STAGES[0], Stage("pixels", count_pixels, needs=("scores",)), STAGES[1]))


def test_mapping_and_learning_read_one_graph(random_job):
    folder = run_stage("graph", random_job)["folder"]
    with random_job.ground.open() as city:
        tags = city.city_map.tag_sets
        assert city.imagery.grid == random_job.ground.extent().grid
    assert CityGraph.load(Path(folder) / "graph").tag_sets == tags
    assert [p.name for p in random_job.ground.work.glob("graph-*")] == [Path(folder).name]
    with with_sources(random_job, vectors=()).ground.open() as city:
        assert city.city_map is None


def test_plan_counts_tiles_and_blocks(random_job):
    plan = plan_city(random_job.ground, throughput=Throughput(10.0, "here", 8))
    extent = random_job.ground.extent()
    assert plan.pixels == extent.grid.height_px * extent.grid.width_px
    assert plan.area_km2 == pytest.approx(1.0, rel=0.05)
    assert plan.tiles == pytest.approx((1000 / 224 + 1) ** 2, rel=0.25)
    assert plan.seconds == plan.tiles / 10
    assert not random_job.ground.work.exists()


def test_area_elsewhere_is_refused(random_job, tmp_path):
    moved = read_polygons([random_job.ground.sources.aoi], crs=random_job.ground.crs).translate(50_000, 0)
    gpd.GeoDataFrame(geometry=moved, crs=random_job.ground.crs).to_file(tmp_path / "aoi.gpkg")
    with pytest.raises(NoOverlapError, match=r"aoi\.gpkg.*does not meet the imagery"):
        map_city(with_sources(random_job, aoi=tmp_path / "aoi.gpkg"))


def test_missing_scene_is_named(random_job, tmp_path):
    copy = tmp_path / "scene_east.tif"
    shutil.copy(random_job.ground.sources.imagery[0], copy)
    copy.write_bytes(copy.read_bytes()[: copy.stat().st_size // 2])
    with pytest.raises(Exception, match=r"scene_east\.tif") as caught:
        map_city(with_sources(random_job, imagery=(copy,)))
    assert caught.type.__module__.startswith("pipeline.")
