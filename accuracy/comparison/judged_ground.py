"""A published mask and its reference in windows with a margin: what is judged, and what lies around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window

from accuracy.errors import ComparisonError
from accuracy.pixels import pixel_area_m2
from regions.raster.burn import burn_into, burn_values_into
from regions.raster.scores import NOT_PREDICTED

Element = TypeVar("Element", bound=np.generic)


@dataclass(frozen=True, kw_only=True)
class GroundWindow:
    """A window of a mask with its margin; arrays are (H, W) with the margin, which may reach past the mask.

    Attributes:
        row_px: First row of the window itself, without margin.
        col_px: First column of it.
        margin: Rows and columns of the window itself in the arrays.
        mapped: bool, village in the map.
        truth: bool, village in the reference.
        village: int32, row of the reference polygon in which the pixel's centre lies, -1 in none; the last of several.
        judged: bool, predicted, labelled, inside the areas.
    """

    row_px: int
    col_px: int
    margin: tuple[slice, slice]
    mapped: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    village: NDArray[np.int32]
    judged: NDArray[np.bool_]

    def inner(self, array: NDArray[Element]) -> NDArray[Element]:
        """The window itself, without its margin."""
        return array[self.margin]


@dataclass(frozen=True, kw_only=True)
class JudgedGround:
    """An open mask, and in its CRS the reference, the areas and the ground without labels.

    Attributes:
        mask: rasterio dataset.
        villages: Reference polygons, valid; rows as given, empty where one has no area.
        areas: Where the reference is complete, or None.
        unlabelled: Ground of which the reference says nothing, or None.
        pixel_area_m2: Area of a pixel on the ground.
    """

    mask: Any
    villages: NDArray[np.object_]
    areas: NDArray[np.object_] | None
    unlabelled: NDArray[np.object_] | None
    pixel_area_m2: float

    @classmethod
    @contextmanager
    def open(
        cls,
        mask: Path,
        reference: gpd.GeoDataFrame,
        *,
        areas: gpd.GeoDataFrame | None = None,
        unlabelled: gpd.GeoDataFrame | None = None,
    ) -> Iterator[JudgedGround]:
        """Open a mask for comparison.

        Raises:
            ComparisonError: Something has no CRS, or the raster is no mask.
        """
        frames = (("reference polygons", reference), ("areas", areas), ("unlabelled ground", unlabelled))
        for what, frame in frames:
            if frame is not None and frame.crs is None:
                raise ComparisonError(f"{what} for {mask} have no CRS: write one into the file before comparing")
        with rasterio.open(mask) as dataset:
            if dataset.crs is None or dataset.dtypes[0] != "uint8":
                raise ComparisonError(
                    f"{mask} holds {dataset.dtypes[0]} in CRS {dataset.crs}: give the uint8 mask of a product"
                )
            yield cls(
                mask=dataset,
                villages=_valid(reference, dataset.crs),
                areas=None if areas is None else _valid(areas, dataset.crs),
                unlabelled=None if unlabelled is None else _valid(unlabelled, dataset.crs),
                pixel_area_m2=pixel_area_m2(dataset),
            )

    @property
    def crs(self) -> Any:
        """CRS of the mask."""
        return self.mask.crs

    @property
    def pixel_m(self) -> float:
        """Side of a pixel in units of the CRS."""
        return float(abs(self.mask.transform.a))

    def windows(self, side_px: int, *, halo_px: int) -> Iterator[GroundWindow]:
        """All windows that meet the areas, row by row, each read with ``halo_px`` around it."""
        for row in range(0, self.mask.height, side_px):
            for col in range(0, self.mask.width, side_px):
                height, width = min(side_px, self.mask.height - row), min(side_px, self.mask.width - col)
                box = self._box(row, col, height, width)
                if self.areas is not None and not shapely.intersects(self.areas, box).any():
                    continue
                yield self.read(Window(col, row, width, height), halo_px=halo_px)

    def read(self, window: Window, *, halo_px: int = 0) -> GroundWindow:
        """A window, which may reach past the mask (nothing is predicted there).

        Raises:
            ComparisonError: The mask holds other values than 0, 1 and 255.
        """
        row, col = int(window.row_off) - halo_px, int(window.col_off) - halo_px
        height, width = int(window.height) + 2 * halo_px, int(window.width) + 2 * halo_px
        values = self._values(row, col, height, width)
        box = self._box(row, col, height, width)
        transform = self.mask.window_transform(Window(col, row, width, height))
        near = np.flatnonzero(shapely.intersects(self.villages, box))
        village = burn_values_into(self.villages[near], near, transform, (height, width), fill=-1)
        truth = village >= 0
        judged = values != NOT_PREDICTED
        if self.areas is not None:
            judged &= _burn(self.areas, box, transform, judged.shape)
        if self.unlabelled is not None:
            judged &= ~_burn(self.unlabelled, box, transform, judged.shape)
        inside = (slice(halo_px, height - halo_px), slice(halo_px, width - halo_px))
        return GroundWindow(
            row_px=row + halo_px,
            col_px=col + halo_px,
            margin=inside,
            mapped=values == 1,
            truth=truth,
            village=village,
            judged=judged,
        )

    def placed(self, shapes: NDArray[np.object_]) -> NDArray[np.object_]:
        """Shapes in pixels of the mask (column, row), in its CRS."""
        a, b, c, d, e, f = tuple(self.mask.transform)[:6]
        matrix, shift = np.array([[a, d], [b, e]]), np.array([c, f])
        return np.asarray(shapely.transform(shapes, lambda xy: xy @ matrix + shift), dtype=object)

    def village_table(self, counts: NDArray[np.int64]) -> gpd.GeoDataFrame:
        """Reference polygons with judged pixels, from int64 (2, villages): judged pixels, and mapped ones of them."""
        rows = np.flatnonzero(counts[0])
        columns = {"row": rows, "reference_px": counts[0, rows], "mapped_px": counts[1, rows]}
        return gpd.GeoDataFrame(columns, geometry=list(self.villages[rows]), crs=self.crs)

    def _values(self, row: int, col: int, height: int, width: int) -> NDArray[np.uint8]:
        values = np.full((height, width), NOT_PREDICTED, np.uint8)
        top, left = max(0, row), max(0, col)
        bottom, right = min(self.mask.height, row + height), min(self.mask.width, col + width)
        if bottom > top and right > left:
            part = self.mask.read(1, window=Window(left, top, right - left, bottom - top))
            values[top - row : bottom - row, left - col : right - col] = part
        strange = values[(values > 1) & (values != NOT_PREDICTED)]
        if strange.size:
            raise ComparisonError(
                f"{self.mask.name} holds the value {int(strange[0])}: a mask has 1 (urban village), 0 and 255 (not"
                " predicted); is it the score raster?"
            )
        return values

    def _box(self, row: int, col: int, height: int, width: int) -> shapely.Geometry:
        corners = np.array([(col, row), (col + width, row), (col + width, row + height), (col, row + height)], float)
        return shapely.box(*self.placed(np.array([shapely.Polygon(corners)], dtype=object))[0].bounds)


def _valid(frame: gpd.GeoDataFrame, crs: Any) -> NDArray[np.object_]:
    """Geometries in a CRS, made valid; those without area are empty, so that rows stay."""
    shapes = np.asarray(shapely.make_valid(np.asarray(frame.to_crs(crs).geometry.array, dtype=object)), dtype=object)
    shapes[shapely.is_missing(shapes) | ~(shapely.area(shapes) > 0)] = shapely.Polygon()
    return shapes


def _burn(
    shapes: NDArray[np.object_], box: shapely.Geometry, transform: Affine, shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    return burn_into(shapes[shapely.intersects(shapes, box)], transform, (int(shape[0]), int(shape[1])))
