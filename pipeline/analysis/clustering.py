"""Clustering between cities for every kind of neighbourhood that is asked for: tables, figures, and what is missing."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import geopandas as gpd
import numpy as np
import pandas as pd

from pipeline.analysis.between import LEAST_CITIES, measure_global, measure_local, measure_regions
from pipeline.analysis.figures import Picture, map_picture, moran_picture, region_picture
from pipeline.analysis.neighbours import Neighbourhood, make_neighbourhood
from pipeline.analysis.options import AnalysisOptions
from pipeline.analysis.wording import counted


@dataclass
class Clusters:
    """What was found.

    Attributes:
        tables: ``clustering`` (a row per neighbourhood), ``clustering_regions``, ``clustering_local`` (of the first).
        pictures: ``map``, ``moran``, ``regions`` (of the first neighbourhood).
        notes: What could not be computed.
    """

    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def cluster_cities(
    totals: pd.DataFrame, options: AnalysisOptions, *, of: str, borders: gpd.GeoSeries | None = None
) -> Clusters:
    """Statistics between cities.

    Args:
        totals: ``adcode``, ``name_en``, ``region``, ``x_m``, ``y_m``, ``share``.
        options: Kinds of weights, claim, permutations.
        of: The land that shares are of, in words.
        borders: Polygons of cities by adcode, for contiguity.
    """
    out = Clusters()
    values = totals["share"].to_numpy(dtype=float)
    if len(totals) < max(LEAST_CITIES, options.neighbours + 1) or np.ptp(values) == 0:
        shares = len(np.unique(values))
        out.notes.append(f"{len(totals)} cities with {shares} different shares: too few for clustering between them")
        return out
    claim = options.claimed_regions
    if not 0 < totals["region"].isin(claim).sum() < len(totals):
        out.notes.append(f"the cities do not lie both in {' and '.join(claim)} and elsewhere: no test of that claim")
        claim = ()
    rows, regions = [], []
    for near in _neighbourhoods(totals, options, borders, out.notes):
        rows.append(measure_global(values, near, options))
        if len(set(totals["region"])) > 1:
            table = measure_regions(values, list(totals["region"]), near, options, claimed=claim)
            regions.append(table.assign(weights=near.name))
        if len(rows) == 1:
            if (needed := math.ceil(2 * len(totals) / options.fdr) - 1) > options.permutations:
                out.notes.append(
                    f"with {options.permutations} permutations no single city can be a hot spot by itself within the"
                    f" rate of false discoveries: give --permutations {needed} or more"
                )
            local = measure_local(totals, values, near, options)
            out.tables["clustering_local"] = local
            out.pictures["map"] = map_picture(totals, local, of=of, weights=near.name)
            first = rows[0]
            out.pictures["moran"] = moran_picture(local, moran_i=first["moran_i"], p=first["p"], weights=near.name)
    if rows:
        out.tables["clustering"] = pd.DataFrame(rows)
    if regions:
        out.pictures["regions"] = region_picture(regions[0])
        out.tables["clustering_regions"] = pd.concat(regions, ignore_index=True)
    return out


def _neighbourhoods(
    totals: pd.DataFrame, options: AnalysisOptions, borders: gpd.GeoSeries | None, notes: list[str]
) -> list[Neighbourhood]:
    """Those that can be used; what cannot, and cities without neighbours, go into the notes."""
    found = []
    for kind in options.weights:
        if kind == "contiguity" and borders is None:
            notes.append("no borders were given: no weights of contiguity")
            continue
        near = make_neighbourhood(kind, totals, options, borders)
        alone = len(near.islands)
        if alone > len(totals) / 2:
            notes.append(f"{near.name}: {alone} of {len(totals)} cities have no neighbour: no statistics of it")
            continue
        if alone:
            notes.append(
                f"{near.name}: {counted(alone, 'city has', 'cities have')} no neighbour ({', '.join(near.islands[:5])})"
            )
        found.append(near)
    return found
