"""Vector tables that GDAL reads: GeoPackage, GeoJSON, Shapefile, FlatGeobuf, GML, file geodatabases and others."""

from __future__ import annotations

import codecs
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio

from pipeline.vectors import tags as tagging
from pipeline.vectors.crs import source_crs
from pipeline.vectors.encodings import dbf_encoding, decoded, encoding_given, encoding_of, fits
from pipeline.vectors.errors import VectorError
from pipeline.vectors.geojson import refuse_features_passed_over
from pipeline.vectors.identity import PLAIN_ID, ids_of
from pipeline.vectors.presence import Extent
from pipeline.vectors.project import bounds_in
from pipeline.vectors.raw import RawFeatures
from pipeline.vectors.shapefile import refuse_incomplete
from pipeline.vectors.source import Account, Area, Layer, SourceHints

_JSON = frozenset({".geojson", ".json", ".geojsonl", ".geojsons"})
_BYTES = "ISO-8859-1"
"""Decodes any bytes, one character each, so that the right encoding can be found afterwards."""


@dataclass(frozen=True)
class _Reading:
    """A table that is being read: its path, what GDAL opens of it, what is asked for and what becomes of it."""

    path: Path
    content: Path | bytes
    area: Area
    hints: SourceHints
    account: Account


def read_table(path: Path, *, area: Area, hints: SourceHints, account: Account) -> Iterator[Layer]:
    """The layers of a table file, each with its CRS; only rows whose envelope meets the area.

    Raises:
        VectorError: no usable CRS, no layer with geometry, or fewer features than declared.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # repeated ids and odd fields are counted below, not warned of
        if path.suffix.lower() == ".shp":
            refuse_incomplete(path, account)
        reading = _Reading(path, _utf8_of_utf16(path), area, hints, account)
        layers = _layers(reading)
        account.extents = lambda: _extents(reading, layers)
        read = 0
        for name in layers:
            layer = _read_layer(reading, name)
            read += layer.read
            yield layer
        if path.suffix.lower() in _JSON:
            refuse_features_passed_over(path, reading.content, read)


def as_layer(table: gpd.GeoDataFrame, *, name: str, crs: Any, read: int, hints: SourceHints, account: Account) -> Layer:
    """Rows of a table as a layer: attribute columns become tags and ids."""
    attributes = table.drop(columns=table.geometry.name)
    if hints.id_column is not None and hints.id_column.lower() not in {str(c).lower() for c in attributes.columns}:
        raise VectorError(
            f"layer {name} has no column {hints.id_column!r} that --vectors-id names; its columns are"
            f" {', '.join(map(str, attributes.columns)) or 'none'}"
        )
    ids, identified = ids_of(attributes, account.counts, id_column=hints.id_column)
    if not identified and _may_be_pieces(attributes):
        account.warnings.append(
            f"layer {name}: values of the column {PLAIN_ID!r} repeat; if it identifies features that were cut into"
            f" pieces (vector tiles), say so with --vectors-id {PLAIN_ID}: pieces that touch are then joined"
        )
    tags = tagging.from_columns(attributes, account.counts)
    return Layer(name, RawFeatures(np.asarray(table.geometry.to_numpy(), object), tags, ids), crs, identified, read)


def box_in(area: Area, crs: Any) -> tuple[float, float, float, float] | None:
    """The area as a box in ``crs``; None where all is asked for, or where the area cannot be expressed in it."""
    if area.bounds is None:
        return None
    try:
        return bounds_in(area.bounds, area.crs, crs)
    except VectorError:
        return None


def _utf8_of_utf16(path: Path) -> Path | bytes:
    """The file, or its text as UTF-8 where it is JSON in UTF-16, which GDAL does not know."""
    if path.suffix.lower() in _JSON:
        with path.open("rb") as file:
            head = file.read(2)
        if head in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
            return path.read_text(encoding="utf-16").encode()
    return path


def _layers(reading: _Reading) -> list[str]:
    found = pyogrio.list_layers(reading.content)
    path = reading.path
    if not len(found):
        raise VectorError(f"{path}: no layer can be found in it; look at it with `ogrinfo -al -so`, or fetch it again")
    with_geometry = [str(name) for name, kind in found if kind is not None]
    reading.account.counts["layers_without_geometry"] += len(found) - len(with_geometry)
    if not with_geometry:
        raise VectorError(
            f"{path}: none of its layers ({', '.join(str(n) for n, _ in found[:5])}) has geometry; give the file that"
            " holds the outlines"
        )
    return with_geometry


def _read_layer(reading: _Reading, layer: str) -> Layer:
    info = _info(reading, layer)
    crs = source_crs(info["crs"], reading.hints.crs, reading.path, layer)
    box = box_in(reading.area, crs)
    table = _rows(reading, layer, box)
    read = max(int(info["features"]), len(table))
    if box is None and len(table) < read:
        raise VectorError(
            f"{reading.path}: layer {layer} declares {read} features but holds {len(table)}: the file is incomplete,"
            " fetch it again"
        )
    counts = reading.account.counts
    counts["read"] += read
    # rows without geometry never meet a box: the cleaning cannot tell them from what lies outside
    counts["outside"] += read - len(table)
    return as_layer(table, name=layer, crs=crs, read=read, hints=reading.hints, account=reading.account)


def _info(reading: _Reading, layer: str, *, bounds: bool = False) -> dict[str, Any]:
    try:
        info: dict[str, Any] = pyogrio.read_info(
            reading.content, layer=layer, encoding=_BYTES, force_feature_count=True, force_total_bounds=bounds
        )
    except pyogrio.errors.CRSError as error:
        raise VectorError(
            f"{reading.path}: layer {layer}: unusable CRS ({error}); correct it in the file, or remove the .prj and say"
            " which CRS it is with --vectors-crs"
        ) from error
    return info


def _rows(reading: _Reading, layer: str, box: tuple[float, float, float, float] | None) -> gpd.GeoDataFrame:
    options = {"layer": layer, "bbox": box, "on_invalid": "ignore", "datetime_as_string": True}
    declared = "utf-8"
    if reading.path.suffix.lower() == ".shp":
        declared = dbf_encoding(reading.path) or ""
    else:
        try:
            return _distinct_columns(pyogrio.read_dataframe(reading.content, **options), reading.account)
        except UnicodeDecodeError:
            pass  # its bytes are read below, and their encoding is found out
    table = _distinct_columns(pyogrio.read_dataframe(reading.content, encoding=_BYTES, **options), reading.account)
    return _in_the_right_encoding(table, reading.path, declared or None, reading.hints, reading.account)


def _distinct_columns(table: gpd.GeoDataFrame, account: Account) -> gpd.GeoDataFrame:
    """The table with one column of each name: GDAL gives all columns of a name the values of the last."""
    repeated = table.columns.duplicated(keep="last")
    if repeated.any():
        account.warnings.append(
            f"several columns are called {', '.join(sorted(set(table.columns[repeated])))}: only the last of each is"
            " read; give them names of their own"
        )
    return table.loc[:, ~repeated]


def _in_the_right_encoding(
    table: gpd.GeoDataFrame, path: Path, declared: str | None, hints: SourceHints, account: Account
) -> gpd.GeoDataFrame:
    """The table with the names and values of its columns decoded; they come as one character per byte."""
    geometry = table.geometry.name
    texts = {
        name: pd.factorize(table[name])
        for name in table.columns
        if name != geometry and not pd.api.types.is_numeric_dtype(table[name].dtype)
    }
    raw = {value.encode("latin-1", "replace") for _, values in texts.values() for value in values if _is_text(value)}
    raw |= {str(name).encode("latin-1", "replace") for name in table.columns if name != geometry}
    given = None if hints.encoding is None else encoding_given(hints.encoding)
    if given in {"gb18030", "big5hkscs"} and all(fits(t, "utf-8") for t in raw):
        given = "utf-8"  # what the user says of the city's other files: Chinese text is UTF-8 by no chance
    if given is not None:
        encoding = given
        wrong = [t for t in raw if not fits(t, encoding)]
        if wrong:
            raise VectorError(
                f"{path}: --vectors-encoding {hints.encoding} does not fit its text (bytes {wrong[0][:12].hex(' ')});"
                f" it looks like {encoding_of(raw, None, '')[0]}"
            )
    else:
        encoding, warning = encoding_of(raw, declared, "its attributes")
        if warning is not None:
            account.warnings.append(warning)
    for name, (codes, values) in texts.items():
        right = [decoded(v.encode("latin-1"), encoding) if _is_text(v) else v for v in values]
        table[name] = np.array([*right, None], object)[codes]  # code -1, a null, is the last
    return table.rename(columns=_new_names(list(table.columns), geometry, encoding))


def _new_names(columns: list[str], geometry: str, encoding: str) -> dict[str, str]:
    """Names decoded; where two become one, as may happen to names that were cut, the later ones get a number."""
    names: dict[str, str] = {}
    for name in columns:
        new = name if name == geometry else decoded(name.encode("latin-1", "replace"), encoding)
        while new in names.values():
            new = f"{new}_"
        names[name] = new
    return names


def _is_text(value: object) -> bool:
    return isinstance(value, str) and all(ord(c) < 256 for c in value)


def _may_be_pieces(attributes: pd.DataFrame) -> bool:
    column = next((attributes[c] for c in attributes.columns if str(c).lower() == PLAIN_ID), None)
    if column is None:
        return False
    known = column.dropna()
    return bool(len(known) > known.nunique() >= max(2, len(known) / 10))


def _extents(reading: _Reading, layers: list[str]) -> list[Extent]:
    found = []
    for layer in layers:
        info = _info(reading, layer, bounds=True)
        bounds = info["total_bounds"]
        if bounds is not None and all(map(math.isfinite, bounds)):
            found.append(Extent(tuple(bounds), source_crs(info["crs"], reading.hints.crs, reading.path, layer)))
    return found
