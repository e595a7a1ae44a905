"""Neighbourhoods of cities: nearest, within a distance, sharing a border."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import libpysal
import numpy as np
import pandas as pd

from pipeline.analysis.errors import AnalysisError
from pipeline.analysis.options import AnalysisOptions, WeightsKind


@dataclass(frozen=True)
class Neighbourhood:
    """Weights of cities, row-standardised where a statistic says so.

    Attributes:
        name: What it is, in words and figures, such as "6 nearest cities".
        weights: `libpysal.weights.W` in the order of the table of cities.
        islands: Cities without a neighbour.
    """

    name: str
    weights: Any
    islands: tuple[str, ...]


def make_neighbourhood(
    kind: WeightsKind, cities: pd.DataFrame, options: AnalysisOptions, borders: gpd.GeoSeries | None = None
) -> Neighbourhood:
    """Neighbours of every city.

    Args:
        kind: Which cities are neighbours.
        cities: ``adcode``, ``x_m``, ``y_m`` (equal-area CRS).
        options: Number of neighbours and reach.
        borders: Polygons of the cities, indexed by adcode, for "contiguity".

    Raises:
        AnalysisError: There are too few cities for k neighbours, or no borders for contiguity.
    """
    xy = cities[["x_m", "y_m"]].to_numpy(dtype=float)
    codes = [str(c) for c in cities["adcode"]]
    if kind == "knn":
        if len(cities) <= options.neighbours:
            raise AnalysisError(f"{len(cities)} cities are too few for {options.neighbours} neighbours each")
        weights = libpysal.weights.KNN.from_array(xy, k=options.neighbours, silence_warnings=True)
        name = f"{options.neighbours} nearest cities"
    elif kind == "distance":
        weights = libpysal.weights.DistanceBand.from_array(
            xy, threshold=options.distance_km * 1000, binary=True, silence_warnings=True
        )
        name = f"cities within {options.distance_km:g} km"
    else:
        if borders is None:
            raise AnalysisError("contiguity needs the cities' borders: give --boundaries, or leave it out of --weights")
        absent = [c for c in codes if c not in borders.index]
        if absent:
            raise AnalysisError(f"the boundaries have no polygon of {absent[0]} ({len(absent)} such)")
        frame = gpd.GeoDataFrame(geometry=borders.loc[codes].to_numpy(), crs=borders.crs)
        # by intersection: borders of different drawings rarely share their vertices, as Queen's rule needs
        weights = libpysal.weights.fuzzy_contiguity(frame, silence_warnings=True)
        name = "cities that share a border"
    return Neighbourhood(name, weights, tuple(codes[k] for k in weights.islands))


def lag_mean(weights: Any, values: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Mean over each city's neighbours; ``values`` is float64 (n,) or (n, m)."""
    matrix = weights.sparse.tocsr().astype(float)
    total = np.asarray(matrix.sum(axis=1)).ravel()
    out = matrix @ values
    scale = np.where(total > 0, total, 1.0)
    return np.asarray(out / (scale if values.ndim == 1 else scale[:, None]), dtype=np.float64)
