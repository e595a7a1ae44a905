"""Ids that survive: which village of the last release is which of this one, and what became of the others.

Two villages of different releases are linked where their overlap is at least a share of the smaller one. Every id
goes to one successor at most: the pairs with the largest overlap come first. What is left over stands in the events.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from regions.raster.equal_area import CHINA_ALBERS

MIN_OVERLAP = 0.3
"""Overlap, as a share of the smaller village, from which two villages are linked."""
SAME_IOU = 0.999
"""Intersection over union from which a village counts as unchanged."""
EVENTS = ("unchanged", "changed", "split", "merge", "reorganised", "new", "gone")
"""unchanged, changed: one to one. split: one old, several new. merge: several old, one new. reorganised: both."""


class IdentityError(PipelineError):
    """Two sets of villages cannot be compared."""


@dataclass(frozen=True)
class Matching:
    """What became of the villages.

    Attributes:
        links: One row per linked pair: ``old`` and ``new`` (row positions), ``overlap_m2``, ``iou``, ``heir``
            (whether the new one keeps the id of the old), ``event``.
        new: int64 (A,), positions of villages without a forerunner.
        gone: int64 (G,), positions of old villages without a successor.
    """

    links: pd.DataFrame
    new: NDArray[np.int64]
    gone: NDArray[np.int64]


def match_villages(old: gpd.GeoSeries, new: gpd.GeoSeries, *, min_overlap: float = MIN_OVERLAP) -> Matching:
    """Link the villages of two releases; the answer does not depend on the order of the rows.

    Args:
        old: Valid polygons.
        new: Valid polygons, in the same CRS.
        min_overlap: Share of the smaller village, in (0, 1].

    Raises:
        IdentityError: The two are in different CRS.
    """
    if old.crs != new.crs:
        raise IdentityError(f"old villages are in {old.crs}, new ones in {new.crs}: reproject one of them")
    a, b = old.to_numpy(), new.to_numpy()
    left, right = shapely.STRtree(b).query(a, predicate="intersects")
    overlap = shapely.area(shapely.intersection(a[left], b[right]))
    area_a, area_b = shapely.area(a), shapely.area(b)
    linked = (overlap > 0) & (overlap >= min_overlap * np.minimum(area_a[left], area_b[right]))
    left, right, overlap = left[linked], right[linked], overlap[linked]
    iou = overlap / (area_a[left] + area_b[right] - overlap)
    # the largest overlap first; ties by position on the ground, so that the order of rows does not matter
    order = np.lexsort((*_position(b[right]), *_position(a[left]), -iou, -overlap))
    heir = np.zeros(len(left), dtype=bool)
    taken_a, taken_b = np.zeros(len(a), dtype=bool), np.zeros(len(b), dtype=bool)
    for k in order:
        if not taken_a[left[k]] and not taken_b[right[k]]:
            heir[k] = taken_a[left[k]] = taken_b[right[k]] = True
    successors = np.bincount(left, minlength=len(a))
    forerunners = np.bincount(right, minlength=len(b))
    many_new, many_old = successors[left] > 1, forerunners[right] > 1
    event = np.select(
        [many_new & many_old, many_new, many_old, iou >= SAME_IOU],
        ["reorganised", "split", "merge", "unchanged"],
        "changed",
    )
    links = pd.DataFrame(
        {"old": left, "new": right, "overlap_m2": overlap, "iou": iou, "heir": heir, "event": event}
    ).iloc[order]
    return Matching(links.reset_index(drop=True), np.flatnonzero(forerunners == 0), np.flatnonzero(successors == 0))


def assign_ids(
    new: gpd.GeoDataFrame,
    previous: gpd.GeoDataFrame | None = None,
    *,
    adcode: str,
    min_overlap: float = MIN_OVERLAP,
) -> gpd.GeoDataFrame:
    """Give every village a stable ``uv_id``.

    A village keeps the id of its forerunner (the linked old village with the largest overlap that has no larger
    heir); any other gets a new id, made from the city and a point inside it, so that a city that is done again from
    nothing gets the same ids.

    Args:
        new: Villages; the order of rows is kept.
        previous: Those of the last release with ``uv_id``, in any CRS; None at the first release.
        adcode: The city.
        min_overlap: See `match_villages`.

    Returns:
        The villages with ``uv_id`` (string) and ``status`` (string: one of `EVENTS` without "gone").

    Raises:
        IdentityError: ``previous`` lacks ``uv_id`` or holds one twice.
    """
    ids: list[str | None] = [None] * len(new)
    status = np.full(len(new), "new", dtype=object)
    used: set[str] = set()
    if previous is not None and len(previous):
        used = _checked_ids(previous)
        local = previous.to_crs(new.crs)
        matching = match_villages(gpd.GeoSeries(local.geometry), gpd.GeoSeries(new.geometry), min_overlap=min_overlap)
        old_ids = previous["uv_id"].to_numpy()
        links = matching.links
        for old_k, new_k, heir, event in zip(links["old"], links["new"], links["heir"], links["event"], strict=True):
            if heir:
                ids[new_k], status[new_k] = str(old_ids[old_k]), event
            elif status[new_k] == "new":
                status[new_k] = event
    points = gpd.GeoSeries(shapely.point_on_surface(new.geometry.to_numpy()), crs=new.crs).to_crs("EPSG:4326")
    lon, lat = points.x.to_numpy(), points.y.to_numpy()
    for k in np.lexsort((lon, lat)):
        if ids[k] is None:
            ids[k] = _fresh_id(adcode, float(lon[k]), float(lat[k]), used)
            used.add(str(ids[k]))
    result = new.copy()
    result["uv_id"] = pd.array(ids, dtype="string")
    result["status"] = pd.array(status, dtype="string")
    return result


def diff_villages(
    old: gpd.GeoDataFrame, new: gpd.GeoDataFrame, *, min_overlap: float = MIN_OVERLAP
) -> gpd.GeoDataFrame:
    """The events between two releases.

    Args:
        old: Villages with ``uv_id``.
        new: Villages with ``uv_id``, in any CRS.
        min_overlap: See `match_villages`.

    Returns:
        One row per linked pair, new village and gone village: ``event``, ``uv_id_old``, ``uv_id_new`` (string, null
        where there is none), ``id_kept`` (boolean), ``area_old_m2``, ``area_new_m2``, ``overlap_m2``, ``iou``
        (Float64), ``geometry`` (the new outline, the old one where it is gone), in the CRS of ``new``; areas are
        those of the national equal-area CRS. Rows are in order of event, then id.
    """
    _checked_ids(old)
    _checked_ids(new)
    before, after = old.geometry.to_crs(CHINA_ALBERS), new.geometry.to_crs(CHINA_ALBERS)
    matching = match_villages(before, after, min_overlap=min_overlap)
    links = matching.links
    left = np.concatenate((links["old"], np.full(len(matching.new), -1), matching.gone)).astype(np.int64)
    right = np.concatenate((links["new"], matching.new, np.full(len(matching.gone), -1))).astype(np.int64)
    none = np.full(len(left) - len(links), np.nan)
    event = [*links["event"], *["new"] * len(matching.new), *["gone"] * len(matching.gone)]
    id_old = [None if k < 0 else str(old["uv_id"].iloc[k]) for k in left]
    id_new = [None if k < 0 else str(new["uv_id"].iloc[k]) for k in right]
    shown_old, shown_new = old.geometry.to_crs(new.crs).to_numpy(), new.geometry.to_numpy()
    table = gpd.GeoDataFrame(
        {
            "event": pd.Categorical(event, categories=EVENTS, ordered=True),
            "uv_id_old": pd.array(id_old, dtype="string"),
            "uv_id_new": pd.array(id_new, dtype="string"),
            "id_kept": pd.array([x is not None and x == y for x, y in zip(id_old, id_new, strict=True)], "boolean"),
            "area_old_m2": _areas(before.to_numpy(), left),
            "area_new_m2": _areas(after.to_numpy(), right),
            "overlap_m2": pd.array(np.concatenate((links["overlap_m2"], none)), dtype="Float64"),
            "iou": pd.array(np.concatenate((links["iou"], none)), dtype="Float64"),
        },
        geometry=[shown_new[r] if r >= 0 else shown_old[k] for k, r in zip(left, right, strict=True)],
        crs=new.crs,
    )
    table = table.sort_values(["event", "uv_id_old", "uv_id_new"], kind="stable").reset_index(drop=True)
    table["event"] = table["event"].astype("string")
    return table


def diff_figures(old: gpd.GeoDataFrame, new: gpd.GeoDataFrame, events: gpd.GeoDataFrame) -> dict[str, float | int]:
    """Counts of events and the balance of areas (m2 in the national equal-area CRS)."""
    a = shapely.union_all(old.geometry.to_crs(CHINA_ALBERS).to_numpy())
    b = shapely.union_all(new.geometry.to_crs(CHINA_ALBERS).to_numpy())
    both = shapely.area(shapely.intersection(a, b))
    counts = {name: int((events["event"] == name).sum()) for name in EVENTS}
    one_old = set(events.loc[events["event"].isin(["split", "reorganised"]), "uv_id_old"].dropna())
    many_new = set(events.loc[events["event"].isin(["merge", "reorganised"]), "uv_id_new"].dropna())
    return {
        "villages_old": len(old),
        "villages_new": len(new),
        "ids_kept": len(set(old["uv_id"]) & set(new["uv_id"])),
        "unchanged": counts["unchanged"],
        "changed": counts["changed"],
        "villages_split": len(one_old),
        "villages_merged_into": len(many_new),
        "new": counts["new"],
        "gone": counts["gone"],
        "area_old_m2": float(shapely.area(a)),
        "area_new_m2": float(shapely.area(b)),
        "area_both_m2": float(both),
        "area_gained_m2": float(shapely.area(b) - both),
        "area_lost_m2": float(shapely.area(a) - both),
        "iou": float(both / (shapely.area(a) + shapely.area(b) - both)) if len(old) or len(new) else 1.0,
    }


def _position(shapes: NDArray[np.object_]) -> tuple[NDArray[np.float64], ...]:
    """Sort keys that only the ground decides: bounds, then area."""
    bounds = shapely.bounds(shapes)
    return (shapely.area(shapes), *(bounds[:, k] for k in range(4)))


def _areas(shapes: NDArray[np.object_], index: NDArray[np.int64]) -> pd.arrays.FloatingArray:
    areas = np.full(len(index), np.nan)
    areas[index >= 0] = shapely.area(shapes[index[index >= 0]])
    return pd.array(areas, dtype="Float64")


def _checked_ids(villages: gpd.GeoDataFrame) -> set[str]:
    if "uv_id" not in villages.columns:
        raise IdentityError(f"villages without a `uv_id` column (found {list(villages.columns)})")
    ids = villages["uv_id"]
    if ids.isna().any() or ids.duplicated().any():
        twice = sorted(set(ids[ids.duplicated()].dropna().astype(str)))[:3]
        raise IdentityError(f"uv_id must be unique: {int(ids.isna().sum())} missing, repeated {twice}")
    return set(ids.astype(str))


def _fresh_id(adcode: str, lon: float, lat: float, used: set[str]) -> str:
    """``adcode-`` and 10 characters (50 bits) of a digest of the place; counted on where that is taken."""
    turn = 0
    while True:
        place = f"{adcode} {lon:.6f} {lat:.6f} {turn}".encode()
        text = base64.b32encode(hashlib.sha256(place).digest()).decode()[:10].lower()
        if f"{adcode}-{text}" not in used:
            return f"{adcode}-{text}"
        turn += 1
