"""Labelled tiles against a direct computation, and plain chips."""

import json

import geopandas as gpd
import numpy as np
import pytest
import shapely
from PIL import Image

from pipeline.learning.chips import ChipError, read_via_chips
from pipeline.learning.samples import NoSamplesError, cut_samples
from regions.raster.grid import Grid, Tiling

GRID = Grid("EPSG:32649", 1.0, 100, 200, 96, 128)


class Pixels:
    """Imagery whose first two bands are each pixel's own row and column; a corner is nodata."""

    def read(self, window):
        rows = np.arange(window.row_px, window.stop_row_px)[:, None]
        cols = np.arange(window.col_px, window.stop_col_px)[None, :]
        valid = (rows >= 0) & (rows < 96) & (cols >= 0) & (cols < 128) & ~((rows < 8) & (cols < 8))
        bands = np.stack(np.broadcast_arrays(rows % 251, cols % 251, 7)).astype(np.uint8)
        return np.where(valid, bands, 0).astype(np.uint8), valid


def reference(*boxes_px):
    left, _, _, top = GRID.bounds_m
    shapes = [shapely.box(left + c0, top - r1, left + c1, top - r0) for r0, c0, r1, c1 in boxes_px]
    return gpd.GeoDataFrame(geometry=shapes, crs=GRID.crs)


def test_labels_are_those_of_the_whole_raster():
    truth = np.zeros((96, 128), np.uint8)
    truth[20:50, 30:90] = 1
    tiling = Tiling(32, 16)
    samples = cut_samples(Pixels(), reference((20, 30, 50, 90)), grid=GRID, tiling=tiling, min_labelled=0.2)
    kept = 0
    whole = GRID.window
    for tile in tiling.tiles_touching(GRID, whole):
        window = tiling.window(GRID, tile)
        pixels, valid = Pixels().read(window)
        if valid.mean() < 0.2:
            continue
        expected = np.full((32, 32), 255, np.uint8)
        inside = window.intersection(whole)
        expected[inside.slices_in(window)] = truth[inside.slices_in(whole)]
        expected[~valid] = 255
        np.testing.assert_array_equal(samples.labels[kept], expected)
        np.testing.assert_array_equal(samples.images[kept], pixels)
        kept += 1
    assert kept == len(samples) > 20


def test_outside_the_area_is_not_labelled():
    left, _, _, top = GRID.bounds_m
    area = shapely.box(left, top - 96, left + 64, top)
    samples = cut_samples(Pixels(), reference((20, 30, 50, 90)), grid=GRID, tiling=Tiling(32, 32), area=area)
    cols = samples.images[:, 1]
    assert (samples.labels[cols > 64] == 255).all()
    assert (samples.labels[(cols < 64) & (cols > 8)] != 255).all()


def test_no_labelled_tile_is_an_error():
    far = shapely.box(0, 0, 1, 1)
    with pytest.raises(NoSamplesError, match="overlap"):
        cut_samples(Pixels(), reference(), grid=GRID, tiling=Tiling(32, 32), area=far)


def write_chips(folder, *, size=(60, 40), ring=((10, 10), (30, 10), (30, 30), (10, 30))):
    folder.mkdir(exist_ok=True)
    Image.new("RGB", size, (10, 200, 30)).save(folder / "a.jpg", quality=95)
    x, y = zip(*ring, strict=True)
    region = {"shape_attributes": {"name": "polygon", "all_points_x": x, "all_points_y": y}, "region_attributes": {}}
    entry = {"a.jpg1": {"filename": "a.jpg", "size": 1, "regions": [region], "file_attributes": {}}}
    (folder / "via.json").write_text(json.dumps(entry), encoding="utf-8")


def test_chips(tmp_path):
    write_chips(tmp_path / "c")
    samples = read_via_chips(tmp_path / "c", tile_px=64)
    assert samples.images.shape == (1, 3, 64, 64)
    assert (samples.labels[0, 40:] == 255).all()
    assert (samples.labels[0, :, 60:] == 255).all()
    assert abs(int((samples.labels == 1).sum()) - 441) <= 1  # PIL burns the outline too: 21 x 21
    half = read_via_chips(tmp_path / "c", tile_px=32, scale=0.5)
    assert half.images.shape == (1, 3, 32, 32)
    assert abs(int((half.labels == 1).sum()) - 100) <= 25


def test_faulty_chips(tmp_path):
    with pytest.raises(ChipError, match="one VIA JSON"):
        read_via_chips(tmp_path)
    write_chips(tmp_path / "c")
    (tmp_path / "c" / "a.jpg").write_bytes(b"no image")
    with pytest.raises(ChipError, match=r"a\.jpg"):
        read_via_chips(tmp_path / "c")
    (tmp_path / "c" / "via.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(ChipError, match="VIA"):
        read_via_chips(tmp_path / "c")


@pytest.mark.shared
def test_real_chips(shared):
    samples = read_via_chips(shared / "data" / "uv-chips" / "val", scale=0.4)
    assert len(samples) > 20
    assert 0.1 < (samples.labels == 1).mean() < 0.7
