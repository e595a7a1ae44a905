"""A demo city as files and behind a server, and campaigns over its sources."""

import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import yaml

from pipeline.city.sources import find_sources
from pipeline.fetch import web
from pipeline.fetch.run import fetch_city
from pipeline.vectors import read_features
from regions.campaign import load_campaign
from regions.demo import generate_demo_city
from regions.registry import find_city
from tests.support.source_server import faults, serve, write_stac

ADCODE = "990001"
LICENCE = {"name": "made", "derivatives": True}
ZOOM = 17


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A demo city, as files and behind a server."""
    root = tmp_path_factory.mktemp("world")
    generate_demo_city(root / "city", seed=3, side_m=1000, adcode=ADCODE)
    served = root / "served"
    served.mkdir()
    scenes = sorted((root / "city" / "imagery").glob("*.tif"))
    for scene in scenes:
        shutil.copyfile(scene, served / scene.name)
    with rasterio.open(scenes[0]) as source:
        bounds, crs, pixels = source.bounds, source.crs, source.read([1, 2, 3])
        profile = {"driver": "GTiff", "crs": crs, "transform": source.transform, "tiled": True, "blockxsize": 256}
        profile |= {"blockysize": 256, "height": source.height, "width": source.width, "dtype": "uint8"}
    with rasterio.open(served / "tiles.tif", "w", count=3, **profile) as out:
        out.write(pixels)
    for k, name in enumerate(("red", "green", "blue")):
        with rasterio.open(served / f"{name}.tif", "w", count=1, compress="deflate", **profile) as out:
            out.write(pixels[k], 1)
    with rasterio.open(served / "scl.tif", "w", count=1, **profile) as out:
        classes = np.full(pixels.shape[1:], 4, np.uint8)
        classes[:200, :200] = 9
        out.write(classes, 1)
    inner = (bounds.left + 150, bounds.bottom + 150, bounds.right - 150, bounds.top - 150)
    box = gpd.GeoSeries.from_wkt([_box(*inner)], crs=crs).to_crs("EPSG:4326").total_bounds
    whole = gpd.GeoSeries.from_wkt([_box(*bounds)], crs=crs).to_crs("EPSG:4326").total_bounds
    vectors = min((root / "city" / "vectors").iterdir())
    features = read_features([vectors], crs="EPSG:4326", bounds_m=tuple(whole)).table
    features.to_parquet(served / "features.parquet", write_covering_bbox=True, row_group_size=200)
    with serve(served) as address:
        item = {"bbox": [float(v) for v in whole], "collection": "scenes"}
        assets = {n: f"{address}/files/{n}.tif" for n in ("red", "green", "blue", "scl")}
        items = [
            item | {"id": "clear", "date": "2024-05-02", "cloud": 3.0, "assets": assets},
            item | {"id": "hazy", "date": "2024-06-02", "cloud": 15.0, "assets": assets},
            item | {"id": "cloudy", "date": "2024-07-02", "cloud": 90.0, "assets": assets},
            item | {"id": "old", "date": "2019-07-02", "cloud": 0.0, "assets": assets},
        ]
        write_stac(served, items, f"{address}/files")
        yield {"root": root, "served": served, "address": address, "bounds": tuple(float(v) for v in box)}


def _box(left, bottom, right, top):
    return f"POLYGON(({left} {bottom},{right} {bottom},{right} {top},{left} {top},{left} {bottom}))"


def campaign_of(world, folder: Path, imagery, vectors=(), **more):
    folder.mkdir(parents=True, exist_ok=True)
    data = {
        "name": "made", "version": "1.0.0", "cities": [ADCODE], "data_root": str(folder / "data"),
        "out_root": str(folder / "out"), "checkpoint": "none", "grid": {"resolution_m": 1.0},
        "sources": {"imagery": imagery, "vectors": list(vectors), "bounds_lonlat": list(world["bounds"])},
    } | more  # fmt: skip
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    return path


def xyz(world, path="xyz", **more):
    return {
        "kind": "xyz",
        "url": f"{world['address']}/{path}/{{z}}/{{x}}/{{y}}.png",
        "zoom": ZOOM,
        "licence": LICENCE,
    } | more


def stac(world, **more):
    source = {"kind": "stac", "url": f"{world['address']}/stac", "start": "2024-01-01", "licence": LICENCE}
    return source | {"mask_asset": "scl", "mask_values": [9], "collections": ["scenes"]} | more


def fetched(path):
    campaign = load_campaign(path)
    return fetch_city(campaign, find_city(ADCODE))


def image_of(path):
    files = find_sources(load_campaign(path).data_folder(ADCODE), ADCODE).imagery
    with rasterio.open(files[0]) as file:
        return file.read().astype(int), file.read_masks(1) > 0, file.transform


@pytest.fixture(autouse=True)
def quick(monkeypatch, world):
    monkeypatch.setattr(web, "FIRST_WAIT_S", 0.01)
    faults(world["address"])


def local_way(world, tmp_path):
    source = {"kind": "local", "path": str(world["served"] / "tiles.tif"), "date": "2024-05-02", "licence": LICENCE}
    path = campaign_of(world, tmp_path / "local", [source])
    fetched(path)
    return path
