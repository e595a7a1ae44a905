"""The one reader of reference labels, for all commands: villages, and the ground of which the labels say nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import pandas as pd
import rasterio
import shapely
from pyproj import CRS

from pipeline.formats import vector_format
from pipeline.imagery.scene import Scene
from pipeline.reference.errors import AreaError
from pipeline.reference.layers import read_layer
from pipeline.reference.masks import (
    Frame,
    MaskHints,
    MaskShapes,
    is_raster,
    place_of,
    rule_of,
    shapes_of,
    values_of,
)
from pipeline.vectors.presence import Extent, why_nothing_is_left

Bounds = tuple[float, float, float, float]
SILENT_SHARE = 0.01
"""Share of the map's ground without labels from which it is said."""
EDGE_PX = 64
"""Outlines of masks get a vertex at least every so many pixels before they go to another CRS."""


@dataclass(frozen=True)
class ReferenceHints:
    """What the user says of reference files.

    Attributes:
        layer: Layer of vector files that have several.
        positive: Values of villages in masks; none for the rule of 0, 1 and 255.
        raster_crs: CRS of masks that carry none.
        frames: Rasters on whose grid a mask without georeference may lie.
    """

    layer: str | None = None
    positive: tuple[int, ...] = ()
    raster_crs: str | None = None
    frames: tuple[Frame, ...] = ()

    @property
    def masks(self) -> MaskHints:
        """What of it concerns masks."""
        return MaskHints(self.raster_crs, self.positive, self.frames)


@dataclass(frozen=True)
class Reference:
    """Reference labels in one CRS.

    Attributes:
        polygons: Villages, one row per polygon; the columns of vector files are kept.
        unlabelled: Ground of the map of which the labels say nothing; None where all is labelled. It is left out of
            training, thresholds and accuracy.
        warnings: What the user must know, each with the name of the file.
    """

    polygons: gpd.GeoDataFrame
    unlabelled: gpd.GeoDataFrame | None
    warnings: tuple[str, ...] = ()

    def labelled_part(self, area: shapely.Geometry) -> shapely.Geometry:
        """The part of an area, in the CRS of the polygons, of which the labels say something."""
        if self.unlabelled is None:
            return area
        return shapely.difference(area, shapely.union_all(self.unlabelled.geometry.to_numpy()))


def frame_of(scene: Scene) -> Frame:
    """The grid of a scene."""
    return Frame(Path(scene.path).name, scene.crs, scene.transform, scene.height_px, scene.width_px)


def frame_of_raster(path: Path) -> Frame:
    """The grid of a raster of ours, such as the mask of a product."""
    with rasterio.open(path) as dataset:
        t = dataset.transform
        return Frame(
            path.name, dataset.crs.to_wkt(), (t.a, t.b, t.c, t.d, t.e, t.f), int(dataset.height), int(dataset.width)
        )


def read_reference(
    paths: Sequence[Path], *, crs: str, bounds_m: Bounds | None = None, hints: ReferenceHints | None = None
) -> Reference:
    """Read reference labels from polygon files and mask rasters.

    Polygon files say that all ground outside their polygons is no village. Mask rasters say so of their own labelled
    pixels only: where all files are masks, ground outside them is not labelled.

    Args:
        paths: Vector files and rasters.
        crs: CRS of the result, that of the map.
        bounds_m: The map, (left, bottom, right, top) in ``crs``; None where nothing is mapped yet.
        hints: What the user says of the files.

    Raises:
        AreaError: a file is missing, cannot be read or placed, holds several layers or unknown values, or no file
            meets the map.
    """
    hints = hints or ReferenceHints()
    vectors, rasters = split_files(paths)
    layers = [read_layer(p, crs=crs, layer=hints.layer) for p in vectors]
    warnings = [w for layer in layers for w in layer.warnings]
    masks = [values_of(p) for p in rasters]
    shapes: list[MaskShapes] = []
    if masks:
        rule = rule_of(masks, hints.positive)
        warnings += rule.warnings
        for mask in masks:
            place = place_of(mask.path, hints.masks)
            warnings += place.warnings
            shapes.append(shapes_of(mask, place, rule))
    for path, layer in zip(vectors, layers, strict=True):
        if layer.areas_read == 0 < layer.read:
            raise AreaError(f"{path}: holds no polygon: {'; '.join(layer.warnings) or 'give outlines as areas'}")
        if layer.areas_read and not len(layer.table):
            target = CRS.from_user_input(crs)
            reason = why_nothing_is_left([layer.extent] if layer.extent else [], crs=target, bounds_m=bounds_m)
            raise AreaError(f"{path}: none of its {layer.read} features can be used: {reason}")
    villages = [in_crs(s.villages, s, crs) for s in shapes]
    labelled = [in_crs(s.labelled, s, crs) for s in shapes]
    if bounds_m is not None:
        files = [
            *((p, x.table, x.extent) for p, x in zip(vectors, layers, strict=True) if x.read),
            *((p, t, _extent_of(t, crs)) for p, t in zip(rasters, labelled, strict=True)),
        ]
        warnings += _presence(files, crs, bounds_m)
    silent = _silent_ground(labelled, has_polygon_files=bool(layers), bounds_m=bounds_m)
    polygons = _joined([layer.table for layer in layers], villages, crs)
    if bounds_m is not None:
        warnings += _remarks(polygons, silent, shapely.box(*bounds_m), paths)
    unlabelled = None if silent is None else gpd.GeoDataFrame(geometry=[silent], crs=crs)
    return Reference(polygons, unlabelled, tuple(warnings))


def split_files(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Vector files and rasters among reference files.

    Raises:
        AreaError: a file is missing.
    """
    vectors: list[Path] = []
    rasters: list[Path] = []
    for path in paths:
        if not path.exists():
            raise AreaError(f"{path}: no such file")
        (rasters if vector_format(path) is None and is_raster(path) else vectors).append(path)
    return vectors, rasters


def in_crs(polygons: Sequence[shapely.Polygon], shapes: MaskShapes, crs: str) -> gpd.GeoDataFrame:
    """Polygons of a mask in another CRS, with vertices so close that their straight edges stay where they are."""
    table = gpd.GeoDataFrame(geometry=list(polygons), crs=shapes.crs)
    if not len(table):
        return gpd.GeoDataFrame(geometry=[], crs=crs)
    if table.crs == CRS.from_user_input(crs):
        return table.set_crs(crs, allow_override=True)
    dense = shapely.segmentize(table.geometry.to_numpy(), shapes.pixel * EDGE_PX)
    moved = table.set_geometry(dense, crs=shapes.crs).to_crs(crs)
    return moved.set_geometry(gpd.GeoSeries(shapely.make_valid(moved.geometry.to_numpy()), crs=crs))


def _joined(tables: list[gpd.GeoDataFrame], masks: list[gpd.GeoDataFrame], crs: str) -> gpd.GeoDataFrame:
    every = [t for t in (*tables, *masks) if len(t)]
    if not every:
        return gpd.GeoDataFrame(geometry=[], crs=crs)
    if len(every) == 1:
        return every[0].reset_index(drop=True)
    named = [t if t.geometry.name == "geometry" else t.rename_geometry("geometry") for t in every]
    return gpd.GeoDataFrame(pd.concat(named, ignore_index=True), geometry="geometry", crs=crs)


def _silent_ground(
    labelled: list[gpd.GeoDataFrame], *, has_polygon_files: bool, bounds_m: Bounds | None
) -> shapely.Geometry | None:
    """Ground of which masks say nothing, or None."""
    if not labelled:
        return None
    known = [shapely.union_all(part.geometry.to_numpy()) for part in labelled]
    if has_polygon_files or bounds_m is None:  # of ground outside the masks the polygon files speak
        frame = shapely.union_all([shapely.box(*k.bounds) for k in known if not k.is_empty])
    else:
        frame = shapely.box(*bounds_m)
    silent = shapely.difference(frame, shapely.union_all(known))
    return None if shapely.area(silent) <= 1e-9 * shapely.area(frame) else silent


def _presence(files: list[tuple[Path, gpd.GeoDataFrame, Extent | None]], crs: str, bounds_m: Bounds) -> list[str]:
    """Warnings about files, with what they say and where they lie, that do not meet the map.

    Raises:
        AreaError: none does.
    """
    area = shapely.box(*bounds_m)
    apart = []
    for path, table, extent in files:
        if not shapely.intersects(table.geometry.to_numpy(), area).any():
            where = (
                "no pixel of it is labelled"
                if extent is None
                else why_nothing_is_left([extent], crs=CRS.from_user_input(crs), bounds_m=bounds_m)
            )
            apart.append(f"{path}: does not meet the map: {where}")
    if apart and len(apart) == len(files):
        raise AreaError(apart[0] + (f" (nor do {len(apart) - 1} more files)" if len(apart) > 1 else ""))
    return apart


def _extent_of(table: gpd.GeoDataFrame, crs: str) -> Extent | None:
    if not len(table):
        return None
    left, bottom, right, top = (float(v) for v in table.total_bounds)
    return Extent((left, bottom, right, top), CRS.from_user_input(crs))


def _remarks(
    polygons: gpd.GeoDataFrame, silent: shapely.Geometry | None, area: shapely.Geometry, paths: Sequence[Path]
) -> list[str]:
    name = paths[0].name if len(paths) == 1 else f"{paths[0].name} and {len(paths) - 1} more"
    remarks = []
    if not shapely.intersects(polygons.geometry.to_numpy(), area).any():
        remarks.append(f"{name}: there is no village in the reference on this ground")
    if silent is not None:
        share = shapely.area(shapely.intersection(silent, area)) / shapely.area(area)
        if share >= SILENT_SHARE:
            remarks.append(f"{name}: {share:.0%} of the map's extent has no labels and is left out")
    return remarks
