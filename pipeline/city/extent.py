"""Where a city is mapped: its grid and its area of interest."""

from __future__ import annotations

from dataclasses import dataclass

import pyproj
import shapely

from pipeline.city.place import check_place
from pipeline.city.sources import CitySources
from pipeline.errors import PipelineError
from pipeline.imagery.grids import grid_of_scenes
from pipeline.imagery.scene import inspect
from pipeline.reference.areas import read_area
from regions.raster.grid import Grid


class NoOverlapError(PipelineError):
    """Imagery and area of interest do not meet."""


@dataclass(frozen=True)
class CityExtent:
    """Grid and area of interest of a city.

    Attributes:
        grid: The city's grid; covers the whole area of interest, so that a hole in the imagery stays visible.
        aoi: Area of interest in the grid's CRS, or None for the whole extent of the imagery.
        warnings: What is doubtful of the place.
    """

    grid: Grid
    aoi: shapely.Geometry | None
    warnings: tuple[str, ...] = ()

    @property
    def area_m2(self) -> float:
        """Area that is asked for, in square metres on the grid."""
        if self.aoi is not None:
            return float(self.aoi.area)
        return self.grid.height_px * self.grid.width_px * self.grid.resolution_m**2


def city_extent(sources: CitySources, *, crs: str, resolution_m: float | None) -> CityExtent:
    """The extent of a city, from its imagery and area of interest.

    Args:
        sources: Its files.
        crs: CRS of its grid.
        resolution_m: Side of a pixel; the imagery's own where None.

    Raises:
        NoOverlapError: the area of interest lies outside the imagery.
        WrongPlaceError: the imagery lies far from the city that was named.
    """
    scenes = [inspect(path, crs=sources.notes.imagery_crs) for path in sources.imagery]
    full = grid_of_scenes(scenes, resolution_m=resolution_m, crs=crs)
    warnings = check_place(sources.adcode, *_centre(full), source=str(sources.imagery[0]))
    if sources.aoi is None:
        return CityExtent(full, None, warnings)
    aoi = read_area(sources.aoi, full.crs)
    if not aoi.intersects(shapely.box(*full.bounds_m)):
        raise NoOverlapError(
            f"{sources.aoi}: the area of interest {_rounded(aoi.bounds)} does not meet the imagery "
            f"{_rounded(full.bounds_m)} of {sources.imagery[0].parent} (left, bottom, right, top in {full.crs}); "
            "check the CRS of both, or add the missing scenes"
        )
    return CityExtent(Grid.covering(aoi.bounds, crs=full.crs, resolution_m=full.resolution_m), aoi, warnings)


def _centre(grid: Grid) -> tuple[float, float]:
    left, bottom, right, top = grid.bounds_m
    to_degrees = pyproj.Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    lon, lat = to_degrees.transform((left + right) / 2, (bottom + top) / 2)
    return float(lon), float(lat)


def _rounded(bounds: tuple[float, float, float, float]) -> tuple[int, ...]:
    return tuple(round(v) for v in bounds)
