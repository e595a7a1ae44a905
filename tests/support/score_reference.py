"""Scores of a whole array, tile by tile in plain arithmetic, and a model and a scene to ask them of."""

import hashlib
import itertools
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
import shapely

from models.geolink.graph import TileGraphs
from pipeline.imagery import ArrayImagery
from regions.raster.grid import Grid, Tiling

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
