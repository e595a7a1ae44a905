"""Where a graph's features come from, as parts that a worker process can read by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from pipeline.graph.errors import CityGraphError

if TYPE_CHECKING:
    import geopandas as gpd


@dataclass(frozen=True)
class MemoryPart:
    """Some features in this process.

    Attributes:
        geometry: shapely geometries (n,).
        tags: Canonical tag sets (n,).
    """

    geometry: NDArray[np.object_]
    tags: NDArray[np.object_]

    def read(self) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
        """Geometries (n,) and tag sets (n,)."""
        return self.geometry, self.tags


@dataclass(frozen=True)
class TablePart:
    """Some features by value, as WKB: what travels to another process.

    Attributes:
        wkb: Geometries (n,), bytes.
        tags: Canonical tag sets (n,).
    """

    wkb: NDArray[np.object_]
    tags: NDArray[np.object_]

    def read(self) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
        """Geometries (n,) and tag sets (n,)."""
        return shapely.from_wkb(self.wkb), self.tags


@dataclass(frozen=True)
class ParquetPart:
    """Some row groups of a GeoParquet file with the columns `geometry` (WKB) and `tags`."""

    path: Path
    row_groups: tuple[int, ...]

    def read(self) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
        """Geometries (n,) and tag sets (n,).

        Raises:
            CityGraphError: the file cannot be read.
        """
        try:
            table = pq.ParquetFile(self.path).read_row_groups(list(self.row_groups), columns=["geometry", "tags"])
            geometry = shapely.from_wkb(table["geometry"].to_numpy())
            tags = table["tags"].to_numpy().astype(object)
        except (OSError, KeyError, pa.ArrowException, shapely.errors.ShapelyError) as error:
            raise CityGraphError(
                f"{self.path}: cannot be read as a feature table ({error}); it needs the columns geometry and tags:"
                " write it again from pipeline.vectors.read_features"
            ) from error
        return geometry, tags


Part = MemoryPart | TablePart | ParquetPart


def split_parts(table: gpd.GeoDataFrame, size: int, *, by_value: bool) -> Iterator[MemoryPart | TablePart]:
    """A feature table in parts of ``size`` rows, ``by_value`` for other processes."""
    geometry, tags = np.asarray(table.geometry.to_numpy(), object), table["tags"].to_numpy(object)
    for start in range(0, len(table), size):
        stop = start + size
        if by_value:
            yield TablePart(np.asarray(shapely.to_wkb(geometry[start:stop]), object), tags[start:stop])
        else:
            yield MemoryPart(geometry[start:stop], tags[start:stop])


def list_parquet_parts(path: Path, size: int) -> tuple[list[ParquetPart], str | None]:
    """A GeoParquet feature table in parts of about ``size`` rows, cut at row groups, and its CRS.

    Raises:
        CityGraphError: the file cannot be read.
    """
    try:
        metadata = pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        raise CityGraphError(f"{path}: no readable GeoParquet file ({error}); write the feature table again") from error
    parts: list[ParquetPart] = []
    groups: list[int] = []
    rows = 0
    for group in range(metadata.num_row_groups):
        groups.append(group)
        rows += metadata.row_group(group).num_rows
        if rows >= size or group == metadata.num_row_groups - 1:
            parts.append(ParquetPart(path, tuple(groups)))
            groups, rows = [], 0
    return parts, _declared_crs(metadata.metadata or {})


def _declared_crs(metadata: dict[bytes, bytes]) -> str | None:
    """The CRS that GeoParquet metadata declare for `geometry`, as an authority code or WKT."""
    columns = json.loads(metadata.get(b"geo", b"{}")).get("columns", {})
    declared = columns.get("geometry", {}).get("crs")
    return None if declared is None else CRS.from_json_dict(declared).to_string()
