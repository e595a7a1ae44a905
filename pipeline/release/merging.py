"""The cities' rows as one table in Hilbert order, in bounded memory.

Keys of all villages (8 bytes each) say where to cut the curve into partitions of about the same number of rows; each
partition then takes its rows from the few cities whose keys reach into it. The order is that of key and ``uv_id``,
so cuts, workers and the order of the cities do not show in the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from pipeline.files import replacing
from pipeline.release.geoparquet import GROUP_ROWS, geo_metadata, write_groups
from pipeline.release.tables import CRS, KEY, KEYS_END, MAP_COLUMNS, OWN_COLUMNS, SCHEMA, CityPart, read_rows

PARTITION_ROWS = 4 * GROUP_ROWS
Spread = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""``map``, or a map over a cluster whose answers keep the order of the items."""


@dataclass(frozen=True)
class Partition:
    """A stretch of the curve: keys in [low, high), and the cities that reach into it."""

    low: int
    high: int
    parts: tuple[CityPart, ...]
    path: Path


def partitions(parts: Sequence[CityPart], folder: Path, *, rows: int = PARTITION_ROWS) -> tuple[Partition, ...]:
    """Cut the curve so that each stretch holds about ``rows`` villages."""
    keys = [pq.read_table(p.path, columns=[KEY])[KEY].to_numpy() for p in parts if p.rows]
    every = np.sort(np.concatenate(keys)) if keys else np.zeros(0, np.int64)
    cuts = np.unique(every[rows::rows]).tolist()
    edges = [0, *cuts, KEYS_END]
    found = []
    for k, (low, high) in enumerate(pairwise(edges)):
        if low < high:
            mine = tuple(p for p in parts if p.rows and p.low < high and p.high >= low)
            found.append(Partition(low, high, mine, folder / f"stretch_{k:04d}.parquet"))
    return tuple(found)


def write_partition(partition: Partition) -> Path:
    """The rows of a stretch, in order."""
    with replacing(partition.path, sweep=False) as temporary:
        table = merged(read_rows(p, partition.low, partition.high) for p in partition.parts)
        pq.write_table(table, temporary, compression="zstd", row_group_size=GROUP_ROWS)
    return partition.path


def merged(tables: Iterable[pa.Table]) -> pa.Table:
    """Rows of several tables in order of key and ``uv_id``."""
    whole = pa.concat_tables([SCHEMA.empty_table(), *tables])
    return whole.sort_by([(KEY, "ascending"), ("uv_id", "ascending")]).combine_chunks()


def write_national(parts: Sequence[CityPart], folder: Path, *, spread: Spread = map) -> tuple[Path, ...]:
    """Write the stretches of the whole, several at a time; the files in order."""
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(spread(write_partition, partitions(parts, folder)))


def bounds_of(parts: Sequence[CityPart]) -> tuple[float, float, float, float] | None:
    """West, south, east, north of all villages; None without any."""
    boxes = np.array([p.bounds for p in parts if p.rows])
    if not len(boxes):
        return None
    west, south = boxes[:, :2].min(axis=0).tolist()
    east, north = boxes[:, 2:].max(axis=0).tolist()
    return west, south, east, north


def write_villages(files: Iterable[Path], path: Path, bounds: Sequence[float] | None) -> int:
    """GeoParquet of the own columns and outlines from tables in order; returns the number of rows."""
    files = list(files)
    kinds = sorted(set().union(*map(_kinds, files))) if files else []
    names = (*OWN_COLUMNS, "geometry", "bbox")
    schema = pa.schema([SCHEMA.field(n) for n in names], geo_metadata(CRS, kinds=kinds, bounds=bounds))
    with replacing(path) as temporary:
        return write_groups(temporary, schema, _read(files, names))


def write_map_attributes(files: Iterable[Path], path: Path) -> int:
    """Parquet of the columns that come from a map, by ``uv_id`` and ``adcode``, in the order of the villages."""
    names = ("uv_id", "adcode", *MAP_COLUMNS)
    with replacing(path) as temporary:
        return write_groups(temporary, pa.schema([SCHEMA.field(n) for n in names]), _read(files, names))


def _read(files: Iterable[Path], names: Sequence[str]) -> Iterator[pa.Table]:
    for file in files:
        with pq.ParquetFile(file) as source:
            for batch in source.iter_batches(batch_size=GROUP_ROWS, columns=list(names)):
                yield pa.Table.from_batches([batch]).select(list(names))


def _kinds(file: Path) -> set[str]:
    kinds: set[str] = set()
    with pq.ParquetFile(file) as source:
        for batch in source.iter_batches(batch_size=GROUP_ROWS, columns=["geometry"]):
            shapes = shapely.from_wkb(batch.column(0).to_numpy(zero_copy_only=False))
            kinds |= {str(n) for n in np.unique([g.geom_type for g in shapes])}
    return kinds


read_own = partial(_read, names=(*OWN_COLUMNS, "geometry"))
"""Tables of own columns and outlines."""
