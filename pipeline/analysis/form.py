"""Building form of one city: villages against the built-up land around them.

Units are villages and, outside, the built-up cells of a 100 m lattice that lie within a distance of a village, without
what is village (`pipeline.attributes.form` has lattice and limits). Per unit: coverage, height, floor-area ratio,
low-rise share, mean footprint (of whole buildings whose inner point lies in the unit: a cell cuts large ones), spacing
(mean distance to the nearest three buildings, `momepy.neighbor_distance`) and orientation entropy.

Orientation entropy is the Shannon entropy of the buildings' deviation from the cardinal directions
(`momepy.orientation`) in nine classes of 5 degrees. That of a few buildings is always lower than that of many, and a
village has many more than a cell; so it is the mean over all choices of `LEAST_BUILDINGS` buildings of the unit (exact,
by the hypergeometric distribution, as species are rarefied: Hurlbert 1971), by that of directions drawn evenly: 0 all
parallel, 1 no common direction, whatever the number of buildings.

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
from scipy import stats

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
    footprint, spacing, entropy = _of_whole_buildings(units.to_numpy(), fabric.buildings.geometry)
    return table.reset_index(drop=True).assign(
        floor_area_ratio=coverage * floors, footprint_mean_m2=footprint, spacing_m=spacing, orientation_entropy=entropy
    )


def _of_whole_buildings(units: NDArray[np.object_], buildings: gpd.GeoSeries) -> tuple[NDArray[np.float64], ...]:
    """Mean footprint, spacing, entropy, float64 (P,) each: of the buildings whose inner point lies in the unit."""
    footprint, spacing, entropy = (np.full(len(units), np.nan) for _ in range(3))
    if len(buildings) == 0 or len(units) == 0:
        return footprint, spacing, entropy
    houses = gpd.GeoSeries(buildings.to_numpy(), crs=buildings.crs)
    inner = shapely.point_on_surface(houses.to_numpy())
    owner, index = shapely.STRtree(inner).query(units, predicate="intersects")
    used = np.unique(index)
    if len(used) == 0:
        return footprint, spacing, entropy
    gap = _gaps(houses, inner)
    turn = np.full(len(houses), np.nan)
    turn[used] = momepy.orientation(houses.iloc[used]).to_numpy(dtype=float)
    count = np.bincount(owner, minlength=len(units))
    enough = count >= LEAST_BUILDINGS
    area = shapely.area(houses.to_numpy())
    with np.errstate(invalid="ignore", divide="ignore"):
        footprint = np.bincount(owner, area[index], minlength=len(units)) / count
        spacing = np.where(enough, np.bincount(owner, gap[index], minlength=len(units)) / count, np.nan)
        classes = np.minimum((turn[index] / 45 * _CLASSES).astype(int), _CLASSES - 1)
        table = np.zeros((len(units), _CLASSES))
        np.add.at(table, (owner, classes), 1.0)
    rarefied = rarefied_entropy(table[enough], LEAST_BUILDINGS)
    evenly = _CLASSES * np.sum(_terms(LEAST_BUILDINGS) * stats.binom.pmf(np.arange(LEAST_BUILDINGS + 1),
                                                                         LEAST_BUILDINGS, 1 / _CLASSES))  # fmt: skip
    entropy[enough] = rarefied / evenly
    return np.asarray(footprint), np.asarray(spacing), entropy


def rarefied_entropy(counts: NDArray[np.float64], drawn: int) -> NDArray[np.float64]:
    """Mean Shannon entropy (nats) of ``drawn`` items out of those counted, without replacement.

    Args:
        counts: float64 (n, classes), whole numbers; rows sum to ``drawn`` at least.
        drawn: How many.

    Returns:
        float64 (n,).
    """
    whole = counts.sum(axis=1, keepdims=True)
    k = np.arange(drawn + 1)[:, None, None]
    return np.asarray((_terms(drawn)[:, None, None] * stats.hypergeom.pmf(k, whole, counts, drawn)).sum(axis=(0, 2)))


def _terms(drawn: int) -> NDArray[np.float64]:
    """float64 (drawn + 1,): -p log p of 0 to all of the items drawn."""
    p = np.arange(drawn + 1) / drawn
    return np.asarray(np.where(p > 0, -p * np.log(np.where(p > 0, p, 1.0)), 0.0))


def _gaps(houses: gpd.GeoSeries, inner: NDArray[np.object_]) -> NDArray[np.float64]:
    """float64 (n,): mean distance of each building to its nearest three; those drawn twice count once."""
    _, first, again = np.unique(shapely.get_coordinates(inner), axis=0, return_index=True, return_inverse=True)
    if len(first) <= _NEIGHBOURS:
        return np.full(len(houses), np.nan)
    points = gpd.GeoSeries(inner[first], crs=houses.crs)
    graph = libpysal.graph.Graph.build_knn(points, k=_NEIGHBOURS)
    own = momepy.neighbor_distance(houses.iloc[first].reset_index(drop=True), graph).to_numpy(dtype=float)
    return np.asarray(own[again.ravel()])


def _mean(values: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    known = np.isfinite(values)
    return float(np.average(values[known], weights=weight[known])) if known.any() else float("nan")
