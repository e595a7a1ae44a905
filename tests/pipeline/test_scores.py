"""Scores are the same however the work is cut, and equal to a plain whole-array reference."""

import hashlib
import itertools
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rio_cogeo.cogeo import cog_validate

from models.geolink.graph import TileGraphs
from pipeline.imagery import ArrayImagery, open_imagery
from pipeline.inference import (
    AreaError,
    ModelMismatchError,
    ModelOutputError,
    predict_scores,
)
from regions.raster.grid import Grid, Tiling, Window
from tests.support.rasters import coordinate_pixels, write_raster

CRS = "EPSG:32650"


@dataclass(frozen=True)
class ContextModel:
    """A NumPy model whose answer depends on the whole tile, on the place in it, and on the graph if there is one."""

    tile_px: int = 32
    bands: int = 3
    batch_size: int = 4
    digest: str = "context-model"
    uses_graphs: bool = False
    outputs: int = 1

    def predict(self, images: np.ndarray, graphs: TileGraphs | None) -> np.ndarray:
        assert images.shape == (self.batch_size, self.bands, self.tile_px, self.tile_px)
        assert images.dtype == np.uint8
        x = images.astype(np.float32) / np.float32(255)
        mean = x.mean(axis=(1, 2, 3), dtype=np.float64).astype(np.float32)[:, None, None]
        place = np.arange(self.tile_px, dtype=np.float32) / np.float32(self.tile_px)
        p = np.float32(0.5) * x[:, 0] + np.float32(0.2) * x[:, -1] + np.float32(0.2) * mean
        p = p + np.float32(0.05) * place[:, None] + np.float32(0.05) * place[None, :]
        if graphs is not None:
            assert graphs.n_tiles == self.batch_size
            nodes = np.bincount(graphs.node_tile["point"], minlength=self.batch_size)
            p = p * (np.float32(1) / (1 + nodes.astype(np.float32)))[:, None, None]
        if self.outputs == 1:
            return p.astype(np.float32)
        return np.stack([p, p * np.float32(0.5)], axis=1).astype(np.float32)


@dataclass(frozen=True)
class PointGraphs:
    """One point node per point in the tile."""

    xy: np.ndarray

    tag_sets = ()

    def tile_graphs(self, bounds_m: np.ndarray) -> TileGraphs:
        empty = TileGraphs.empty(len(bounds_m))
        inside = [
            np.flatnonzero((self.xy[:, 0] >= l) & (self.xy[:, 0] < r) & (self.xy[:, 1] >= b) & (self.xy[:, 1] < t))
            for l, b, r, t in bounds_m
        ]
        n = sum(len(k) for k in inside)
        tile = np.repeat(np.arange(len(bounds_m)), [len(k) for k in inside])
        position = np.zeros((n, 2), np.float32)
        graphs = replace(
            empty,
            node_tile=empty.node_tile | {"point": tile},
            semantic_id=empty.semantic_id | {"point": np.concatenate(inside).astype(np.int64)},
            position=empty.position | {"point": position},
            geometry=empty.geometry | {"point": np.zeros((n, 8), np.float32)},
        )
        graphs.validate()
        return graphs

    def digest(self, bounds_m: np.ndarray) -> str:
        l, b = bounds_m[:, :2].min(axis=0)
        r, t = bounds_m[:, 2:].max(axis=0)
        near = (self.xy[:, 0] >= l) & (self.xy[:, 0] < r) & (self.xy[:, 1] >= b) & (self.xy[:, 1] < t)
        return hashlib.sha256(self.xy[near].tobytes()).hexdigest()


def reference(imagery, model, grid, tiling, *, aoi=None, graphs=None) -> np.ndarray:
    """Every tile that touches the grid, one by one, summed on whole arrays: uint8 (outputs, H, W).

    Written from `docs/inference.md` with its own arithmetic; the code under test gives it the model's answers alone.
    """
    pixels, valid = imagery.read(grid.window)
    tile, stride = tiling.tile_px, tiling.stride_px
    height, width = valid.shape
    rows, cols = tile_starts(grid.first_row, height, tiling), tile_starts(grid.first_col, width, tiling)
    outer = np.zeros((model.bands, height + 2 * tile, width + 2 * tile), np.uint8)
    outer[:, tile : tile + height, tile : tile + width] = pixels
    seen = np.zeros(outer.shape[1:], bool)
    seen[tile : tile + height, tile : tile + width] = valid
    total = np.zeros((model.outputs, *seen.shape), np.int64)
    weight = np.zeros(seen.shape, np.int64)
    one = np.array(axis_weights(tile, stride), np.int64)
    both = one[:, None] * one[None, :]
    for row, col in itertools.product(rows, cols):
        place = (slice(row + tile, row + 2 * tile), slice(col + tile, col + 2 * tile))
        if not seen[place].any():
            continue
        batch = np.zeros((model.batch_size, model.bands, tile, tile), np.uint8)
        batch[0] = outer[:, *place]
        parts = None
        if graphs is not None:
            r = grid.resolution_m
            left, top = (grid.first_col + col) * r, -(grid.first_row + row) * r
            bounds = np.array([[left, top - tile * r, left + tile * r, top]])
            parts = TileGraphs.concat([graphs.tile_graphs(bounds), TileGraphs.empty(model.batch_size - 1)])
        answer = model.predict(batch, parts)[0].reshape(model.outputs, tile, tile)
        total[:, *place] += np.rint(answer * np.float32(64_000)).astype(np.int64) * both
        weight[place] += both
    inside = (slice(tile, tile + height), slice(tile, tile + width))
    assert (weight[inside][valid] == 256 * 256).all()
    score = (total[:, *inside] + 2**23) >> 24  # 64,000 x 65,536 is 250 x 2**24
    if aoi is not None:
        valid = valid & shapely.contains_xy(aoi, *pixel_centres(grid))
    return np.where(valid, score, 255).astype(np.uint8)


def tile_starts(first: int, size: int, tiling: Tiling) -> list[int]:
    """Where tiles begin along an axis, counted from the grid: tile k covers [k stride, k stride + tile) of the lattice.

    All that touch the grid, which covers [first, first + size), found by asking each.
    """
    tile, stride = tiling.tile_px, tiling.stride_px
    near = range((first - tile) // stride - 1, (first + size) // stride + 2)
    return [k * stride - first for k in near if k * stride < first + size and k * stride + tile > first]


def axis_weights(tile: int, stride: int) -> list[int]:
    """Weights along one axis: a squared sine over the overlap, as whole numbers that sum to 256 on every pixel."""
    smooth = smooth_weights(tile, stride)
    weights = [0] * tile
    for first in range(stride):
        on_a_pixel = range(first, tile, stride)
        total, running, given = math.fsum(smooth[k] for k in on_a_pixel), 0.0, 0
        for k in on_a_pixel:
            running += smooth[k]
            weights[k] = round(256 * running / total) - given
            given += weights[k]
    return weights


def smooth_weights(tile: int, stride: int) -> list[float]:
    ramp = min(max(1, tile - stride), tile / 2)
    return [(1 - math.cos(math.pi * min(1.0, (min(k, tile - 1 - k) + 0.5) / ramp))) / 2 for k in range(tile)]


def smooth_blend(pixels: np.ndarray, model, grid: Grid, tiling: Tiling) -> np.ndarray:
    """The blend in real numbers, before anything is made whole: float64 (H, W), 0 to 1, of imagery without holes."""
    tile, stride = tiling.tile_px, tiling.stride_px
    outer = np.pad(pixels, ((0, 0), (tile, tile), (tile, tile)))
    total, weight = np.zeros(outer.shape[1:]), np.zeros(outer.shape[1:])
    both = np.outer(smooth_weights(tile, stride), smooth_weights(tile, stride))
    starts = (tile_starts(grid.first_row, grid.height_px, tiling), tile_starts(grid.first_col, grid.width_px, tiling))
    for row, col in itertools.product(*starts):
        place = (slice(row + tile, row + 2 * tile), slice(col + tile, col + 2 * tile))
        batch = np.zeros((model.batch_size, model.bands, tile, tile), np.uint8)
        batch[0] = outer[:, *place]
        total[place] += model.predict(batch, None)[0] * both
        weight[place] += both
    inside = (slice(tile, -tile), slice(tile, -tile))
    return total[inside] / weight[inside]


def pixel_centres(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    left, _, _, top = grid.bounds_m
    r = grid.resolution_m
    return np.meshgrid(
        left + (np.arange(grid.width_px) + 0.5) * r, top - (np.arange(grid.height_px) + 0.5) * r
    )  # x, y: (H, W)


def scene(height: int, width: int, *, seed: int = 0, row: int = -440_000, col: int = 50_000, holes: bool = True):
    """Random imagery with a nodata corner and a nodata stripe, on a grid that starts at any lattice pixel."""
    rng = np.random.default_rng(seed)
    grid = Grid(CRS, 10.0, col, row, height, width)
    valid = np.ones((height, width), bool)
    if holes:
        valid[: height // 3, : width // 4] = False
        valid[:, width // 2 : width // 2 + 3] = False
    return ArrayImagery(rng.integers(0, 256, (3, height, width)).astype(np.uint8), grid, valid=valid)


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read()


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


def test_second_band_and_the_form_of_the_file(tmp_path):
    imagery = scene(1100, 1300)
    model = ContextModel(outputs=2)
    result = predict_scores(
        imagery, model, None, grid=imagery.grid, tiling=Tiling(32, 24), out=tmp_path / "s.tif", work=tmp_path / "w"
    )
    valid, errors, warnings = cog_validate(str(result.path), strict=True, quiet=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(result.path) as dataset:
        assert dataset.count == 2
        assert dataset.dtypes == ("uint8", "uint8")
        assert dataset.nodata == 255
        assert dataset.scales == (1 / 250, 1 / 250)
        assert dataset.overviews(1) == [2, 4]
        assert dataset.crs.to_epsg() == 32650
        assert tuple(dataset.transform)[:6] == imagery.grid.transform
        score, doubt = dataset.read(masked=True)
        stats = dataset.tags(1)
        assert float(stats["STATISTICS_MEAN"]) == pytest.approx(score.mean())
        assert float(stats["STATISTICS_STDDEV"]) == pytest.approx(score.std())
        assert (int(stats["STATISTICS_MINIMUM"]), int(stats["STATISTICS_MAXIMUM"])) == (score.min(), score.max())
        assert dataset.descriptions[1].startswith("disagreement")
    assert abs(doubt - score / 2).max() <= 1
    assert json.loads((tmp_path / "w/progress.jsonl").read_text().splitlines()[-1])["seconds_left"] == 0
    np.testing.assert_array_equal(read(result.path), reference(imagery, model, imagery.grid, Tiling(32, 24)))


def test_nothing_to_predict_is_not_negative(tmp_path):
    imagery = scene(90, 90, holes=False)
    imagery = ArrayImagery(np.zeros((3, 90, 90), np.uint8), imagery.grid, valid=np.zeros((90, 90), bool))
    result = predict_scores(
        imagery,
        ContextModel(),
        None,
        grid=imagery.grid,
        tiling=Tiling(32, 24),
        out=tmp_path / "s.tif",
        work=tmp_path / "w",
    )
    assert (read(result.path) == 255).all()
    assert (result.predicted_px, result.not_predicted_px) == (0, 8100)
    assert result.tiles == 0


def test_blocks_outside_the_area_are_not_read(tmp_path):
    imagery = scene(400, 400, holes=False)
    left, _, _, top = imagery.grid.bounds_m
    reads: list[Window] = []

    class Watched(ArrayImagery):
        def read(self, window):
            reads.append(window)
            return super().read(window)

        def stamp(self, window):
            return "s"

        def may_have_data(self, window):
            return True

    watched = Watched(imagery.read(imagery.grid.window)[0], imagery.grid)
    aoi = shapely.box(left + 20, top - 400, left + 400, top - 20)
    states = []
    result = predict_scores(
        watched, ContextModel(), None, grid=imagery.grid, tiling=Tiling(32, 24), out=tmp_path / "s.tif",
        work=tmp_path / "w", aoi=aoi, block_px=80, progress=states.append,
    )  # fmt: skip
    assert max(w.stop_row_px for w in reads) <= 40 + 32
    assert max(w.stop_col_px for w in reads) <= 40 + 32
    assert result.blocks_done + result.blocks_skipped == result.blocks_total == len(states)
    assert result.blocks_done <= 4
    assert states[-1].km2_done == pytest.approx(states[-1].km2_total) == pytest.approx(16.0)
    assert (states[-1].blocks_skipped, states[-1].seconds_left) == (result.blocks_skipped, 0)


def test_errors_name_both_sides(tmp_path):
    imagery = scene(50, 50)
    how = {"grid": imagery.grid, "tiling": Tiling(32, 24), "out": tmp_path / "s.tif", "work": tmp_path / "w"}
    with pytest.raises(ModelMismatchError, match="tiles of 16 px, the tiling gives 32 px"):
        predict_scores(imagery, ContextModel(tile_px=16), None, **how)
    with pytest.raises(ModelMismatchError, match="takes 5 bands, the imagery is opened with 3"):
        predict_scores(imagery, ContextModel(bands=5), None, **how)
    with pytest.raises(ModelMismatchError, match="open it with grid="):
        predict_scores(imagery, ContextModel(), None, **how | {"grid": replace(imagery.grid, width_px=49)})
    with pytest.raises(AreaError, match="does not meet the grid"):
        predict_scores(imagery, ContextModel(), None, **how, aoi=shapely.box(0, 0, 1, 1))
    with pytest.raises(AreaError, match="is empty"):
        predict_scores(imagery, ContextModel(), None, **how, aoi=shapely.Polygon())


@pytest.mark.parametrize("bad", [np.nan, 1.5, -0.2])
def test_a_model_that_gives_no_probabilities(tmp_path, bad):
    class Broken(ContextModel):
        def predict(self, images, graphs):
            answer = super().predict(images, graphs)
            answer[0, 3, 3] = bad
            return answer

    imagery = scene(50, 50)
    with pytest.raises(ModelOutputError, match="expected probabilities"):
        predict_scores(
            imagery,
            Broken(),
            None,
            grid=imagery.grid,
            tiling=Tiling(32, 24),
            out=tmp_path / "s.tif",
            work=tmp_path / "w",
        )
    assert not (tmp_path / "s.tif").exists()
