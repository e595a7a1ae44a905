"""Building form of one city: villages against the built-up land around them.

Units are villages and, outside, the built-up cells of a 100 m lattice that lie within a distance of a village, without
what is village (`pipeline.attributes.form` has lattice and limits). Per unit: coverage, height, floor-area ratio,
low-rise share, mean footprint, spacing (mean distance to the nearest three buildings, `momepy.neighbor_distance`) and
orientation entropy (Shannon entropy of the buildings' deviation from the cardinal directions, `momepy.orientation`, in
nine classes of 5 degrees, by its largest value; 0: all parallel, 1: no common direction).

What no map shows is not 0: a unit without a mapped building has no form at all, and a height that is not known stays
unknown. How much is known stands beside every figure.
"""

from __future__ import annotations

import geopandas as gpd
import libpysal
import momepy
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from pipeline.attributes.buildings import Fabric, measure_fabric
from pipeline.attributes.form import measure_form

FORM_MEASURES = (
    "coverage",
    "height_mean_m",
    "floor_area_ratio",
    "low_rise_share",
    "footprint_mean_m2",
    "spacing_m",
    "orientation_entropy",
)
"""Of a unit, and of a city as the mean of its units by area."""
LEAST_BUILDINGS = 5
"""Units of fewer buildings have neither spacing nor entropy."""
_CLASSES = 9
_NEIGHBOURS = 3


def measure_city_form(
    villages: gpd.GeoSeries, fabric: Fabric, *, area: shapely.Geometry, surroundings_m: float
) -> dict[str, float | int]:
    """One row of a city: every measure inside, outside, and how much is known.

    Args:
        villages: Polygons in the CRS of the fabric, in metres.
        fabric: Buildings of the city.
        area: The mapped area.
        surroundings_m: Reach of the surroundings.

    Returns:
        For every measure ``{measure}_in`` and ``{measure}_out`` (NaN where unknown), ``villages``, ``villages_mapped``
        (with a mapped building), ``cells``, ``buildings``, ``height_known_in`` and ``height_known_out`` (share of the
        footprint area).
    """
    form = measure_form(villages, fabric, area=area)
    near = _near(form.cells, villages, surroundings_m)
    inside = _with_pattern(form.villages, villages, fabric)
    cells = gpd.GeoSeries(form.cells.geometry[near].reset_index(drop=True), crs=villages.crs)
    outside = _with_pattern(form.cells.drop(columns="geometry")[near].reset_index(drop=True), cells, fabric)
    row: dict[str, float | int] = {
        "villages": len(inside),
        "villages_mapped": int((inside["footprint_m2"] > 0).sum()),
        "cells": len(outside),
        "buildings": len(fabric.buildings),
    }
    for side, table in (("in", inside), ("out", outside)):
        built = table[table["footprint_m2"] > 0]  # land without a mapped building says nothing of form
        weight = built["area_m2"].to_numpy(dtype=float)
        row |= {f"{m}_{side}": _mean(built[m].to_numpy(dtype=float), weight) for m in FORM_MEASURES}
        footprint = built["footprint_m2"].to_numpy(dtype=float).sum()
        known = built["known_footprint_m2"].to_numpy(dtype=float).sum()
        row[f"height_known_{side}"] = float(known / footprint) if footprint > 0 else float("nan")
    return row


def _near(cells: gpd.GeoDataFrame, villages: gpd.GeoSeries, reach_m: float) -> NDArray[np.bool_]:
    """Bool (n,): cells that lie within reach of a village."""
    near = np.zeros(len(cells), dtype=bool)
    if len(cells) and len(villages):
        tree = shapely.STRtree(villages.to_numpy())
        near[np.unique(tree.query(cells.geometry.to_numpy(), predicate="dwithin", distance=reach_m)[0])] = True
    return near


def _with_pattern(table: pd.DataFrame, units: gpd.GeoSeries, fabric: Fabric) -> pd.DataFrame:
    """The table with floor-area ratio, spacing and entropy per unit."""
    built = measure_fabric(units, fabric)
    floors = built["floors_mean"].to_numpy(dtype=float)
    coverage = table["coverage"].to_numpy(dtype=float)
    spacing, entropy = _spacing_and_entropy(units.to_numpy(), fabric.buildings.geometry)
    return table.reset_index(drop=True).assign(
        floor_area_ratio=coverage * floors, spacing_m=spacing, orientation_entropy=entropy
    )


def _spacing_and_entropy(
    units: NDArray[np.object_], buildings: gpd.GeoSeries
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """float64 (P,) each: of the buildings whose inner point lies in the unit."""
    spacing, entropy = np.full(len(units), np.nan), np.full(len(units), np.nan)
    if len(buildings) <= _NEIGHBOURS or len(units) == 0:
        return spacing, entropy
    houses = gpd.GeoSeries(buildings.to_numpy(), crs=buildings.crs)
    inner = shapely.point_on_surface(houses.to_numpy())
    owner, index = shapely.STRtree(inner).query(units, predicate="intersects")
    used = np.unique(index)
    if len(used) == 0:
        return spacing, entropy
    graph = libpysal.graph.Graph.build_knn(gpd.GeoSeries(inner, crs=buildings.crs), k=_NEIGHBOURS)
    gap = momepy.neighbor_distance(houses, graph).to_numpy(dtype=float)
    turn = np.full(len(houses), np.nan)
    turn[used] = momepy.orientation(houses.iloc[used]).to_numpy(dtype=float)
    count = np.bincount(owner, minlength=len(units))
    enough = count >= LEAST_BUILDINGS
    with np.errstate(invalid="ignore", divide="ignore"):
        spacing = np.where(enough, np.bincount(owner, gap[index], minlength=len(units)) / count, np.nan)
        classes = np.minimum((turn[index] / 45 * _CLASSES).astype(int), _CLASSES - 1)
        table = np.zeros((len(units), _CLASSES))
        np.add.at(table, (owner, classes), 1.0)
        part = table / count[:, None]
        shannon = -np.where(part > 0, part * np.log(np.where(part > 0, part, 1)), 0.0).sum(axis=1) / np.log(_CLASSES)
    return np.asarray(spacing), np.asarray(np.where(enough, shannon, np.nan))


def _mean(values: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    known = np.isfinite(values)
    return float(np.average(values[known], weights=weight[known])) if known.any() else float("nan")
