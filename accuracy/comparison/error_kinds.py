"""Errors of a map by kind: villages missed, false alarms, and outlines that lie beside the true ones.

Every wrong pixel has one kind. An omitted pixel within a reach of the map's villages, or a committed one within that
reach of the reference's, is a *boundary* error: the village was found and its outline is off. An omitted pixel beyond
it is *missed*, a committed one *false*. The pixels of all kinds together are those of
`accuracy.comparison.wall_to_wall`: the published mask is judged, inside the same areas, by the same rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import rasterio.features
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from accuracy.comparison.confusion import Confusion
from accuracy.comparison.judged_ground import GroundWindow, JudgedGround
from accuracy.errors import ComparisonError

ErrorKind = Literal["missed", "false", "boundary"]
ERROR_KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)
UNJUDGED, RIGHT_OTHER, RIGHT_VILLAGE, MISSED, FALSE, BOUNDARY_OMITTED, BOUNDARY_COMMITTED = range(7)
"""Codes of pixels."""
KIND_OF_CODE: dict[int, ErrorKind] = {
    MISSED: "missed",
    FALSE: "false",
    BOUNDARY_OMITTED: "boundary",
    BOUNDARY_COMMITTED: "boundary",
}
REACH_M = 10.0
MIN_REGION_M2 = 100.0
WINDOW_PX = 2048


@dataclass(frozen=True, kw_only=True)
class KindTotal:
    """One kind of error over all ground judged.

    Attributes:
        kind: Which.
        regions: Connected regions (of four neighbours) of at least the least area.
        omitted_px: Wrong pixels that are village in the reference, of regions of any size.
        committed_px: Those that are village in the map.
        area_m2: Area on the ground of both.
    """

    kind: ErrorKind
    regions: int
    omitted_px: int
    committed_px: int
    area_m2: float


@dataclass(frozen=True, kw_only=True)
class ErrorCensus:
    """All errors of a map against complete reference.

    Attributes:
        kinds: Totals per kind, in the order of `ERROR_KINDS`.
        confusion: Of the same pixels, as `compare_wall_to_wall` counts them.
        regions: ``kind``, ``area_m2`` and geometry of every region of at least the least area, in the CRS of the mask;
            largest first, ties from north to south.
        villages: One row per reference polygon with judged pixels, in the order given: ``row`` (its position),
            ``reference_px``, ``mapped_px`` (those of them that are mapped) and geometry in the CRS of the mask. A
            pixel of overlapping polygons belongs to the last.
        reach_m: Distance that makes an error one of the boundary.
    """

    kinds: tuple[KindTotal, ...]
    confusion: Confusion
    regions: gpd.GeoDataFrame
    villages: gpd.GeoDataFrame
    reach_m: float


def classify_errors(
    mapped: NDArray[np.bool_], truth: NDArray[np.bool_], judged: NDArray[np.bool_], *, reach_px: float
) -> NDArray[np.uint8]:
    """Code of every pixel of a window, uint8 (H, W); pixels within ``reach_px`` of its edge are only right inside it.

    Args:
        mapped: bool (H, W), village in the map.
        truth: bool (H, W), village in the reference.
        judged: bool (H, W), predicted, labelled and inside the areas; all others get `UNJUDGED`.
        reach_px: Largest distance between pixel centres that counts as the boundary's.
    """
    codes = np.where(truth, RIGHT_VILLAGE, RIGHT_OTHER).astype(np.uint8)
    for wrong, other, beyond, near in (
        (truth & ~mapped, mapped, MISSED, BOUNDARY_OMITTED),
        (mapped & ~truth, truth, FALSE, BOUNDARY_COMMITTED),
    ):
        if not wrong.any():
            continue
        codes[wrong] = beyond
        if other.any():
            reached = ndimage.distance_transform_edt(~other) <= reach_px + 1e-9
            codes[wrong & reached] = near
    codes[~judged] = UNJUDGED
    return codes


def find_errors(
    mask: Path,
    reference: gpd.GeoDataFrame,
    *,
    areas: gpd.GeoDataFrame | None = None,
    unlabelled: gpd.GeoDataFrame | None = None,
    reach_m: float = REACH_M,
    min_region_m2: float = MIN_REGION_M2,
    window_px: int = WINDOW_PX,
) -> ErrorCensus:
    """Find and count the errors of a published map, window by window.

    Args:
        mask: Mask of the published polygons: 1, 0, 255 = not predicted.
        reference: Urban villages, complete inside ``areas``; any CRS.
        areas: Where to look; None for the whole mask.
        unlabelled: Ground of which the reference says nothing: it is left out.
        reach_m: Errors this near to the other outline's village are the boundary's.
        min_region_m2: Regions below count no region; their pixels count.
        window_px: Side of the windows; the answer does not depend on it.

    Raises:
        ComparisonError: No CRS, not a mask, or a reach below 0.
    """
    if reach_m < 0:
        raise ComparisonError(f"a boundary reach of {reach_m:g} m is negative: give a distance")
    with JudgedGround.open(mask, reference, areas=areas, unlabelled=unlabelled) as ground:
        reach_px = reach_m / ground.pixel_m
        halo_px = int(np.ceil(reach_px)) + 1
        counts = np.zeros(BOUNDARY_COMMITTED + 1, np.int64)
        per_village = np.zeros((2, len(ground.villages)), np.int64)
        regions = _Regions(least_px=min_region_m2 / ground.pixel_area_m2)
        for window in ground.windows(window_px, halo_px=halo_px):
            if not window.inner(window.judged).any():
                continue
            codes = window.inner(classify_errors(window.mapped, window.truth, window.judged, reach_px=reach_px))
            counts += np.bincount(codes.ravel(), minlength=len(counts))
            _count_villages(per_village, window)
            regions.add(codes, window)
        found = regions.table(ground)
        villages = ground.village_table(per_village)
        area = ground.pixel_area_m2
    kinds = tuple(_total(kind, counts, found, area) for kind in ERROR_KINDS)
    return ErrorCensus(
        kinds=kinds,
        confusion=Confusion(
            tp=int(counts[RIGHT_VILLAGE]),
            fp=sum(k.committed_px for k in kinds),
            fn=sum(k.omitted_px for k in kinds),
            tn=int(counts[RIGHT_OTHER]),
        ),
        regions=found,
        villages=villages,
        reach_m=reach_m,
    )


def _total(kind: ErrorKind, counts: NDArray[np.int64], regions: gpd.GeoDataFrame, pixel_area_m2: float) -> KindTotal:
    omitted = int({"missed": counts[MISSED], "false": 0, "boundary": counts[BOUNDARY_OMITTED]}[kind])
    committed = int({"missed": 0, "false": counts[FALSE], "boundary": counts[BOUNDARY_COMMITTED]}[kind])
    return KindTotal(
        kind=kind,
        regions=int((regions["kind"] == kind).sum()),
        omitted_px=omitted,
        committed_px=committed,
        area_m2=(omitted + committed) * pixel_area_m2,
    )


def _count_villages(per_village: NDArray[np.int64], window: GroundWindow) -> None:
    owner = window.inner(window.village)
    known = window.inner(window.judged) & (owner >= 0)
    mapped = known & window.inner(window.mapped)
    size = per_village.shape[1]
    per_village[0] += np.bincount(owner[known], minlength=size)
    per_village[1] += np.bincount(owner[mapped], minlength=size)


class _Regions:
    """Connected regions of one kind, gathered from windows; a window keeps what is large or may go on beyond it."""

    def __init__(self, *, least_px: float) -> None:
        self._least = least_px
        self._whole: list[tuple[ErrorKind, shapely.Geometry]] = []
        self._cut: dict[ErrorKind, list[shapely.Geometry]] = {kind: [] for kind in ERROR_KINDS}

    def add(self, codes: NDArray[np.uint8], window: GroundWindow) -> None:
        """Take the regions of a window, in pixels of the mask."""
        height, width = codes.shape
        for kind in ERROR_KINDS:
            members = np.isin(codes, [code for code, of in KIND_OF_CODE.items() if of == kind])
            if not members.any():
                continue
            shapes = rasterio.features.shapes(members.astype(np.uint8), mask=members, connectivity=4)
            for mapping, _ in shapes:
                region = shapely.make_valid(shapely.geometry.shape(mapping))  # rings of pixels may touch themselves
                left, top, right, bottom = region.bounds
                is_cut = left == 0 or top == 0 or right == width or bottom == height
                if not is_cut and region.area < self._least - 1e-9:
                    continue
                placed = shapely.transform(region, lambda xy, w=window: xy + np.array([w.col_px, w.row_px]))
                if is_cut:
                    self._cut[kind].append(placed)
                else:
                    self._whole.append((kind, placed))

    def table(self, ground: JudgedGround) -> gpd.GeoDataFrame:
        """Kind, area and outline of every region that is large enough, largest first."""
        rows = list(self._whole)
        for kind, pieces in self._cut.items():
            merged = shapely.get_parts(shapely.union_all(np.array(pieces, dtype=object))) if pieces else []
            rows += [(kind, region) for region in merged if region.area >= self._least - 1e-9]
        table = pd.DataFrame(
            {
                "kind": [kind for kind, _ in rows],
                "area_m2": [float(region.area) * ground.pixel_area_m2 for _, region in rows],
            }
        )
        shapes = np.array([region for _, region in rows], dtype=object)
        placed = ground.placed(shapes)
        frame = gpd.GeoDataFrame(table, geometry=list(placed), crs=ground.crs)
        bounds = shapely.bounds(shapes).reshape(-1, 4)
        order = np.lexsort((bounds[:, 0], bounds[:, 1], -frame["area_m2"].to_numpy(float)))
        return frame.iloc[order].reset_index(drop=True)


def tabulate_kinds(census: ErrorCensus) -> list[dict[str, Any]]:
    """Rows for tables and JSON: one per kind and a last one for all."""
    rows: list[dict[str, Any]] = [
        {
            "kind": k.kind,
            "regions": k.regions,
            "omitted_px": k.omitted_px,
            "committed_px": k.committed_px,
            "area_m2": k.area_m2,
        }
        for k in census.kinds
    ]
    whole = {key: sum(row[key] for row in rows) for key in ("regions", "omitted_px", "committed_px", "area_m2")}
    return [*rows, {"kind": "all", **whole}]
