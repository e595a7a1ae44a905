"""Scores are the same however the work is cut, and equal to a plain whole-array reference."""

import hashlib
import itertools
from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.imagery import ArrayImagery, open_imagery
from pipeline.inference import predict_scores
from regions.raster.grid import Grid, Tiling, Window
from tests.support.rasters import coordinate_pixels, write_raster
from tests.support.score_reference import (
    CRS,
    ContextModel,
    PointGraphs,
    pixel_centres,
    read,
    reference,
    scene,
    smooth_blend,
)

tilings = st.sampled_from([(32, 24), (32, 16), (32, 32), (32, 9), (32, 31), (16, 5)])
sizes = st.one_of(st.sampled_from([1, 15, 16, 17, 31, 32, 33, 64, 97, 101]), st.integers(1, 130))


@settings(max_examples=25, deadline=None)
@given(
    tilings, sizes, sizes, st.integers(1, 200), st.integers(1, 3), st.integers(1, 7), st.integers(-50, 50), st.data()
)
def test_equal_to_the_whole_array_for_any_cut(  # noqa: PLR0917 -- hypothesis passes by position
    tmp_path_factory, tiling, height, width, block, readers, batch, shift, data
):
    tiling = Tiling(*tiling)
    imagery = scene(height, width, seed=height * width, row=shift, col=-shift * 3)
    model = ContextModel(tile_px=tiling.tile_px, batch_size=batch)
    aoi = None
    if data.draw(st.booleans(), label="with area of interest"):
        left, bottom, right, top = imagery.grid.bounds_m
        x, y = (left + right) / 2, (bottom + top) / 2
        aoi = shapely.Polygon([(left - 7, y), (x + 1.3, top + 9), (right, y - 2.1), (x, bottom)])
    folder = tmp_path_factory.mktemp("cut")
    result = predict_scores(
        imagery, model, None, grid=imagery.grid, tiling=tiling, out=folder / "s.tif", work=folder / "work",
        aoi=aoi, block_px=block, readers=readers,
    )  # fmt: skip
    expected = reference(imagery, model, imagery.grid, tiling, aoi=aoi)
    got = read(result.path)
    # a centre that lies on the outline may count as in or out; which, is settled by the byte-equality test
    settled = np.ones(got.shape[1:], bool)
    if aoi is not None:
        settled = shapely.distance(aoi.exterior, shapely.points(*pixel_centres(imagery.grid))) > 1e-6
    np.testing.assert_array_equal(got[:, settled], expected[:, settled])
    assert result.predicted_px == (got != 255).sum()
    assert result.not_predicted_px == (got == 255).sum()


@pytest.mark.parametrize("sides", [(32, 24), (32, 16), (32, 9), (16, 5), (32, 31)])
def test_whole_numbers_stay_near_the_blend_in_real_numbers(tmp_path, sides):
    imagery = scene(90, 101, row=-333, col=57, holes=False)
    model, tiling = ContextModel(tile_px=sides[0]), Tiling(*sides)
    result = predict_scores(
        imagery, model, None, grid=imagery.grid, tiling=tiling, out=tmp_path / "s.tif", work=tmp_path / "w", block_px=40
    )
    exact = 250 * smooth_blend(imagery.read(imagery.grid.window)[0], model, imagery.grid, tiling)
    # half a level from the rounding of the score, and 1/512 of the answers' range from each rounded sum of weights
    assert np.abs(read(result.path)[0] - exact).max() < 1.5


def test_the_file_is_the_same_to_the_byte_for_any_cut(tmp_path):
    imagery = scene(300, 260)
    tiling = Tiling(32, 20)
    left, bottom, right, top = imagery.grid.bounds_m
    # a diamond whose edges run through pixel centres: ties must fall alike
    aoi = shapely.Polygon(
        [(left + 5, top - 1505), (left + 1305, top - 5), (right - 5, top - 1505), (left + 1305, bottom + 5)]
    )
    seen = set()
    for k, (block, readers) in enumerate(itertools.product((1, 50, 97, 1000), (1, 3))):
        result = predict_scores(
            imagery, ContextModel(), None, grid=imagery.grid, tiling=tiling,
            out=tmp_path / f"{k}.tif", work=tmp_path / f"w{k}", block_px=block, readers=readers, aoi=aoi,
        )  # fmt: skip
        assert hashlib.sha256(result.path.read_bytes()).hexdigest() == result.digest
        seen.add(result.digest)
    assert len(seen) == 1


def test_scenes_in_files_with_a_seam_equal_one_array(tmp_path):
    """Two scenes that overlap, with nodata: tiles see across the seam."""
    grid = Grid(CRS, 2.0, 250_007, -2_200_011, 200, 240)
    values = coordinate_pixels(grid)
    values[:, 150:, :70] = 0
    paths = []
    for k, cols in enumerate((slice(0, 130), slice(100, 240))):
        part = Window(0, cols.start, 200, cols.stop - cols.start)
        paths.append(write_raster(tmp_path / f"{k}.tif", grid[part], values[:, :, cols], nodata=0))
    whole = ArrayImagery(values, grid, valid=(values != 0).any(axis=0))
    with open_imagery(paths) as imagery:
        assert imagery.grid == grid
        result = predict_scores(
            imagery, ContextModel(), None, grid=grid, tiling=Tiling(32, 24), out=tmp_path / "s.tif",
            work=tmp_path / "w", block_px=100, readers=3,
        )  # fmt: skip
    np.testing.assert_array_equal(read(result.path), reference(whole, ContextModel(), grid, Tiling(32, 24)))


def test_golden_digest_pins_the_stage_version(tmp_path):
    """Fails when a change alters scores: then raise STAGE_VERSION and write the new digest here."""
    from pipeline.inference.reading import STAGE_VERSION

    imagery = scene(120, 150, seed=7)
    result = predict_scores(
        imagery,
        ContextModel(),
        None,
        grid=imagery.grid,
        tiling=Tiling(32, 24),
        out=tmp_path / "s.tif",
        work=tmp_path / "w",
    )
    digest = hashlib.sha256(read(result.path).tobytes()).hexdigest()
    assert (STAGE_VERSION, digest[:16]) == (1, "96183556a3b139e5")


def test_score_does_not_depend_on_the_extent(tmp_path):
    """The same ground in a larger grid has the same scores where imagery reaches past the smaller one."""
    big = scene(200, 220)
    small_grid = replace(
        big.grid, first_row=big.grid.first_row + 60, first_col=big.grid.first_col + 50, height_px=70, width_px=90
    )

    class Seen(ArrayImagery):
        """The large array, opened on the small grid: reads reach past it."""

        def read(self, window):
            return big.read(window.shifted(60, 50))

    small = Seen(np.zeros((3, 70, 90), np.uint8), small_grid)
    scores = [
        read(
            predict_scores(
                i, ContextModel(), None, grid=i.grid, tiling=Tiling(32, 24), out=tmp_path / n, work=tmp_path / f"w{n}"
            ).path
        )
        for i, n in ((big, "big.tif"), (small, "small.tif"))
    ]
    np.testing.assert_array_equal(scores[0][:, 60:130, 50:140], scores[1])


def test_graphs_reach_their_tiles(tmp_path):
    imagery = scene(150, 170)
    left, bottom, right, top = imagery.grid.bounds_m
    rng = np.random.default_rng(1)
    graphs = PointGraphs(np.stack([rng.uniform(left, right, 40), rng.uniform(bottom, top, 40)], axis=1))
    model = ContextModel(uses_graphs=True, batch_size=5)
    tiling = Tiling(32, 24)
    expected = reference(imagery, model, imagery.grid, tiling, graphs=graphs)
    assert (expected != reference(imagery, model, imagery.grid, tiling)).any()
    for block in (40, 90, 500):
        result = predict_scores(
            imagery, model, graphs, grid=imagery.grid, tiling=tiling,
            out=tmp_path / "s.tif", work=tmp_path / f"w{block}", block_px=block,
        )  # fmt: skip
        np.testing.assert_array_equal(read(result.path), expected)
