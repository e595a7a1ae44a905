"""Building-level form: low-rise and high-density measures of villages and of the built-up land outside them.

Limits are those of the local climate zone that urban villages mostly are, LCZ 3 "compact low-rise" (Stewart and Oke
2012, Bull. Amer. Meteor. Soc. 93, 1879): heights of roughness elements of 3 to 10 m, building surface fraction of
40 to 70 %. Outside, the units are the cells of a lattice, 100 m wide, that are built up.
"""

from __future__ import annotations

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from pipeline.attributes.buildings import Fabric, measure_fabric

LOW_RISE_M = 10.0
"""Buildings of at most this height are low-rise."""
HIGH_DENSITY = 0.4
"""Units with at least this building coverage are dense."""
CELL_M = 100.0
BUILT_UP = 0.05
"""Cells with at least this building coverage are built-up land."""
MIN_UNIT_M2 = 1_000.0
"""Rests of cells beside villages that are smaller are left out."""


@dataclass(frozen=True)
class FormTable:
    """Form of villages and of built-up land outside.

    Attributes:
        villages: One row per village: `MEASURES`, ``low_rise`` and ``high_density`` (boolean, null where unknown).
        cells: The same for built-up cells outside, with ``geometry``.
        summary: Two rows, ``villages`` and ``outside``: ``units``, ``area_m2``, ``coverage``, ``height_mean_m``,
            ``low_rise_share`` (all by area), ``high_density_share`` and ``low_rise_high_density_share`` (of the
            units' area; the latter of the area whose heights are known).
    """

    villages: pd.DataFrame
    cells: gpd.GeoDataFrame
    summary: pd.DataFrame


MEASURES = (
    "area_m2",
    "footprint_m2",
    "coverage",
    "buildings_per_ha",
    "footprint_mean_m2",
    "height_mean_m",
    "known_footprint_m2",
    "low_rise_share",
)
"""Per unit; ``low_rise_share`` is the share of the footprint area with a known height that is low-rise."""


def measure_form(villages: gpd.GeoSeries, fabric: Fabric, *, area: shapely.Geometry) -> FormTable:
    """Measure villages and the built-up land outside them.

    Args:
        villages: Polygons in the CRS of the fabric, in metres; areas are those of that CRS.
        fabric: Buildings of the city, see `read_fabric`.
        area: The mapped area; cells lie inside it.
    """
    inside = _with_flags(_measures(villages, fabric))
    cells = _outside_cells(villages, fabric, area)
    measured = _with_flags(_measures(cells, fabric))
    built = (measured["coverage"] >= BUILT_UP).to_numpy()
    outside = gpd.GeoDataFrame(measured[built], geometry=cells[built], crs=villages.crs).reset_index(drop=True)
    summary = pd.DataFrame([_summary(inside), _summary(pd.DataFrame(outside))], index=["villages", "outside"])
    return FormTable(inside, outside, summary)


def _measures(units: gpd.GeoSeries, fabric: Fabric) -> pd.DataFrame:
    area = shapely.area(units.to_numpy())
    built = measure_fabric(units, fabric)
    low = fabric.buildings[(fabric.buildings["height_m"] <= LOW_RISE_M).fillna(False).to_numpy()]
    known = fabric.buildings[fabric.buildings["height_m"].notna().to_numpy()]
    known_m2 = _footprints(units, known)
    count = built["building_count"].to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        values = {
            "area_m2": area,
            "footprint_m2": built["footprint_m2"].to_numpy(),
            "coverage": built["footprint_m2"].to_numpy() / area,
            "buildings_per_ha": count / area * 1e4,
            "footprint_mean_m2": np.where(count > 0, built["footprint_m2"].to_numpy() / count, np.nan),
            "height_mean_m": built["height_mean_m"].to_numpy(),
            "known_footprint_m2": known_m2,
            "low_rise_share": _footprints(units, low) / known_m2,
        }
    return pd.DataFrame(values, index=units.index)


def _footprints(units: gpd.GeoSeries, buildings: gpd.GeoDataFrame) -> NDArray[np.float64]:
    """float64 (P,): footprint area of the buildings inside each unit."""
    shapes, houses = units.to_numpy(), buildings.geometry.to_numpy()
    owner, index = shapely.STRtree(houses).query(shapes, predicate="intersects")
    area = shapely.area(shapely.intersection(shapes[owner], houses[index]))
    return np.asarray(np.bincount(owner, weights=area, minlength=len(shapes)), dtype=np.float64)


def _with_flags(table: pd.DataFrame) -> pd.DataFrame:
    height = table["height_mean_m"]
    low = pd.array([None if np.isnan(h) else bool(h <= LOW_RISE_M) for h in height], dtype="boolean")
    dense = pd.array((table["coverage"] >= HIGH_DENSITY).to_numpy(), dtype="boolean")
    return table.assign(low_rise=low, high_density=dense)


def _outside_cells(villages: gpd.GeoSeries, fabric: Fabric, area: shapely.Geometry) -> gpd.GeoSeries:
    """Cells of a lattice anchored to the CRS that hold a building, without what lies in villages or off the area."""
    houses = fabric.buildings.geometry.to_numpy()
    if len(houses) == 0:
        return gpd.GeoSeries([], crs=villages.crs)
    bounds = shapely.bounds(houses)
    low, high = np.floor(bounds[:, :2] / CELL_M).astype(int), np.floor(bounds[:, 2:] / CELL_M).astype(int)
    size = high - low + 1
    count = size[:, 0] * size[:, 1]
    owner = np.repeat(np.arange(len(houses)), count)
    turn = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    column, row = low[owner, 0] + turn % size[owner, 0], low[owner, 1] + turn // size[owner, 0]
    keys = np.unique(np.column_stack((row, column)), axis=0)
    y, x = keys[:, 0] * CELL_M, keys[:, 1] * CELL_M
    cells = shapely.intersection(shapely.box(x, y, x + CELL_M, y + CELL_M), area)
    shapes = villages.to_numpy()
    hit, village = shapely.STRtree(shapes).query(cells, predicate="intersects")
    for k in np.unique(hit):
        cells[k] = shapely.difference(cells[k], shapely.union_all(shapes[village[hit == k]]))
    return gpd.GeoSeries(cells[shapely.area(cells) >= MIN_UNIT_M2], crs=villages.crs)


def _summary(table: pd.DataFrame) -> dict[str, float | int]:
    area = table["area_m2"].to_numpy()
    footprint = table["footprint_m2"].to_numpy()
    known = table["known_footprint_m2"].to_numpy()
    height = np.nan_to_num(table["height_mean_m"].to_numpy())
    low_share = np.nan_to_num(table["low_rise_share"].to_numpy())
    dense = table["high_density"].to_numpy(dtype=bool, na_value=False)
    known_height = table["low_rise"].notna().to_numpy()
    both = dense & table["low_rise"].to_numpy(dtype=bool, na_value=False)

    def ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> float:
        return float(part.sum() / whole.sum()) if whole.sum() > 0 else float("nan")

    return {
        "units": len(table),
        "area_m2": float(area.sum()),
        "coverage": ratio(footprint, area),
        "height_mean_m": ratio(height * known, known),
        "low_rise_share": ratio(low_share * known, known),
        "high_density_share": ratio(area * dense, area),
        "low_rise_high_density_share": ratio(area * both, area * known_height),
    }
