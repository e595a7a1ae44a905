"""The polygons of a product as a mask raster on the grid of its scores, for comparison pixel by pixel."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import rasterio.features
import shapely

from pipeline.files import replacing
from pipeline.product.report_page import NOT_PREDICTED


def write_polygon_mask(scores: Path, polygons: gpd.GeoDataFrame, out: Path) -> Path:
    """Write uint8 1 in polygons, 0 outside, 255 (nodata) where nothing was predicted; window by window.

    Args:
        scores: Score raster, 255 = not predicted.
        polygons: In the CRS of the scores.
        out: The GeoTIFF to write, tiled.

    Returns:
        ``out``.
    """
    shapes = polygons.geometry.to_numpy()
    tree = shapely.STRtree(shapes)
    with rasterio.open(scores) as source, replacing(out) as temporary:
        profile = {
            "driver": "GTiff",
            "dtype": "uint8",
            "count": 1,
            "height": source.height,
            "width": source.width,
            "crs": source.crs,
            "transform": source.transform,
            "nodata": NOT_PREDICTED,
            "tiled": True,
            "blockxsize": 512,
            "blockysize": 512,
            "compress": "DEFLATE",
        }
        with rasterio.open(temporary, "w", **profile) as sink:
            for _, window in sink.block_windows(1):
                values = source.read(1, window=window)
                box = shapely.box(*rasterio.windows.bounds(window, source.transform))
                near = shapes[tree.query(box)]
                burned = (
                    rasterio.features.rasterize(
                        near, out_shape=values.shape, transform=source.window_transform(window), dtype="uint8"
                    )
                    if len(near)
                    else np.zeros(values.shape, np.uint8)
                )
                sink.write(np.where(values == NOT_PREDICTED, NOT_PREDICTED, burned).astype(np.uint8), 1, window=window)
    return out
