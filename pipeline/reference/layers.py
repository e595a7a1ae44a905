"""Polygons of a vector file: one layer of it, with a usable CRS, valid, and what is left out of it named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import shapely
from pyproj import CRS

from pipeline.formats import PARQUET_SUFFIXES
from pipeline.reference.errors import AreaError
from pipeline.vectors.crs import source_crs
from pipeline.vectors.damage import FAULTS, what_is_wrong
from pipeline.vectors.errors import VectorError
from pipeline.vectors.presence import Extent
from pipeline.vectors.project import reproject

AREAL = ("polygon", "surface", "collection", "unknown", "curve")
"""Parts of the names of geometry types that may hold areas."""


@dataclass(frozen=True)
class PolygonLayer:
    """Polygons of one layer.

    Attributes:
        table: One row per feature with an area, in the CRS asked for; the columns of the file are kept.
        read: Features of the layer, with or without an area.
        areas_read: Those of them that are areas.
        extent: Where the features lie by their own coordinates, for messages; None where there are none.
        warnings: What the user must know, with the name of the file.
    """

    table: gpd.GeoDataFrame
    read: int
    areas_read: int
    extent: Extent | None
    warnings: tuple[str, ...] = ()


def read_layer(path: Path, *, crs: str, layer: str | None = None) -> PolygonLayer:
    """Read the polygons of a vector file.

    Args:
        path: The file.
        crs: CRS of the result.
        layer: The layer to read; None where only one holds areas.

    Raises:
        AreaError: it cannot be read, has several layers and none is named, has no usable CRS, or no polygon.
    """
    try:
        table, name = _table(path, layer)
        own = source_crs(table.crs, None, path, name, option=None)
    except VectorError as error:
        raise AreaError(str(error)) from error
    except FAULTS as error:
        raise AreaError(f"{path}: cannot be read as a vector file: {what_is_wrong(path, error)}") from error
    given = np.asarray(table.geometry.to_numpy(), object)
    there = ~(shapely.is_missing(given) | shapely.is_empty(given))
    bounds = tuple(float(v) for v in shapely.total_bounds(given[there])) if there.any() else None
    moved = reproject(given, own, CRS.from_user_input(crs))
    usable = there & np.isfinite(shapely.bounds(moved)).all(axis=1)
    moved[~usable] = None
    areal = _areas_of(shapely.make_valid(moved))
    keep = ~shapely.is_missing(areal) & (shapely.area(areal) > 0)
    result = table[keep].set_geometry(gpd.GeoSeries(areal[keep], index=table.index[keep], crs=CRS(crs)))
    return PolygonLayer(
        result.reset_index(drop=True),
        len(table),
        int((shapely.get_dimensions(given) >= 2).sum()),
        None if bounds is None else Extent((bounds[0], bounds[1], bounds[2], bounds[3]), own),
        _losses(path, keep, given),
    )


def _table(path: Path, layer: str | None) -> tuple[gpd.GeoDataFrame, str]:
    if path.suffix.lower() in PARQUET_SUFFIXES:
        return gpd.read_parquet(path), path.stem
    found = [(str(name), kind) for name, kind in pyogrio.list_layers(path)]
    name = _chosen(path, found, layer)
    options: dict[str, Any] = {"layer": name, "on_invalid": "ignore"}
    try:
        table = pyogrio.read_dataframe(path, **options)
    except UnicodeDecodeError:
        table = pyogrio.read_dataframe(path, encoding="gb18030", **options)
    if not isinstance(table, gpd.GeoDataFrame):
        raise AreaError(f"{path}: layer {name} has no geometry; give the file that holds the outlines")
    return table, name


def _chosen(path: Path, found: Sequence[tuple[str, object]], layer: str | None) -> str:
    """The layer to read: the named one, or the only one that may hold areas."""
    names = [name for name, _ in found]
    if not names:
        raise AreaError(f"{path}: no layer can be found in it; look at it with `ogrinfo -al -so`")
    if layer is not None and layer in names:
        return layer
    areal = [name for name, kind in found if kind is not None and any(a in str(kind).lower() for a in AREAL)]
    if layer is not None and len(names) > 1:
        raise AreaError(f"{path}: has no layer {layer!r}; its layers are {', '.join(names)}: choose another --layer")
    if len(areal) > 1:
        raise AreaError(
            f"{path}: has {len(areal)} layers with areas ({', '.join(areal)}): say which of them holds the reference"
            " with --layer (`reference_layer` in sources.yaml), or write the one that is meant into a file of its own"
            " with `ogr2ogr ONE.gpkg FILE LAYER`"
        )
    return areal[0] if areal else names[0]


def _areas_of(shapes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The areal part of each geometry (n,); None where it has none."""
    result = np.array(shapes, object)
    for k in np.flatnonzero(shapely.get_type_id(result) == shapely.GeometryType.GEOMETRYCOLLECTION):
        parts = [p for p in shapely.get_parts(shapely.get_parts(result[k])) if shapely.get_dimensions(p) == 2]
        result[k] = shapely.union_all(parts) if parts else None
    result[shapely.get_dimensions(result) != 2] = None
    return result


def _losses(path: Path, keep: np.ndarray[Any, Any], given: np.ndarray[Any, Any]) -> tuple[str, ...]:
    lost = int((~keep).sum())
    if not lost:
        return ()
    kinds = sorted({"no geometry" if g is None else str(g.geom_type) for g in given[~keep][:1000]})
    return (f"{path}: {lost} of {len(keep)} features are no areas and are left out ({', '.join(kinds)})",)
