"""Built-up land of one place, from a raster of any resolution or from polygons, on a coarse grid of its own.

Cells are `CELL_M` wide, in a projected CRS: fine enough for a fringe, coarse enough for a nation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from rasterio.windows import Window as RasterioWindow

from pipeline.boundaries.errors import BoundaryError
from regions.raster.burn import burn
from regions.raster.grid import Grid

CELL_M = 100.0
BUILT_SHARE = 0.1
"""Share of a cell's ground that is built, or of its pixels in a built class, from which the cell counts as built-up."""
_FINEST = 10
_ROWS = 256
Product = Literal["ghs-built-s", "worldcover"]


@dataclass(frozen=True)
class BuiltRule:
    """Which pixels of a raster are built-up.

    Attributes:
        values: Classes that are; None where the raster holds amounts.
        at_least: Amount from which a pixel is built-up, in the raster's unit; None where it holds classes.
    """

    values: tuple[int, ...] | None = None
    at_least: float | None = None

    def __post_init__(self) -> None:
        if (self.values is None) == (self.at_least is None):
            raise BoundaryError("built-up land: give either the values of built-up classes or the least amount")

    @property
    def _least(self) -> float:
        return np.inf if self.at_least is None else self.at_least

    @classmethod
    def of(cls, product: Product, pixel_m: float) -> BuiltRule:
        """The rule of a known product: GHS-BUILT-S holds square metres per pixel, WorldCover's class 50 is built-up."""
        if product == "worldcover":
            return cls(values=(50,))
        return cls(at_least=BUILT_SHARE * pixel_m**2)

    def holds(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which pixels (H, W) are built-up."""
        hit = np.isin(pixels, self.values) if self.values is not None else np.asarray(pixels) >= self._least
        return np.asarray(hit & valid, np.bool_)


def cells_of(geometry_m: shapely.Geometry, crs: str, reach_m: float) -> Grid:
    """The grid of cells over a place, with a margin."""
    left, bottom, right, top = geometry_m.bounds
    bounds = (left - reach_m, bottom - reach_m, right + reach_m, top + reach_m)
    return Grid.covering(bounds, crs=crs, resolution_m=CELL_M)


class BuiltRaster:
    """A raster of built-up land, for many places; open it once.

    Attributes:
        path: The file, or an address that GDAL reads.
        rule: Which pixels are built-up.
    """

    def __init__(self, path: Path | str, rule: BuiltRule | Product) -> None:
        """Open it.

        Raises:
            BoundaryError: it cannot be read, or has no CRS.
        """
        self.path = path
        try:
            self._dataset = rasterio.open(path)
        except RasterioError as error:
            raise BoundaryError(f"{path}: cannot be read as a raster of built-up land ({error})") from error
        if self._dataset.crs is None:
            raise BoundaryError(
                f"{path}: the raster of built-up land has no CRS; write it in with `gdal_edit.py -a_srs`"
            )
        unit = 111_320.0 if self._dataset.crs.is_geographic else self._dataset.crs.linear_units_factor[1]
        self._pixel_m = abs(self._dataset.transform.e) * unit
        self.rule = rule if isinstance(rule, BuiltRule) else BuiltRule.of(rule, self._pixel_m)

    def close(self) -> None:
        """Close the file."""
        self._dataset.close()

    def share(self, cells: Grid) -> NDArray[np.float32] | None:
        """Share of each cell's pixels (H, W) that is built-up, 0 to 1; None where the raster does not reach there.

        Raises:
            BoundaryError: the file is damaged.
        """
        bounds = transform_bounds(cells.crs, self._dataset.crs, *cells.bounds_m, densify_pts=21)
        own = self._dataset.bounds
        if bounds[0] >= own.right or bounds[2] <= own.left or bounds[1] >= own.top or bounds[3] <= own.bottom:
            return None
        fine = int(np.clip(round(CELL_M / self._pixel_m), 1, _FINEST))
        share = np.zeros((cells.height_px, cells.width_px), np.float32)
        affine = cells.affine @ rasterio.Affine.scale(1 / fine)
        try:
            with WarpedVRT(
                self._dataset, crs=cells.crs, transform=affine, width=cells.width_px * fine,
                height=cells.height_px * fine, resampling=Resampling.nearest, add_alpha=self._dataset.nodata is None,
            ) as view:  # fmt: skip
                for row in range(0, cells.height_px, _ROWS):
                    stop = min(row + _ROWS, cells.height_px)
                    window = RasterioWindow(0, row * fine, cells.width_px * fine, (stop - row) * fine)
                    built = self.rule.holds(view.read(1, window=window), view.dataset_mask(window=window) > 0)
                    parts = built.reshape(stop - row, fine, cells.width_px, fine)
                    share[row:stop] = parts.mean(axis=(1, 3), dtype=np.float32)
        except RasterioError as error:
            raise BoundaryError(f"{self.path}: cannot be read ({error}); fetch it again") from error
        return share


class BuiltPolygons:
    """Polygons of built-up land (urban boundaries, for example), for many places."""

    def __init__(self, table: gpd.GeoDataFrame) -> None:
        """Take polygons with a CRS."""
        self._table = table

    def share(self, cells: Grid) -> NDArray[np.float32] | None:
        """1 where a cell's middle is built-up, else 0 (H, W); None where no polygon meets the cells."""
        box = shapely.box(*transform_bounds(cells.crs, self._table.crs, *cells.bounds_m, densify_pts=21))
        near = self._table.iloc[self._table.sindex.query(box, predicate="intersects")]
        if not len(near):
            return None
        shapes = near.to_crs(cells.crs).geometry
        return burn(shapes, cells).astype(np.float32)
