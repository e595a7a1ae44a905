"""One source, whatever its format: opened, cleaned, brought to the grid's CRS, and accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from pyproj import CRS

from pipeline.formats import VECTOR_FORMATS, vector_format
from pipeline.vectors.clean import joined, usable
from pipeline.vectors.crs import LONLAT
from pipeline.vectors.damage import FAULTS, what_is_wrong
from pipeline.vectors.errors import VectorError
from pipeline.vectors.osm import read_osm
from pipeline.vectors.parquet import read_parquet
from pipeline.vectors.presence import why_nothing_is_left
from pipeline.vectors.project import bounds_in, datum_that_is_guessed, reproject, without_shift
from pipeline.vectors.raw import RawFeatures
from pipeline.vectors.source import Account, Area, SourceHints
from pipeline.vectors.tables import read_table
from regions.datum import LARGEST_SHIFT_M, is_shifted_datum

LARGE_SHARE = 0.2
"""Share of the features of a source that, lost, is warned of."""
_LOST = (
    "null_geometry", "empty_geometry", "not_finite", "invalid_collapsed", "zero_length_lines", "zero_area_polygons",
    "multipolygons_not_closed", "ways_without_nodes",
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """What is left of a source.

    Attributes:
        features: In the grid's CRS.
        date: ISO date of the source, or None.
        counts: What it went through, by reason.
        warnings: What the user must know of it.
    """

    features: RawFeatures
    date: str | None
    counts: Counter[str]
    warnings: tuple[str, ...]


def is_osm(path: Path) -> bool:
    """Whether a source is OpenStreetMap data by its name."""
    found = vector_format(path)
    return found is not None and found.reader == "osmium"


def read_source(path: Path, *, area: Area, hints: SourceHints) -> Source:
    """Read one source.

    Raises:
        VectorError: it is missing, cannot be read, has no usable CRS, or nothing is left of it.
    """
    if not path.exists():
        raise VectorError(f"{path}: no such vector file; correct the path or leave the source out")
    account = Account()
    try:
        if is_osm(path):
            features, date = _osm(path, area, hints, account)
        else:
            features, date = _table(path, area, hints, account), None
    except VectorError as error:
        if str(path) in str(error):
            raise
        raise VectorError(f"{path}: {error}") from error
    except FAULTS as error:
        raise VectorError(f"{path}: cannot be read as {_format(path)}: {what_is_wrong(path, error)}") from error
    counts = account.counts
    if not len(features) and counts["read"]:
        raise VectorError(
            f"{path}: {counts['read']} features read and none left ({_reasons(counts)});"
            f" {why_nothing_is_left(account.extents(), crs=area.crs, bounds_m=area.bounds)}"
        )
    return Source(features, date, counts, (*account.warnings, *_losses(counts)))


def _osm(path: Path, area: Area, hints: SourceHints, account: Account) -> tuple[RawFeatures, str | None]:
    reach = _as_stored(area, hints)
    box = None if reach.bounds is None else bounds_in(reach.bounds, area.crs, LONLAT)
    raw, date = read_osm(path, bounds_lonlat=box, account=account)
    return _on_the_grid(raw, LONLAT, area, hints, account), date


def _table(path: Path, area: Area, hints: SourceHints, account: Account) -> RawFeatures:
    found = vector_format(path)
    reader = read_parquet if found is not None and found.reader == "parquet" else read_table
    parts: list[tuple[bool, RawFeatures]] = []
    empty = []
    for layer in reader(path, area=_as_stored(area, hints), hints=hints, account=account):
        features = _on_the_grid(layer.features, layer.crs, area, hints, account)
        parts.append((layer.identified, features))
        if layer.read and not len(features):
            empty.append(layer.name)
    if reader is read_table and 0 < len(empty) < len(parts):
        account.warnings.append(f"nothing is left of {len(empty)} of its layers ({', '.join(empty[:5])})")
    return RawFeatures.concat(list(_joined(parts, account.counts)))


def _joined(parts: list[tuple[bool, RawFeatures]], counts: Counter[str]) -> Iterator[RawFeatures]:
    for identified, group in groupby(parts, key=lambda part: part[0]):
        features = RawFeatures.concat([raw for _, raw in group])
        yield joined(features, counts) if identified else features


def _as_stored(area: Area, hints: SourceHints) -> Area:
    """The area that holds what lies in ``area``, as a source in a shifted datum has it."""
    if area.bounds is None or not is_shifted_datum(hints.datum):
        return area
    left, bottom, right, top = area.bounds
    unit_m = area.crs.axis_info[0].unit_conversion_factor if area.crs.is_projected else 111_000.0 * 0.5
    by = LARGEST_SHIFT_M / unit_m
    return Area(area.crs, (left - by, bottom - by, right + by, top + by))


def _on_the_grid(raw: RawFeatures, crs: CRS, area: Area, hints: SourceHints, account: Account) -> RawFeatures:
    geometry, crs = without_shift(raw.geometry, crs, hints.datum)
    raw = RawFeatures(geometry, raw.tags, raw.source_id)
    guessed = datum_that_is_guessed(raw.geometry, crs, area.crs)
    if guessed is not None and guessed not in account.warnings:
        account.warnings.append(guessed)
    moved = RawFeatures(reproject(raw.geometry, crs, area.crs), raw.tags, raw.source_id)
    return usable(moved, bounds_m=area.bounds, counts=account.counts)


def _losses(counts: Counter[str]) -> Iterator[str]:
    if not counts["read"]:
        yield "no feature with tags or attributes is in it: nothing of it shows on the map"
        return
    there = counts["read"] - counts["outside"]
    lost = sum(counts[name] for name in _LOST)
    if lost > LARGE_SHARE * there:
        yield f"{lost} of {there} features in the area are lost ({_reasons(counts, _LOST)})"
    if counts["ways_with_missing_nodes"] > LARGE_SHARE * there:
        yield (
            f"{counts['ways_with_missing_nodes']} of {there} features lack nodes: the extract was cut through its ways;"
            " cut it anew with `osmium extract --strategy=complete_ways`"
        )


def _reasons(counts: Counter[str], names: tuple[str, ...] | None = None) -> str:
    found = [(n, counts[n]) for n in names or ("outside", *_LOST) if counts[n]]
    return ", ".join(f"{name} {n}" for name, n in found) or "of unknown kind"


def _format(path: Path) -> str:
    found = vector_format(path)
    accepted = ", ".join(s for item in VECTOR_FORMATS for s in item.suffixes)
    return f"a vector table (known are {accepted})" if found is None else found.name
