"""A city opened for reading tiles: imagery on its grid, and its graph where it has a map."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.city.extent import CityExtent, city_extent
from pipeline.city.job import CityJob
from pipeline.city.vectors import read_city_vectors
from pipeline.graph import CityGraph
from pipeline.imagery import ImageSource, open_imagery, prepare_imagery

TILE_PX = 224


@dataclass(frozen=True)
class OpenCity:
    """What training, pretraining and encoding read of a city.

    Attributes:
        extent: Its grid and area of interest.
        imagery: Its scenes on the grid.
        city_map: Its graph, or None where there is no map.
        name: Adcode and scenes, for lineage.
    """

    extent: CityExtent
    imagery: ImageSource
    city_map: CityGraph | None
    name: str


@contextmanager
def open_city(job: CityJob, *, margin_px: int = TILE_PX) -> Iterator[OpenCity]:
    """Open a city's imagery, resampled once where it is off the grid, and build its graph.

    Args:
        job: The city; its checkpoint is not used.
        margin_px: Features are read this far past the grid, so that tiles at its edge see them.

    Raises:
        PipelineError: sources that cannot be used, naming file, values and mend.
    """
    sources, extent = job.sources, city_extent(job)
    paths = prepare_imagery(
        sources.imagery, grid=extent.grid, out=job.work / "imagery.tif", crs=sources.notes.imagery_crs
    )
    city_map = None
    if sources.vectors:
        reach = extent.grid.window_bounds_m(extent.grid.window.padded(margin_px))
        features = read_city_vectors(sources, crs=extent.grid.crs, bounds_m=reach)
        city_map = CityGraph.build(features)
    with open_imagery(paths, grid=extent.grid, crs=sources.notes.imagery_crs) as imagery:
        yield OpenCity(extent, imagery, city_map, f"{job.adcode} ({', '.join(p.name for p in sources.imagery)})")
