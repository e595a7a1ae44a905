"""What became of the villages of one city: every village of both sides stands in exactly one event.

Villages are linked by `pipeline.product.identity`; what hangs together by links is one event. So counts and areas add
up, and the events of B against A are those of A against B, mirrored.
"""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.product.identity import MIN_OVERLAP, SAME_IOU, match_villages

EVENTS = ("unchanged", "grown", "shrunk", "reshaped", "split", "merged", "reorganised", "new", "gone")
"""One to one: unchanged, grown, shrunk, reshaped (another outline of the same area). split: one old, several new.
merged: several old, one new. reorganised: several of both."""
SAME_AREA = 1e-3
"""Difference of areas, as a share of the larger one, up to which an outline is `reshaped`, not grown or shrunk."""
COLUMNS = ("event", "ids_old", "ids_new", "n_old", "n_new", "area_old_m2", "area_new_m2", "change_m2", "iou")


def city_events(old: gpd.GeoDataFrame, new: gpd.GeoDataFrame, *, min_overlap: float = MIN_OVERLAP) -> gpd.GeoDataFrame:
    """The events of one city.

    Args:
        old: ``uv_id`` (string) and ``geometry``, in an equal-area CRS.
        new: The same, in the same CRS.
        min_overlap: See `match_villages`.

    Returns:
        `COLUMNS` and ``geometry`` (the new outlines, the old ones of what is gone), in order of event, then ids.
        ``ids_old`` and ``ids_new`` are joined by blanks; ``change_m2`` is new minus old; ``iou`` is null for what is
        new or gone.
    """
    a, b = np.asarray(old.geometry.array, dtype=object), np.asarray(new.geometry.array, dtype=object)
    links = match_villages(gpd.GeoSeries(a, crs=old.crs), gpd.GeoSeries(b, crs=new.crs), min_overlap=min_overlap).links
    left, right = links["old"].to_numpy(np.int64), links["new"].to_numpy(np.int64)
    size = len(a) + len(b)
    group = _groups(left, right + len(a), size)
    count = int(group.max(initial=-1)) + 1
    of_old, of_new = group[: len(a)], group[len(a) :]
    n_old, n_new = np.bincount(of_old, minlength=count), np.bincount(of_new, minlength=count)
    area_old, area_new = _sums(of_old, shapely.area(a), count), _sums(of_new, shapely.area(b), count)
    both = _sums(of_old[left], links["overlap_m2"].to_numpy(float), count)
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = np.where((n_old > 0) & (n_new > 0), both / (area_old + area_new - both), np.nan)
    ids_old, ids_new = _joined(old["uv_id"], of_old, count), _joined(new["uv_id"], of_new, count)
    table = gpd.GeoDataFrame(
        {
            "event": pd.Categorical(_names(n_old, n_new, area_old, area_new, iou), categories=EVENTS, ordered=True),
            "ids_old": ids_old,
            "ids_new": ids_new,
            "n_old": n_old,
            "n_new": n_new,
            "area_old_m2": area_old,
            "area_new_m2": area_new,
            "change_m2": area_new - area_old,
            "iou": iou,
        },
        geometry=_shown(a, b, of_old, of_new, n_new),
        crs=new.crs,
    )
    table = table.sort_values(["event", "ids_old", "ids_new"], kind="stable").reset_index(drop=True)
    table["event"] = table["event"].astype("string")
    return table


def city_figures(old: gpd.GeoDataFrame, new: gpd.GeoDataFrame, events: gpd.GeoDataFrame) -> dict[str, Any]:
    """Counts of events and the balance of areas of one city (m2), from villages that do not overlap on either side."""
    a, b = np.asarray(old.geometry.array, dtype=object), np.asarray(new.geometry.array, dtype=object)
    left, right = shapely.STRtree(b).query(a, predicate="intersects")
    both = float(shapely.area(shapely.intersection(a[left], b[right])).sum())
    area_old, area_new = float(shapely.area(a).sum()), float(shapely.area(b).sum())
    tally = events["event"].value_counts()
    change = events.groupby("event")["change_m2"].sum()
    return (
        {"villages_old": len(a), "villages_new": len(b)}
        | {"ids_kept": len(set(old["uv_id"]) & set(new["uv_id"]))}
        | {name: int(tally.get(name, 0)) for name in EVENTS}
        | {f"change_{name}_m2": float(change.get(name, 0.0)) for name in EVENTS}
        | {
            "area_old_m2": area_old,
            "area_new_m2": area_new,
            "change_m2": area_new - area_old,
            "area_both_m2": both,
            "area_gained_m2": max(0.0, area_new - both),
            "area_lost_m2": max(0.0, area_old - both),
        }
    )


def _groups(left: NDArray[np.int64], right: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1] if size else np.zeros(0), dtype=np.int64)


def _sums(group: NDArray[np.int64], values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    return np.asarray(np.bincount(group, weights=values, minlength=count), dtype=np.float64)


def _names(
    n_old: NDArray[np.int64],
    n_new: NDArray[np.int64],
    area_old: NDArray[np.float64],
    area_new: NDArray[np.float64],
    iou: NDArray[np.float64],
) -> NDArray[np.str_]:
    same_area = np.abs(area_new - area_old) <= SAME_AREA * np.maximum(area_old, area_new)
    conditions = [
        n_old == 0,
        n_new == 0,
        (n_old > 1) & (n_new > 1),
        n_new > 1,
        n_old > 1,
        iou >= SAME_IOU,
        same_area,
        area_new > area_old,
    ]
    names = ["new", "gone", "reorganised", "split", "merged", "unchanged", "reshaped", "grown"]
    return np.select(conditions, names, "shrunk")


def _joined(ids: pd.Series, group: NDArray[np.int64], count: int) -> list[str]:
    held: list[list[str]] = [[] for _ in range(count)]
    for name, k in zip(ids.astype(str), group, strict=True):
        held[k].append(name)
    return [" ".join(sorted(names)) for names in held]


def _shown(
    a: NDArray[np.object_],
    b: NDArray[np.object_],
    of_old: NDArray[np.int64],
    of_new: NDArray[np.int64],
    n_new: NDArray[np.int64],
) -> NDArray[np.object_]:
    """The outlines of each event: those of the new villages, of the old ones where there is none."""
    shown = np.empty(len(n_new), dtype=object)
    for shapes, group, wanted in ((b, of_new, n_new > 0), (a, of_old, n_new == 0)):
        parts: dict[int, list[Any]] = {}
        for shape, k in zip(shapes, group, strict=True):
            if wanted[k]:
                parts.setdefault(int(k), []).append(shape)
        for k, held in parts.items():
            shown[k] = held[0] if len(held) == 1 else shapely.union_all(held)
    return shown
