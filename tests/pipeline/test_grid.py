"""The lattice: the same ground is always the same pixel and the same tile."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regions.raster.grid import Grid, GridError, Tiling, Window

CRS = "EPSG:32650"
windows = st.builds(Window, st.integers(-60, 60), st.integers(-60, 60), st.integers(0, 50), st.integers(0, 50))
grids = st.builds(
    Grid,
    st.just(CRS),
    st.sampled_from([0.5, 1.0, 2.4, 10.0, 1.194328566955879]),
    st.integers(-10_000_000, 10_000_000),
    st.integers(-10_000_000, 10_000_000),
    st.integers(1, 70),
    st.integers(1, 70),
)
tilings = st.integers(1, 20).flatmap(lambda t: st.builds(Tiling, st.just(t), st.integers(1, t)))


def pixels(window: Window) -> set[tuple[int, int]]:
    return {(r, c) for r in range(window.row_px, window.stop_row_px) for c in range(window.col_px, window.stop_col_px)}


@given(windows, windows)
def test_intersection_is_that_of_the_sets(a, b):
    both = a.intersection(b)
    assert pixels(both) == pixels(a) & pixels(b)
    assert both.is_empty == (not pixels(both))
    assert b.intersection(a).is_empty == both.is_empty


@given(windows, st.integers(-9, 9), st.integers(-9, 9), st.integers(0, 9))
def test_shift_pad_and_slices(window, rows, cols, halo):
    assert pixels(window.shifted(rows, cols)) == {(r + rows, c + cols) for r, c in pixels(window)}
    outer = window.padded(halo)
    rows_in, cols_in = window.slices_in(outer)
    assert (rows_in.start, rows_in.stop - rows_in.start) == (halo, window.height_px)
    assert (cols_in.start, cols_in.stop - cols_in.start) == (halo, window.width_px)


@given(grids)
def test_covering_gives_back_the_grid_of_its_own_bounds(grid):
    assert Grid.covering(grid.bounds_m, crs=CRS, resolution_m=grid.resolution_m) == grid
    assert grid.window_of_bounds(grid.bounds_m) == grid.window
    a, b, c, d, e, f = grid.transform
    left, bottom, right, top = grid.bounds_m
    assert (b, d) == (0.0, 0.0)
    assert (c, f) == (left, top)
    assert c + a * grid.width_px == pytest.approx(right)
    assert f + e * grid.height_px == pytest.approx(bottom)


@given(st.floats(-1e7, 1e7), st.floats(-1e7, 1e7), st.floats(0.1, 500), st.floats(0.1, 500))
def test_covering_is_the_smallest_that_covers(left, bottom, width, height):
    r = 2.0
    grid = Grid.covering((left, bottom, left + width, bottom + height), crs=CRS, resolution_m=r)
    l, b, right, t = grid.bounds_m
    snap = 1.1e-3 * r
    assert l <= left + snap and b <= bottom + snap and right >= left + width - snap and t >= bottom + height - snap
    assert left - l < r + snap and t - (bottom + height) < r + snap
    assert grid.width_px <= math.ceil(width / r) + 1 and grid.height_px <= math.ceil(height / r) + 1


@given(grids, st.integers(1, 80))
def test_blocks_cover_every_pixel_once(grid, block):
    seen: list[tuple[int, int]] = []
    for window in grid.blocks(block):
        assert 0 < window.height_px <= block and 0 < window.width_px <= block
        seen += pixels(window)
    assert len(seen) == len(set(seen))
    assert set(seen) == pixels(grid.window)


@given(grids, tilings, st.data())
def test_tiles_touching_are_exactly_those_that_share_a_pixel(grid, tiling, data):
    window = data.draw(windows)
    touching = tiling.tiles_touching(grid, window)
    assert touching == sorted(set(touching))
    if window.is_empty:
        assert touching == []
        return
    for tile in touching:
        assert not tiling.window(grid, tile).intersection(window).is_empty
    rows, cols = sorted({i for i, _ in touching}), sorted({j for _, j in touching})
    assert len(touching) == len(rows) * len(cols)
    for i, j in ((rows[0] - 1, cols[0]), (rows[-1] + 1, cols[0]), (rows[0], cols[0] - 1), (rows[0], cols[-1] + 1)):
        assert tiling.window(grid, (i, j)).intersection(window).is_empty


@given(grids, tilings, st.integers(-20, 20), st.integers(-20, 20))
def test_the_same_ground_is_the_same_tile_on_a_moved_grid(grid, tiling, rows, cols):
    moved = Grid(CRS, grid.resolution_m, grid.first_col + cols, grid.first_row + rows, 40, 40)
    for tile in tiling.tiles_touching(grid, Window(0, 0, 5, 5)):
        here, there = tiling.window(grid, tile), tiling.window(moved, tile)
        assert there.shifted(rows, cols) == here
        assert moved.window_bounds_m(there) == pytest.approx(grid.window_bounds_m(here))


def test_impossible_values_are_refused():
    with pytest.raises(GridError, match="negative size: -1 x 3"):
        Window(0, 0, -1, 3)
    with pytest.raises(GridError, match="positive number of metres, got 0"):
        Grid(CRS, 0, 0, 0, 1, 1)
    with pytest.raises(GridError, match="at least one pixel, got 0 x 5"):
        Grid(CRS, 1, 0, 0, 0, 5)
    with pytest.raises(GridError, match="empty bounds"):
        Grid.covering((5, 0, 5, 1), crs=CRS, resolution_m=1)
    with pytest.raises(GridError, match=r"stride must be in 1\.\.tile \(4 px\), got 5"):
        Tiling(4, 5)
    with pytest.raises(GridError, match="block size must be positive"):
        list(Grid(CRS, 1, 0, 0, 5, 5).blocks(0))
