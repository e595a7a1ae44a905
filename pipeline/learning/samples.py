"""Training samples: labelled tiles cut from a city's imagery, reference polygons and map."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
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

MIN_LABELLED = 0.25
PART_TILES = 64
"""Tiles that are cut before they are handed on."""

Progress = Callable[[Iterable[tuple[int, int]]], Iterable[tuple[int, int]]]


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
    min_labelled: float = MIN_LABELLED,
    source: str = "",
    progress: Progress = iter,
) -> SampleSet:
    """Cut all tiles of ``tiling`` that lie in ``area`` into labelled samples; arguments as for `cut_parts`.

    Returns:
        Samples in row-major order of their tiles, labels 1 in the class, 0 outside, 255 not labelled.

    Raises:
        NoSamplesError: no tile has enough labelled pixels.
    """
    ground = LabelledGround(reference, unlabelled=unlabelled, area=area, min_labelled=min_labelled)
    parts = list(
        cut_parts(imagery, ground, grid=grid, tiling=tiling, city_map=city_map, source=source, progress=progress)
    )
    if not parts:
        raise NoSamplesError(no_samples(source, tiling, min_labelled))
    return SampleSet.concat(parts)


@dataclass(frozen=True)
class LabelledGround:
    """What is labelled.

    Attributes:
        reference: Polygons of the class, in the grid's CRS.
        unlabelled: Ground of which the reference says nothing, in the grid's CRS: its pixels are ignored.
        area: Where the reference is complete, in the grid's CRS; pixels outside are ignored. None for everywhere.
        min_labelled: Least share of a tile's pixels that must be labelled.
    """

    reference: gpd.GeoDataFrame
    unlabelled: gpd.GeoDataFrame | None = None
    area: shapely.Geometry | None = None
    min_labelled: float = MIN_LABELLED


def cut_parts(
    imagery: TileImages,
    ground: LabelledGround,
    *,
    grid: Grid,
    tiling: Tiling,
    city_map: TileMap | None = None,
    source: str = "",
    place: str | None = None,
    progress: Progress = iter,
) -> Iterator[SampleSet]:
    """Cut all tiles of ``tiling`` that lie in an area into labelled samples, a few at a time.

    Args:
        imagery: Pixels of the city.
        ground: What is labelled.
        grid: The city's grid.
        tiling: Tile size and stride; overlapping tiles are more samples.
        city_map: The city graph; None for image-only samples.
        source: One line on the data, for the model card.
        place: Name of the place; ``source`` where not given.
        progress: Wraps the tiles to show progress.

    Yields:
        At most `PART_TILES` samples, in row-major order of their tiles; nothing where no tile is labelled enough.
    """
    polygons = ground.reference.geometry.to_numpy()
    tree = shapely.STRtree(polygons)
    images: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.uint8]] = []
    bounds: list[tuple[float, float, float, float]] = []

    def part() -> SampleSet:
        boxes = np.array(bounds, np.float64)
        return SampleSet(
            images=np.stack(images),
            labels=np.stack(labels),
            graphs=city_map.tile_graphs(boxes) if city_map is not None else TileGraphs.empty(len(boxes)),
            tag_sets=city_map.tag_sets if city_map is not None else [],
            resolution_m=grid.resolution_m,
            source=source,
            places=() if place is None else (place,),
        )

    for tile in progress(tiling.tiles_touching(grid, grid.window)):
        window = tiling.window(grid, tile)
        box = grid.window_bounds_m(window)
        if ground.area is not None and not ground.area.intersects(shapely.box(*box)):
            continue
        pixels, valid = imagery.read(window)
        known = valid if ground.area is None else valid & burn([ground.area], grid[window])
        if ground.unlabelled is not None:
            known = known & ~burn(ground.unlabelled.geometry, grid[window]).astype(bool)
        if known.mean() < ground.min_labelled:
            continue
        near = polygons[tree.query(shapely.box(*box))]
        images.append(pixels[:3])
        labels.append(np.where(known, burn(near, grid[window]), IGNORE).astype(np.uint8))
        bounds.append(box)
        if len(images) == PART_TILES:
            yield part()
            images, labels, bounds = [], [], []
    if images:
        yield part()


def no_samples(source: str, tiling: Tiling, min_labelled: float = MIN_LABELLED) -> str:
    """What to say where no tile is labelled enough."""
    return (
        f"{source or 'samples'}: no tile of {tiling.tile_px} px has {min_labelled:.0%} labelled pixels; check that "
        "imagery, reference and area overlap, or give reference for more of this ground"
    )
