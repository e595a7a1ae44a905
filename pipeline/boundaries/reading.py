"""Boundaries of cities from one file: taken to WGS84, rings mended, every unit with its code or name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pyogrio.errors
import shapely
from numpy.typing import NDArray

from pipeline.boundaries.errors import BoundaryError
from pipeline.vectors.crs import LONLAT, source_crs
from pipeline.vectors.project import reproject, without_shift
from regions.datum import Datum

CODE_COLUMNS = ("adcode", "adcode99", "gb", "pac", "code", "citycode", "adm2_code", "区划码", "市代码")
NAME_COLUMNS = ("name", "adm2_zh", "name_zh", "name_chn", "cityname", "地名", "市", "名称")
PROVINCE_COLUMNS = ("prov_adcode", "adm1_zh", "province", "pr_name", "省", "省代码")


@dataclass(frozen=True)
class Boundaries:
    """The units of a file.

    Attributes:
        table: One row per unit, WGS84 degrees: `geometry` (valid polygons), `code` (six digits or None), `name`,
            `province` (name or code as the file has it, or None).
        counts: What was read, mended, joined and left out.
    """

    table: gpd.GeoDataFrame
    counts: dict[str, int]


def read_boundaries(
    path: Path,
    *,
    datum: Datum = "wgs84",
    crs: str | None = None,
    code: str | None = None,
    name: str | None = None,
    province: str | None = None,
) -> Boundaries:
    """Read the boundaries of a file of any vector format.

    Args:
        path: The file.
        datum: What its coordinates are in truth, whatever CRS it declares.
        crs: CRS of a file that declares none.
        code: Column of the codes; found by its name where None.
        name: Column of the names; likewise.
        province: Column of the province's name or code; likewise.

    Raises:
        BoundaryError: the file cannot be read, holds no polygons, or has neither codes nor names.
        VectorError: it has no usable CRS.
    """
    table = _read(path)
    columns = [str(c) for c in table.columns if c != table.geometry.name]
    code_column = _column(path, columns, code, CODE_COLUMNS)
    name_column = _column(path, columns, name, NAME_COLUMNS)
    province_column = _column(path, columns, province, PROVINCE_COLUMNS)
    if code_column is None and name_column is None:
        raise BoundaryError(
            f"{path}: no column of codes or names is known among {', '.join(columns)}; say which it is (code, name)"
        )
    counts: Counter[str] = Counter(read=len(table))
    geometry, system = table.geometry.to_numpy(), source_crs(table.crs, crs, path, path.stem, option=None)
    geometry, system = without_shift(geometry, system, datum)
    geometry = _polygons(reproject(geometry, system, LONLAT), counts)
    empty: NDArray[np.bool_] = shapely.is_missing(geometry) | shapely.is_empty(geometry)
    counts["without_polygon"] += int(empty.sum())
    result = gpd.GeoDataFrame(
        {
            "code": pd.Series(_codes(table, code_column), dtype=object),
            "name": pd.Series(_texts(table, name_column), dtype=object),
            "province": pd.Series(_texts(table, province_column), dtype=object),
        },
        geometry=geometry,
        crs="EPSG:4326",
    )[~empty]
    if not len(result):
        raise BoundaryError(f"{path}: holds no polygon ({len(table)} rows); give the boundaries of cities")
    return Boundaries(_one_row_each(result, counts), dict(counts))


def read_polygons(path: Path, *, datum: Datum = "wgs84", crs: str | None = None) -> gpd.GeoDataFrame:
    """The polygons of a file, valid and in WGS84 degrees, without their attributes.

    Raises:
        BoundaryError: the file cannot be read or holds no polygons.
        VectorError: it has no usable CRS.
    """
    table = _read(path)
    geometry, system = without_shift(
        table.geometry.to_numpy(), source_crs(table.crs, crs, path, path.stem, option=None), datum
    )
    geometry = _polygons(reproject(geometry, system, LONLAT), Counter())
    geometry = geometry[~(shapely.is_missing(geometry) | shapely.is_empty(geometry))]
    if not len(geometry):
        raise BoundaryError(f"{path}: holds no polygon ({len(table)} rows)")
    return gpd.GeoDataFrame(geometry=geometry, crs="EPSG:4326")


def _read(path: Path) -> gpd.GeoDataFrame:
    if not path.exists():
        raise BoundaryError(f"{path}: no such file of boundaries")
    try:
        if path.suffix.lower() in {".parquet", ".geoparquet"}:
            return gpd.read_parquet(path)
        return gpd.read_file(path, engine="pyogrio", on_invalid="ignore")
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError, OSError) as error:
        raise BoundaryError(f"{path}: cannot be read as boundaries ({str(error).splitlines()[0]})") from error


def _column(path: Path, columns: Sequence[str], given: str | None, known: tuple[str, ...]) -> str | None:
    if given is not None:
        if given not in columns:
            raise BoundaryError(f"{path}: has no column {given}; its columns are {', '.join(columns)}")
        return given
    by_name = {c.lower(): c for c in reversed(columns)}
    return next((by_name[k] for k in known if k in by_name), None)


def _codes(table: gpd.GeoDataFrame, column: str | None) -> list[str | None]:
    """Six digits each: also from numbers, from codes of twelve digits, and from 156-prefixed ones of maps."""
    if column is None:
        return [None] * len(table)
    found = []
    for value in table[column]:
        text = "" if pd.isna(value) else str(value).strip().removesuffix(".0")
        if len(text) == 9 and text.startswith("156"):
            text = text[3:]
        found.append(text[:6] if text.isdigit() and len(text) in {6, 12} else None)
    return found


def _texts(table: gpd.GeoDataFrame, column: str | None) -> list[str | None]:
    if column is None:
        return [None] * len(table)
    return [None if pd.isna(v) or not str(v).strip() else str(v).strip() for v in table[column]]


def _polygons(geometry: NDArray[np.object_], counts: Counter[str]) -> NDArray[np.object_]:
    """The geometries as valid polygons: rings that cross themselves are mended, lines and points left out."""
    invalid = ~shapely.is_valid(geometry) & ~shapely.is_missing(geometry)
    counts["invalid_mended"] += int(invalid.sum())
    result = geometry.copy()
    result[invalid] = shapely.make_valid(geometry[invalid], method="structure")
    mixed = ~np.isin(shapely.get_type_id(result), (3, 6)) & ~shapely.is_missing(result)
    for k in np.flatnonzero(mixed):
        parts = shapely.get_parts(result[k])
        result[k] = shapely.union_all([p for p in parts if p.geom_type in {"Polygon", "MultiPolygon"}])
    return result


def _one_row_each(table: gpd.GeoDataFrame, counts: Counter[str]) -> gpd.GeoDataFrame:
    """Rows of one unit (the same code, or the same name and province where there is no code) become one."""
    key = [c or f"{p}/{n}" for c, n, p in zip(table["code"], table["name"], table["province"], strict=True)]
    groups: dict[str, list[int]] = {}
    for row, k in enumerate(key):
        groups.setdefault(k, []).append(row)
    counts["joined"] += len(table) - len(groups)
    first = [members[0] for members in groups.values()]
    result = table.iloc[first].reset_index(drop=True)
    shapes = table.geometry.to_numpy()
    result["geometry"] = [
        shapes[rows[0]] if len(rows) == 1 else shapely.union_all(shapes[rows]) for rows in groups.values()
    ]
    return result
