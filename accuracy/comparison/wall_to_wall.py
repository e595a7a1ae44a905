"""Map against complete reference, pixel by pixel, inside given areas, in windows of bounded memory.

This is a census of the areas, not a sample: the figures carry no sampling error and speak for these areas only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.enums import MaskFlags
from rasterio.windows import Window

from accuracy.comparison.confusion import Confusion
from accuracy.errors import ComparisonError
from accuracy.pixels import pixel_area_m2
from regions.raster.burn import burn_into
from regions.raster.scores import SCORE_SCALE, at_least, is_predicted


@dataclass(frozen=True, kw_only=True)
class AreaComparison:
    """One area's confusion in pixels.

    Attributes:
        name: The area's name.
        confusion: TP, FP, FN, TN in pixels that the map predicted.
        not_predicted_px: Pixels of the area that the map left out (no data); in no cell of the confusion.
        reference_not_predicted_px: Those of them that are urban village in the reference: recall does not
            see them, so they are counted here.
        pixel_area_m2: True area of a pixel in the middle of the raster, whatever its CRS.
    """

    name: str
    confusion: Confusion
    not_predicted_px: int
    reference_not_predicted_px: int
    pixel_area_m2: float

    def as_dict(self) -> dict[str, Any]:
        """Row for tables and JSON, with the areas in square metres."""
        row: dict[str, Any] = {"area": self.name, **self.confusion.as_dict()}
        row["not_predicted_px"] = self.not_predicted_px
        row["reference_not_predicted_px"] = self.reference_not_predicted_px
        row["mapped_uv_m2"] = (self.confusion.tp + self.confusion.fp) * self.pixel_area_m2
        row["reference_uv_m2"] = (self.confusion.tp + self.confusion.fn) * self.pixel_area_m2
        return row


@dataclass(frozen=True, kw_only=True)
class WallToWallComparison:
    """Result of a wall-to-wall comparison.

    Attributes:
        areas: One comparison per area, in the order given.
        total: Every pixel of the union of the areas once (areas that overlap are not counted twice).
        threshold: Probability from which a pixel counts as mapped, None for a mask.
    """

    areas: tuple[AreaComparison, ...]
    total: AreaComparison
    threshold: float | None

    def to_frame(self) -> pd.DataFrame:
        """One row per area and a last one for the total."""
        return pd.DataFrame([a.as_dict() for a in (*self.areas, self.total)])

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "threshold": self.threshold,
            "areas": [a.as_dict() for a in self.areas],
            "total": self.total.as_dict(),
        }


def compare_wall_to_wall(
    map_path: Path | str,
    reference_polygons: gpd.GeoDataFrame,
    *,
    areas: gpd.GeoDataFrame | None = None,
    unlabelled: gpd.GeoDataFrame | None = None,
    threshold: float | None = 0.5,
    area_name: str = "name",
    window_px: int = 2048,
) -> WallToWallComparison:
    """Compare a map with reference polygons that are complete inside ``areas``.

    A pixel is urban village in the reference where its centre lies in a polygon, and belongs to an area
    where its centre lies in that area.

    Args:
        map_path: Raster, band 1. With a threshold: uint8 scores (probability * 250, 255 = not predicted).
            Without: a mask, 1 = urban village, 0 = not; its nodata is not predicted.
        reference_polygons: Urban villages, any CRS; overlapping polygons count once.
        areas: Where the reference is complete, any CRS; None takes the whole raster.
        unlabelled: Ground of which the reference says nothing, any CRS: in no cell and no count.
        threshold: Probability in (0, 1] from which a pixel counts as mapped; None for a mask.
        area_name: Column of ``areas`` with names; the index is used where it is missing.
        window_px: Side of the windows read; the answer does not depend on it.

    Returns:
        The comparison per area and in total.

    Raises:
        ComparisonError: No CRS, wrong raster type or values, threshold out of range, or an area that misses the raster.
    """
    path = Path(map_path)
    for what, frame in (
        ("reference polygons", reference_polygons),
        ("areas", areas),
        ("unlabelled ground", unlabelled),
    ):
        if frame is not None and frame.crs is None:
            raise ComparisonError(f"{what} for {path} have no CRS: write one into the file before comparing")
    with rasterio.open(path) as dataset:
        _check(dataset, path, threshold)
        villages = _clean(reference_polygons.to_crs(dataset.crs))
        unknown = None if unlabelled is None else _clean(unlabelled.to_crs(dataset.crs))
        names, shapes = _areas(dataset, areas, area_name, path)
        counts = np.zeros((len(names) + 1, 6), dtype=np.int64)  # tp fp fn tn, not predicted, those in reference
        for window in _windows(dataset.height, dataset.width, window_px):
            transform = dataset.window_transform(window)
            touched = _touched(shapes, window, transform)
            if not touched and areas is not None:
                continue
            mapped, predicted = _read_map(dataset, window, threshold)
            truth = _burn(villages, window, transform)
            usable = np.ones(truth.shape, bool) if unknown is None else ~_burn(unknown, window, transform)
            code = np.where(predicted, np.where(mapped, np.where(truth, 0, 1), np.where(truth, 2, 3)), 4 + truth)
            inside_any = np.zeros(truth.shape, dtype=bool)
            for index in touched:
                inside = _burn(shapes[index : index + 1], window, transform) if areas is not None else usable
                inside = inside & usable
                counts[index] += np.bincount(code[inside], minlength=6)
                inside_any |= inside
            counts[-1] += np.bincount(code[inside_any], minlength=6)
        pixel_area = pixel_area_m2(dataset)
    rows = [_row(n, c, pixel_area) for n, c in zip([*names, "total"], counts, strict=True)]
    return WallToWallComparison(areas=tuple(rows[:-1]), total=rows[-1], threshold=threshold)


def _row(name: str, c: NDArray[np.int64], area_m2: float) -> AreaComparison:
    tp, fp, fn, tn, missing, missing_truth = (int(v) for v in c)
    return AreaComparison(
        name=name,
        confusion=Confusion(tp=tp, fp=fp, fn=fn, tn=tn),
        not_predicted_px=missing + missing_truth,
        reference_not_predicted_px=missing_truth,
        pixel_area_m2=area_m2,
    )


def _check(dataset: Any, path: Path, threshold: float | None) -> None:
    if dataset.crs is None:
        raise ComparisonError(f"{path} has no CRS: write one before comparing")
    if threshold is None:
        return
    if not 0 < threshold <= 1:
        raise ComparisonError(f"threshold {threshold} for {path} is outside (0, 1]: give a probability")
    if dataset.dtypes[0] != "uint8":
        raise ComparisonError(
            f"{path} holds {dataset.dtypes[0]}, scores are uint8 (probability * {SCORE_SCALE}):"
            " give the product's score raster"
        )


def _read_map(dataset: Any, window: Window, threshold: float | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    values = dataset.read(1, window=window)
    if MaskFlags.all_valid in dataset.mask_flag_enums[0]:
        predicted = np.ones(values.shape, dtype=bool)
    else:
        predicted = dataset.read_masks(1, window=window) != 0
    if threshold is None:
        strange = values[predicted & (values > 1)]
        if strange.size:
            raise ComparisonError(
                f"{dataset.name} holds the value {strange[0]}: a mask has 1 (urban village) and 0; is it a score raster"
                " (--map scores)?"
            )
        return values == 1, predicted
    return at_least(values, threshold), predicted & is_predicted(values)


def _windows(height_px: int, width_px: int, side_px: int) -> Iterator[Window]:
    for row in range(0, height_px, side_px):
        for col in range(0, width_px, side_px):
            yield Window(col, row, min(side_px, width_px - col), min(side_px, height_px - row))


def _clean(frame: gpd.GeoDataFrame) -> NDArray[Any]:
    geometries = np.asarray(frame.geometry.array, dtype=object)
    geometries = geometries[~(shapely.is_missing(geometries) | shapely.is_empty(geometries))]
    return np.asarray(shapely.make_valid(geometries), dtype=object)


def _areas(dataset: Any, areas: gpd.GeoDataFrame | None, area_name: str, path: Path) -> tuple[list[str], NDArray[Any]]:
    if areas is None:
        return ["all"], np.array([shapely.box(*dataset.bounds)], dtype=object)
    if areas.empty:
        raise ComparisonError(f"areas for {path} are empty: give at least one polygon, or leave --areas out")
    here = areas.to_crs(dataset.crs)
    shapes = np.asarray(shapely.make_valid(np.asarray(here.geometry.array, dtype=object)), dtype=object)
    names = [str(v) for v in (areas[area_name] if area_name in areas.columns else areas.index)]
    box = shapely.box(*dataset.bounds)
    for name, shape in zip(names, shapes, strict=True):
        if not shapely.intersects(shape, box):
            raise ComparisonError(
                f"area {name!r} (bounds {tuple(round(v, 2) for v in shapely.bounds(shape))}) does not touch {path}"
                f" (bounds {tuple(round(v, 2) for v in dataset.bounds)}): check its CRS or leave it out"
            )
    return names, shapes


def _touched(shapes: NDArray[Any], window: Window, transform: Any) -> list[int]:
    return [int(k) for k in np.flatnonzero(shapely.intersects(shapes, _window_box(window, transform)))]


def _window_box(window: Window, transform: Any) -> Any:
    a, b, left, d, e, top = tuple(transform)[:6]
    corners = [(c, r) for c in (0, window.width) for r in (0, window.height)]
    xs = [left + a * c + b * r for c, r in corners]
    ys = [top + d * c + e * r for c, r in corners]
    return shapely.box(min(xs), min(ys), max(xs), max(ys))


def _burn(polygons: NDArray[Any], window: Window, transform: Any) -> NDArray[np.bool_]:
    shape = (int(window.height), int(window.width))
    hit = polygons[shapely.intersects(polygons, _window_box(window, transform))]
    return burn_into(hit[shapely.area(hit) > 0], transform, shape)
