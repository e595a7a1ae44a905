"""Where the two sides of a comparison come from: a release, or the polygons of a map that is not ours.

Both give the villages of one city at a time, in the national equal-area CRS, so that memory holds one city.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyogrio
import pyproj
import shapely
from numpy.typing import NDArray

from pipeline.release.errors import ReleaseError
from pipeline.release.layout import RECORD, VILLAGES
from pipeline.release.record import CityFact, ReleaseRecord, read_record
from pipeline.release.tables import CRS
from regions.raster.equal_area import CHINA_ALBERS

MARGIN_M = 2000.0
"""Around the villages of a city: polygons of a foreign map beyond it are not compared."""
BATCH_ROWS = 20_000
"""Polygons of a foreign GeoParquet that are read at once."""


class ReleaseSide:
    """A release."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record: ReleaseRecord = read_record(folder)
        self.name = f"{self.record.campaign.get('name', folder.name)} {self.record.version}"
        self.cities: dict[str, CityFact] = {c.adcode: c for c in self.record.cities}

    def villages(self, adcode: str) -> gpd.GeoDataFrame:
        """The villages of a city; none of a city that is not in the release."""
        city = self.cities.get(adcode)
        if city is None:
            return _frame([], [])
        path = self.folder / VILLAGES
        try:
            table = gpd.read_parquet(
                path,
                columns=["uv_id", "geometry"],
                bbox=(city.west, city.south, city.east, city.north),
                filters=[("adcode", "==", adcode)],
            )
        except (OSError, ValueError) as error:
            raise ReleaseError(f"{path}: cannot be read ({error}); build the release again") from error
        if len(table) != city.villages:
            raise ReleaseError(
                f"{path}: has {len(table)} villages of {adcode}, {RECORD} says {city.villages}; build the release again"
            )
        shapes = np.asarray(table.geometry.to_crs(CHINA_ALBERS).array, dtype=object)
        return _frame(table["uv_id"].astype(str).tolist(), _valid(shapes))


class ForeignSide:
    """Polygons of a map that is not ours, each given to the city whose villages are nearest to it.

    Attributes:
        name: Of the file.
        polygons: How many it has.
        outside: How many lie beyond every city of the release, and are not compared.
        without: Cities of the release that none of them lies in: adcodes.
        skipped: How many have no area (points, lines, nothing).
        dissolved: How many were joined with others that they overlap.
    """

    def __init__(self, path: Path, release: ReleaseSide, *, layer: str | None, margin_m: float, work: Path) -> None:
        self.name = path.name
        self._path, self._layer = _readable(path, work), layer
        try:
            info = pyogrio.read_info(self._path, layer=layer)
            if info["crs"] is None:
                raise ReleaseError(f"{path}: says no CRS; write it with one, or set it (`ogr2ogr -a_srs EPSG:...`)")
            fids, bounds = pyogrio.read_bounds(self._path, layer=layer)
        except pyogrio.errors.DataSourceError as error:
            raise ReleaseError(f"{path}: cannot be read as polygons ({error})") from error
        self.polygons = len(fids)
        self.skipped = self.dissolved = 0
        self._fids = fids
        self._city = _nearest_city(bounds, info["crs"], release, margin_m)
        self._codes = [c.adcode for c in release.record.cities]
        self.outside = int((self._city < 0).sum())
        there = set(self._city.tolist())
        self.without = tuple(code for place, code in enumerate(self._codes) if place not in there)

    def villages(self, adcode: str) -> gpd.GeoDataFrame:
        """The polygons of a city, mended, those that overlap joined; their ids are made of the file's numbers."""
        fids = self._fids[self._city == self._codes.index(adcode)] if adcode in self._codes else self._fids[:0]
        if not len(fids):
            return _frame([], [])
        table = pyogrio.read_dataframe(self._path, layer=self._layer, columns=[], fids=fids, fid_as_index=True)
        shapes = _valid(np.asarray(table.geometry.to_crs(CHINA_ALBERS).array, dtype=object))
        solid = np.array([s is not None and shapely.area(s) > 0 for s in shapes], dtype=bool)
        self.skipped += int((~solid).sum())
        ids = [f"foreign-{k}" for k in table.index[solid]]
        joined, kept = _joined_overlaps(shapes[solid])
        self.dissolved += len(ids) - len(kept)
        return _frame([ids[k] for k in kept], joined)


def _frame(ids: Sequence[str], shapes: Any) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame({"uv_id": pd.array(list(ids), dtype="string")}, geometry=list(shapes), crs=CHINA_ALBERS)


def _valid(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Reprojection can cross thin necks: such outlines are mended, and only their areas kept."""
    broken = np.flatnonzero(~shapely.is_valid(shapes) & ~shapely.is_missing(shapes))
    for k in broken:
        parts = shapely.get_parts(shapely.make_valid(shapes[k]))
        shapes[k] = shapely.union_all([p for p in parts if p.geom_type in {"Polygon", "MultiPolygon"}])
    return shapes


def _joined_overlaps(shapes: NDArray[np.object_]) -> tuple[list[Any], list[int]]:
    """Shapes without overlaps, and which of the given ones gives each its number (the first)."""
    left, right = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    one_way = left < right
    left, right = left[one_way], right[one_way]
    over = shapely.area(shapely.intersection(shapes[left], shapes[right])) > 0
    parent = list(range(len(shapes)))

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    for i, j in zip(left[over], right[over], strict=True):
        one, other = sorted((root(int(i)), root(int(j))))
        parent[other] = one
    members: dict[int, list[Any]] = {}
    for k in range(len(shapes)):
        members.setdefault(root(k), []).append(shapes[k])
    kept = sorted(members)
    return [members[k][0] if len(members[k]) == 1 else shapely.union_all(members[k]) for k in kept], kept


def _nearest_city(bounds: NDArray[np.float64], crs: str, release: ReleaseSide, margin_m: float) -> NDArray[np.int64]:
    """int64 (F,): the place among the release's cities of the one whose villages are nearest; -1 beyond the margin.

    Cities are read one at a time.
    """
    to_metres = pyproj.Transformer.from_crs(crs, CHINA_ALBERS, always_xy=True)
    middle_x, middle_y = to_metres.transform((bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2)
    points = shapely.points(middle_x, middle_y)
    nearest, distance = np.full(len(points), -1, np.int64), np.full(len(points), np.inf)
    from_degrees = pyproj.Transformer.from_crs(CRS, CHINA_ALBERS, always_xy=True)
    for place, city in enumerate(release.record.cities):
        west, south, east, north = from_degrees.transform_bounds(city.west, city.south, city.east, city.north)
        near = np.flatnonzero(
            (middle_x >= west - margin_m)
            & (middle_x <= east + margin_m)
            & (middle_y >= south - margin_m)
            & (middle_y <= north + margin_m)
        )
        if not len(near):
            continue
        shapes = np.asarray(release.villages(city.adcode).geometry.array, dtype=object)
        if len(shapes):
            index, found = shapely.STRtree(shapes).query_nearest(points[near], return_distance=True, all_matches=False)
            far = np.full(len(near), np.inf)
            far[index[0]] = found
        else:
            far = np.full(len(near), np.finfo(float).max)  # mapped, and no village: better than no city at all
        closer = far < distance[near]
        nearest[near[closer]], distance[near[closer]] = place, far[closer]
    return nearest


def _readable(path: Path, work: Path) -> Path:
    """The file itself, or a GeoPackage of a GeoParquet, which GDAL of the wheel does not read; a batch at a time."""
    if not path.exists():
        raise ReleaseError(
            f"{path}: no such file; give a release, or polygons (GeoPackage, GeoParquet, Shapefile, ...)"
        )
    if path.suffix.lower() not in {".parquet", ".geoparquet"}:
        return path
    target = work / "foreign.gpkg"
    target.unlink(missing_ok=True)
    source = pq.ParquetFile(path)
    try:
        geo = json.loads((source.schema_arrow.metadata or {})[b"geo"])
        column = geo["primary_column"]
        crs = geo["columns"][column].get("crs", "OGC:CRS84")
        encoding = geo["columns"][column]["encoding"]
    except KeyError as error:
        raise ReleaseError(f"{path}: is no GeoParquet (no {error} in its metadata); give polygons") from error
    if encoding != "WKB":
        gpd.read_parquet(path)[[column]].to_file(target, driver="GPKG", engine="pyogrio")
        return target
    for batch in source.iter_batches(batch_size=BATCH_ROWS, columns=[column]):
        shapes = shapely.from_wkb(batch.column(0).to_numpy(zero_copy_only=False))
        table = gpd.GeoDataFrame(geometry=shapes, crs=None if crs is None else pyproj.CRS.from_user_input(crs))
        pyogrio.write_dataframe(table, target, driver="GPKG", append=target.exists(), geometry_type="Unknown")
    return target
