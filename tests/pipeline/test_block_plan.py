"""How a city is cut: every tile once, every pixel once, weights that sum to one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.inference import BlockPlan
from pipeline.inference.weights import WEIGHT_SUM, make_window_weights
from regions.raster.grid import Grid, Tiling

CRS = "EPSG:32650"


@given(st.integers(1, 60).flatmap(lambda t: st.tuples(st.just(t), st.integers(1, t))))
def test_weights_sum_to_one_on_every_pixel(tiling):
    tiling = Tiling(*tiling)
    weights = make_window_weights(tiling).astype(np.int64)
    for residue in range(tiling.stride_px):
        assert weights[residue :: tiling.stride_px].sum() == WEIGHT_SUM


@given(
    st.integers(-100, 100), st.integers(-100, 100), st.integers(1, 90), st.integers(1, 90), st.integers(1, 60),
    st.integers(2, 20).flatmap(lambda t: st.tuples(st.just(t), st.integers(1, t))),
)  # fmt: skip
def test_every_tile_belongs_to_one_block_and_every_pixel_to_one_core(row, col, height, width, block, tiling):  # noqa: PLR0917 -- hypothesis passes by position
    grid = Grid(CRS, 1.0, col, row, height, width)
    plan = BlockPlan.of_size(grid, Tiling(*tiling), block_px=block)
    tiles = [tuple(t) for b in plan.blocks() for t in plan.tiles(b).tolist()]
    expected = {
        (plan.tiling.window(grid, t).row_px, plan.tiling.window(grid, t).col_px)
        for t in plan.tiling.tiles_touching(grid, grid.window)
    }
    assert len(tiles) == len(set(tiles))
    assert set(tiles) == expected
    covered = np.zeros((height, width), int)
    for b in plan.blocks():
        own = plan.core(b).intersection(grid.window)
        covered[own.slices_in(grid.window)] += 1
        footprint = plan.footprint(b)
        assert max(footprint.height_px, footprint.width_px) <= max(block, plan.tiling.tile_px)
    assert (covered == 1).all()
