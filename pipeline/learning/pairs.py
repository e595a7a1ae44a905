"""Image and map pairs for pretraining, written from the sources of cities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from models.geolink.graph import TileGraphs
from models.pretraining.pairs import PairWriter
from pipeline.city.ground import CityGround
from pipeline.city.opening import OpenCity
from pipeline.errors import PipelineError
from regions.raster.grid import Tiling

BATCH_TILES = 64


class NoPairsError(PipelineError):
    """No tile has enough pixels."""


def write_pairs(
    grounds: Sequence[CityGround],
    folder: Path,
    *,
    tile_px: int = 224,
    stride_px: int = 224,
    min_valid: float = 0.75,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> int:
    """Write all tiles of some cities as pairs; tiles without a map are pairs too.

    Args:
        grounds: The cities; no labels are needed.
        folder: Where the shards go; must hold no pairs yet.
        tile_px: Side of the tiles; crops are drawn from them.
        stride_px: Distance between tiles.
        min_valid: Least share of a tile's pixels that must be imaged.
        progress: Wraps the batches to show progress.

    Returns:
        Number of pairs.

    Raises:
        NoPairsError: no tile has enough pixels.
        PipelineError: sources that cannot be used.
    """
    count = 0
    with PairWriter(folder, source="; ".join(ground.adcode for ground in grounds)) as writer:
        for ground in grounds:
            with ground.open() as city:
                count += _write_city(city, writer, Tiling(tile_px, stride_px), min_valid, progress)
        if not count:
            cities = ", ".join(ground.adcode for ground in grounds)
            raise NoPairsError(
                f"{folder}: no tile of {tile_px} px is {min_valid:.0%} imaged in {cities}; "
                "check imagery and area of interest"
            )
    return count


def _write_city(
    city: OpenCity,
    writer: PairWriter,
    tiling: Tiling,
    min_valid: float,
    progress: Callable[[Iterable[Any]], Iterable[Any]],
) -> int:
    grid, aoi = city.extent.grid, city.extent.aoi
    tiles = tiling.tiles_touching(grid, grid.window)
    count = 0
    for start in progress(range(0, len(tiles), BATCH_TILES)):
        images, boxes = [], []
        for tile in tiles[start : start + BATCH_TILES]:
            window = tiling.window(grid, tile)
            box = grid.window_bounds_m(window)
            if aoi is not None and not aoi.intersects(shapely.box(*box)):
                continue
            pixels, valid = city.imagery.read(window)
            if valid.mean() >= min_valid:
                images.append(pixels[:3])
                boxes.append(box)
        if not images:
            continue
        bounds = np.array(boxes, np.float64)
        graphs = TileGraphs.empty(len(images)) if city.city_map is None else city.city_map.tile_graphs(bounds)
        writer.add(np.stack(images), graphs, [] if city.city_map is None else city.city_map.tag_sets)
        count += len(images)
    return count
