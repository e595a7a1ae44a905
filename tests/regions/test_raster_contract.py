"""Scores against exact fractions, windows of grids against affine arithmetic, and what files of a profile hold."""

import math
from fractions import Fraction

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import shapely
from affine import Affine
from geopandas import GeoSeries
from hypothesis import given
from hypothesis import strategies as st
from rio_cogeo.cogeo import cog_validate

from regions.raster.equal_area import CHINA_ALBERS, equal_areas_m2, geodesic_lengths_m
from regions.raster.grid import Grid, Window
from regions.raster.profiles import cog_options, tiled_profile
from regions.raster.scores import NOT_PREDICTED, SCORE_SCALE, at_least, is_predicted, probability_of, score_of

ALL = np.arange(256, dtype=np.uint8)


@given(st.integers(0, 1_000_000))
def test_the_score_of_a_probability_is_that_of_the_exact_decimal(millionths):
    exact = Fraction(millionths, 1_000_000)
    score = score_of(float(exact))
    assert score == math.ceil(exact * 250)
    assert Fraction(score, 250) >= exact > Fraction(score - 1, 250)


@given(st.integers(0, 1_000))
def test_at_least_compares_exact_fractions_and_never_takes_what_was_not_predicted(thousandths):
    exact = Fraction(thousandths, 1000)
    expected = [k <= 250 and Fraction(int(k), 250) >= exact for k in ALL]
    got = at_least(ALL, float(exact))
    assert got[:251].tolist() == expected[:251]
    assert not got[NOT_PREDICTED]


def test_probabilities_of_scores():
    values = probability_of(ALL, not_predicted=-1.0)
    assert values.dtype == np.float64
    assert values[:251].tolist() == [k / 250 for k in range(251)]
    assert values[255] == -1.0
    assert is_predicted(ALL).tolist() == [k != 255 for k in range(256)]
    assert np.isnan(probability_of(ALL, not_predicted=float("nan"))[255])


grids = st.builds(
    Grid,
    st.just("EPSG:32650"),
    st.sampled_from([0.5, 1.0, 2.5, 10.0, 1.194328566955879]),
    st.integers(-3_000_000, 3_000_000),
    st.integers(-3_000_000, 3_000_000),
    st.integers(1, 70),
    st.integers(1, 70),
)
windows = st.builds(Window, st.integers(-60, 60), st.integers(-60, 60), st.integers(1, 50), st.integers(1, 50))


@given(grids, windows, st.integers(-9, 99), st.integers(-9, 99))
def test_a_window_of_a_grid_lies_where_affine_arithmetic_puts_it(grid, window, row, col):
    part = grid[window]
    moved = grid.affine @ Affine.translation(window.col_px, window.row_px)
    tolerance = 1e-6 * grid.resolution_m
    assert part.affine @ (col, row) == pytest.approx(moved @ (col, row), abs=tolerance, rel=0)
    assert part.bounds_m == pytest.approx(grid.window_bounds_m(window), abs=0, rel=0)
    assert (part.height_px, part.width_px) == (window.height_px, window.width_px)
    assert grid[grid.window] == grid
    # the part of a part: the same lattice, to the bit
    inner = Window(1, 2, 3, 4)
    assert part[inner] == grid[inner.shifted(window.row_px, window.col_px)]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_a_file_of_our_profile_holds_its_grid_and_becomes_a_valid_cog(tmp_path, dtype):
    grid = Grid("EPSG:32650", 2.0, 250_000, -2_200_000, 700, 900)
    values = np.random.default_rng(0).integers(0, 100, (2, 700, 900)).astype(dtype)
    with rasterio.open(tmp_path / "a.tif", "w", **tiled_profile(grid, dtype=dtype, nodata=99, count=2)) as sink:
        sink.write(values)
    with rasterio.open(tmp_path / "a.tif") as source:
        assert source.transform == grid.affine
        assert source.bounds == pytest.approx(grid.bounds_m)
        assert source.crs.to_epsg() == 32650
        assert source.nodata == 99
        assert source.block_shapes == [(512, 512)] * 2
        assert source.compression.value == "DEFLATE"
        assert (source.read() == values).all()
    rasterio.shutil.copy(tmp_path / "a.tif", tmp_path / "c.tif", **cog_options(predictor=True))
    valid, errors, warnings = cog_validate(str(tmp_path / "c.tif"), strict=True, quiet=True)
    assert valid, (errors, warnings)
    with rasterio.open(tmp_path / "c.tif") as source:
        assert (source.read() == values).all()
        assert source.overviews(1) == [2]


def test_changes_of_a_profile_go_first():
    grid = Grid("EPSG:32650", 2.0, 0, 0, 1, 1)
    profile = tiled_profile(grid, dtype="uint8", nodata=None, compress="NONE", sparse_ok=True)
    assert profile["compress"] == "NONE"
    assert profile["sparse_ok"] is True
    assert tiled_profile(grid, dtype="float32", nodata=None)["predictor"] == 3


def test_areas_and_lengths_do_not_depend_on_the_projection():
    assert "Albers" in CHINA_ALBERS.coordinate_operation.method_name
    # a cap of one degree: its area on the ellipsoid from Geod, and its length, as an independent reference
    from pyproj import Geod

    cell = shapely.segmentize(shapely.box(113.0, 23.0, 113.1, 23.1), 0.001)
    area, length = Geod(ellps="WGS84").geometry_area_perimeter(cell)
    for crs in ("EPSG:4326", "EPSG:32649", "EPSG:3857"):
        shapes = GeoSeries([cell], crs="EPSG:4326").to_crs(crs)
        assert equal_areas_m2(shapes)[0] == pytest.approx(abs(area), rel=1e-6)
        assert geodesic_lengths_m(shapes)[0] == pytest.approx(length, rel=1e-6)
    assert SCORE_SCALE == 250
