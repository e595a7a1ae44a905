"""Area on the ground of a raster's pixel: what makes the pixels of different rasters count alike."""

from __future__ import annotations

from typing import Any

import shapely
from rasterio.warp import transform as transform_coordinates

from regions.raster.equal_area import CHINA_ALBERS


def pixel_area_m2(dataset: Any) -> float:
    """Area on the ground of a pixel in the middle of an open raster, from the Albers projection of China.

    A pixel of web mercator is 1.7 times too large at 40 degrees; one of a UTM zone is right to 0.1 %.
    """
    row, col, half = dataset.height / 2, dataset.width / 2, 50.0
    a, b, left, d, e, top = tuple(dataset.transform)[:6]
    corners = [(col - half, row - half), (col + half, row - half), (col + half, row + half), (col - half, row + half)]
    xs = [left + a * c + b * r for c, r in corners]
    ys = [top + d * c + e * r for c, r in corners]
    x, y = transform_coordinates(dataset.crs, CHINA_ALBERS.to_wkt(), xs, ys)
    return float(shapely.Polygon(zip(x, y, strict=True)).area / (2 * half) ** 2)
