"""Sources in GCJ-02 and BD-09, declared as WGS84, arrive where they truly lie."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine

from pipeline.imagery.ingest import ingest
from pipeline.imagery.scene import inspect
from pipeline.vectors import VectorError, read_features
from regions.datum import Datum, from_wgs84, to_wgs84
from regions.raster.grid import Grid

UTM = "EPSG:32650"
LEFT, TOP = 487_000, 2_496_000  # Longgang
DATUMS: tuple[Datum, ...] = ("gcj02", "bd09")


def houses() -> gpd.GeoDataFrame:
    corners = [(LEFT + 137 * i, TOP - 211 * i) for i in range(1, 9)]
    shapes = [shapely.box(x, y, x + 12, y + 9) for x, y in corners]
    return gpd.GeoDataFrame({"building": ["yes"] * len(shapes)}, geometry=shapes, crs=UTM)


def shifted(table: gpd.GeoDataFrame, datum: Datum) -> gpd.GeoDataFrame:
    lonlat = table.to_crs("EPSG:4326")
    lonlat["geometry"] = shapely.transform(
        lonlat.geometry.to_numpy(), lambda xy: np.stack(from_wgs84(xy[:, 0], xy[:, 1], datum), axis=1)
    )
    return lonlat


@pytest.mark.parametrize("datum", DATUMS)
@pytest.mark.parametrize("declared", ["EPSG:4326", "EPSG:3857"])
def test_vectors(tmp_path: Path, datum: Datum, declared: str):
    true = houses()
    file = tmp_path / "houses.gpkg"
    shifted(true, datum).to_crs(declared).to_file(file, engine="pyogrio")
    bounds = tuple(true.total_bounds)  # exactly the true ones: what is read must not be cut by the shifted ones
    read = read_features(file, crs=UTM, bounds_m=bounds, datum=datum).table
    assert len(read) == len(true)
    apart = [a.hausdorff_distance(b) for a, b in zip(read.geometry, true.geometry, strict=True)]
    assert max(apart) < 0.01
    with pytest.raises(VectorError, match="none left"):
        read_features(file, crs=UTM, bounds_m=tuple(true.iloc[:1].total_bounds))  # undeclared: hundreds of metres off


@pytest.mark.parametrize("datum", DATUMS)
def test_imagery(tmp_path: Path, datum: Datum):
    grid = Grid.covering((LEFT, TOP - 600, LEFT + 700, TOP), crs=UTM, resolution_m=1.0)
    to_mercator = pyproj.Transformer.from_crs("OGC:CRS84", "EPSG:3857", always_xy=True)
    to_utm = pyproj.Transformer.from_crs("OGC:CRS84", UTM, always_xy=True)
    # a scene in web mercator whose pixels hold waves of the true easting and northing
    corner_lon, corner_lat = to_utm.transform(LEFT - 60, TOP + 60, direction="INVERSE")
    west, north = to_mercator.transform(*from_wgs84(corner_lon, corner_lat, datum))
    place = Affine(1.08, 0, west, 0, -1.08, north)
    cols, rows = np.meshgrid(np.arange(820) + 0.5, np.arange(720) + 0.5)
    lon, lat = to_mercator.transform(west + 1.08 * cols.ravel(), north - 1.08 * rows.ravel(), direction="INVERSE")
    x, y = to_utm.transform(*to_wgs84(lon, lat, datum))

    def waves(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.stack([128 + 120 * np.sin(x / 20), 128 + 120 * np.sin(y / 20), 0 * x + 9])

    pixels = np.rint(waves(x, y)).astype(np.uint8).reshape(3, 720, 820)
    scene = tmp_path / "scene.tif"
    with rasterio.open(
        scene, "w", driver="GTiff", dtype="uint8", count=3, height=720, width=820, crs="EPSG:3857", transform=place,
        tiled=True, blockxsize=256, blockysize=256,
    ) as file:  # fmt: skip
        file.write(pixels)
    left, _, _, top = inspect(scene, bands=3, datum=datum).bounds_in(UTM)
    assert (left, top) == pytest.approx((LEFT - 60, TOP + 60), abs=5)
    with rasterio.open(ingest([scene], grid, tmp_path / "out.tif", datum=datum)) as file:
        found, valid = file.read().astype(float), file.dataset_mask() > 0
    assert valid.all()
    eastings, northings = np.meshgrid(LEFT + np.arange(700) + 0.5, TOP - np.arange(600) - 0.5)
    expected = waves(eastings, northings)
    # a level is 17 cm at the steepest of a wave
    assert np.abs(found - expected).max() <= 3
    assert np.abs((found - expected).mean(axis=(1, 2))).max() < 0.1


def test_undeclared_scenes_are_as_before(tmp_path: Path):
    grid = Grid.covering((LEFT, TOP - 64, LEFT + 64, TOP), crs=UTM, resolution_m=1.0)
    with rasterio.open(
        tmp_path / "scene.tif", "w", driver="GTiff", dtype="uint8", count=3, height=64, width=64, crs=UTM,
        transform=grid.affine,
    ) as file:  # fmt: skip
        file.write(np.full((3, 64, 64), 7, np.uint8))
    assert inspect(tmp_path / "scene.tif").window_on(grid) == grid.window
    assert inspect(tmp_path / "scene.tif", datum="cgcs2000").window_on(grid) == grid.window
    assert inspect(tmp_path / "scene.tif", datum="gcj02").window_on(grid) is None
