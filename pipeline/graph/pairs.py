"""Relations and nearest neighbours of the features of a city graph, range by range."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from pipeline.graph.neighbours import keep_smallest, nearest
from pipeline.graph.ragged import POINT, POLYGON, starts_of
from pipeline.graph.relations import relate_pairs
from pipeline.graph.store import NodeArrays, PairArrays, find_middles
from pipeline.graph.tree import BoxTree

NEIGHBOURS = 4
"""Nearest neighbours of a building or a point that become edges."""

CANDIDATES = 8
"""Buildings, by distance of centroids, among which the nearest by distance of outlines are sought."""

NEAR_M = 100.0
"""Greatest distance of centroids of neighbours, in metres."""

Related = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]
"""Owner, other, relation code of (owner, other)."""

Near = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Lower id, higher id, gap in metres."""


def find_relations(nodes: NodeArrays, tree: BoxTree, start: int, stop: int) -> Related:
    """Related pairs that features ``start .. stop - 1`` own: owner, other, code of (owner, other)."""
    bounds = np.asarray(nodes.bounds[start:stop])
    if not len(bounds):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8)
    extent = np.concatenate([bounds[:, :2].min(axis=0), bounds[:, 2:].max(axis=0)])[None]
    around = tree.query(extent)[1]
    # the other of a pair has the larger envelope
    around = around[_half_perimeter(nodes.bounds[around]) >= _half_perimeter(bounds).min()]
    geometry = nodes.shapes.take(around).to_shapely()
    kind = np.asarray(nodes.kind[around])
    mine = np.searchsorted(around, np.arange(start, stop))
    a, b = shapely.STRtree(geometry).query(geometry[mine])
    a = mine[a]
    keep = owns(nodes, around[a], around[b]) & ((kind[a] != POINT) | (kind[b] != POINT))
    a, b = a[keep], b[keep]
    code = relate_pairs(geometry, kind, a, b)
    own, other = around[a], around[b]
    related = code > 0
    return own[related], other[related], code[related]


def owns(nodes: NodeArrays, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether ``a`` is the owner of the pair: it has the smaller envelope, or is the first of equals."""
    size_a, size_b = _half_perimeter(nodes.bounds[a]), _half_perimeter(nodes.bounds[b])
    return np.asarray((size_a < size_b) | ((size_a == size_b) & (a < b)), bool)


def find_near_pairs(nodes: NodeArrays, tree: BoxTree, start: int, stop: int) -> Near:
    """Nearest-neighbour pairs of features ``start .. stop - 1``: lower id, higher id, gap in metres.

    Buildings: of the `CANDIDATES` nearest by centroid within `NEAR_M`, the `NEIGHBOURS` nearest by outline that do not
    touch. Points: the `NEIGHBOURS` nearest points within `NEAR_M`.
    """
    found = []
    for kind, eligible in ((POLYGON, nodes.building), (POINT, None)):
        rows = np.arange(start, stop)
        chosen = nodes.kind[start:stop] == kind
        if eligible is not None:
            chosen = chosen & eligible[start:stop]
        rows = rows[chosen]
        if not len(rows):
            continue
        places = find_middles(nodes, rows)
        box = np.concatenate([places.min(axis=0) - NEAR_M, places.max(axis=0) + NEAR_M])[None]
        around = tree.query(box)[1]
        around = around[nodes.kind[around] == kind]
        if eligible is not None:
            around = around[eligible[around]]
        k = NEIGHBOURS if kind == POINT else CANDIDATES
        a, b = nearest(find_middles(nodes, around), np.searchsorted(around, rows), k=k, within_m=NEAR_M)
        a, b = around[a], around[b]
        if kind == POINT:
            gap = np.hypot(*(find_middles(nodes, a) - find_middles(nodes, b)).T)
        else:
            a, b, gap = _nearest_outlines(nodes, a, b)
        found.append((np.minimum(a, b), np.maximum(a, b), gap))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    low, high, gap = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return _unique_pairs(low, high, gap)


def _nearest_outlines(
    nodes: NodeArrays, a: NDArray[np.int64], b: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Of pairs of buildings (a, b), the `NEIGHBOURS` of each ``a`` with the smallest gap above zero."""
    low, high = np.minimum(a, b), np.maximum(a, b)
    pair, inverse = np.unique(low * len(nodes) + high, return_inverse=True)
    low, high = pair // len(nodes), pair % len(nodes)
    involved, at = np.unique(np.concatenate([low, high]), return_inverse=True)
    geometry = nodes.shapes.take(involved).to_shapely()
    gap = shapely.distance(geometry[at[: len(low)]], geometry[at[len(low) :]])[inverse]
    apart = gap > 0
    a, b, gap = a[apart], b[apart], gap[apart]
    kept = keep_smallest(a, gap, b, k=NEIGHBOURS)
    return a[kept], b[kept], gap[kept]


def _unique_pairs(
    low: NDArray[np.int64], high: NDArray[np.int64], gap: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    order = np.lexsort((high, low))
    low, high, gap = low[order], high[order], gap[order]
    first = np.ones(len(low), bool)
    first[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    return low[first], high[first], gap[first]


def assemble_pairs(
    nodes: NodeArrays,
    related: list[Related],
    near: list[Near],
) -> PairArrays:
    """The pairs of all ranges as one array ordered by owner, then other."""
    low, high, gap = (
        (np.concatenate(p) for p in zip(*near, strict=True))
        if near
        else (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    )
    low, high, gap = _unique_pairs(low, high, gap)
    swap = ~owns(nodes, low, high)
    own, other, code = (
        (np.concatenate(p) for p in zip(*related, strict=True)) if related else (np.zeros(0, np.int64),) * 3
    )
    owner = np.concatenate([own, np.where(swap, high, low)])
    others = np.concatenate([other, np.where(swap, low, high)])
    codes = np.concatenate([code, np.zeros(len(low))]).astype(np.uint8)
    gaps = np.concatenate([np.zeros(len(own)), gap]).astype(np.float32)
    order = np.lexsort((others, owner))
    return PairArrays(
        starts_of(np.bincount(owner, minlength=len(nodes)).astype(np.int64)),
        others[order].astype(np.int32),
        codes[order],
        gaps[order],
    )


def _half_perimeter(bounds: NDArray[np.float64]) -> NDArray[np.float64]:
    return (bounds[:, 2] - bounds[:, 0]) + (bounds[:, 3] - bounds[:, 1])
