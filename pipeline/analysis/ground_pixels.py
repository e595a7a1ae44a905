"""The ground that was mapped, as coarse pixels: where villages could lie."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import rasterio
import rasterio.features
import shapely
from numpy.typing import NDArray
from rasterio.enums import Resampling

from pipeline.analysis.within import GroundPixels
from pipeline.national.products import CityProduct
from regions.raster.equal_area import equal_areas_m2
from regions.raster.scores import NOT_PREDICTED

MOST_PX = 1_000_000
"""Pixels that a mask is read with at most; finer masks are read coarser (the nearest pixel of each square)."""


@dataclass(frozen=True)
class MappedGround:
    """Ground of a city that has a prediction.

    Attributes:
        answers: uint8 (h, w), the mask read coarsely: 1 village, 0 not, 255 not predicted.
        transform: Of the coarse pixels.
        crs: CRS of the mask.
        pixel_m2: Area of a coarse pixel in the national equal-area CRS.
        predicted_m2: Predicted ground in the national equal-area CRS, from the full number of pixels.
    """

    answers: NDArray[np.uint8]
    transform: rasterio.Affine
    crs: str
    pixel_m2: float
    predicted_m2: float

    @cached_property
    def ground(self) -> GroundPixels:
        """The predicted pixels."""
        row, column = np.nonzero(self.answers != NOT_PREDICTED)
        x, y = self.transform @ (column + 0.5, row + 0.5)
        return GroundPixels(np.stack([np.asarray(x), np.asarray(y)], axis=1), abs(float(self.transform.a)))

    def area_polygon(self) -> shapely.Geometry:
        """The predicted pixels as one shape."""
        inside = (self.answers != NOT_PREDICTED).astype(np.uint8)
        shapes = rasterio.features.shapes(inside, mask=inside.astype(bool), transform=self.transform)
        return shapely.union_all([shapely.geometry.shape(s) for s, _ in shapes])


def read_ground_pixels(product: CityProduct) -> MappedGround:
    """The mapped ground of a product, read through the overviews of its mask."""
    import geopandas as gpd  # noqa: PLC0415 - one shape

    with rasterio.open(product.mask) as mask:
        factor = max(1, int(np.ceil(np.sqrt(mask.height * mask.width / MOST_PX))))
        shape = (max(1, mask.height // factor), max(1, mask.width // factor))
        answers = mask.read(1, out_shape=shape, resampling=Resampling.nearest)
        scale = rasterio.Affine.scale(mask.width / shape[1], mask.height / shape[0])
        transform, crs = mask.transform @ scale, mask.crs.to_string()
        box = gpd.GeoSeries([shapely.box(*mask.bounds)], crs=mask.crs)
        one_px_m2 = float(equal_areas_m2(box.segmentize(1000.0))[0]) / (mask.height * mask.width)
    pixel_m2 = one_px_m2 * (abs(transform.a * transform.e) / product.pixel_m2)
    return MappedGround(answers, transform, crs, pixel_m2, product.predicted_px * one_px_m2)
