"""From the score raster of a city to the polygons of its urban villages, in bounded memory.

Blocks are read, thresholded, closed and cut by barriers in parallel; each gives the runs of its own pixels only.
Runs of all blocks are joined and traced as one, so the blocks leave no trace in the polygons. The rings of what stays
are then moved from pixel edges to the level of the scores, for which the blocks that they cross are read once more.
Memory holds a few blocks and the runs: it grows with the length of outlines, not with the city's pixels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from pipeline.polygons.barriers import BarrierMask, check_vectors, select_barriers, select_exclusions
from pipeline.polygons.contours import contour_rings
from pipeline.polygons.exclusion import remove_excluded
from pipeline.polygons.morphology import close_gaps
from pipeline.polygons.rings import Rings, polygons_of_rings, trace_rings
from pipeline.polygons.runs import Runs, join_runs, label_runs, runs_of_mask
from pipeline.polygons.scores import ReadScores, ScoreSource, open_scores
from pipeline.polygons.simplification import simplify_polygons
from regions.raster.grid import Grid, Window
from regions.raster.scores import at_least, is_predicted, score_of
from regions.settings import PolygonConfig


@dataclass(frozen=True)
class FoundVillages:
    """What a score raster holds.

    Attributes:
        villages: The urban villages, columns ``geometry`` and ``excluded``, in the grid's CRS, in order of their
            first pixel (by row, then column).
        removed: Villages that lie on excluding land, with ``reason``.
        counts: How many components were found, too small, without a seed, removed, kept, and holes filled.
    """

    villages: gpd.GeoDataFrame
    removed: gpd.GeoDataFrame
    counts: dict[str, int]


def find_villages(
    scores: ScoreSource,
    *,
    grid: Grid,
    config: PolygonConfig,
    vectors: gpd.GeoDataFrame | None = None,
    workers: int = 2,
) -> FoundVillages:
    """Threshold, close, cut, trace, filter, contour, remove and simplify.

    Args:
        scores: Path of a uint8 raster on ``grid`` (scores in band 1), or an array (H, W): 0..250 for probability 0..1,
            255 = not predicted, which is never village.
        grid: The city's grid.
        config: Thresholds and sizes.
        vectors: Features in the grid's CRS with ``tags``; they cut and exclude. None: nothing does.
        workers: Threads that read and threshold blocks.

    Raises:
        PolygonError: The raster does not lie on the grid, or the vectors are in another CRS.
    """
    barriers, excluding = None, None
    if vectors is not None:
        check_vectors(vectors, grid)
        if config.barriers is not None:
            barriers = BarrierMask(select_barriers(vectors, config.barriers), grid)
        if config.exclusions is not None:
            excluding = select_exclusions(vectors, config.exclusions)
    with open_scores(scores, grid) as read:
        runs = join_runs(
            list(_map_bounded(lambda window: _block_runs(window, read, grid, config, barriers), grid, config, workers))
        )
        pixels, counts = _trace_villages(runs, read, grid, config)
    villages = gpd.GeoDataFrame({"excluded": [None] * len(pixels)}, geometry=to_metres(pixels, grid), crs=grid.crs)
    villages["excluded"] = villages["excluded"].astype("object")
    removed = villages.iloc[:0].drop(columns="excluded").assign(reason=[])
    if excluding is not None and len(excluding) and config.exclusions is not None:
        villages, removed = remove_excluded(
            villages.drop(columns="excluded"), excluding, config=config.exclusions, min_area_m2=config.min_area_m2
        )
    simplified = simplify_polygons(villages.geometry.to_numpy(), tolerance_m=config.simplify_m)
    villages = villages.set_geometry(gpd.GeoSeries(simplified.polygons, crs=grid.crs))[["geometry", "excluded"]]
    return FoundVillages(villages, removed, {**counts, "removed": len(removed), "villages": len(villages)})


def polygonize_mask(
    mask: NDArray[np.bool_], *, connectivity: Literal[4, 8] = 4, block_px: int | None = None
) -> NDArray[np.object_]:
    """Polygons of a mask in pixel units (x = column, y = row), by blocks of ``block_px`` (None: whole).

    Components of connectivity 8 whose pixels meet at corners only become multipolygons: the single ring that other
    tools give touches itself and is invalid.

    Args:
        mask: bool (H, W).
        connectivity: 4 or 8.
        block_px: Does not change the answer.

    Returns:
        object (P,), in order of the component's first pixel.
    """
    grid = Grid("EPSG:3857", 1.0, 0, 0, *mask.shape)
    blocks = [grid.window] if block_px is None else list(grid.blocks(block_px))
    parts = [
        runs_of_mask(mask[block.slices_in(grid.window)], window=block, height_px=grid.height_px, width_px=grid.width_px)
        for block in blocks
    ]
    runs = join_runs(parts)
    _, labels = label_runs(runs, connectivity=4)
    polygons, part_labels = polygons_of_rings(trace_rings(runs, labels))
    return polygons if connectivity == 4 else _group_parts(polygons, part_labels, runs, labels)[0]


def _group_parts(
    polygons: NDArray[np.object_], part_labels: NDArray[np.int32], runs: Runs, labels: NDArray[np.int32]
) -> tuple[NDArray[np.object_], NDArray[np.int32]]:
    """Parts of one 8-connected component as one geometry, in order of the component's first pixel."""
    _, wide = label_runs(runs, connectivity=8)
    wide_of = np.zeros(int(labels.max(initial=-1)) + 1, dtype=np.int32)
    wide_of[labels] = wide
    group = wide_of[part_labels]
    order = np.argsort(group, kind="stable")
    single = np.bincount(group, minlength=int(wide.max(initial=-1)) + 1)
    present = np.flatnonzero(single)
    result = np.empty(len(present), dtype=object)
    first = np.searchsorted(group[order], present)
    alone = single[present] == 1
    result[alone] = polygons[order[first[alone]]]
    several = np.isin(group[order], present[~alone])
    if several.any():
        index = np.searchsorted(present[~alone], group[order][several])
        result[~alone] = shapely.multipolygons(polygons[order][several], indices=index)
    return result, present.astype(np.int32)


def _join_parts(
    polygons: NDArray[np.object_], part_labels: NDArray[np.int32], runs: Runs, labels: NDArray[np.int32]
) -> NDArray[np.object_]:
    """8-connected components: a part in a filled hole that it meets at a corner is one with the part round it."""
    grouped, _ = _group_parts(polygons, part_labels, runs, labels)
    return np.where(shapely.is_valid(grouped), grouped, [shapely.unary_union(item) for item in grouped])


def _map_bounded(work: Callable[[Window], Runs], grid: Grid, config: PolygonConfig, workers: int) -> Iterator[Runs]:
    """``work`` over the blocks in order, with at most two blocks per worker in flight."""
    blocks: Iterable[Window] = grid.blocks(config.block_px)
    if workers <= 1:
        yield from map(work, blocks)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Runs]] = deque()
        for block in blocks:
            waiting.append(pool.submit(work, block))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _block_runs(
    block: Window, read: ReadScores, grid: Grid, config: PolygonConfig, barriers: BarrierMask | None
) -> Runs:
    """The runs of one block's own pixels."""
    radius = config.close_radius_px(grid.resolution_m)
    outer = block.padded(2 * radius)
    scores = read(outer)
    grow = at_least(scores, config.grow)
    own = block.slices_in(outer)
    if not grow.any():
        mask = grow[own]
        return runs_of_mask(mask, window=block, height_px=grid.height_px, width_px=grid.width_px)
    mask = close_gaps(grow, radius_px=radius)[own] & is_predicted(scores[own])
    seeds = grow[own] & at_least(scores[own], config.seed)
    burned = barriers.burn(block) if barriers is not None else None
    if burned is not None:
        mask &= ~burned
    return runs_of_mask(mask, window=block, height_px=grid.height_px, width_px=grid.width_px, seeds=seeds)


def _trace_villages(
    runs: Runs, read: ReadScores, grid: Grid, config: PolygonConfig
) -> tuple[NDArray[np.object_], dict[str, int]]:
    """Polygons in pixel units of the components that pass, and the counts."""
    wide_count, wide = label_runs(runs, connectivity=config.connectivity)
    seeded = np.zeros(wide_count, dtype=bool)
    np.logical_or.at(seeded, wide, runs.seeded)
    pixel_m2 = grid.resolution_m**2
    # nothing is traced that cannot be a village: without a seed, or too small even with all its holes filled
    hopeful = seeded & (_box_areas_px(runs, wide, wide_count) * pixel_m2 >= config.min_area_m2)
    runs = runs.select(hopeful[wide])
    components, labels = label_runs(runs, connectivity=4)
    left, wide = (components, labels) if config.connectivity == 4 else label_runs(runs, connectivity=8)
    wide_of = np.zeros(components, dtype=np.int32)
    wide_of[labels] = wide
    rings = trace_rings(runs, labels)
    hole = rings.areas_px < 0
    filled = hole & (-rings.areas_px * pixel_m2 < config.min_hole_m2)
    area = np.bincount(
        wide_of[rings.labels[~filled]], weights=rings.areas_px[~filled].astype(np.float64), minlength=left
    )
    large = area * pixel_m2 >= config.min_area_m2
    keep = large[wide_of[rings.labels]]
    kept: Rings = rings.select(np.flatnonzero(keep & ~filled))
    contours = contour_rings(kept, read, level=score_of(config.grow), block_px=config.block_px)
    polygons, part_labels = polygons_of_rings(contours)
    if config.connectivity == 8:
        polygons = _join_parts(polygons, part_labels, runs, labels)
        # a part in a filled hole was counted twice
        pixels = _join_parts(polygons_of_rings(kept)[0], part_labels, runs, labels)
        polygons = polygons[shapely.area(pixels) * pixel_m2 >= config.min_area_m2]
    counts = {
        "components": wide_count,
        "without_seed": int(np.count_nonzero(~seeded)),
        "too_small": int(np.count_nonzero(seeded)) - len(polygons),
        "holes_filled": int(np.count_nonzero(filled & keep)),
    }
    return polygons, counts


def to_metres(polygons: NDArray[np.object_], grid: Grid) -> NDArray[np.object_]:
    """Pixel units to metres: the same lattice corner is the same pair of numbers on every grid of the CRS."""

    def transform(coords: NDArray[np.float64]) -> NDArray[np.float64]:
        metres = np.empty_like(coords)
        metres[:, 0] = (grid.first_col + coords[:, 0]) * grid.resolution_m
        metres[:, 1] = -(grid.first_row + coords[:, 1]) * grid.resolution_m
        return metres

    result: NDArray[np.object_] = np.asarray(shapely.transform(polygons, transform), dtype=object)
    return result


def _box_areas_px(runs: Runs, labels: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """int64 (count,): area of the bounding box of each component."""
    row, col = runs.starts // runs.stride, runs.starts % runs.stride
    last = runs.stops % runs.stride
    top, left = np.full(count, runs.height_px), np.full(count, runs.width_px)
    bottom, right = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    np.minimum.at(top, labels, row)
    np.maximum.at(bottom, labels, row + 1)
    np.minimum.at(left, labels, col)
    np.maximum.at(right, labels, last)
    return np.asarray((bottom - top) * (right - left), dtype=np.int64)
