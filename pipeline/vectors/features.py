"""Vector sources to one feature table in the grid's CRS."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from pyproj import CRS
from pyproj.exceptions import CRSError

from pipeline.vectors import tags as tagging
from pipeline.vectors.clean import joined, usable, without_duplicates
from pipeline.vectors.errors import VectorError
from pipeline.vectors.osm import read_osm
from pipeline.vectors.project import bounds_in, reproject
from pipeline.vectors.raw import RawFeatures
from pipeline.vectors.tables import read_table

COLUMNS = ("geometry", "tags", "source_id", "source", "source_date")
_OSM_SUFFIXES = (".osm.pbf", ".pbf", ".osm", ".osm.gz", ".osm.bz2")
_LONLAT = CRS.from_user_input("OGC:CRS84")


@dataclass(frozen=True)
class Features:
    """A feature table and the account of how it came about.

    Attributes:
        table: One row per single-part feature, in the grid's CRS: `geometry`, `tags` (canonical JSON object, keys
            sorted), `source_id` (for OSM `n123`, `w123`, `r123`), `source` (file name), `source_date` (ISO date or
            None).
        counts: How many features or tags were read, kept, dropped, mended, split, joined, by reason.
        digest: SHA-256 of the table's content.
    """

    table: gpd.GeoDataFrame
    counts: dict[str, int]
    digest: str


def read_features(
    paths: Sequence[str | Path] | str | Path,
    *,
    crs: str,
    bounds_m: tuple[float, float, float, float] | None,
    assumed_crs: str | None = None,
    default_tags: Mapping[str, str] | None = None,
) -> Features:
    """Read vector sources of any supported format into one table.

    `.osm.pbf`, `.osm`, `.osm.gz`, `.osm.bz2`; all that GDAL reads (GeoPackage with all its layers, GeoJSON, Shapefile,
    FlatGeobuf); GeoParquet files and folders of them, Overture's included. Attribute columns become tags.

    Args:
        paths: Files, in the order of preference: of a feature in several, the first wins.
        crs: CRS of the grid, to which everything is brought.
        bounds_m: Left, bottom, right, top in ``crs``: features whose envelope does not meet it are left out (and
            counted); features are never clipped. None for all.
        assumed_crs: CRS of sources that declare none; without it such a source is refused.
        default_tags: Tags of features that have none, for tables of bare geometry such as building footprints.

    Raises:
        VectorError: missing or unreadable file, no CRS, unusable ``crs`` or bounds.
    """
    try:
        target = CRS.from_user_input(crs)
    except CRSError as error:
        raise VectorError(f"unusable CRS {crs!r} for the features ({error}); give one such as EPSG:32650") from error
    counts: Counter[str] = Counter(read=0)
    frames: list[gpd.GeoDataFrame] = []
    osm_ids: set[str] = set()
    for path in [paths] if isinstance(paths, str | Path) else paths:
        file = Path(path)
        if not file.exists():
            raise VectorError(f"{file}: no such vector file; correct the path or leave the source out")
        raw, date = _read(file, target, bounds_m, assumed_crs, counts)
        if _is_osm(file):
            again = pd.Series(raw.source_id, dtype=object).isin(osm_ids).to_numpy(bool)
            counts["in_an_earlier_file"] += int(again.sum())
            raw = raw[~again]
            osm_ids.update(raw.source_id)
        frames.append(_frame(raw, file.name, date, target))
    table = pd.concat(frames, ignore_index=True) if frames else _frame(RawFeatures.concat([]), "", None, target)
    untagged = (table["tags"] == "{}").to_numpy()
    counts["untagged"] += int(untagged.sum())
    if default_tags:
        table.loc[untagged, "tags"] = tagging.canonical(default_tags)
    keep = without_duplicates(
        RawFeatures(table.geometry.to_numpy(), table["tags"].to_numpy(object), table["source_id"].to_numpy(object)),
        counts,
    )
    table = gpd.GeoDataFrame(table[keep].reset_index(drop=True), geometry="geometry", crs=target)
    counts["kept"] = len(table)
    return Features(
        table, {k: v for k, v in sorted(counts.items()) if v or k in {"read", "kept"}}, content_digest(table)
    )


def content_digest(table: gpd.GeoDataFrame) -> str:
    """SHA-256 of CRS, geometry, tags and ids of a feature table, in row order."""
    sha = hashlib.sha256(table.crs.to_wkt().encode())
    for column in (shapely.to_wkb(table.geometry.to_numpy()), *(table[c] for c in COLUMNS[1:])):
        values = [v if isinstance(v, bytes) else b"\x00" if v is None else str(v).encode() for v in column]
        sha.update(np.array([len(v) for v in values], np.int64).tobytes())
        sha.update(b"".join(values))
    return sha.hexdigest()


def _is_osm(path: Path) -> bool:
    return path.name.lower().endswith(_OSM_SUFFIXES)


def _read(
    path: Path,
    target: CRS,
    bounds_m: tuple[float, float, float, float] | None,
    assumed_crs: str | None,
    counts: Counter[str],
) -> tuple[RawFeatures, str | None]:
    if _is_osm(path):
        box = None if bounds_m is None else bounds_in(bounds_m, target, _LONLAT)
        raw, date = read_osm(path, bounds_lonlat=box, counts=counts)
        moved = RawFeatures(reproject(raw.geometry, _LONLAT, target), raw.tags, raw.source_id)
        return usable(moved, bounds_m=bounds_m, counts=counts), date
    layers = []
    for raw, source_crs in read_table(path, crs=target, bounds_m=bounds_m, assumed_crs=assumed_crs, counts=counts):
        moved = RawFeatures(reproject(raw.geometry, source_crs, target), raw.tags, raw.source_id)
        layers.append(usable(moved, bounds_m=bounds_m, counts=counts))
    return joined(RawFeatures.concat(layers), counts), None


def _frame(raw: RawFeatures, source: str, date: str | None, crs: CRS) -> gpd.GeoDataFrame:
    n = len(raw)
    columns = {
        "tags": raw.tags,
        "source_id": raw.source_id,
        "source": np.full(n, source, object),
        "source_date": np.full(n, date, object),
    }
    data = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
    frame = gpd.GeoDataFrame(data, geometry=raw.geometry, crs=crs)
    return frame[list(COLUMNS)]
