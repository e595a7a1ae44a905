"""The published polygons as a raster on the grid of the scores: the map that is assessed and compared."""

from __future__ import annotations

import os
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import rasterio.shutil
import shapely
from rasterio.windows import Window as RasterWindow

from pipeline.files import replacing
from pipeline.polygons.scores import grid_of_scores
from pipeline.product.files import ProductError
from regions.raster.burn import burn
from regions.raster.gdal_cache import bounded_gdal_cache
from regions.raster.profiles import BLOCK_PX, cog_options, tiled_profile
from regions.raster.scores import MASK_DESCRIPTION, NOT_PREDICTED

WINDOW_PX = 8 * BLOCK_PX
"""Side of the windows that are burnt at once; whole blocks, so that every block is written once."""


def write_polygon_mask(scores: Path, polygons: gpd.GeoDataFrame, out: Path, *, window_px: int = WINDOW_PX) -> Path:
    """Write uint8 1 in polygons, 0 outside, 255 (nodata) where nothing was predicted, as a COG.

    A pixel belongs to a polygon in which its centre lies. Memory holds one window, whatever the city's size; the
    same polygons and scores give the same bytes.

    Args:
        scores: Score raster, 255 = not predicted.
        polygons: Published villages, in the CRS of the scores.
        out: The COG to write.
        window_px: Side of the windows that are burnt at once; does not change the pixels.

    Returns:
        ``out``.

    Raises:
        ProductError: The polygons are in another CRS than the scores.
        PolygonError: The scores do not lie on a grid.
    """
    grid = grid_of_scores(scores)
    if polygons.crs is None or not polygons.crs.equals(grid.crs):
        raise ProductError(
            f"{out}: the polygons are in {polygons.crs or 'no CRS'}, the scores {scores} in {grid.crs}; "
            "reproject the polygons to the scores' CRS"
        )
    shapes = polygons.geometry.to_numpy()
    tree = shapely.STRtree(shapes)
    flat = out.with_name(f".{out.stem}.{os.getpid()}.flat.tif")
    try:
        with bounded_gdal_cache(), replacing(out) as target:
            with (
                rasterio.open(scores) as source,
                rasterio.open(flat, "w", **tiled_profile(grid, dtype="uint8", nodata=NOT_PREDICTED)) as sink,
            ):
                for window in grid.blocks(window_px):
                    place = RasterWindow(window.col_px, window.row_px, window.width_px, window.height_px)
                    part = grid[window]
                    near = shapes[np.sort(tree.query(shapely.box(*part.bounds_m)))]
                    mask = burn(near, part).astype(np.uint8)
                    mask[source.read(1, window=place) == NOT_PREDICTED] = NOT_PREDICTED
                    sink.write(mask, 1, window=place)
                sink.set_band_description(1, MASK_DESCRIPTION)
            rasterio.shutil.copy(flat, target, **cog_options())
    finally:
        flat.unlink(missing_ok=True)
    return out
