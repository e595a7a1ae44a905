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

from pipeline.files import distinct_names
from pipeline.vectors import tags as tagging
from pipeline.vectors.clean import without_duplicates
from pipeline.vectors.encodings import mojibake
from pipeline.vectors.errors import VectorError
from pipeline.vectors.raw import RawFeatures
from pipeline.vectors.reading import is_osm, read_source
from pipeline.vectors.source import Area, SourceHints
from regions.datum import Datum

COLUMNS = ("geometry", "tags", "source_id", "source", "source_date")


@dataclass(frozen=True)
class Features:
    """A feature table and the account of how it came about.

    Attributes:
        table: One row per single-part feature, in the grid's CRS: `geometry`, `tags` (canonical JSON object, keys
            sorted), `source_id` (for OSM `n123`, `w123`, `r123`), `source` (file name), `source_date` (ISO date or
            None).
        counts: How many features or tags were read, kept, dropped, mended, split, joined, by reason.
        digest: SHA-256 of the table's content.
        warnings: What the user must know of the sources: a large share lost, text in a wrong encoding, an uncertain
            datum, nothing in a file. Each begins with the name of the source.
    """

    table: gpd.GeoDataFrame
    counts: dict[str, int]
    digest: str
    warnings: tuple[str, ...] = ()


def read_features(
    paths: Sequence[str | Path] | str | Path,
    *,
    crs: str,
    bounds_m: tuple[float, float, float, float] | None,
    assumed_crs: str | None = None,
    default_tags: Mapping[str, str] | None = None,
    encoding: str | None = None,
    id_column: str | None = None,
    datum: Datum = "wgs84",
) -> Features:
    """Read vector sources of any supported format (`pipeline.formats`) into one table.

    All layers of a file are read. Attribute columns become tags, but for those in which programs keep their books
    (FID, OBJECTID, Shape_Area).

    Args:
        paths: Files or folders, in the order of preference: of a feature in several, the first wins.
        crs: CRS of the grid, to which everything is brought.
        bounds_m: Left, bottom, right, top in ``crs``: features whose envelope does not meet it are left out (and
            counted); features are never clipped. None for all.
        assumed_crs: CRS of sources that declare none or only a local one; without it such a source is refused.
        default_tags: Tags of features of tables that have none that says what they are, such as building footprints;
            tags of their own win.
        encoding: Encoding of the text of Shapefiles and other tables that is not UTF-8; found out where not given.
        id_column: Column that identifies features: pieces with one value of it that touch are joined. Without it only
            columns named as ids of OpenStreetMap (``osm_id``) do that.
        datum: What the coordinates of the sources are in truth, whatever CRS they declare: ``gcj02`` or ``bd09`` are
            taken back to WGS84.

    Raises:
        VectorError: missing or unreadable file, no usable CRS, unusable ``crs`` or bounds, a source of which nothing
            is left.
    """
    try:
        target = CRS.from_user_input(crs)
    except CRSError as error:
        raise VectorError(f"unusable CRS {crs!r} for the features ({error}); give one such as EPSG:32650") from error
    area, hints = Area(target, bounds_m), SourceHints(assumed_crs, encoding, id_column, datum)
    counts: Counter[str] = Counter(read=0)
    warnings: list[str] = []
    frames: list[gpd.GeoDataFrame] = []
    osm_ids: set[str] = set()
    given = [Path(p) for p in ([paths] if isinstance(paths, str | Path) else paths)]
    names = {path: name for name, path in distinct_names(given).items()}
    tables = 0
    for path in given:
        name = names.get(path, path.name)
        source = read_source(path, area=area, hints=hints)
        counts.update(source.counts)
        warnings += [f"{name}: {text}" for text in source.warnings]
        raw = source.features
        if is_osm(path):
            # ids below zero are numbers of one file: JOSM gives them to objects that are not uploaded
            again = np.array([i in osm_ids and "-" not in i for i in raw.source_id], bool)
            counts["in_an_earlier_file"] += int(again.sum())
            raw = raw[~again]
            osm_ids.update(raw.source_id)
        else:
            tables += len(raw)
        frames.append(_frame(raw, name, source.date, target, table=not is_osm(path)))
    table = pd.concat(frames, ignore_index=True) if frames else _frame(RawFeatures.concat([]), "", None, target)
    counts["untagged"] += int((table["tags"] == "{}").sum())
    if default_tags:
        warnings += _give_default_tags(table, default_tags, tables, counts)
    keep = without_duplicates(
        RawFeatures(table.geometry.to_numpy(), table["tags"].to_numpy(object), table["source_id"].to_numpy(object)),
        counts,
    )
    table = gpd.GeoDataFrame(table.loc[keep, list(COLUMNS)].reset_index(drop=True), geometry="geometry", crs=target)
    counts["kept"] = len(table)
    spoiled = mojibake(tagging.words_not_ascii(table["tags"].unique()))
    if spoiled is not None:
        warnings.append(f"{', '.join(sorted(set(table['source'])))}: {spoiled}")
    shown = {k: v for k, v in sorted(counts.items()) if v or k in {"read", "kept"}}
    return Features(table, shown, content_digest(table), tuple(warnings))


def _give_default_tags(
    table: gpd.GeoDataFrame, default_tags: Mapping[str, str], tables: int, counts: Counter[str]
) -> list[str]:
    """Give features of tables that do not say what they are the default tags, in place; what is to be warned of."""
    texts = {text: tagging.says_what(text) for text in table["tags"].unique()}
    bare = (table["from_table"] & ~table["tags"].map(texts).astype(bool)).to_numpy(bool)
    with_default = {t: tagging.with_default(t, default_tags) for t, says in texts.items() if not says}
    table.loc[bare, "tags"] = table.loc[bare, "tags"].map(with_default)
    counts["default_tags_given"] += int(bare.sum())
    if bare.any() or not tables:
        return []
    shown = ", ".join(f"{k}={v}" for k, v in default_tags.items())
    return [f"--default-tag {shown} was given to 0 of {tables} features: all say themselves what they are"]


def content_digest(table: gpd.GeoDataFrame) -> str:
    """SHA-256 of CRS, geometry, tags and ids of a feature table, in row order."""
    sha = hashlib.sha256(table.crs.to_wkt().encode())
    for column in (shapely.to_wkb(table.geometry.to_numpy()), *(table[c] for c in COLUMNS[1:])):
        values = [v if isinstance(v, bytes) else b"\x00" if v is None else str(v).encode() for v in column]
        sha.update(np.array([len(v) for v in values], np.int64).tobytes())
        sha.update(b"".join(values))
    return sha.hexdigest()


def _frame(raw: RawFeatures, source: str, date: str | None, crs: CRS, *, table: bool = False) -> gpd.GeoDataFrame:
    n = len(raw)
    columns = {
        "tags": raw.tags,
        "source_id": raw.source_id,
        "source": np.full(n, source, object),
        "source_date": np.full(n, date, object),
    }
    data = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
    data["from_table"] = table
    return gpd.GeoDataFrame(data, geometry=raw.geometry, crs=crs)
