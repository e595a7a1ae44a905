"""Gates on the villages: outlines, overlaps of cities, ids, attributes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely

from pipeline.attributes.dictionary import ATTRIBUTES
from pipeline.product.identity import match_villages
from pipeline.release.dictionary import FLAGS, RANGES, VALUES
from pipeline.release.gates.results import Findings, Subject
from pipeline.release.geoparquet import GROUP_ROWS
from pipeline.release.layout import MAP_ATTRIBUTES, VILLAGES
from pipeline.release.record import CityFact, read_record
from pipeline.release.tables import CRS, MAP_COLUMNS, OWN_COLUMNS, column_type
from regions.raster.equal_area import CHINA_ALBERS

OVERLAP_M2 = 1.0
"""Ground that two cities may both claim by rounding, per pair of villages."""
AREA_SHARE = 1e-3
"""Largest difference of ``area_m2`` from the outline's own area, as a share."""


def check_geometry(subject: Subject, found: Findings) -> None:
    """Outlines are valid polygons with area, and their ``area_m2`` is that of the outline."""
    rows = 0
    for table in _tables(subject.folder / VILLAGES, ["uv_id", "area_m2", "geometry"]):
        shapes = shapely.from_wkb(table["geometry"].to_numpy())
        ids = table["uv_id"].to_pylist()
        rows += len(ids)
        valid = shapely.is_valid(shapes) & ~shapely.is_empty(shapes)
        polygonal = np.isin(shapely.get_type_id(shapes), (3, 6))
        for k in np.flatnonzero(~valid):
            found.add(f"{ids[k]}: {shapely.is_valid_reason(shapes[k])}")
        for k in np.flatnonzero(~polygonal):
            found.add(f"{ids[k]}: is a {shapes[k].geom_type if shapes[k] is not None else 'null'}, no polygon")
        good = np.flatnonzero(valid & polygonal)
        area = shapely.area(gpd.GeoSeries(shapes[good], crs=CRS).to_crs(CHINA_ALBERS).to_numpy())
        said = table["area_m2"].to_numpy()[good]
        for k in np.flatnonzero(~np.isclose(area, said, rtol=AREA_SHARE, atol=1.0)):
            found.add(f"{ids[good[k]]}: area_m2 is {said[k]:.1f}, the outline has {area[k]:.1f}")
    found.measured["villages"] = rows


def check_overlaps(subject: Subject, found: Findings) -> None:
    """No ground is claimed by villages of two cities."""
    source = subject.folder / VILLAGES
    pairs = [(a, b, box) for a, b in combinations(subject.record.cities, 2) if (box := _common(a, b)) is not None]
    found.measured |= {"pairs_of_cities": len(pairs), "overlap_m2": 0.0}
    for a, b, box in pairs:
        mine, theirs = (_in_box(source, c.adcode, box) for c in (a, b))
        if not len(mine) or not len(theirs):
            continue
        left, right = shapely.STRtree(theirs.geometry.to_numpy()).query(
            mine.geometry.to_numpy(), predicate="intersects"
        )
        if not len(left):
            continue
        flat, other = (t.geometry.to_crs(CHINA_ALBERS).to_numpy() for t in (mine, theirs))
        areas = shapely.area(shapely.intersection(flat[left], other[right]))
        for k in np.flatnonzero(areas > OVERLAP_M2):
            one, two = mine["uv_id"].iloc[left[k]], theirs["uv_id"].iloc[right[k]]
            found.add(f"{one} and {two} share {areas[k]:.0f} m2")
            found.measured["overlap_m2"] += float(areas[k])


def check_ids(subject: Subject, found: Findings) -> None:
    """Ids are unique and of their city; against the last release, a village keeps its id and no id moves."""
    table = pq.read_table(subject.folder / VILLAGES, columns=["uv_id", "adcode"])
    ids, codes = table["uv_id"].combine_chunks(), table["adcode"].combine_chunks()
    found.measured["ids"] = len(ids)
    found.add(f"{ids.null_count} villages have no uv_id", times=ids.null_count)
    counts = pc.value_counts(ids)
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    for entry in twice.to_pylist():
        found.add(f"{entry['values']} is the id of {entry['counts']} villages")
    foreign = pc.invert(pc.fill_null(pc.starts_with(ids, "") if not len(ids) else _starts_with(ids, codes), False))
    for name in ids.filter(foreign).to_pylist()[:3]:
        found.add(f"{name} does not start with its city's adcode", times=0)
    found.add("ids do not start with their city's adcode", times=int(pc.sum(foreign).as_py() or 0))
    known = {c.adcode for c in subject.record.cities}
    for code in sorted(set(codes.unique().to_pylist()) - known):
        found.add(f"villages of {code}, which is no city of the release")
    if subject.previous is not None and not found.count:
        _check_stable(subject, subject.previous, found)


def check_attributes(subject: Subject, found: Findings) -> None:
    """Every column is there with the dictionary's type, within its range, and null only where it may be."""
    for name, columns in ((VILLAGES, OWN_COLUMNS), (MAP_ATTRIBUTES, MAP_COLUMNS)):
        path = subject.folder / name
        schema = pq.read_schema(path)
        for attribute in (a for a in ATTRIBUTES if a.name in columns):
            if attribute.name not in schema.names:
                found.add(f"{name}: has no column {attribute.name}")
            elif not _same_type(schema.field(attribute.name).type, column_type(attribute.dtype)):
                found.add(f"{name}: {attribute.name} is {schema.field(attribute.name).type}, not {attribute.dtype}")
        there = [a for a in ATTRIBUTES if a.name in columns and a.name in schema.names]
        for table in _tables(path, [a.name for a in there]):
            for attribute in there:
                _check_column(table[attribute.name], attribute.name, attribute.null_reason, name, found)


def _check_column(values: pa.ChunkedArray, column: str, null_reason: str, file: str, found: Findings) -> None:
    if null_reason == "never":
        found.add(f"{file}: {column} is null; it may never be", times=values.null_count)
    low, high = RANGES.get(column, (None, None))
    for limit, compare, word in ((low, pc.less, "below"), (high, pc.greater, "above")):
        if limit is not None and pa.types.is_floating(values.type) | pa.types.is_integer(values.type):
            off = values.filter(pc.fill_null(compare(values, limit), False))
            if len(off):
                found.add(f"{file}: {column} holds {off[0].as_py()}, {word} {limit:g}", times=len(off))
    if pa.types.is_floating(values.type):
        bad = sum(1 for v in pc.unique(values).to_pylist() if v is not None and not math.isfinite(v))
        found.add(f"{file}: {column} holds a number that is not finite", times=bad)
    if column in VALUES:
        for value in sorted(set(pc.unique(values.drop_null()).to_pylist()) - set(VALUES[column])):
            found.add(f"{file}: {column} holds {value!r}, none of {', '.join(VALUES[column])}")
    if column == "qc_flag":
        flags = {f for text in pc.unique(values.drop_null()).to_pylist() for f in text.split("; ")}
        for value in sorted(flags - set(FLAGS)):
            found.add(f"{file}: qc_flag holds {value!r}, none of {', '.join(FLAGS)}")


def _check_stable(subject: Subject, previous: Path, found: Findings) -> None:
    kept = moved = 0
    before_by_code = {c.adcode: c for c in read_record(previous).cities}
    for city in subject.record.cities:
        if city.adcode not in before_by_code:
            continue
        old = _city(previous / VILLAGES, before_by_code[city.adcode])
        new = _city(subject.folder / VILLAGES, city)
        if not len(old) or not len(new):
            continue
        before, after = (gpd.GeoSeries(t.geometry.to_crs(CHINA_ALBERS)) for t in (old, new))
        matching = match_villages(before, after)
        heirs = matching.links[matching.links["heir"]]
        for k, j in zip(heirs["old"], heirs["new"], strict=True):
            one, two = old["uv_id"].iloc[k], new["uv_id"].iloc[j]
            if one == two:
                kept += 1
            else:
                moved += 1
                found.add(f"{one} of the last release stands where {two} stands now: it should have kept its id")
        linked = {(old["uv_id"].iloc[k], new["uv_id"].iloc[j]) for k, j in zip(*_pairs(before, after), strict=True)}
        same = {i for i, j in linked if i == j}
        for name in sorted(set(old["uv_id"]) & set(new["uv_id"]) - same):
            found.add(f"{name} lies on other ground than in the last release: an id may not be used again")
    found.measured |= {"ids_kept": kept, "ids_lost": moved}


def _pairs(old: gpd.GeoSeries, new: gpd.GeoSeries) -> tuple[np.ndarray, np.ndarray]:
    left, right = shapely.STRtree(new.to_numpy()).query(old.to_numpy(), predicate="intersects")
    return left, right


def _starts_with(ids: pa.Array, codes: pa.Array) -> pa.Array:
    return pc.equal(pc.utf8_slice_codeunits(ids, 0, 7), pc.binary_join_element_wise(codes, "-", ""))


def _same_type(a: pa.DataType, b: pa.DataType) -> bool:
    return bool(a == b) or (pa.types.is_large_string(a) and pa.types.is_string(b) is True)


def _common(a: CityFact, b: CityFact) -> tuple[float, float, float, float] | None:
    box = (max(a.west, b.west), max(a.south, b.south), min(a.east, b.east), min(a.north, b.north))
    return box if box[0] <= box[2] and box[1] <= box[3] else None


def _in_box(path: Path, adcode: str, box: tuple[float, float, float, float]) -> gpd.GeoDataFrame:
    west, south, east, north = box
    inside = (
        (pc.field("adcode") == adcode)
        & (pc.field("bbox", "xmin") <= east)
        & (pc.field("bbox", "xmax") >= west)
        & (pc.field("bbox", "ymin") <= north)
        & (pc.field("bbox", "ymax") >= south)
    )
    return _frame(pq.read_table(path, columns=["uv_id", "geometry"], filters=inside))


def _city(path: Path, city: CityFact) -> gpd.GeoDataFrame:
    """A city's villages; its bounds say which row groups need not be read."""
    return _in_box(path, city.adcode, (city.west, city.south, city.east, city.north))


def _frame(table: pa.Table) -> gpd.GeoDataFrame:
    shapes = shapely.make_valid(shapely.from_wkb(table["geometry"].to_numpy()))
    return gpd.GeoDataFrame({"uv_id": table["uv_id"].to_pylist()}, geometry=shapes, crs=CRS)


def _tables(path: Path, columns: list[str]) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as source:
        for batch in source.iter_batches(batch_size=GROUP_ROWS, columns=columns):
            yield pa.Table.from_batches([batch])
