"""Tile graphs as slices of a city graph: which features each tile sees, where, and the relations among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.geolink.graph import EDGE_TYPES, NODE_TYPES, POSITION_POINTS, RELATIONS, EdgeType, TileGraphs
from pipeline.graph.chunks import Chunks
from pipeline.graph.clip import clip_lines, clip_polygons, relative
from pipeline.graph.measure import find_interior_points, find_line_centroids, find_polygon_centroids
from pipeline.graph.ragged import LINE, POLYGON, Shapes
from pipeline.graph.relations import reverse
from pipeline.graph.store import NodeArrays, PairArrays, find_middles
from pipeline.graph.tree import BoxTree

_SEEN_SHARE = 1e-9
"""Share of the tile's area (polygons) or side (lines) below which a feature only touches the tile."""


@dataclass(frozen=True)
class NodeIndex:
    """Features with what finds them: made once per process.

    Attributes:
        nodes: The features.
        tree: Over their envelopes.
        chunks: The runs of the large ones.
    """

    nodes: NodeArrays
    tree: BoxTree
    chunks: Chunks

    @classmethod
    def of(cls, nodes: NodeArrays) -> NodeIndex:
        """Index the features."""
        return cls(nodes, BoxTree.over(nodes.bounds), Chunks.of(nodes.shapes))


@dataclass(frozen=True)
class Seen:
    """Which features the tiles of a batch see, ordered by tile, then feature.

    Attributes:
        tile: int64 (M,).
        node: int64 (M,), feature of the city graph.
        whole: bool (M,), the feature does not leave the tile.
        position: float64 (M, 4, 2), anchors relative to the tile (0 to 1, y down) of what lies in it.
    """

    tile: NDArray[np.int64]
    node: NDArray[np.int64]
    whole: NDArray[np.bool_]
    position: NDArray[np.float64]


def find_seen(index: NodeIndex, bounds_m: NDArray[np.float64], *, places: bool = True) -> Seen:
    """What each of the tiles (B, 4) sees: features that share more than their border with it.

    Without ``places``, positions are left out (zeros): only who sees what.
    """
    nodes = index.nodes
    tile, node = index.tree.query(bounds_m)
    corner, size = bounds_m[:, :2], bounds_m[:, 2:] - bounds_m[:, :2]
    box, window = nodes.bounds[node], bounds_m[tile]
    whole = np.asarray((box[:, :2] >= window[:, :2]).all(axis=1) & (box[:, 2:] <= window[:, 2:]).all(axis=1))
    kind = nodes.kind[node]
    if places:
        position = (nodes.anchor[node] - corner[tile][:, None]) / size[tile][:, None]
    else:
        position = np.zeros((len(tile), 4, 2))
    visible: NDArray[np.bool_] = np.ones(len(tile), bool)
    for which, place in ((LINE, _place_lines), (POLYGON, _place_polygons)):
        rows = np.flatnonzero(~whole & (kind == which))
        if len(rows):
            part = relative(
                index.chunks.take(nodes.shapes, node[rows], window[rows]), corner[tile[rows]], size[tile[rows]]
            )
            position[rows], visible[rows] = place(part, places=places)
    position[..., 1] = 1 - position[..., 1]
    return Seen(tile[visible], node[visible], whole[visible], position[visible])


def _place_lines(lines: Shapes, *, places: bool) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    cut, length = clip_lines(lines)
    visible = length > _SEEN_SHARE
    rows = np.flatnonzero(visible)
    part = cut.take(rows)
    out = np.full((len(lines), 4, 2), np.nan)
    if len(rows) and places:
        out[rows, 0] = find_line_centroids(part)
        out[rows, 1] = part.xy[part.ring_start[part.node_ring[:-1]]]
        out[rows, 2] = part.xy[part.ring_start[part.node_ring[1:]] - 1]
    return out, visible


def _place_polygons(polygons: Shapes, *, places: bool) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    cut = clip_polygons(polygons)
    drawn = np.flatnonzero(np.diff(cut.node_ring) > 0)
    part = cut.take(drawn)
    out = np.full((len(polygons), 4, 2), np.nan)
    visible = np.zeros(len(polygons), bool)
    if len(drawn):
        centroid, area = find_polygon_centroids(part)
        real = area > _SEEN_SHARE
        visible[drawn[real]] = True
        part, centroid = part.take(np.flatnonzero(real)), centroid[real]
        if len(part) and places:
            out[drawn[real], 3] = centroid
            out[drawn[real], :3] = find_interior_points(part, centroid)
    return out, visible


@dataclass(frozen=True)
class SeenPairs:
    """Pairs of rows of a `Seen`, each once.

    Attributes:
        a: int64 (E,), row of the owner.
        b: int64 (E,), row of the other.
        code: uint8 (E,), relation of (a, b); 0 = near.
        gap_m: float32 (E,).
    """

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    code: NDArray[np.uint8]
    gap_m: NDArray[np.float32]


def find_pairs_among(nodes: NodeArrays, pairs: PairArrays, seen: Seen, bounds_m: NDArray[np.float64]) -> SeenPairs:
    """The pairs whose two features one tile sees, and whose meeting place may lie in it.

    Two features that leave the tile may meet far from it: a relation is seen only where the common part of the two
    envelopes reaches into the tile.
    """
    n = len(nodes)
    first = np.asarray(pairs.start[seen.node])
    count = np.asarray(pairs.start[seen.node + 1]) - first
    stops = np.cumsum(count)
    total = int(stops[-1]) if len(stops) else 0
    at = np.repeat(first - (stops - count), count) + np.arange(total)
    a = np.repeat(np.arange(len(seen.node)), count)
    other = pairs.other[at].astype(np.int64)
    key = seen.tile * n + seen.node
    wanted = seen.tile[a] * n + other
    b = np.searchsorted(key, wanted)
    b = np.minimum(b, max(len(key) - 1, 0))
    found = key[b] == wanted if len(key) else np.zeros(0, bool)
    a, b, at = a[found], b[found], at[found]
    code = pairs.code[at]
    doubtful = np.flatnonzero(~seen.whole[a] & ~seen.whole[b] & (code > 0))
    keep = np.ones(len(a), bool)
    box_a, box_b = nodes.bounds[seen.node[a[doubtful]]], nodes.bounds[seen.node[b[doubtful]]]
    window = bounds_m[seen.tile[a[doubtful]]]
    low = np.maximum(np.maximum(box_a[:, :2], box_b[:, :2]), window[:, :2])
    high = np.minimum(np.minimum(box_a[:, 2:], box_b[:, 2:]), window[:, 2:])
    keep[doubtful] = (low <= high).all(axis=1)
    return SeenPairs(a[keep], b[keep], code[keep], pairs.gap_m[at][keep])


def build_tile_graphs(
    nodes: NodeArrays, seen: Seen, pairs: SeenPairs, n_tiles: int, *, rich: bool = True
) -> TileGraphs:
    """The flat arrays that the model takes, with or without the rich columns."""
    kind = nodes.kind[seen.node].astype(np.int64)
    rank = np.empty(len(kind), np.int64)
    rows = [np.flatnonzero(kind == k) for k in range(len(NODE_TYPES))]
    for r in rows:
        rank[r] = np.arange(len(r))
    shape = np.concatenate([nodes.shape[seen.node], (~seen.whole)[:, None]], axis=1).astype(np.float32)
    position = {
        t: seen.position[rows[k], : POSITION_POINTS[t]].reshape(len(rows[k]), 2 * POSITION_POINTS[t]).astype(np.float32)
        for k, t in enumerate(NODE_TYPES)
    }
    index, attr = _build_edges(nodes, seen, pairs, kind, rank, rich=rich)
    return TileGraphs(
        n_tiles,
        {t: seen.tile[rows[k]] for k, t in enumerate(NODE_TYPES)},
        {t: nodes.tag_set[seen.node[rows[k]]].astype(np.int64) for k, t in enumerate(NODE_TYPES)},
        position,
        {t: shape[rows[k]] for k, t in enumerate(NODE_TYPES)},
        index,
        attr,
    )


def _build_edges(
    nodes: NodeArrays, seen: Seen, pairs: SeenPairs, kind: NDArray[np.int64], rank: NDArray[np.int64], *, rich: bool
) -> tuple[dict[EdgeType, NDArray[np.int64]], dict[EdgeType, NDArray[np.float32]]]:
    everyone = np.arange(len(kind))
    zero = np.zeros(len(kind), np.uint8)
    src = np.concatenate([pairs.a, pairs.b, everyone])
    dst = np.concatenate([pairs.b, pairs.a, everyone])
    back = reverse(pairs.code, same_kind=kind[pairs.a] == kind[pairs.b])
    code = np.concatenate([pairs.code, back, zero])
    gap = np.concatenate([pairs.gap_m, pairs.gap_m, zero]).astype(np.float32)
    is_self = src == dst
    order = np.lexsort((dst, src))
    src, dst, code, gap, is_self = src[order], dst[order], code[order], gap[order], is_self[order]
    near = ~is_self & (code == 0)
    more = (
        _measure_edges(find_middles(nodes, seen.node), src, dst, gap, near)
        if rich
        else np.zeros((len(src), 0), np.float32)
    )
    group = kind[src] * 3 + kind[dst]
    index: dict[EdgeType, NDArray[np.int64]] = {}
    attr: dict[EdgeType, NDArray[np.float32]] = {}
    for k, pair in enumerate(EDGE_TYPES):
        chosen = group == k
        same = pair[0] == pair[1]
        if not same:
            chosen &= ~is_self
        rows = np.flatnonzero(chosen)
        index[pair] = np.stack([rank[src[rows]], rank[dst[rows]]])
        one_hot = np.zeros((len(rows), len(RELATIONS[pair])), np.float32)
        column = code[rows].astype(np.int64) if same else code[rows].astype(np.int64) - 1
        column = np.where(near[rows] & (pair == ("point", "point")), 1, column)
        set_ = ~near[rows] | (pair == ("point", "point"))
        one_hot[np.flatnonzero(set_), column[set_]] = 1
        attr[pair] = np.concatenate([one_hot, more[rows]], axis=1)
    return index, attr


def _measure_edges(
    middle: NDArray[np.float64],
    src: NDArray[np.int64],
    dst: NDArray[np.int64],
    gap_m: NDArray[np.float32],
    near: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """`models.geolink.graph.RICH_COLUMNS` of the edges, float32 (E, 4); bearings are those of whole features."""
    step = middle[dst] - middle[src]
    length = np.hypot(step[:, 0], step[:, 1])
    with np.errstate(invalid="ignore", divide="ignore"):
        bearing = np.where(length[:, None] > 0, step / length[:, None], 0)
    return np.stack([near, np.log1p(gap_m) / 10, bearing[:, 0], bearing[:, 1]], axis=1).astype(np.float32)
