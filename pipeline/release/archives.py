"""Zip archives with the same bytes for the same files, and the archive of a province."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from pipeline.files import replacing
from pipeline.national.products import CityProduct
from pipeline.release.geoparquet import geo_metadata, write_groups
from pipeline.release.layout import MAP_ATTRIBUTES, PACKAGE, VILLAGES
from pipeline.release.merging import bounds_of, merged
from pipeline.release.tables import CRS, KEYS_END, MAP_COLUMNS, OWN_COLUMNS, SCHEMA, CityPart, read_rows
from pipeline.release.vector_files import write_package

NEVER = (1980, 1, 1, 0, 0, 0)
"""The time of every file in an archive: the earliest that the format knows."""


@dataclass(frozen=True)
class ArchiveTask:
    """The archive of a province: what it is made of.

    Attributes:
        path: The archive to write.
        folder: Name of the one folder in it.
        products: Its cities.
        parts: Their rows.
        with_scores: Put the score rasters in too.
        notice: Text of its README: what it is, and under which licences.
    """

    path: Path
    folder: str
    products: tuple[CityProduct, ...]
    parts: tuple[CityPart, ...]
    with_scores: bool
    notice: str


def write_zip(path: Path, members: Iterable[tuple[str, Path | bytes]]) -> None:
    """Store files in a zip without compressing them: readers can fetch a part of one; rights and times do not show."""
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as sink:
        for name, source in members:
            info = zipfile.ZipInfo(name, NEVER)
            info.external_attr = 0o644 << 16
            info.create_system = 3
            if isinstance(source, bytes):
                sink.writestr(info, source)
                continue
            info.file_size = source.stat().st_size
            with source.open("rb") as file, sink.open(info, "w") as member:
                while block := file.read(2**20):
                    member.write(block)


def write_archive(task: ArchiveTask) -> Path:
    """Write the archive of a province: tables of its villages, the rasters of its cities.

    Memory holds the rows of the province.
    """
    table = merged(read_rows(p, 0, KEYS_END) for p in task.parts)
    with TemporaryDirectory(dir=task.path.parent, prefix=f".{task.path.stem}.") as name:
        work = Path(name)
        files = _write_tables(table, task.parts, work)
        members: list[tuple[str, Path | bytes]] = [("README.txt", task.notice.encode())]
        members += [(f.name, f) for f in files]
        for product in task.products:
            members.append((product.mask.name, product.mask))
            members += [(product.scores.name, product.scores)] if task.with_scores else []
        write_zip(task.path, ((f"{task.folder}/{inner}", source) for inner, source in members))
    return task.path


def _write_tables(table: pa.Table, parts: Sequence[CityPart], work: Path) -> list[Path]:
    own = (*OWN_COLUMNS, "geometry", "bbox")
    shapes = shapely.from_wkb(table["geometry"].to_numpy())
    kinds = sorted({g.geom_type for g in shapes})
    schema = pa.schema([SCHEMA.field(n) for n in own], geo_metadata(CRS, kinds=kinds, bounds=bounds_of(parts)))
    write_groups(work / VILLAGES, schema, [table])
    plain = pa.schema([SCHEMA.field(n) for n in (*OWN_COLUMNS, "geometry")])
    write_package([table.select(plain.names)], plain, work / PACKAGE)
    mapped = table.select(["uv_id", "adcode", *MAP_COLUMNS])
    pq.write_table(mapped, work / MAP_ATTRIBUTES, compression="zstd")
    return [work / VILLAGES, work / PACKAGE, work / MAP_ATTRIBUTES]
