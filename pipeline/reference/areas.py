"""Areas and other polygons, read in any CRS from vector files or from masks, into a city's CRS."""

from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import shapely

from pipeline.reference.errors import AreaError
from pipeline.reference.reader import ReferenceHints, read_reference

__all__ = ["AreaError", "read_area", "read_polygons"]


def read_polygons(paths: Sequence[Path], *, crs: str, raster_crs: str | None = None) -> gpd.GeoDataFrame:
    """Polygons of vector files or of mask rasters, valid and in ``crs``; for reference labels see `read_reference`.

    Args:
        paths: Vector files, or masks.
        crs: CRS of the result.
        raster_crs: CRS of rasters that carry none, such as PNG with a world file.

    Returns:
        One row per polygon; the columns of vector files are kept.

    Raises:
        AreaError: a file is missing, unreadable, has no CRS, several layers, or holds no polygon geometry.
    """
    return read_reference(paths, crs=crs, hints=ReferenceHints(raster_crs=raster_crs)).polygons


def read_area(path: Path, grid_crs: str, *, raster_crs: str | None = None) -> shapely.Geometry:
    """The union of the polygons of a file, in ``grid_crs``: an area of interest.

    Raises:
        AreaError: as `read_polygons`, or the file holds no area.
    """
    table = read_polygons([path], crs=grid_crs, raster_crs=raster_crs)
    area = shapely.union_all(table.geometry.to_numpy())
    if area.is_empty:
        raise AreaError(f"{path}: holds no polygon; an area of interest needs at least one")
    return area
