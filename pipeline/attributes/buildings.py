"""Buildings and roads of the vectors: footprints, heights with their provenance, and what lies in each village."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import rasterio.windows
import shapely
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from pipeline.attributes.dictionary import AttributeDataError
from pipeline.graph.building_tags import STOREY_M, is_building, levels_of, tagged_height_m
from pipeline.polygons.barriers import LINE_TYPES, POLYGON_TYPES, parse_tags
from regions.raster.burn import burn_values_into

NO_ROAD = frozenset({"construction", "proposed", "platform", "razed", "abandoned", "elevator", "rest_area", "services"})


@dataclass(frozen=True)
class Fabric:
    """Buildings and roads in the grid's CRS.

    Attributes:
        buildings: Columns ``geometry`` (polygon), ``height_m`` (Float64), ``floors`` (Float64), ``height_source``
            (tag, levels, raster or null).
        roads: Column ``geometry`` (line).
    """

    buildings: gpd.GeoDataFrame
    roads: gpd.GeoDataFrame


def read_fabric(vectors: gpd.GeoDataFrame, *, height_rasters: Sequence[Path] = ()) -> Fabric:
    """Buildings and roads among the features; heights from tags, then from levels, then from rasters.

    Args:
        vectors: Features with ``tags``.
        height_rasters: Building heights in metres, in any CRS; nodata and 65535 are no height, 0 is no building.

    Raises:
        AttributeDataError: A height raster cannot be read or has no CRS.
    """
    geometry = vectors.geometry.to_numpy()
    types = shapely.get_type_id(geometry)
    tags = parse_tags(vectors["tags"], keys=("building", "kind", "highway"))
    is_house = np.array([is_building(item) for item in tags], dtype=bool)
    is_house &= np.isin(types, POLYGON_TYPES)
    is_road = np.array(["highway" in item and item["highway"] not in NO_ROAD for item in tags], dtype=bool)
    is_road &= np.isin(types, LINE_TYPES)
    chosen = [tags[k] for k in np.flatnonzero(is_house)]
    tagged = np.array([tagged_height_m(item) for item in chosen], dtype=np.float64)
    levels = np.array([levels_of(item) for item in chosen], dtype=np.float64)
    height = np.where(np.isnan(tagged), levels * STOREY_M, tagged)
    source = np.where(~np.isnan(tagged), "tag", np.where(~np.isnan(levels), "levels", "")).astype(object)
    shapes = gpd.GeoSeries(geometry[is_house], crs=vectors.crs)
    for path in height_rasters:
        missing = np.isnan(height)
        found = _raster_heights(shapes[missing], path)
        use = np.flatnonzero(missing)[~np.isnan(found)]
        height[use] = found[~np.isnan(found)]
        source[use] = "raster"
    floors = np.where(np.isnan(levels), np.maximum(height / STOREY_M, 1), levels)
    buildings = gpd.GeoDataFrame(
        {
            "height_m": pd.array(height, dtype="Float64"),
            "floors": pd.array(floors, dtype="Float64"),
            "height_source": pd.array([item or None for item in source], dtype="string"),
        },
        geometry=shapes.to_numpy(),
        crs=vectors.crs,
    )
    return Fabric(buildings, gpd.GeoDataFrame(geometry=geometry[is_road], crs=vectors.crs))


def measure_fabric(villages: gpd.GeoSeries, fabric: Fabric) -> pd.DataFrame:
    """What is built in each village.

    Returns:
        One row per village: ``building_count`` (buildings whose inner point lies inside), ``footprint_m2`` (footprints
        inside, overlaps counted once), ``height_mean_m`` and ``floors_mean`` (weighted by footprint area inside; NaN
        where none is known), ``height_known_share`` (of the footprint area inside), ``height_source`` (text),
        ``road_m`` (road length inside). Areas and lengths are those of the CRS given.
    """
    shapes = villages.to_numpy()
    count = len(shapes)
    house = fabric.buildings.geometry.to_numpy()
    inner = shapely.STRtree(shapely.point_on_surface(house)).query(shapes, predicate="intersects")[0]
    owner, index = shapely.STRtree(house).query(shapes, predicate="intersects")
    pieces = shapely.intersection(shapes[owner], house[index])
    area = shapely.area(pieces)
    footprint = np.zeros(count)
    order = np.argsort(owner, kind="stable")
    bounds = np.searchsorted(owner[order], np.arange(count + 1))
    for k in range(count):
        mine = pieces[order[bounds[k] : bounds[k + 1]]]
        footprint[k] = shapely.area(shapely.union_all(mine)) if len(mine) else 0.0
    height = fabric.buildings["height_m"].to_numpy(dtype=np.float64, na_value=np.nan)[index]
    floors = fabric.buildings["floors"].to_numpy(dtype=np.float64, na_value=np.nan)[index]
    source = fabric.buildings["height_source"].to_numpy(dtype=object, na_value="")[index]
    known = ~np.isnan(height)
    weight = np.where(known, area, 0.0)
    known_area = np.bincount(owner, weights=weight, minlength=count)
    all_area = np.bincount(owner, weights=area, minlength=count)
    by_source = {
        name: np.bincount(owner, weights=np.where(source == name, area, 0.0), minlength=count)
        for name in ("tag", "levels", "raster")
    }
    road = fabric.roads.geometry.to_numpy()
    road_owner, road_index = shapely.STRtree(road).query(shapes, predicate="intersects")
    road_length = shapely.length(shapely.intersection(shapes[road_owner], road[road_index]))
    with np.errstate(invalid="ignore", divide="ignore"):
        return pd.DataFrame(
            {
                "building_count": np.bincount(inner, minlength=count),
                "footprint_m2": footprint,
                "height_mean_m": np.bincount(owner, np.nan_to_num(height) * weight, count) / known_area,
                "floors_mean": np.bincount(owner, np.nan_to_num(floors) * weight, count) / known_area,
                "height_known_share": known_area / all_area,
                "height_source": [
                    "; ".join(
                        f"{name} {part[k] / known_area[k]:.2f}" for name, part in by_source.items() if part[k] > 0
                    )
                    for k in range(count)
                ],
                "road_m": np.bincount(road_owner, weights=road_length, minlength=count),
            },
            index=villages.index,
        )


def _raster_heights(shapes: gpd.GeoSeries, path: Path) -> NDArray[np.float64]:
    """float64 (B,): mean height of the raster's pixels inside each footprint; NaN where it has none."""
    result = np.full(len(shapes), np.nan)
    try:
        with rasterio.open(path) as raster:
            if raster.crs is None:
                raise AttributeDataError(f"{path}: the height raster has no CRS; declare one")
            local = shapes.to_crs(raster.crs).to_numpy()
            inside = np.flatnonzero(shapely.intersects(local, shapely.box(*raster.bounds)))
            if len(inside) == 0:
                return result
            left, bottom, right, top = shapely.total_bounds(local[inside])
            # rows may run north or south, or be turned: all pixels between the outermost corners
            corners = [~raster.transform @ (x, y) for x in (left, right) for y in (bottom, top)]
            cols, rows = ([c[k] for c in corners] for k in (0, 1))
            window = rasterio.windows.Window.from_slices(
                (max(0, math.floor(min(rows))), min(raster.height, math.ceil(max(rows)))),
                (max(0, math.floor(min(cols))), min(raster.width, math.ceil(max(cols)))),
            )
            values = raster.read(1, window=window).astype(np.float64)
            transform, nodata = raster.window_transform(window), raster.nodata
    except RasterioError as error:
        raise AttributeDataError(f"{path}: the height raster cannot be read: {error}") from error
    owner = burn_values_into(local[inside], np.arange(1, len(inside) + 1), transform, values.shape)
    valid = (owner > 0) & (values > 0) & (values < 65535) & (values != nodata)
    count = np.bincount(owner[valid], minlength=len(inside) + 1)[1:]
    total = np.bincount(owner[valid], weights=values[valid], minlength=len(inside) + 1)[1:]
    has = count > 0
    result[inside[has]] = total[has] / count[has]
    return result
