"""GeoParquet 1.1 with a covering bbox, written row group by row group."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyproj

GROUP_ROWS = 20_000
"""Rows of a row group: what a reader with a bbox fetches at once."""


def geo_metadata(crs: pyproj.CRS | str, *, kinds: Sequence[str], bounds: Sequence[float] | None) -> dict[bytes, bytes]:
    """The file's key ``geo`` after GeoParquet 1.1, for a WKB column ``geometry`` with the struct ``bbox`` beside it."""
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": sorted(kinds),
        "crs": json.loads(pyproj.CRS.from_user_input(crs).to_json()),
        "covering": {"bbox": {name: ["bbox", name] for name in ("xmin", "ymin", "xmax", "ymax")}},
    }
    if bounds is not None:
        column["bbox"] = list(bounds)
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    return {b"geo": json.dumps(geo, ensure_ascii=False, separators=(",", ":")).encode()}


def write_groups(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
    """Write tables one after the other, `GROUP_ROWS` rows to a row group; returns the number of rows.

    Memory holds one table and less than one row group. Where the cuts between tables lie does not matter.
    """
    rows = 0
    with pq.ParquetWriter(path, schema, compression="zstd", write_batch_size=1024) as sink:
        held: list[pa.Table] = []
        for table in tables:
            held.append(table.select(schema.names).cast(schema))
            rows += len(table)
            while sum(map(len, held)) >= GROUP_ROWS:
                whole = pa.concat_tables(held)
                sink.write_table(whole.slice(0, GROUP_ROWS), row_group_size=GROUP_ROWS)
                held = [whole.slice(GROUP_ROWS)]
        rest = pa.concat_tables(held) if held else schema.empty_table()
        if len(rest) or not rows:
            sink.write_table(rest, row_group_size=GROUP_ROWS)
    return rows
