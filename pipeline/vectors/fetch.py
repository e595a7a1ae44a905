"""Rows of a GeoParquet source anywhere, brought as one sorted GeoParquet of features for one city.

The result is what `read_features` reads: `id`, `tags` (a JSON object) and `geometry` in degrees, with a covering.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from pipeline.files import replacing
from pipeline.vectors import tags as tagging
from pipeline.vectors.crs import LONLAT
from pipeline.vectors.identity import id_columns
from pipeline.vectors.overture import COLUMNS, TYPES, overture_tags
from pipeline.vectors.project import reproject, without_shift
from pipeline.vectors.pushdown import AMAZON, Box, Reading, Storage, file_crs, rows_in_box
from pipeline.vectors.values import text_of
from regions.datum import LARGEST_SHIFT_M, Datum, is_shifted_datum


@dataclass(frozen=True)
class ParquetSource:
    """A source of features as (Geo)Parquet with boxes of its rows.

    Attributes:
        place: A file or folder, ``https://`` address of a file, or ``s3://bucket/prefix``.
        overture: Overture's type (building, segment, place, land_use...), where its columns are Overture's; it is also
            found in names of folders (``type=building``).
        tags: Tags of every feature that has none of its own for the key: {building: yes} for bare footprints.
        rename: Columns that are tags under another key: {Height: height, floors: building:levels}; where given, other
            columns are left out.
        datum: What the coordinates are in truth.
        storage: How the store is reached.
    """

    place: str
    overture: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    datum: Datum = "wgs84"
    storage: Storage = AMAZON


def fetch_parquet(source: ParquetSource, box_lonlat: Box, out: Path) -> dict[str, Any]:
    """Write the features of a source that meet a box as GeoParquet, sorted along a Hilbert curve and by id.

    Args:
        source: Where they lie.
        box_lonlat: West, south, east, north in WGS84 degrees.
        out: The file.

    Returns:
        What was read and written: features, their reasons of loss, row groups, bytes.

    Raises:
        VectorError: the source cannot be reached or read.
    """
    reach = _as_stored(box_lonlat, source.datum)
    tables, reading = rows_in_box(source.place, reach, storage=source.storage, columns=_wanted(source))
    counts: Counter[str] = Counter()
    parts = [_features(table, source, counts) for table in tables]
    frame = gpd.GeoDataFrame(
        {
            "id": np.concatenate([np.zeros(0, object), *(p["id"] for p in parts)]),
            "tags": np.concatenate([np.zeros(0, object), *(p["tags"] for p in parts)]),
        },
        geometry=np.concatenate([np.zeros(0, object), *(p["geometry"] for p in parts)]),
        crs="EPSG:4326",
    )
    west, south, east, north = box_lonlat
    bounds = frame.geometry.bounds.to_numpy().reshape(-1, 4)
    inside = (bounds[:, 0] <= east) & (bounds[:, 2] >= west) & (bounds[:, 1] <= north) & (bounds[:, 3] >= south)
    counts["outside"] += int((~inside).sum())
    frame = _sorted(frame[inside], box_lonlat)
    with replacing(out) as part:
        frame.to_parquet(part, compression="zstd", index=False, write_covering_bbox=True)
    return {"features": len(frame), "lost": dict(sorted(counts.items())), **_record(reading)}


def _record(reading: Reading) -> dict[str, Any]:
    return asdict(reading)


def _as_stored(box: Box, datum: Datum) -> Box:
    if not is_shifted_datum(datum):
        return box
    up, aside = LARGEST_SHIFT_M / 111_000, LARGEST_SHIFT_M / 55_000
    return box[0] - aside, box[1] - up, box[2] + aside, box[3] + up


def _wanted(source: ParquetSource) -> Any:
    """Which columns are read: those that become tags."""
    if source.rename:
        return lambda name: name in source.rename or name in id_columns([name])
    if source.overture is not None or "theme=" in source.place or "type=" in source.place:
        return lambda name: name in COLUMNS
    return None


def _features(table: pa.Table, source: ParquetSource, counts: Counter[str]) -> dict[str, NDArray[np.object_]]:
    geo = json.loads((table.schema.metadata or {}).get(b"geo", b"{}"))
    name = geo.get("primary_column", "geometry")
    crs = file_crs(geo, name, source.place)
    geometry = shapely.from_wkb(table.column(name).to_numpy(zero_copy_only=False), on_invalid="ignore")
    geometry, system = without_shift(np.asarray(geometry, object), crs, source.datum)
    geometry = reproject(geometry, system, LONLAT)
    plain = table.drop_columns([name])
    tags = _tags(plain, source, counts)
    identity = next((c for c in id_columns(plain.column_names)), None)
    ids = [None] * len(plain) if identity is None else [text_of(v) for v in plain.column(identity).to_pylist()]
    empty = shapely.is_missing(geometry) | shapely.is_empty(geometry)
    counts["without_geometry"] += int(empty.sum())
    keep = ~empty & np.array([t is not None for t in tags], bool)
    return {"geometry": geometry[keep], "tags": np.array(tags, object)[keep], "id": np.array(ids, object)[keep]}


def _tags(table: pa.Table, source: ParquetSource, counts: Counter[str]) -> list[str | None]:
    kinds = _kinds(table, source)
    if kinds is None and not source.rename:
        texts = list(tagging.from_columns(table.to_pandas(), counts))
        return [tagging.with_default(t, source.tags) if source.tags else t for t in texts]
    found: list[str | None] = []
    for k, row in enumerate(table.to_pylist(maps_as_pydicts="lossy")):
        if kinds is None:
            tags = {new: t for old, new in source.rename.items() if (t := text_of(row.get(old))) is not None}
        else:
            mapped = overture_tags(kinds[k], row)
            if mapped is None:
                counts[f"overture_{kinds[k]}"] += 1
                found.append(None)
                continue
            tags = mapped
        found.append(tagging.canonical({**source.tags, **tagging.clean(tags, counts)}))
    return found


def _kinds(table: pa.Table, source: ParquetSource) -> list[str] | None:
    """Overture's type of each row; None where the table is not Overture's."""
    if source.overture is not None:
        return [source.overture] * len(table)
    if "type" in table.column_names and len(table):
        kinds = [str(v) for v in table.column("type").to_pylist()]
        if TYPES & set(kinds) and {"names", "sources", "subtype", "class"} & set(table.column_names):
            return kinds
    return None


def _sorted(frame: gpd.GeoDataFrame, box: Box) -> gpd.GeoDataFrame:
    """Neighbours beside each other, so that a part of the file is a part of the ground; ties by id and tags."""
    if not len(frame):
        return frame.reset_index(drop=True)
    distance = frame.geometry.hilbert_distance(total_bounds=box)
    keys = (frame["tags"].astype(str), frame["id"].astype(str), distance)
    return frame.iloc[np.lexsort([k.to_numpy(str) if k.dtype == object else k.to_numpy() for k in keys])].reset_index(
        drop=True
    )
