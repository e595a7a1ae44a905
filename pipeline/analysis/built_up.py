"""Built-up land as the ground that shares are of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT

from pipeline.analysis.errors import AnalysisError
from pipeline.analysis.ground_pixels import MappedGround
from pipeline.national.products import CityProduct
from regions.raster.burn import burn_into
from regions.raster.scores import NOT_PREDICTED

RASTERS = (".tif", ".tiff", ".vrt")


@dataclass(frozen=True)
class BuiltUp:
    """Where built-up land is known from.

    Attributes:
        path: A raster or a vector file of polygons for the nation, or a folder with one per city, named by adcode.
        values: Values of the raster that are built-up; empty for every value above 0 that is not nodata.
    """

    path: Path
    values: tuple[int, ...] = ()

    def file_of(self, adcode: str) -> Path:
        """The file that holds a city.

        Raises:
            AnalysisError: there is none.
        """
        if self.path.is_dir():
            found = sorted(p for p in self.path.glob(f"{adcode}*") if p.is_file())
            if not found:
                raise AnalysisError(f"{self.path}: no file of {adcode}: shares of built-up land need all cities alike")
            return found[0]
        if not self.path.exists():
            raise AnalysisError(f"{self.path}: no such file of built-up land")
        return self.path


def measure_built_up(product: CityProduct, built_up: BuiltUp, ground: MappedGround, *, uv_m2: float) -> float:
    """Built-up land of a city in m2: predicted ground that the source calls built-up, and all mapped villages.

    Villages count as built-up also where the source does not see them, so that no share is above 1. Counted on the
    coarse pixels of the ground; villages enter with their exact area.

    Raises:
        AnalysisError: the file cannot be read, has no CRS, or nothing on this ground is built-up.
    """
    path = built_up.file_of(product.adcode)
    height, width = ground.answers.shape
    try:
        if path.suffix.lower() in RASTERS:
            with (
                rasterio.open(path) as source,
                WarpedVRT(
                    source, crs=ground.crs, transform=ground.transform, width=width, height=height,
                    resampling=Resampling.nearest,
                ) as warped,
            ):  # fmt: skip
                if source.crs is None:
                    raise AnalysisError(f"{path}: the raster of built-up land has no CRS; declare one")
                values = warped.read(1)
                known = warped.read_masks(1) > 0
            built = known & (np.isin(values, built_up.values) if built_up.values else values > 0)
        else:
            shapes = gpd.read_file(path) if path.suffix != ".parquet" else gpd.read_parquet(path)
            if shapes.crs is None:
                raise AnalysisError(f"{path}: the polygons of built-up land have no CRS; declare one")
            built = burn_into(shapes.geometry.to_crs(ground.crs).to_numpy(), ground.transform, (height, width))
    except (RasterioError, OSError) as error:
        raise AnalysisError(f"{path}: the built-up land cannot be read: {error}") from error
    here = np.asarray(built, dtype=bool) & (ground.answers != NOT_PREDICTED) & (ground.answers != 1)
    if not here.any() and uv_m2 == 0:
        raise AnalysisError(
            f"{path}: no built-up land on the mapped ground of {product.adcode}: is it of this place, are its values"
            " right?"
        )
    return float(here.sum()) * ground.pixel_m2 + uv_m2
