"""What cuts villages and what cannot be village, taken from the features' tags."""

from __future__ import annotations

import json
from collections.abc import Iterable

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import shapely
from affine import Affine
from numpy.typing import NDArray

from pipeline.polygons.errors import PolygonError
from regions.raster.burn import burn_into
from regions.raster.grid import Grid, Window
from regions.settings import BarrierConfig, ExclusionConfig

LINE_TYPES = (int(shapely.GeometryType.LINESTRING), int(shapely.GeometryType.MULTILINESTRING))
POLYGON_TYPES = (int(shapely.GeometryType.POLYGON), int(shapely.GeometryType.MULTIPOLYGON))


def check_vectors(vectors: gpd.GeoDataFrame, grid: Grid) -> None:
    """Raise `PolygonError` unless the features have tags and the grid's CRS."""
    if "tags" not in vectors.columns:
        raise PolygonError(
            f"features without a `tags` column (found {list(vectors.columns)}): read them with pipeline.vectors"
        )
    if vectors.crs is None or not vectors.crs.equals(pyproj.CRS.from_user_input(grid.crs)):
        raise PolygonError(
            f"features are in {vectors.crs}, the grid in {grid.crs}: reproject them with pipeline.vectors"
        )


def parse_tags(tags: Iterable[str | None], *, keys: Iterable[str]) -> list[dict[str, str]]:
    """The tags of each feature as a dict; features that have none of ``keys`` get an empty one without parsing."""
    needles = tuple(f'"{key}"' for key in keys)
    return [
        json.loads(text) if isinstance(text, str) and any(needle in text for needle in needles) else {} for text in tags
    ]


def select_barriers(vectors: gpd.GeoDataFrame, config: BarrierConfig) -> NDArray[np.object_]:
    """Polygons, in the vectors' CRS, of the roads, railways and waters that cut villages.

    Lines are widened to the configured full width. Tunnels and culverts do not cut; bridges do.
    """
    widths = {
        "highway": dict(config.highways),
        "railway": dict(config.railways),
        "waterway": dict(config.waterways),
    }
    types = shapely.get_type_id(vectors.geometry.to_numpy())
    areas = shapely.area(vectors.geometry.to_numpy())
    half_width = np.zeros(len(vectors))
    outline = np.zeros(len(vectors), dtype=bool)
    for k, tags in enumerate(parse_tags(vectors["tags"], keys=(*widths, "natural"))):
        if types[k] in LINE_TYPES and tags.get("tunnel", "no") == "no":
            half_width[k] = max((value.get(tags.get(key, ""), 0.0) / 2 for key, value in widths.items()), default=0.0)
        elif types[k] in POLYGON_TYPES and areas[k] >= config.min_water_m2:
            outline[k] = tags.get("natural") == "water" or tags.get("waterway") == "riverbank"
    geometry = vectors.geometry.to_numpy()
    lines = half_width > 0
    wide = shapely.buffer(geometry[lines], half_width[lines], quad_segs=4)
    shapes: NDArray[np.object_] = np.concatenate((wide, geometry[outline]))
    return shapes


def select_exclusions(vectors: gpd.GeoDataFrame, config: ExclusionConfig) -> gpd.GeoDataFrame:
    """Polygons that cannot be village, with the column ``kind`` that says why (first kind that fits)."""
    wanted = [(kind, dict([tag.split("=", 1)])) for kind, tags in config.kinds for tag in tags]
    keys = {key for _, tag in wanted for key in tag}
    types = shapely.get_type_id(vectors.geometry.to_numpy())
    kinds: list[str | None] = []
    for type_id, tags in zip(types, parse_tags(vectors["tags"], keys=keys), strict=True):
        fits = (kind for kind, tag in wanted if tag.items() <= tags.items())
        kinds.append(next(fits, None) if type_id in POLYGON_TYPES else None)
    kind_column = pd.Series(kinds, dtype="object")
    chosen = kind_column.notna().to_numpy()
    geometry = shapely.make_valid(vectors.geometry.to_numpy()[chosen])
    return gpd.GeoDataFrame({"kind": kind_column[chosen].to_numpy()}, geometry=geometry, crs=vectors.crs)


class BarrierMask:
    """Barriers as pixels, equal for a pixel whatever block it is asked in.

    Coordinates are turned into pixels once and rounded to 1/256 px off the pixel centres, so that the shift to a
    block is exact and no edge runs through a centre. A pixel that a barrier touches is cut: no path leads across.
    """

    def __init__(self, shapes: NDArray[np.object_], grid: Grid) -> None:
        left, _, _, top = grid.bounds_m
        scale = 256.0

        def to_pixels(coords: NDArray[np.float64]) -> NDArray[np.float64]:
            pixels = np.column_stack((coords[:, 0] - left, top - coords[:, 1])) / grid.resolution_m
            return np.round(pixels * scale) / scale + 0.5 / scale

        self._shapes = np.asarray(shapely.transform(shapes, to_pixels), dtype=object)
        self._tree = shapely.STRtree(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def burn(self, window: Window) -> NDArray[np.bool_] | None:
        """Bool (h, w), whether a barrier touches the pixel; None where there is none in the window."""
        box = shapely.box(window.col_px, window.row_px, window.stop_col_px, window.stop_row_px)
        hits = np.sort(self._tree.query(box, predicate="intersects"))
        if len(hits) == 0 or window.is_empty:
            return None
        to_pixels = Affine.translation(window.col_px, window.row_px)
        shape_px = (window.height_px, window.width_px)
        return burn_into(self._shapes[hits], to_pixels, shape_px, all_touched=True)
