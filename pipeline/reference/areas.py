"""Areas and reference labels: read in any CRS, from polygons or from mask rasters, into a city's CRS."""

from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import rasterio.features
import shapely
from pyproj import CRS

from pipeline.errors import PipelineError

RASTER_SUFFIXES = (".tif", ".tiff", ".png", ".vrt")


class AreaError(PipelineError):
    """An area or label file cannot be used."""


def read_polygons(paths: Sequence[Path], *, crs: str, raster_crs: str | None = None) -> gpd.GeoDataFrame:
    """Polygons of vector files or of mask rasters, valid and in ``crs``.

    Args:
        paths: Vector files, or rasters whose pixels are 1 (or 255 without declared nodata) where the class is.
        crs: CRS of the result.
        raster_crs: CRS of rasters that carry none, such as PNG with a world file.

    Returns:
        One row per polygon; the columns of vector files are kept.

    Raises:
        AreaError: a file is missing, unreadable, has no CRS or holds no polygon geometry.
    """
    tables = [_read_one(path, crs, raster_crs) for path in paths]
    if not tables:
        return gpd.GeoDataFrame(geometry=[], crs=crs)
    first = tables[0]
    if len(tables) == 1:
        return first

    return gpd.GeoDataFrame(pd.concat(tables, ignore_index=True), geometry="geometry", crs=crs)


def read_area(path: Path, grid_crs: str) -> shapely.Geometry:
    """The union of the polygons of a file, in ``grid_crs``: an area of interest.

    Raises:
        AreaError: as `read_polygons`, or the file holds no area.
    """
    table = read_polygons([path], crs=grid_crs)
    area = shapely.union_all(table.geometry.to_numpy())
    if area.is_empty:
        raise AreaError(f"{path}: holds no polygon; an area of interest needs at least one")
    return area


def _read_one(path: Path, crs: str, raster_crs: str | None) -> gpd.GeoDataFrame:
    if not path.exists():
        raise AreaError(f"{path}: no such file")
    table = _polygons_of_raster(path, raster_crs) if path.suffix.lower() in RASTER_SUFFIXES else _table(path)
    if table.crs is None:
        raise AreaError(f"{path}: has no CRS; write one into the file (for instance with `ogr2ogr -a_srs`)")
    table = table.to_crs(crs)
    geometry = shapely.make_valid(table.geometry.to_numpy())
    dimension = shapely.get_dimensions(geometry)
    keep = (dimension == 2) & ~shapely.is_empty(geometry)
    result = table[keep].set_geometry(gpd.GeoSeries(geometry[keep], index=table.index[keep], crs=CRS(crs)))
    return result.reset_index(drop=True)


def _table(path: Path) -> gpd.GeoDataFrame:
    try:
        return gpd.read_parquet(path) if path.suffix == ".parquet" else gpd.read_file(path)
    except Exception as error:
        raise AreaError(f"{path}: cannot be read as a vector file: {str(error).splitlines()[0]}") from error


def _polygons_of_raster(path: Path, raster_crs: str | None) -> gpd.GeoDataFrame:
    try:
        with rasterio.open(path) as raster:
            values, valid = raster.read(1), raster.read_masks(1) > 0
            transform, crs = raster.transform, raster.crs or raster_crs
    except rasterio.errors.RasterioError as error:
        raise AreaError(f"{path}: cannot be read as a raster: {error}") from error
    if crs is None:
        raise AreaError(f"{path}: has no CRS; say which with --imagery-crs, such as EPSG:3857")
    mask = (values > 0) & valid
    shapes = rasterio.features.shapes(mask.astype(np.uint8), mask=mask, transform=transform)
    return gpd.GeoDataFrame(geometry=[shapely.geometry.shape(s) for s, _ in shapes], crs=crs)
