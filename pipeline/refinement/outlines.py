"""From refined pixels to outlines: traced across windows, judged, simplified, and kept from overlapping."""

from __future__ import annotations

from collections.abc import Sequence

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from pipeline.polygons import simplify_polygons
from pipeline.polygons.contours import halve_corners
from pipeline.polygons.rings import polygons_of_rings, trace_rings
from pipeline.polygons.runs import join_runs, label_runs
from pipeline.polygons.vectorize import to_metres
from pipeline.refinement.evidence import Evidence
from regions.raster.grid import Grid
from regions.settings import AcceptanceRule, PolygonConfig

MIN_LEFT = 0.95
"""Share of a refined outline that must be left where a neighbour's is cut away; else it goes back."""


def settle_outlines(
    villages: gpd.GeoDataFrame,
    evidence: Sequence[Evidence],
    *,
    grid: Grid,
    rule: AcceptanceRule,
    polygons: PolygonConfig,
    name: str,
) -> gpd.GeoDataFrame:
    """Judge what the windows found for each village and give the table with the outlines that hold.

    Args:
        villages: The villages before.
        evidence: What the windows found, one for each village.
        grid: The city's grid.
        rule: When a refined outline is taken.
        polygons: Smallest areas and holes of the refined outlines, and their simplification.
        name: Of the refiner.
    """
    before = villages.geometry.to_numpy()
    refined = before.copy()
    accepted = np.zeros(len(before), dtype=bool)
    reasons = ["rejected: nothing found"] * len(before)
    agreement = np.full(len(before), np.nan)
    for k, found in enumerate(evidence):
        shape = _trace_largest(found, grid, polygons)
        if shape is None:
            continue
        common = shapely.area(shapely.intersection(shape, before[k]))
        area = shapely.area(before[k])
        agreement[k] = common / (shapely.area(shape) + area - common)
        accepted[k], reasons[k] = rule.judge(
            agreement=float(agreement[k]),
            area_ratio=float(shapely.area(shape) / area),
            spill=found.spill,
            quality=found.quality,
        )
        if accepted[k]:
            refined[k] = shape
    chosen = np.flatnonzero(accepted)
    refined[chosen] = simplify_polygons(refined[chosen], tolerance_m=polygons.simplify_m).polygons
    back = part_neighbours(before, refined, accepted)
    for k in back:
        reasons[k] = "rejected: it would overlap a neighbour"
    accepted[back] = False
    quality = [np.nan if found.quality is None else found.quality for found in evidence]
    return villages.assign(
        boundary=pd.array(np.where(accepted, name, "model"), dtype="string"),
        boundary_reason=pd.array(reasons, dtype="string"),
        boundary_agreement=_nullable(agreement),
        boundary_quality=_nullable(np.array(quality)),
    ).set_geometry(gpd.GeoSeries(refined, index=villages.index, crs=villages.crs))


def part_neighbours(
    before: NDArray[np.object_], refined: NDArray[np.object_], accepted: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Cut refined outlines back where they overlap others, in place.

    The later of two refined outlines loses the common part; a refined one gives way to one that is not. Where too
    little or no single polygon is left, the outline goes back to what it was, and so on until nothing overlaps.

    Args:
        before: object (P,) of polygons that do not overlap.
        refined: object (P,), changed in place.
        accepted: bool (P,), those that were refined.

    Returns:
        int64 (n,): those that went back.
    """
    free = accepted.copy()
    while True:
        left, right = shapely.STRtree(refined).query(refined, predicate="intersects")
        left, right = left[left < right], right[left < right]
        overlap = shapely.area(shapely.intersection(refined[left], refined[right])) > 1e-6
        left, right = left[overlap & (free[left] | free[right])], right[overlap & (free[left] | free[right])]
        if len(left) == 0:
            return np.flatnonzero(accepted & ~free)
        for i, j in zip(left, right, strict=True):
            loser, other = (j, i) if free[j] else (i, j)
            if not free[loser]:
                continue
            rest = shapely.difference(refined[loser], refined[other])
            single = shapely.get_type_id(rest) == int(shapely.GeometryType.POLYGON)
            if single and shapely.is_valid(rest) and shapely.area(rest) >= MIN_LEFT * shapely.area(before[loser]):
                refined[loser] = rest
            else:
                refined[loser], free[loser] = before[loser], False


def _trace_largest(found: Evidence, grid: Grid, settings: PolygonConfig) -> shapely.Polygon | None:
    """The largest component of the refined pixels in metres, small holes filled; None where none is large enough."""
    if not found.parts:
        return None
    runs = join_runs(found.parts)
    _, labels = label_runs(runs, connectivity=4)
    rings = trace_rings(runs, labels)
    outer = np.flatnonzero(rings.areas_px > 0)
    if len(outer) == 0:
        return None
    pixel_m2 = grid.resolution_m**2
    largest = rings.labels[outer[np.argmax(rings.areas_px[outer])]]
    wanted = (rings.labels == largest) & ((rings.areas_px > 0) | (-rings.areas_px * pixel_m2 >= settings.min_hole_m2))
    polygons, _ = polygons_of_rings(halve_corners(rings.select(np.flatnonzero(wanted))))
    shape = to_metres(polygons, grid)[0]
    return shape if shapely.area(shape) >= settings.min_area_m2 else None


def _nullable(values: NDArray[np.float64]) -> pd.arrays.FloatingArray:
    return pd.arrays.FloatingArray(np.nan_to_num(values), np.isnan(values))
