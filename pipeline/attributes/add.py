"""Attributes of the villages of one city."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from pipeline.attributes.buildings import measure_fabric, read_fabric
from pipeline.attributes.dictionary import typed
from pipeline.attributes.score_statistics import count_scores, summarise_scores
from pipeline.polygons import ScoreSource
from regions.raster.equal_area import equal_areas_m2, geodesic_lengths_m
from regions.raster.grid import Grid

LOW_SCORE = 0.5
"""Villages whose mean score is lower are flagged."""
MIN_KNOWN_HEIGHTS = 0.5
"""Share of the footprint area that must have a height for the village to get one."""


class Place(Protocol):
    """What is known of the city; `regions.registry.City` is one."""

    @property
    def adcode(self) -> str: ...  # noqa: D102  the registry documents it
    @property
    def name_zh(self) -> str: ...  # noqa: D102
    @property
    def name_en(self) -> str: ...  # noqa: D102
    @property
    def province(self) -> str: ...  # noqa: D102
    @property
    def region(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class Lineage:
    """Where the polygons come from; a null is a source that does not say.

    Attributes:
        model_version: Digest or version of the weights.
        release: Version of the release.
        image_date: ISO date.
        image_source: Name of the imagery.
        osm_date: ISO date.
    """

    model_version: str
    release: str
    image_date: str | None = None
    image_source: str | None = None
    osm_date: str | None = None


def add_attributes(
    villages: gpd.GeoDataFrame,
    *,
    grid: Grid,
    city: Place | None,
    lineage: Lineage,
    scores: ScoreSource | None = None,
    vectors: gpd.GeoDataFrame | None = None,
    height_rasters: Sequence[Path] = (),
    calibrate: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
) -> gpd.GeoDataFrame:
    """All columns of the data dictionary.

    Args:
        villages: Polygons with ``uv_id`` in the grid's CRS; ``boundary``, ``boundary_reason`` and ``excluded`` are
            kept where they exist, other columns follow the dictionary's.
        grid: The city's grid.
        city: Its entry in the registry; None for other ground: codes and names are null.
        lineage: Versions and dates.
        scores: The score raster; None leaves score columns null.
        vectors: Features in the grid's CRS; None leaves the columns of buildings and roads null, and so does a map
            that holds none of them.
        height_rasters: Building heights in metres.
        calibrate: Scores in [0, 1] to probabilities, elementwise.

    Raises:
        AttributeDataError: ``uv_id`` is missing, or a height raster cannot be used.
    """
    table = villages.copy()
    shapes = gpd.GeoSeries(table.geometry)
    for name in ("adcode", "name_zh", "name_en", "province", "region"):
        table[name] = pd.NA if city is None else getattr(city, name)
    for name, value in vars(lineage).items():
        table[name] = value
    if "boundary" not in table.columns:
        table["boundary"] = "model"
    table["area_m2"] = equal_areas_m2(shapes)
    table["perimeter_m"] = geodesic_lengths_m(shapes)
    flags = [_at_edge(shapes, grid)]
    if scores is not None:
        figures = summarise_scores(count_scores(shapes, scores, grid), calibrate=calibrate)
        predicted = figures.pop("predicted_share")
        for name, values in figures.items():
            table[name] = pd.array(values, dtype="Float64")
            table.loc[np.isnan(values), name] = pd.NA
        flags.append(("partly_not_predicted", predicted < 1))
        flags.append(("low_score", figures["score_mean"] < LOW_SCORE))
    if vectors is not None:
        without = _add_fabric(table, shapes, vectors, height_rasters)
        flags.append(("no_buildings_mapped", without))
    table["qc_flag"] = ["; ".join(sorted(name for name, hit in flags if hit[k])) or "ok" for k in range(len(table))]
    return typed(table)


def _at_edge(shapes: gpd.GeoSeries, grid: Grid) -> tuple[str, NDArray[np.bool_]]:
    left, bottom, right, top = grid.bounds_m
    pixel = grid.resolution_m
    inner = shapely.box(left + pixel, bottom + pixel, right - pixel, top - pixel)
    return "at_data_edge", ~shapely.covers(inner, shapes.to_numpy())


def _add_fabric(
    table: gpd.GeoDataFrame, shapes: gpd.GeoSeries, vectors: gpd.GeoDataFrame, height_rasters: Sequence[Path]
) -> NDArray[np.bool_]:
    """Add what is built in each village, and say which have no building on the map.

    A map without any building, or without any road, says nothing of them: their columns stay null.
    """
    fabric = read_fabric(vectors, height_rasters=height_rasters)
    built = measure_fabric(shapes, fabric)
    # ratios are taken within the CRS of the grid, where its scale cancels
    area = shapely.area(shapes.to_numpy())
    known = (built["height_known_share"] >= MIN_KNOWN_HEIGHTS).to_numpy()
    coverage = built["footprint_m2"].to_numpy() / area
    scale = np.sqrt(table["area_m2"].to_numpy() / area)  # metres on the ground per metre of the CRS
    if len(fabric.buildings):
        table["building_count"] = built["building_count"].astype("Int64")
        table["building_coverage"] = coverage
    table["building_height_mean"] = built["height_mean_m"].where(known)
    table["height_source"] = built["height_source"].where(known)
    table["floor_area_ratio"] = (built["floors_mean"] * coverage).where(known)
    if len(fabric.roads):
        table["road_density"] = built["road_m"].to_numpy() / area / scale * 1000
    without: NDArray[np.bool_] = (built["building_count"] == 0).to_numpy()
    return without
