"""Training samples: labelled tiles cut from a city's imagery, reference polygons and map."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from models.geolink.graph import TileGraphs
from models.tiles.samples import IGNORE, SampleSet
from pipeline.errors import PipelineError
from regions.raster.burn import burn
from regions.raster.grid import Grid, Tiling, Window


class NoSamplesError(PipelineError):
    """No tile holds enough labelled pixels."""


class TileImages(Protocol):
    """What samples need of imagery."""

    def read(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Pixels uint8 (bands, H, W) and their validity bool (H, W)."""


class TileMap(Protocol):
    """What samples need of a city graph."""

    @property
    def tag_sets(self) -> list[dict[str, str]]:
        """The unique tag sets that `semantic_id` points to."""

    def tile_graphs(self, bounds_m: NDArray[np.float64]) -> TileGraphs:
        """The graphs of tiles with these bounds, float64 (B, 4): left, bottom, right, top."""


def cut_samples(  # noqa: PLR0913 -- what is cut, on which grid, and what counts as labelled: each is the caller's to choose
    imagery: TileImages,
    reference: gpd.GeoDataFrame,
    *,
    grid: Grid,
    tiling: Tiling,
    area: shapely.Geometry | None = None,
    unlabelled: gpd.GeoDataFrame | None = None,
    city_map: TileMap | None = None,
    min_labelled: float = 0.25,
    source: str = "",
    progress: Callable[[Iterable[tuple[int, int]]], Iterable[tuple[int, int]]] = iter,
) -> SampleSet:
    """Cut all tiles of ``tiling`` that lie in ``area`` into labelled samples.

    Args:
        imagery: Pixels of the city.
        reference: Polygons of the class, in the grid's CRS.
        grid: The city's grid.
        tiling: Tile size and stride; overlapping tiles are more samples.
        area: Where the reference is complete, in the grid's CRS; pixels outside are ignored. None for everywhere.
        unlabelled: Ground of which the reference says nothing, in the grid's CRS: its pixels are ignored.
        city_map: The city graph; None for image-only samples.
        min_labelled: Least share of a tile's pixels that must be labelled.
        source: One line on the data, for the model card.
        progress: Wraps the tiles to show progress.

    Returns:
        Samples in row-major order of their tiles, labels 1 in the class, 0 outside, 255 not labelled.

    Raises:
        NoSamplesError: no tile has enough labelled pixels.
    """
    tree = shapely.STRtree(reference.geometry.to_numpy())
    images, labels, bounds = [], [], []
    for tile in progress(tiling.tiles_touching(grid, grid.window)):
        window = tiling.window(grid, tile)
        box = grid.window_bounds_m(window)
        if area is not None and not area.intersects(shapely.box(*box)):
            continue
        pixels, valid = imagery.read(window)
        known = valid if area is None else valid & burn([area], grid[window])
        if unlabelled is not None:
            known = known & ~burn(unlabelled.geometry, grid[window]).astype(bool)
        if known.mean() < min_labelled:
            continue
        near = reference.geometry.to_numpy()[tree.query(shapely.box(*box))]
        label = burn(near, grid[window])
        images.append(pixels[:3])
        labels.append(np.where(known, label, IGNORE).astype(np.uint8))
        bounds.append(box)
    if not images:
        raise NoSamplesError(
            f"{source or 'samples'}: no tile of {tiling.tile_px} px has {min_labelled:.0%} labelled pixels; check that "
            "imagery, reference and area overlap, or give reference for more of this ground"
        )
    boxes = np.array(bounds, np.float64)
    return SampleSet(
        images=np.stack(images),
        labels=np.stack(labels),
        graphs=city_map.tile_graphs(boxes) if city_map is not None else TileGraphs.empty(len(boxes)),
        tag_sets=city_map.tag_sets if city_map is not None else [],
        resolution_m=grid.resolution_m,
        source=source,
    )
