"""Tiles of ground that nobody labelled, for self-training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import geopandas as gpd

from models.tiles.samples import SampleSet
from pipeline.city.ground import TILE_PX, CityGround
from pipeline.learning.samples import LabelledGround, NoSamplesError, cut_parts, no_samples
from regions.raster.grid import Tiling

Progress = Callable[[Iterable[Any]], Iterable[Any]]


def unlabelled_tiles(ground: CityGround, *, stride_px: int, progress: Progress = iter) -> SampleSet:
    """Tiles of a ground's area of interest: labels 0 where there is data, `IGNORE` elsewhere; no map.

    Args:
        ground: The city or the scenes; its reference is not opened.
        stride_px: Distance between tiles.
        progress: Wraps the tiles to show progress.

    Raises:
        NoSamplesError: no tile has enough data.
        PipelineError: sources that cannot be used.
    """
    tiling = Tiling(TILE_PX, stride_px)
    with ground.open() as city:
        nothing = LabelledGround(gpd.GeoDataFrame(geometry=[], crs=city.extent.grid.crs), area=city.extent.aoi)
        parts = list(
            cut_parts(
                city.imagery, nothing, grid=city.extent.grid, tiling=tiling, source=city.name, place=city.name,
                progress=progress,
            )
        )  # fmt: skip
        if not parts:
            raise NoSamplesError(f"self-training: {no_samples(city.name, tiling)}")
        return SampleSet.concat(parts)
