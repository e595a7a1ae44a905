"""GeoParquet, plain Parquet with geometry as WKB or WKT, and folders of them with ``key=value`` folders."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from pipeline.formats import parquet_files
from pipeline.vectors.crs import LONLAT, given_crs, source_crs
from pipeline.vectors.damage import FAULTS, what_is_wrong
from pipeline.vectors.errors import VectorError
from pipeline.vectors.presence import Extent, not_degrees
from pipeline.vectors.source import Account, Area, Layer, SourceHints
from pipeline.vectors.tables import as_layer, box_in

_GEOMETRY_COLUMNS = ("geometry", "geom", "wkb_geometry", "the_geom", "wkb", "wkt", "shape")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def read_parquet(path: Path, *, area: Area, hints: SourceHints, account: Account) -> Iterator[Layer]:
    """A Parquet file, or all those in a folder; keys of ``key=value`` folders are columns.

    Raises:
        VectorError: no file, no geometry, no CRS, or coordinates that cannot be in the CRS.
    """
    files = parquet_files(path) if path.is_dir() else (path,)
    if not files:
        raise VectorError(f"{path}: no Parquet file is in this folder; name the folder that holds them")
    account.extents = lambda: [e for f in files if (e := _extent(f, hints)) is not None]
    for file in files:
        try:
            table, crs, rows = _read_file(file, area, hints)
        except FAULTS as error:
            raise VectorError(f"{file}: cannot be read as Parquet: {what_is_wrong(file, error)}") from error
        for key, value in _keys(path, file).items():
            table[key] = value
        account.counts["read"] += rows
        account.counts["outside"] += rows - len(table)
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        yield as_layer(table, name=name, crs=crs, read=rows, hints=hints, account=account)


def _read_file(file: Path, area: Area, hints: SourceHints) -> tuple[gpd.GeoDataFrame, Any, int]:
    parquet = pq.ParquetFile(file)
    try:
        metadata = parquet.schema_arrow.metadata or {}
        rows = parquet.metadata.num_rows
        if b"geo" not in metadata:
            return (*_plain(file, parquet.read(), hints), rows)
    finally:
        parquet.close()
    box = None
    if area.bounds is not None and b'"covering"' in metadata[b"geo"]:
        declared = gpd.read_parquet(file, bbox=(0, 0, 0, 0)).crs
        box = box_in(area, source_crs(declared, hints.crs, file, "geometry"))
    table = gpd.read_parquet(file, bbox=box)
    return table, source_crs(table.crs, hints.crs, file, "geometry"), rows


def _plain(file: Path, table: pa.Table, hints: SourceHints) -> tuple[gpd.GeoDataFrame, Any]:
    """Parquet that is no GeoParquet: in lon/lat unless its column or the user says otherwise."""
    names = {name.lower(): name for name in reversed(table.column_names)}
    column = next((names[n] for n in _GEOMETRY_COLUMNS if n in names), None)
    if column is None:
        raise VectorError(
            f"{file}: no column of geometry ({', '.join(_GEOMETRY_COLUMNS)}); its columns are"
            f" {', '.join(table.column_names[:12])}: convert it to GeoParquet"
        )
    declared = _crs_of_column(table.schema.field(column))
    frame = table.to_pandas()
    geometry = _shapes(frame[column].to_numpy(object), file, column)
    bounds = shapely.total_bounds(geometry)
    if declared is not None:
        crs = source_crs(declared, hints.crs, file, column)
    elif hints.crs is not None:
        crs = given_crs(hints.crs)
    elif all(map(math.isfinite, bounds)) and not_degrees(tuple(bounds)):
        raise VectorError(
            f"{file}: plain Parquet without a CRS, and its coordinates (x {bounds[0]:.8g} to {bounds[2]:.8g}, y"
            f" {bounds[1]:.8g} to {bounds[3]:.8g}) are no degrees; say which CRS it is in with --vectors-crs, or"
            " convert it to GeoParquet"
        )
    else:
        crs = LONLAT
    return gpd.GeoDataFrame(frame.drop(columns=column), geometry=geometry, crs=crs), crs


def _shapes(values: NDArray[np.object_], file: Path, column: str) -> NDArray[np.object_]:
    first = next((v for v in values if isinstance(v, bytes | str)), None)
    try:
        if isinstance(first, str) and not all(c in "0123456789abcdefABCDEF" for c in first):
            return np.asarray(shapely.from_wkt(values, on_invalid="ignore"), object)
        return np.asarray(shapely.from_wkb(values, on_invalid="ignore"), object)
    except TypeError as error:
        raise VectorError(
            f"{file}: column {column} holds no geometry as WKB or WKT; convert it to GeoParquet"
        ) from error


def _crs_of_column(field: pa.Field) -> object:
    """The CRS of a column of the Arrow type geoarrow.wkb; None where it has none."""
    kept = (field.metadata or {}).get(b"ARROW:extension:metadata")
    if not kept:
        return None
    declared = json.loads(kept).get("crs")
    return json.dumps(declared) if isinstance(declared, dict) else declared


def _keys(path: Path, file: Path) -> dict[str, str | None]:
    """What the names of the folders say (``building=yes``), the given folder's own included."""
    if not path.is_dir():
        return {}
    parts = (path.name, *file.relative_to(path).parts[:-1])
    pairs = [part.partition("=") for part in parts if "=" in part]
    return {unquote(key): None if value == _NO_VALUE else unquote(value) for key, _, value in pairs if key}


def _extent(file: Path, hints: SourceHints) -> Extent | None:
    table, crs, _ = _read_file(file, Area(LONLAT, None), hints)
    bounds = table.total_bounds
    return Extent(tuple(bounds), crs) if len(table) and np.isfinite(bounds).all() else None
