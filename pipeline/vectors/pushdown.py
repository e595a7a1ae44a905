"""Rows of GeoParquet that meet a box, wherever the files lie: only the row groups that may hold them are read.

GeoParquet with a covering (and Overture's files) keeps the box of every row in columns of its own; the file's footer
states least and most of them per row group. Groups that cannot meet the box are never fetched; of the others the boxes
of the rows are compared one by one. The answer is that of reading everything and filtering.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from pyproj import CRS
from pyproj.exceptions import CRSError

from pipeline.vectors.crs import LONLAT
from pipeline.vectors.errors import VectorError
from pipeline.vectors.project import bounds_in

Box = tuple[float, float, float, float]
_EDGES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Storage:
    """How a store is reached; keys come from the environment (``AWS_ACCESS_KEY_ID``...) and are never written down.

    Attributes:
        endpoint: Host and port of an S3-compatible store, such as ``minio.example.org:9000``; None for Amazon's.
        region: Of the store.
        anonymous: Whether it is open to all.
        tls: Whether it is reached by https.
    """

    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False
    tls: bool = True


AMAZON = Storage()


@dataclass
class Reading:
    """What was read, to be shown.

    Attributes:
        files: Files opened.
        files_read: Of them, those with a row group that may meet the box.
        groups: Row groups in all files.
        groups_read: Of them, those read.
        rows: Rows in all files.
        rows_read: Of them, those in the groups read.
        bytes_read: Bytes asked of the store, footers included.
        size_bytes: Size of all files.
        uncovered: Files without boxes of their rows: read as a whole.
    """

    files: int = 0
    files_read: int = 0
    groups: int = 0
    groups_read: int = 0
    rows: int = 0
    rows_read: int = 0
    bytes_read: int = 0
    size_bytes: int = 0
    uncovered: list[str] = field(default_factory=list)


class _Counted:
    """A file of a store that counts the bytes read of it."""

    def __init__(self, file: Any, reading: Reading) -> None:
        self._file, self._reading, self.closed = file, reading, False

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._file.read(None if size is None or size < 0 else size)
        self._reading.bytes_read += len(data)
        return data

    def seek(self, place: int, whence: int = 0) -> int:
        return int(self._file.seek(place, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def size(self) -> int:
        return int(self._file.size())

    def close(self) -> None:
        self.closed = True
        self._file.close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def rows_in_box(
    place: str, box: Box, *, storage: Storage = AMAZON, columns: Callable[[str], bool] | None = None
) -> tuple[list[pa.Table], Reading]:
    """The rows of Parquet files that meet a box.

    Args:
        place: A file or folder, an address of a file (``https://``), or a key or prefix of a store
            (``s3://bucket/theme=buildings/type=building/``).
        box: West, south, east, north in degrees. Edges that touch count.
        storage: How the store is reached.
        columns: Which columns to read beside geometry and boxes, by name; all where None.

    Returns:
        One table per file that has such rows, the metadata of its schema kept, with columns for the keys in the
        names of folders (``type=building``); and what was read.

    Raises:
        VectorError: nothing is there, it cannot be reached or read, or a file has no geometry.
    """
    reading = Reading()
    tables = []
    try:
        filesystem, names = _files(place, storage)
        for name in names:
            with filesystem.open_input_file(name) as raw:
                reading.files += 1
                reading.size_bytes += raw.size()
                counted = pa.PythonFile(_Counted(raw, reading), mode="r")
                table = _of_file(counted, name, box, columns, reading)
            if table is not None and len(table):
                for key, value in _keys(name).items():
                    if key not in table.column_names:
                        table = table.append_column(key, pa.array([value] * len(table)))
                tables.append(table)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise VectorError(f"{place}: cannot be read as Parquet ({reason}); check the address and the keys") from error
    return tables, reading


def _files(place: str, storage: Storage) -> tuple[pafs.FileSystem, list[str]]:
    scheme = urlsplit(place).scheme
    filesystem: pafs.FileSystem
    if scheme in {"http", "https"}:
        return _over_http(), [place]
    if scheme == "s3":
        filesystem, path = _store(storage), place.removeprefix("s3://")
    elif scheme in {"", "file"}:
        filesystem, path = pafs.LocalFileSystem(), place.removeprefix("file://")
    else:
        raise VectorError(f"{place}: addresses begin with https://, s3:// or are paths, not {scheme}://")
    info = filesystem.get_file_info(path.rstrip("/"))
    if info.type == pafs.FileType.File:
        return filesystem, [path]
    found = filesystem.get_file_info(pafs.FileSelector(path.rstrip("/"), recursive=True, allow_not_found=True))
    names = sorted(f.path for f in found if f.is_file and _is_data(f.path[len(path.rstrip("/")) :]))
    if not names:
        raise VectorError(f"{place}: no Parquet file is there; check the address")
    return filesystem, names


def _is_data(name: str) -> bool:
    parts = [p for p in name.split("/") if p]
    return name.lower().endswith((".parquet", ".geoparquet")) and not any(p[0] in "._" for p in parts)


@cache
def _over_http() -> pafs.FileSystem:
    from fsspec.implementations.http import HTTPFileSystem  # noqa: PLC0415 - starts an event loop

    # no cache of its own: its blocks of 5 MB would read far more than the ranges asked for
    return pafs.PyFileSystem(pafs.FSSpecHandler(HTTPFileSystem(cache_type="none", use_listings_cache=False)))


@cache
def _store(storage: Storage) -> pafs.FileSystem:
    options: dict[str, Any] = {"anonymous": storage.anonymous, "scheme": "https" if storage.tls else "http"}
    if storage.endpoint is not None:
        options["endpoint_override"] = storage.endpoint
    if storage.region is not None:
        options["region"] = storage.region
    return pafs.S3FileSystem(**options)


def _of_file(
    source: pa.PythonFile, name: str, box: Box, columns: Callable[[str], bool] | None, reading: Reading
) -> pa.Table | None:
    file = pq.ParquetFile(source, pre_buffer=True)
    metadata, schema = file.metadata, file.schema_arrow
    reading.groups += metadata.num_row_groups
    reading.rows += metadata.num_rows
    geo = json.loads((schema.metadata or {}).get(b"geo", b"{}"))
    geometry = geo.get("primary_column", "geometry")
    if geometry not in schema.names:
        raise VectorError(f"{name}: has no column of geometry; convert it to GeoParquet")
    edges = _edge_columns(geo, geometry, schema)
    box = _in_crs(box, file_crs(geo, geometry, name))
    groups = list(range(metadata.num_row_groups)) if edges is None else list(_meeting(metadata, edges, box))
    if edges is None:
        reading.uncovered.append(name)
    if not groups:
        return None
    reading.files_read += 1
    reading.groups_read += len(groups)
    reading.rows_read += sum(metadata.row_group(g).num_rows for g in groups)
    boxes = set() if edges is None else {path.split(".")[0] for path in edges.values()}
    wanted = [n for n in schema.names if n == geometry or n in boxes or columns is None or columns(n)]
    table = file.read_row_groups(groups, columns=wanted, use_threads=False)
    return table if edges is None else table.filter(_meets(table, edges, box))


def file_crs(geo: Mapping[str, Any], geometry: str, name: str) -> CRS:
    """The CRS of a GeoParquet file by its metadata; longitude and latitude where it declares none.

    Raises:
        VectorError: it cannot be used.
    """
    declared = geo.get("columns", {}).get(geometry, {}).get("crs")
    try:
        return LONLAT if declared is None else CRS.from_user_input(declared)
    except CRSError as error:
        raise VectorError(f"{name}: its CRS cannot be used ({str(error).splitlines()[0]})") from error


def _in_crs(box: Box, crs: CRS) -> Box:
    return box if crs.is_geographic else bounds_in(box, LONLAT, crs)


def _edge_columns(geo: Mapping[str, Any], geometry: str, schema: pa.Schema) -> dict[str, str] | None:
    """Paths of the columns of the rows' boxes, ``xmin`` to ``bbox.xmin``; None where there are none."""
    covering = geo.get("columns", {}).get(geometry, {}).get("covering", {}).get("bbox")
    if covering is not None:
        return {edge: ".".join(covering[edge]) for edge in _EDGES}
    if "bbox" in schema.names and pa.types.is_struct(schema.field("bbox").type):
        names = {schema.field("bbox").type.field(k).name for k in range(schema.field("bbox").type.num_fields)}
        if names >= set(_EDGES):
            return {edge: f"bbox.{edge}" for edge in _EDGES}
    return None


def _meeting(metadata: pq.FileMetaData, edges: Mapping[str, str], box: Box) -> Iterator[int]:
    """Row groups that may hold a row that meets the box: those whose statistics do not say that none does."""
    paths = {metadata.schema.column(k).path: k for k in range(metadata.num_columns)}
    at = {edge: paths[path] for edge, path in edges.items()}
    left, bottom, right, top = box
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        apart = (
            _bound(group, at["xmin"], "min", -math.inf) > right
            or _bound(group, at["xmax"], "max", math.inf) < left
            or _bound(group, at["ymin"], "min", -math.inf) > top
            or _bound(group, at["ymax"], "max", math.inf) < bottom
        )
        if not apart:
            yield number


def _bound(group: pq.RowGroupMetaData, column: int, side: str, unknown: float) -> float:
    statistics = group.column(column).statistics
    return unknown if statistics is None or not statistics.has_min_max else float(getattr(statistics, side))


def _meets(table: pa.Table, edges: Mapping[str, str], box: Box) -> pa.ChunkedArray:
    """Which rows meet the box; a row without a box does not."""
    left, bottom, right, top = box
    column = {edge: _column(table, path) for edge, path in edges.items()}
    meets = pc.and_(
        pc.and_(pc.less_equal(column["xmin"], right), pc.greater_equal(column["xmax"], left)),
        pc.and_(pc.less_equal(column["ymin"], top), pc.greater_equal(column["ymax"], bottom)),
    )
    return pc.fill_null(meets, False)


def _column(table: pa.Table, path: str) -> pa.ChunkedArray:
    first, *inner = path.split(".")
    column = table.column(first)
    for name in inner:
        column = pc.struct_field(column, name)
    return pc.cast(column, pa.float64())


def _keys(name: str) -> dict[str, str]:
    """What the folders of a name say: ``theme=buildings/type=building``."""
    pairs = (part.partition("=") for part in name.partition("?")[0].split("/")[:-1] if "=" in part)
    return {key: value for key, _, value in pairs if key}
