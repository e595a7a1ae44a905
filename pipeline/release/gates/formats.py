"""Gates on the files: complete and unchanged, equal counts in all formats, COG, GeoParquet."""

from __future__ import annotations

import json
import sqlite3
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyogrio
import shapely
from rio_cogeo import cog_validate

from pipeline.release import layout
from pipeline.release.checksums import hash_file, read_checksums
from pipeline.release.errors import ReleaseError
from pipeline.release.gates.results import Findings, Subject
from pipeline.release.geoparquet import GROUP_ROWS
from pipeline.release.tables import hilbert_keys

AREA_SHARE = 1e-6
"""Largest difference between the area of the villages and that of the grid's cells, as a share."""


def check_files(subject: Subject, found: Findings) -> None:
    """All files are there and no others, as their checksums say, and not more than a record takes."""
    folder, record = subject.folder, subject.record
    files = {p.name: p for p in layout.record_files(folder)}
    size = sum(p.stat().st_size for p in files.values())
    found.measured |= {"files": len(files), "bytes": size}
    if len(files) > layout.MAX_FILES:
        found.add(f"{len(files)} files, a record takes {layout.MAX_FILES}")
    if size > layout.MAX_BYTES:
        found.add(f"{size / 1e9:.1f} GB, a record takes {layout.MAX_BYTES / 1e9:.0f} GB")
    codes = sorted({c.adcode[:2] for c in record.cities})
    items = {layout.item_file(i) for i in ("national", "model", *codes)}
    wanted = {*layout.NATIONAL_DATA, *layout.TEXTS, *items, *(c.archive for c in record.cities), *record.data}
    for name in sorted(wanted - set(files)):
        found.add(f"{name} is missing")
    for name in sorted(set(files) - wanted - {layout.VIEWER_ARCHIVE}):
        found.add(f"{name} is no file of a release")
    _check_digests(subject, files, found)


def _check_digests(subject: Subject, files: Mapping[str, Path], found: Findings) -> None:
    """Both lists and the record say of every file what its bytes are."""
    try:
        lists = [read_checksums(subject.folder / name) for name in (layout.SHA256, layout.MD5)]
    except ReleaseError as error:
        found.add(str(error))
        return
    for name in sorted(set(files) - {layout.SHA256, layout.MD5}):
        digests = hash_file(files[name])
        for digest, known, kind in zip(digests, lists, ("SHA-256", "MD5"), strict=True):
            if known.get(name) != digest:
                found.add(f"{name} has {kind} {digest[:12]}, the list says {str(known.get(name))[:12]}")
        fact = subject.record.data.get(name)
        if fact is not None and fact.sha256 != digests[0]:
            found.add(f"{name} has SHA-256 {digests[0][:12]}, {layout.RECORD} says {fact.sha256[:12]}")
    for name in sorted({*lists[0], *lists[1]} - set(files)):
        found.add(f"{name} has a checksum, but is not there")


def check_counts(subject: Subject, found: Findings) -> None:
    """GeoParquet, GeoPackage, tiles, map attributes, archives, tables and grid hold the same villages."""
    folder, record = subject.folder, subject.record
    table = pq.read_table(folder / layout.VILLAGES, columns=["uv_id", "adcode", "area_m2"])
    rows, ids = len(table), table["uv_id"].combine_chunks()
    area = float(pc.sum(table["area_m2"]).as_py() or 0.0)
    by_city = {e["values"]: e["counts"] for e in pc.value_counts(table["adcode"]).to_pylist()}
    counted: dict[str, int] = {layout.RECORD: record.villages}
    found.measured |= {"villages": rows, "area_m2": area, "counts": counted}
    for city in record.cities:
        if by_city.get(city.adcode, 0) != city.villages:
            found.add(f"{city.adcode}: {by_city.get(city.adcode, 0)} villages, {layout.RECORD} says {city.villages}")
    others = {
        layout.PACKAGE: _packaged_ids(folder / layout.PACKAGE),
        layout.MAP_ATTRIBUTES: pq.read_table(folder / layout.MAP_ATTRIBUTES, columns=["uv_id"])["uv_id"],
        layout.TILES: _tiled_ids(folder / layout.TILES),
    }
    counted |= {name: len(other) for name, other in others.items()}
    counted["archives"] = sum(_archived(folder / name, found) for name in sorted({c.archive for c in record.cities}))
    for name, count in counted.items():
        if count != rows:
            found.add(f"{name} has {count} villages, {layout.VILLAGES} {rows}")
    alike = pc.count_distinct(ids).as_py() == rows  # ids that occur twice are another gate's
    for name, other in others.items():
        if not alike or len(other) != rows:
            continue
        foreign = other.filter(pc.invert(pc.is_in(other, value_set=ids)))
        if len(foreign):
            found.add(f"{name} holds ids that {layout.VILLAGES} does not, such as {foreign[0].as_py()}")
    cells = float(pc.sum(pq.read_table(folder / layout.GRID, columns=["uv_area_m2"])["uv_area_m2"]).as_py() or 0.0)
    found.measured["grid_m2"] = cells
    if not np.isclose(cells, area, rtol=AREA_SHARE, atol=1.0):
        found.add(f"{layout.GRID} holds {cells:.1f} m2, the villages {area:.1f}")


def check_cog(subject: Subject, found: Findings) -> None:
    """Every raster is a valid COG: the grid's, and masks and scores in the archives."""
    paths = [str(subject.folder / layout.GRID_RASTER)]
    for name in sorted({c.archive for c in subject.record.cities}):
        with zipfile.ZipFile(subject.folder / name) as archive:
            inner = [m for m in archive.namelist() if m.endswith(".tif")]
        paths += [f"/vsizip/{subject.folder / name}/{m}" for m in inner]
        there = {Path(m).name for m in inner}
        for city in (c for c in subject.record.cities if c.archive == name):
            if f"{city.adcode}_uv_mask.tif" not in there:
                found.add(f"{name}: holds no mask of {city.adcode}")
    found.measured["rasters"] = len(paths)
    for path in paths:
        try:
            valid, errors, _ = cog_validate(path, strict=True, quiet=True)
        except Exception as error:  # noqa: BLE001 - GDAL's own errors are many
            found.add(f"{Path(path).name}: cannot be opened ({type(error).__name__}: {error})")
            continue
        if not valid:
            found.add(f"{Path(path).name}: {'; '.join(errors) or 'no COG'}")


def check_geoparquet(subject: Subject, found: Findings) -> None:
    """GeoParquet 1.1 with a covering that fits, zstd, and the villages in Hilbert order."""
    for name in (layout.VILLAGES, layout.GRID):
        path = subject.folder / name
        _check_metadata(path, name, found)
        last = -1
        with pq.ParquetFile(path) as source:
            if "bbox" not in source.schema_arrow.names:
                found.add(f"{name}: has no column bbox")
                continue
            for k in range(source.metadata.num_row_groups):
                group = source.metadata.row_group(k)
                if group.num_rows > GROUP_ROWS:
                    found.add(f"{name}: row group {k} has {group.num_rows} rows, more than {GROUP_ROWS}")
                if group.num_rows and group.column(0).compression != "ZSTD":
                    found.add(f"{name}: row group {k} is packed with {group.column(0).compression}, not ZSTD")
                table = source.read_row_group(k, columns=["geometry", "bbox"])
                shapes = shapely.from_wkb(table["geometry"].to_numpy())
                boxes = np.column_stack([c.to_numpy() for c in table["bbox"].combine_chunks().flatten()])
                off = ~np.isclose(shapely.bounds(shapes).reshape(-1, 4), boxes, rtol=0, atol=1e-9).all(axis=1)
                found.add(f"{name}: row group {k}: bbox is not that of the outline", times=int(off.sum()))
                if name == layout.VILLAGES and len(shapes):
                    keys = hilbert_keys(shapes)
                    if keys[0] < last or (np.diff(keys) < 0).any():
                        found.add(f"{name}: row group {k} is not in Hilbert order")
                    last = int(keys[-1])


def _check_metadata(path: Path, name: str, found: Findings) -> None:
    text = (pq.read_schema(path).metadata or {}).get(b"geo")
    geo: dict[str, Any] = {}
    try:
        geo = json.loads(text or b"{}")
        column = geo["columns"][geo["primary_column"]]
        boxes = column["covering"]["bbox"]
    except (ValueError, KeyError, TypeError) as error:
        found.add(f"{name}: its key `geo` is not that of GeoParquet 1.1 ({type(error).__name__}: {error})")
        return
    if geo.get("version") != "1.1.0":
        found.add(f"{name}: is GeoParquet {geo.get('version')}, not 1.1.0")
    if column.get("encoding") != "WKB" or "crs" not in column:
        found.add(f"{name}: encoding {column.get('encoding')}, CRS {'there' if 'crs' in column else 'missing'}")
    if set(boxes) != {"xmin", "ymin", "xmax", "ymax"}:
        found.add(f"{name}: covering names {sorted(boxes)}")


def _packaged_ids(path: Path) -> pa.Array:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as base:
        rows = base.execute(f"SELECT uv_id FROM {layout.LAYER}")  # noqa: S608 - a constant
        return pa.array((row[0] for row in rows), pa.string())


def _tiled_ids(path: Path) -> pa.Array:
    """Ids at the largest zoom; a village that several tiles hold counts once."""
    _, table = pyogrio.read_arrow(path, columns=["uv_id"], read_geometry=False)
    return pc.unique(table["uv_id"])


def _archived(path: Path, found: Findings) -> int:
    """Villages of a province: its GeoParquet, which its GeoPackage and attributes must equal."""
    counts = dict(_archive_counts(path))
    if len(set(counts.values())) != 1:
        found.add(f"{path.name}: {', '.join(f'{n} has {c}' for n, c in counts.items())}")
    return counts.get(layout.VILLAGES, 0)


def _archive_counts(path: Path) -> Iterator[tuple[str, int]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            name = Path(member).name
            if name in {layout.VILLAGES, layout.MAP_ATTRIBUTES}:
                with archive.open(member) as file:
                    yield name, pq.ParquetFile(file).metadata.num_rows
            elif name == layout.PACKAGE:
                info = pyogrio.read_info(f"/vsizip/{path}/{member}", layer=layout.LAYER, force_feature_count=True)
                yield name, int(info["features"])
