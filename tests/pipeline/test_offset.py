"""The offset between imagery and map: found where it was made on purpose, silent where there is none."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from rasterio.features import rasterize

from pipeline.city.offset import estimate_offset
from pipeline.imagery import open_imagery, prepare_imagery
from pipeline.imagery.grids import grid_of_imagery
from pipeline.vectors import read_features
from regions.datum import from_wgs84
from regions.raster.grid import Grid, Window

UTM = "EPSG:32650"
SIDE = 1800
GRID = Grid(UTM, 1.0, 487_000, -2_496_000, SIDE, SIDE)
LEFT, BOTTOM, RIGHT, TOP = GRID.bounds_m


def town(seed: int) -> gpd.GeoDataFrame:
    """Blocks of houses at random, with streets between them, also beyond the imagery."""
    random = np.random.default_rng(seed)
    shapes, tags = [], []
    for x in np.arange(LEFT - 1000, RIGHT + 1000, 95):
        for y in np.arange(BOTTOM - 1000, TOP + 1000, 70):
            if random.random() < 0.4:
                continue
            at = np.array([x, y]) + random.uniform(5, 35, 2)
            w, h = random.uniform(9, 38, 2)
            shapes.append(shapely.box(at[0], at[1], at[0] + w, at[1] + h))
            tags.append('{"building":"yes"}')
        bend = random.normal(0, 12, 6).cumsum()
        shapes.append(shapely.LineString(np.stack([x + bend, np.linspace(BOTTOM - 900, TOP + 900, 6)], axis=1)))
        tags.append('{"highway":"residential"}')
    return gpd.GeoDataFrame({"tags": tags}, geometry=shapes, crs=UTM)


def picture(table: gpd.GeoDataFrame, seed: int, drawn: float = 0.8) -> np.ndarray:
    """An image of a town: some of its houses in random colours on noisy ground; half a dozen that are on no map."""
    random = np.random.default_rng(seed + 100)
    houses = [g for g in table.geometry if g.geom_type == "Polygon" and random.random() < drawn]
    roads = [g.buffer(4) for g in table.geometry if g.geom_type == "LineString"]
    base = 90 + 12 * random.standard_normal((SIDE, SIDE))
    values = [(g, float(v)) for g, v in zip(houses, random.uniform(20, 230, len(houses)), strict=True)]
    burnt = rasterize(
        [*((g, 120.0) for g in roads), *values], (SIDE, SIDE), transform=GRID.affine, fill=-1, dtype="float32"
    )
    grey = np.where(burnt >= 0, burnt + 4 * random.standard_normal((SIDE, SIDE)), base)
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[None], 3, axis=0)


class Reader:
    """A reader of an array on the grid, invalid beyond it."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def __call__(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        out = np.zeros((3, window.height_px, window.width_px), np.uint8)
        valid = np.zeros(out.shape[1:], bool)
        part = window.intersection(GRID.window)
        rows, cols = part.slices_in(window)
        out[:, rows, cols] = self.pixels[:, part.row_px : part.stop_row_px, part.col_px : part.stop_col_px]
        valid[rows, cols] = True
        return out, valid


def moved(table: gpd.GeoDataFrame, by: tuple[float, float]) -> gpd.GeoDataFrame:
    result = table.copy()
    result["geometry"] = shapely.transform(table.geometry.to_numpy(), lambda xy: xy + by)
    return result


@pytest.fixture(scope="module")
def scene() -> tuple[Reader, gpd.GeoDataFrame]:
    table = town(1)
    return Reader(picture(table, 1)), table


@pytest.mark.parametrize("by", [(0, 0), (310, 95), (-480, 505)])
def test_shifts_made_on_purpose_are_found(scene, by):
    read, table = scene
    found = estimate_offset(read, GRID, moved(table, by))
    assert found is not None
    assert found.is_sure
    assert np.hypot(found.east_m - by[0], found.north_m - by[1]) < 3
    assert (found.warning is None) == (np.hypot(*by) < 25)
    assert found.cause is None


@pytest.mark.parametrize("side", ["vectors", "imagery"])
def test_an_undeclared_datum_is_named(scene, side):
    read, table = scene
    lonlat = table.to_crs("OGC:CRS84")
    lonlat["geometry"] = shapely.transform(
        lonlat.geometry.to_numpy(), lambda xy: np.stack(from_wgs84(xy[:, 0], xy[:, 1], "gcj02"), axis=1)
    )
    shifted = lonlat.to_crs(UTM)
    if side == "imagery":  # as far the other way
        by = shifted.geometry.iloc[0].centroid, table.geometry.iloc[0].centroid
        shifted = moved(table, (by[1].x - by[0].x, by[1].y - by[0].y))
    found = estimate_offset(read, GRID, shifted)
    assert found is not None
    assert 300 < found.distance_m < 700
    assert found.cause == f"{side} in gcj02"
    assert found.warning is not None
    assert f"declare `datum: gcj02` for the {side}" in found.warning
    assert found.record()["warning"] == found.warning


def test_a_map_of_elsewhere_says_nothing(scene):
    read, _ = scene
    for seed in (7,):
        found = estimate_offset(read, GRID, town(seed))
        assert found is not None
        assert not found.is_sure
        assert found.warning is None


@pytest.mark.parametrize("by", [(0, 0), (25, 18)])
def test_a_slum_of_150_m_on_real_ground(shared: Path, tmp_path: Path, by):
    scene = shared / "data/kampala/kampala_block1_rgb.tif"
    grid = grid_of_imagery([scene], resolution_m=0.6, crs="EPSG:32636")
    table = read_features(
        shared / "data/kampala/labels.geojson", crs=grid.crs, bounds_m=None, default_tags={"building": "yes"}
    ).table
    with open_imagery(prepare_imagery([scene], grid=grid, out=tmp_path / "k.tif"), grid=grid) as imagery:
        found = estimate_offset(imagery.read, grid, moved(table, by), search_m=40)
    assert found is not None
    assert found.is_sure
    assert np.hypot(found.east_m - by[0], found.north_m - by[1]) < 1


def test_too_little_to_compare(scene):
    read, table = scene
    assert estimate_offset(read, GRID, table.iloc[:0]) is None
    assert estimate_offset(read, GRID, table.iloc[:2]) is None
    blank = Reader(np.full((3, SIDE, SIDE), 7, np.uint8))
    found = estimate_offset(blank, GRID, table)
    assert found is None or not found.is_sure
