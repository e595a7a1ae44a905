"""The area of interest of a city: the built-up land within its boundary, and a fringe around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from rasterio.features import shapes
from scipy import ndimage

from pipeline.boundaries.built import BUILT_SHARE, CELL_M, cells_of
from regions.raster.burn import burn
from regions.raster.grid import Grid, Window


class Built(Protocol):
    """Built-up land on demand."""

    def share(self, cells: Grid) -> NDArray[np.float32] | None:
        """Share of each cell that is built-up (H, W); None where nothing is known there."""


@dataclass(frozen=True)
class AreaRule:
    """How built-up land becomes an area of interest.

    Attributes:
        fringe_m: Ground this near to built-up land belongs to the area: villages lie at the edge of cities.
        gap_m: Built-up land this near to each other is one place: parks and rivers within a city are filled.
        least_km2: Places with less built-up land are left out: hamlets.
    """

    fringe_m: float = 1000.0
    gap_m: float = 300.0
    least_km2: float = 0.5


@dataclass(frozen=True)
class CityArea:
    """The area of interest of one city.

    Attributes:
        area: Polygons in WGS84 degrees, or None where there is none.
        why: Why there is none; empty where there is one.
        area_km2: Of the area, on the grid of its zone.
        built_km2: Of the built-up land in the boundary, places that were left out included.
        boundary_km2: Of the boundary.
    """

    area: shapely.Geometry | None
    why: str
    area_km2: float = 0.0
    built_km2: float = 0.0
    boundary_km2: float = 0.0


def area_of_interest(boundary: shapely.Geometry, crs: str, built: Built | None, rule: AreaRule) -> CityArea:
    """The built-up land within a boundary and its fringe, cut at the boundary.

    Args:
        boundary: Valid polygons in WGS84 degrees.
        crs: Projected CRS of the city, in metres.
        built: Where built-up land is; None takes the whole boundary.
        rule: What belongs to the area.
    """
    to_m = pyproj.Transformer.from_crs("OGC:CRS84", crs, always_xy=True)
    outline = _moved(boundary, to_m, inverse=False)
    if built is None:
        return CityArea(boundary, "", outline.area / 1e6, 0.0, outline.area / 1e6)
    cells = cells_of(outline, crs, rule.fringe_m + 2 * CELL_M)
    share = built.share(cells)
    size_km2 = outline.area / 1e6
    if share is None:
        return CityArea(None, "the built-up land given does not reach there", boundary_km2=size_km2)
    inside = burn([outline], cells)
    is_built = (share >= BUILT_SHARE) & inside
    cell_km2 = CELL_M**2 / 1e6
    built_km2 = float(is_built.sum()) * cell_km2
    part = _around(is_built, cells, rule)
    is_built, cells = is_built[part.slices_in(cells.window)], cells[part]
    places = _large_places(is_built, rule, cell_km2)
    if not places.any():
        why = (
            "no built-up land in its boundary"
            if not built_km2
            else f"no place with {rule.least_km2} km2 of built-up land"
        )
        return CityArea(None, why, built_km2=built_km2, boundary_km2=size_km2)
    wanted = _with_fringe(places, rule.fringe_m)
    found = [shapely.geometry.shape(s) for s, _ in shapes(wanted.astype(np.uint8), mask=wanted, transform=cells.affine)]
    area = shapely.union_all(found).simplify(CELL_M / 2).buffer(0).intersection(outline)
    area = shapely.union_all([p for p in shapely.get_parts(area) if p.geom_type == "Polygon" and p.area > CELL_M**2])
    return CityArea(_moved(area, to_m, inverse=True), "", area.area / 1e6, built_km2, size_km2)


def _around(is_built: NDArray[np.bool_], cells: Grid, rule: AreaRule) -> Window:
    """The part of the cells that can belong to the area: the largest boundaries are mostly desert."""
    rows, cols = np.flatnonzero(is_built.any(axis=1)), np.flatnonzero(is_built.any(axis=0))
    if not len(rows):
        return Window(0, 0, 1, 1)
    height, width = int(rows[-1] - rows[0]) + 1, int(cols[-1] - cols[0]) + 1
    margin = int(max(rule.fringe_m, rule.gap_m) / CELL_M) + 2
    return Window(int(rows[0]), int(cols[0]), height, width).padded(margin).intersection(cells.window)


def _large_places(is_built: NDArray[np.bool_], rule: AreaRule, cell_km2: float) -> NDArray[np.bool_]:
    """Built-up cells of the places that are large enough, gaps closed."""
    near = ndimage.binary_dilation(is_built, structure=_disk(rule.gap_m / 2 / CELL_M))
    labels, count = ndimage.label(near, structure=np.ones((3, 3)))
    built_km2 = np.bincount(labels[is_built], minlength=count + 1) * cell_km2
    large = built_km2 >= rule.least_km2
    large[0] = False
    return np.asarray(is_built & large[labels])


def _with_fringe(places: NDArray[np.bool_], fringe_m: float) -> NDArray[np.bool_]:
    """Cells within a fringe of built-up ones, place by place: the largest cities of the west have 10^8 cells."""
    reach = fringe_m / CELL_M
    margin = int(np.ceil(reach)) + 1
    labels, _ = ndimage.label(places, structure=np.ones((3, 3)))
    wanted = places.copy()
    for rows, cols in ndimage.find_objects(labels):
        around = (
            slice(max(rows.start - margin, 0), rows.stop + margin),
            slice(max(cols.start - margin, 0), cols.stop + margin),
        )
        wanted[around] |= ndimage.distance_transform_edt(~places[around]) <= reach
    return wanted


def _disk(reach: float) -> NDArray[np.bool_]:
    steps = np.arange(-int(reach), int(reach) + 1)
    return np.asarray(np.hypot(steps[:, None], steps[None, :]) <= reach)


def _moved(geometry: shapely.Geometry, way: pyproj.Transformer, *, inverse: bool) -> shapely.Geometry:
    direction = pyproj.enums.TransformDirection.INVERSE if inverse else pyproj.enums.TransformDirection.FORWARD
    return shapely.transform(
        geometry, lambda xy: np.stack(way.transform(xy[:, 0], xy[:, 1], direction=direction), axis=1)
    )
