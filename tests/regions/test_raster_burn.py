"""Burning against a brute-force point-in-polygon at the centres of all pixels."""

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from regions.raster.burn import ShapeLayer, burn, burn_into, burn_values
from regions.raster.grid import Grid, GridError, Window

GRIDS = st.builds(
    Grid,
    st.just("EPSG:32650"),
    st.sampled_from([0.5, 1.0, 10.0]),
    st.integers(-2_000_000, 2_000_000),
    st.integers(-2_000_000, 2_000_000),
    st.integers(1, 40),
    st.integers(1, 40),
)


def centres(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    left, _, _, top = grid.bounds_m
    r = grid.resolution_m
    return np.meshgrid(
        left + (np.arange(grid.width_px) + 0.5) * r, top - (np.arange(grid.height_px) + 0.5) * r
    )  # x, y: (H, W)


def random_shapes(grid: Grid, seed: int, count: int) -> np.ndarray:
    """Polygons with holes, in and about a grid, whose vertices lie on no line of pixel centres."""
    rng = np.random.default_rng(seed)
    left, bottom, right, top = grid.bounds_m
    reach = max(right - left, top - bottom)
    shapes = np.empty(count, object)
    for k in range(count):
        centre = rng.uniform((left - reach / 3, bottom - reach / 3), (right + reach / 3, top + reach / 3))
        angle = np.sort(rng.uniform(0, 2 * np.pi, 9))
        radius = rng.uniform(0.1, 0.6, 9)[:, None] * reach
        ring = centre + radius * np.column_stack((np.cos(angle), np.sin(angle)))
        hole = shapely.Point(centre).buffer(reach * 0.07, quad_segs=3)
        shapes[k] = shapely.make_valid(shapely.difference(shapely.make_valid(shapely.Polygon(ring)), hole))
    return shapes


@settings(max_examples=60, deadline=None)
@given(GRIDS, st.integers(0, 10_000), st.integers(0, 5))
def test_a_pixel_belongs_where_its_centre_lies(grid, seed, count):
    shapes = random_shapes(grid, seed, count)
    x, y = centres(grid)
    number = np.full(x.shape, -1)
    near_edge = np.zeros(x.shape, bool)
    for k, shape in enumerate(shapes):
        number[shapely.contains_xy(shape, x, y)] = k
        near_edge |= shapely.distance(shape.boundary, shapely.points(x, y)) < 1e-6 * grid.resolution_m
    settled = ~near_edge
    assert (burn(shapes, grid) == (number >= 0))[settled].all()
    assert (burn_values(shapes, np.arange(count), grid, fill=-1) == number)[settled].all()


@settings(max_examples=40, deadline=None)
@given(GRIDS, st.integers(0, 10_000), st.integers(0, 6), st.integers(1, 17), st.integers(0, 9))
def test_a_layer_burnt_in_windows_is_the_layer_burnt_at_once(grid, seed, count, block_px, halo_px):
    shapes = random_shapes(grid, seed, count)
    layer = ShapeLayer(shapes, grid)
    whole = burn_values(shapes, np.arange(count), grid, fill=-1)
    for block in grid.blocks(block_px):
        outer = block.padded(halo_px)
        own = block.slices_in(outer)
        assert (layer.rows(outer)[own] == whole[block.slices_in(grid.window)]).all()
        assert (layer.mask(outer)[own] == (whole >= 0)[block.slices_in(grid.window)]).all()
        assert set(np.unique(layer.rows(block))) <= {-1, *layer.near(block).tolist()}


def test_missing_and_empty_shapes_burn_nothing_and_mappings_burn():
    grid = Grid("EPSG:32650", 1.0, 0, -10, 10, 10)
    square = shapely.box(2, 2, 5, 5)
    assert not burn([None, shapely.Polygon()], grid).any()
    assert burn_values([None, square], [7, 9], grid, fill=3).sum() == 9 * 9 + 91 * 3
    assert (burn([shapely.geometry.mapping(square)], grid) == burn([square], grid)).all()
    assert ShapeLayer(np.array([square]), grid).rows(Window(3, 3, 0, 4)).shape == (0, 4)


def test_every_touched_pixel_on_demand_on_any_transform():
    line = shapely.LineString([(0.2, 0.5), (3.8, 0.5)])
    assert not burn_into([line.buffer(0.1)], Affine.identity(), (2, 4))[1].any()
    assert burn_into([line.buffer(0.1)], Affine.identity(), (2, 4), all_touched=True)[0].all()
    turned = Affine.rotation(90)
    sheet = burn_into([shapely.box(-2, 0, 0, 3)], turned, (4, 5))
    # x = -row, y = col: the box covers rows 0 and 1, columns 0 to 2
    assert sheet.sum() == 6
    assert sheet[:2, :3].all()


def test_values_and_shapes_must_pair():
    grid = Grid("EPSG:32650", 1.0, 0, -10, 10, 10)
    with pytest.raises(ValueError, match="shorter"):
        burn_values([shapely.box(0, 0, 1, 1)] * 2, [1], grid)
    with pytest.raises(GridError):
        burn([], grid[Window(0, 0, 0, 3)])
