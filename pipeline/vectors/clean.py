"""Dirty geometry made usable: mended, split, merged or dropped, and every case counted."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.vectors import tags as tagging
from pipeline.vectors.raw import RawFeatures

TOUCH_M = 0.05
"""Pieces of one feature that lie this near, in metres, are taken to touch: vector tiles round their coordinates."""

ROWS_PER_ID = 10
"""With more rows per id than this on average, a column called id does not identify features."""

_LINEAR_RING, _COLLECTION = 2, 7


def usable(
    raw: RawFeatures, *, bounds_m: tuple[float, float, float, float] | None, counts: Counter[str]
) -> RawFeatures:
    """Valid, finite, two-dimensional, single-part features whose envelope meets ``bounds_m``.

    Args:
        raw: Features in the CRS of the grid.
        bounds_m: Left, bottom, right, top, or None for all.
        counts: Every case is added here.
    """
    raw = _drop(raw, shapely.is_missing(raw.geometry), "null_geometry", counts)
    raw = _drop(raw, shapely.is_empty(raw.geometry), "empty_geometry", counts)
    bounds = shapely.bounds(raw.geometry)
    finite = np.isfinite(bounds).all(axis=1) & _finite_inside(raw.geometry)
    raw, bounds = _drop(raw, ~finite, "not_finite", counts), bounds[finite]
    if bounds_m is not None:
        left, bottom, right, top = bounds_m
        off = (bounds[:, 0] > right) | (bounds[:, 2] < left) | (bounds[:, 1] > top) | (bounds[:, 3] < bottom)
        raw = _drop(raw, off, "outside", counts)
    raw = _mended(raw, counts)
    raw = _split(raw, counts)
    length = shapely.length(raw.geometry)
    dimension = shapely.get_dimensions(raw.geometry)
    raw = _drop(raw, (dimension == 1) & (length == 0), "zero_length_lines", counts)
    area = shapely.area(raw.geometry)
    return _drop(raw, (shapely.get_dimensions(raw.geometry) == 2) & (area == 0), "zero_area_polygons", counts)


def joined(raw: RawFeatures, counts: Counter[str]) -> RawFeatures:
    """Pieces of one feature (same id, same dimension, touching or overlapping) as one feature again.

    Vector tiles cut features at their edges and repeat the id. Pieces that do not touch stay parts of their own. Where
    ids are few for the rows (`ROWS_PER_ID`), they are classes or constants rather than ids, and nothing is joined.
    """
    known = np.array([i is not None for i in raw.source_id], bool)
    n_known, n_ids = int(known.sum()), len(set(raw.source_id[known]))
    if n_ids * ROWS_PER_ID < n_known:
        counts["ids_that_identify_nothing"] += n_known
        return raw
    dimension = shapely.get_dimensions(raw.geometry)
    ids = pd.factorize(pd.Series(raw.source_id).where(known))[0].astype(np.int64)
    group = np.where(known & (dimension > 0), ids * 4 + dimension, -1)
    repeated = (group >= 0) & pd.Series(group).duplicated(keep=False).to_numpy()
    rows = np.flatnonzero(repeated)
    if not len(rows):
        return raw
    geometry = raw.geometry[rows]
    a, b = shapely.STRtree(geometry).query(geometry, predicate="dwithin", distance=TOUCH_M)
    same = (group[rows][a] == group[rows][b]) & (a != b)
    graph = coo_array((np.ones(same.sum(), np.int8), (a[same], b[same])), shape=(len(rows), len(rows)))
    n, component = connected_components(graph, directed=False)
    size = np.bincount(component, minlength=n)
    alone = size[component] == 1
    if alone.all():
        return raw
    counts["pieces_joined"] += int((~alone).sum())
    order = np.argsort(component, kind="stable")
    order = order[~alone[order]]
    _, label = np.unique(component[order], return_inverse=True)
    pieces = shapely.geometrycollections(geometry[order], indices=label)
    whole = shapely.union_all(pieces.reshape(-1, 1), axis=1)
    lines = shapely.get_dimensions(whole) == 1
    whole[lines] = shapely.line_merge(whole[lines])
    counts["features_of_pieces"] += len(whole)
    frame = pd.DataFrame({"label": label, "tags": raw.tags[rows][order], "id": raw.source_id[rows][order]})
    texts = frame.groupby("label")["tags"].agg(tagging.merged)
    first = frame.groupby("label")["id"].first()
    rest = np.ones(len(raw), bool)
    rest[rows[order]] = False
    made = RawFeatures(np.asarray(whole, object), texts.to_numpy(object), first.to_numpy(object))
    return _split(RawFeatures.concat([raw[rest], made]), Counter())


def without_duplicates(raw: RawFeatures, counts: Counter[str]) -> NDArray[np.bool_]:
    """Which rows (n,) are kept when of features with equal geometry and tags only the first stays."""
    if not len(raw):
        return np.zeros(0, bool)
    wkb = shapely.to_wkb(shapely.normalize(raw.geometry))
    again = pd.DataFrame({"wkb": wkb, "tags": raw.tags}).duplicated().to_numpy()
    counts["duplicates"] += int(again.sum())
    keep: NDArray[np.bool_] = ~again
    return keep


def _drop(raw: RawFeatures, bad: NDArray[np.bool_], name: str, counts: Counter[str]) -> RawFeatures:
    counts[name] += int(bad.sum())
    return raw[~bad] if bad.any() else raw


def _finite_inside(geometry: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Whether all coordinates are finite: an envelope passes over single NaN."""
    xy, owner = shapely.get_coordinates(geometry, return_index=True)
    bad = owner[~np.isfinite(xy).all(axis=1)]
    good = np.ones(len(geometry), bool)
    good[bad] = False
    return good


def _mended(raw: RawFeatures, counts: Counter[str]) -> RawFeatures:
    polygons = shapely.get_dimensions(raw.geometry) == 2
    bad = np.flatnonzero(polygons & ~shapely.is_valid(raw.geometry))
    if not len(bad):
        return raw
    fixed = shapely.make_valid(raw.geometry[bad], method="structure", keep_collapsed=False)
    counts["invalid_mended"] += int((~shapely.is_empty(fixed)).sum())
    geometry = raw.geometry.copy()
    geometry[bad] = fixed
    raw = RawFeatures(geometry, raw.tags, raw.source_id)
    return _drop(raw, shapely.is_empty(raw.geometry), "invalid_collapsed", counts)


def _split(raw: RawFeatures, counts: Counter[str]) -> RawFeatures:
    kind = shapely.get_type_id(raw.geometry)
    counts["collections_split"] += int((kind == _COLLECTION).sum())
    counts["multi_parts_split"] += int(((kind > 3) & (kind < 7) & (shapely.get_num_geometries(raw.geometry) > 1)).sum())
    while (kind > 3).any():
        parts, owner = shapely.get_parts(raw.geometry, return_index=True)
        raw = RawFeatures(parts, raw.tags[owner], raw.source_id[owner])
        raw = raw[~shapely.is_empty(raw.geometry)]
        kind = shapely.get_type_id(raw.geometry)
    rings = kind == _LINEAR_RING
    if rings.any():
        geometry = raw.geometry.copy()
        xy, owner = shapely.get_coordinates(geometry[rings], return_index=True)
        geometry[rings] = shapely.linestrings(xy, indices=owner)
        raw = RawFeatures(geometry, raw.tags, raw.source_id)
    return raw
