"""The commands on data that nobody here wrote: one epoch of what `docs/real_data.md` describes, for the wiring."""

import json

import geopandas as gpd
import numpy as np
import pytest
import rasterio

from pipeline.reference.reader import ReferenceHints, read_reference
from regions.raster.burn import burn
from regions.raster.grid import Grid
from tests.support.command_line import json_of

pytestmark = [
    pytest.mark.shared,
    pytest.mark.slow(cpu_s=30),
    pytest.mark.xdist_group("real-data"),
    pytest.mark.timeout(1500),
]


def uvmap(*args):
    return json_of(*args, "--json")


@pytest.fixture(scope="module")
def beijing(shared, tmp_path_factory):
    """A model trained for one epoch on the Beijing training mosaic and some chips; image only."""
    folder = tmp_path_factory.mktemp("beijing")
    data = shared / "data" / "beijing-uv" / "train"
    figures = uvmap(
        "train", "--imagery", data / "mosaic_rgb_jpeg95.tif", "--reference", data / "mosaic_uv_mask.tif",
        "--resolution-m", "1", "--chips", shared / "data" / "uv-chips" / "val", "--chip-scale", "0.4",
        "--stride-px", "224", "--epochs", "1", "--out", folder / "model",
    )  # fmt: skip
    return folder, figures


def test_train_on_beijing(beijing):
    _, figures = beijing
    assert {"iou", "f1", "precision", "recall"} <= set(figures)
    assert figures["iou"] == pytest.approx(figures["f1"] / (2 - figures["f1"]), abs=1e-6)


def test_map_and_assess_beijing_validation(beijing, shared):
    folder, figures = beijing
    val = shared / "data" / "beijing-uv" / "val"
    scenes = [x for p in sorted((val / "image").glob("*.png")) for x in ("--imagery", p)]
    masks = [x for p in sorted((val / "mask").glob("*.png")) for x in ("--reference", p)]
    common = ["--imagery-crs", "EPSG:3857", "--resolution-m", "1", "--checkpoint", figures["checkpoint"]]
    product = uvmap("map", "110000", *scenes, *masks, *common, "--out", folder / "out")
    scores = folder / "out" / "110000" / "110000_scores.tif"
    with rasterio.open(scores) as raster:
        values = raster.read(1)
        assert raster.crs.to_epsg() == 32650
        grid = Grid.covering(tuple(raster.bounds), crs="EPSG:32650", resolution_m=1.0)
    predicted = values != 255
    assert 0.5 < predicted.mean() <= 1
    # a short training on another part of the city: villages score higher than the rest, no more is asked
    hints = ReferenceHints(raster_crs="EPSG:3857")
    masks = sorted((val / "mask").glob("*.png"))
    reference = read_reference(masks, crs=grid.crs, bounds_m=grid.bounds_m, hints=hints)
    inside = burn(reference.polygons.geometry, grid).astype(bool)
    labelled = ~burn(reference.unlabelled.geometry, grid).astype(bool)
    judged = predicted & labelled
    assert judged.sum() > 0.95 * predicted.sum()
    assert values[judged & inside].mean() > values[judged & ~inside].mean()
    accuracy = product["accuracy"]
    assert accuracy["reference_share_all"] == pytest.approx(inside[judged].mean(), abs=1e-9)
    assert accuracy["iou_all_scores"] == pytest.approx(
        accuracy["f1_all_scores"] / (2 - accuracy["f1_all_scores"]), abs=1e-9
    )


def test_kampala_goes_the_multimodal_way(shared, tmp_path):
    data = shared / "data" / "kampala"
    scene = ["--imagery", data / "kampala_block1_rgb.tif", "--vectors", data / "labels.geojson"]
    reference = ["--reference", data / "kyc_slum_settlements_kampala.geojson"]
    common = ["--default-tag", "building=yes", "--resolution-m", "0.3"]
    figures = uvmap(
        "train", *scene, *reference, *common, "--stride-px", "112", "--epochs", "1", "--out", tmp_path / "model",
    )  # fmt: skip
    product = uvmap(
        "map", *scene, *reference, *common, "--checkpoint", figures["checkpoint"], "--out", tmp_path / "out"
    )
    manifest = json.loads((tmp_path / "out" / "990000" / "manifest.json").read_text())
    assert manifest["counts"]["graph"]["features"] > 50
    assert manifest["parameters"]["crs"] == "EPSG:32636"
    assert product["villages"] == len(gpd.read_parquet(tmp_path / "out" / "990000" / "990000_uv.parquet"))
    assert np.isfinite(product["uv_area_m2"])
