"""The villages of a release: columns of each file, and one city's rows as they stand in them.

What the model says of a village and what a map says of it lie in files of their own, as their licences differ; both
have ``uv_id``. Outlines are in EPSG:4326, longitude first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from pipeline.attributes.dictionary import ATTRIBUTES, REAL, WHOLE
from pipeline.files import replacing
from pipeline.national.products import CityProduct
from pipeline.release.errors import ReleaseError

CRS = "EPSG:4326"
KEY = "hilbert"
"""Column of the parts: place of the middle of a village's bounds on a Hilbert curve over `EXTENT`."""
EXTENT = (73.0, 3.0, 136.0, 54.0)
"""West, south, east, north of the curve, whatever cities a release holds: a village has the same key in all."""
CURVE_LEVEL = 16
KEYS_END = 4**CURVE_LEVEL
"""All keys are smaller."""
ROW_GROUP = 2_000
"""Rows of a part that are read at once."""

MAP_COLUMNS = (
    "building_count",
    "building_coverage",
    "building_height_mean",
    "height_source",
    "floor_area_ratio",
    "road_density",
    "osm_date",
)
"""Columns that come from map features and height rasters."""
OWN_COLUMNS = tuple(a.name for a in ATTRIBUTES if a.name not in MAP_COLUMNS)
"""Columns that come from imagery and model, and names."""
BOX = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class CityPart:
    """One city's rows, ready to be merged.

    Attributes:
        adcode: The city.
        path: Parquet with `KEY`, all columns, ``geometry`` (WKB) and ``bbox``, in order of key and ``uv_id``.
        rows: Number of villages.
        low: Smallest key; 0 without rows.
        high: Largest key.
        bounds: West, south, east, north of the villages, or of the mapped ground without any.
        repaired: Outlines that reprojection had made invalid.
    """

    adcode: str
    path: Path
    rows: int
    low: int
    high: int
    bounds: tuple[float, float, float, float]
    repaired: int


def column_type(dtype: str) -> pa.DataType:
    """Arrow's type of a type of the data dictionary."""
    return {REAL: pa.float64(), WHOLE: pa.int64()}.get(dtype, pa.string())


SCHEMA = pa.schema(
    [
        (KEY, pa.int64()),
        *((a.name, column_type(a.dtype)) for a in ATTRIBUTES),
        ("geometry", pa.binary()),
        ("bbox", pa.struct([(name, pa.float64()) for name in BOX])),
    ]
)


def write_city_part(product: CityProduct, path: Path) -> CityPart:
    """Write the rows of one city for merging.

    Raises:
        ReleaseError: The product lacks a column of the dictionary, or a village cannot be mended after reprojection.
    """
    table = gpd.read_parquet(product.polygons)
    lacking = [a.name for a in ATTRIBUTES if a.name not in table.columns]
    if lacking:
        raise ReleaseError(
            f"{product.polygons}: has no column {', '.join(lacking)}: written by an older version; map the city again"
        )
    shapes = np.asarray(table.geometry.to_crs(CRS).array, dtype=object)
    shapes, repaired = _mended(shapes, product)
    key = hilbert_keys(shapes)
    order = np.lexsort((table["uv_id"].to_numpy(dtype=str), key))
    bounds = shapely.bounds(shapes[order]).reshape(-1, 4)
    columns = [
        pa.array(key[order], pa.int64()),
        *(pa.array(table[a.name].iloc[order], type=column_type(a.dtype), from_pandas=True) for a in ATTRIBUTES),
        pa.array(shapely.to_wkb(shapes[order], flavor="iso"), pa.binary()),
        pa.StructArray.from_arrays([pa.array(bounds[:, k]) for k in range(4)], list(BOX)),
    ]
    with replacing(path, sweep=False) as temporary:
        pq.write_table(pa.table(columns, schema=SCHEMA), temporary, compression="zstd", row_group_size=ROW_GROUP)
    box = (*bounds[:, :2].min(axis=0), *bounds[:, 2:].max(axis=0)) if len(bounds) else _ground(product)
    west, south, east, north = (float(v) for v in box)
    low, high = (int(key.min()), int(key.max())) if len(key) else (0, 0)
    return CityPart(product.adcode, path, len(table), low, high, (west, south, east, north), repaired)


def hilbert_keys(shapes: NDArray[np.object_]) -> NDArray[np.int64]:
    """int64 (P,): place of the middles of the bounds on the Hilbert curve over `EXTENT`."""
    if len(shapes) == 0:
        return np.zeros(0, np.int64)
    middles = shapely.bounds(shapes)
    points = gpd.GeoSeries(shapely.points((middles[:, 0] + middles[:, 2]) / 2, (middles[:, 1] + middles[:, 3]) / 2))
    keys: NDArray[np.int64] = points.hilbert_distance(total_bounds=EXTENT, level=CURVE_LEVEL).to_numpy(np.int64)
    return keys


def read_rows(part: CityPart, low: int, high: int) -> pa.Table:
    """Rows of a part whose key lies in [low, high)."""
    return pq.read_table(part.path, filters=[(KEY, ">=", low), (KEY, "<", high)], schema=SCHEMA)


def _mended(shapes: NDArray[np.object_], product: CityProduct) -> tuple[NDArray[np.object_], int]:
    """Outlines valid in degrees: reprojection moves corners by rounding, and thin necks can cross."""
    broken = np.flatnonzero(~shapely.is_valid(shapes))
    for k in broken:
        parts = shapely.get_parts(shapely.make_valid(shapes[k]))
        areas = [p for p in parts if p.geom_type in {"Polygon", "MultiPolygon"} and p.area > 0]
        if not areas:
            raise ReleaseError(f"{product.polygons}: row {k} is no polygon; map the city again")
        shapes[k] = shapely.union_all(areas)
    return shapes, len(broken)


def _ground(product: CityProduct) -> tuple[float, ...]:
    """Bounds in degrees of the grid of a city without villages."""
    grid = product.manifest["parameters"]["grid"]
    side = grid["resolution_m"]
    left, top = grid["first_col"] * side, -grid["first_row"] * side
    box = shapely.box(left, top - grid["height_px"] * side, left + grid["width_px"] * side, top)
    return tuple(gpd.GeoSeries([box], crs=grid["crs"]).to_crs(CRS).total_bounds)
