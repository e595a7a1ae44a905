"""Tile graphs as the published graph builder makes them, with its quirks.

Features are cut at the tile and split into parts, and relations are those of the parts in the tile. Polygons or lines
that are equal give "covers" one way and "covered by" the other, never "equals"; points are joined by the Delaunay
triangulation of the tile's points where there are more than three, and only by self-loops otherwise; there are no
nearest-neighbour edges, distances or bearings. The three interior points of a polygon, drawn at random there, are
fixed here (see `pipeline.graph.measure`).
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import Delaunay, QhullError

from models.geolink.graph import TileGraphs
from pipeline.graph.measure import anchors
from pipeline.graph.ragged import POINT, Shapes
from pipeline.graph.relations import relate_pairs
from pipeline.graph.store import NodeArrays
from pipeline.graph.tiles import Seen, SeenPairs, build_tile_graphs
from pipeline.graph.tree import BoxTree

_INSIDE = 1e-9
"""Share of the tile's side by which a feature may reach out and still count as inside: rounding of its source."""


def build_official_graphs(nodes: NodeArrays, tree: BoxTree, bounds: NDArray[np.float64]) -> TileGraphs:
    """The published graph of each tile (B, 4), in the CRS of the features (published: lon/lat)."""
    tile, node = tree.query(bounds)
    kind = np.asarray(nodes.kind[node])
    slack = np.tile((bounds[:, 2:] - bounds[:, :2]) * _INSIDE, 2)[tile] * np.array([-1, -1, 1, 1])
    box, window = nodes.bounds[node], bounds[tile] + slack
    whole = (box[:, :2] >= window[:, :2]).all(axis=1) & (box[:, 2:] <= window[:, 2:]).all(axis=1)
    geometry = nodes.shapes.take(node).to_shapely()
    cut = np.flatnonzero(~whole)
    geometry[cut] = shapely.intersection(geometry[cut], shapely.box(*bounds[tile[cut]].T))
    parts, owner = shapely.get_parts(geometry, return_index=True)
    parts_of_parts, at = shapely.get_parts(parts, return_index=True)
    owner = owner[at]
    keep = (shapely.get_dimensions(parts_of_parts) == kind[owner]) & ~shapely.is_empty(parts_of_parts)
    pieces, owner = parts_of_parts[keep], owner[keep]
    if not len(pieces):
        return TileGraphs.empty(len(bounds), rich=False)
    shapes = Shapes.of(pieces)
    corner, size = bounds[tile[owner], :2], bounds[tile[owner], 2:] - bounds[tile[owner], :2]
    position = (anchors(shapes) - corner[:, None]) / size[:, None]
    position[..., 1] = 1 - position[..., 1]
    seen = Seen(tile[owner], node[owner], whole[owner], position)
    pairs = _pairs(shapes, pieces, seen.tile)
    return build_tile_graphs(nodes, seen, pairs, len(bounds), rich=False)


def _pairs(shapes: Shapes, pieces: NDArray[np.object_], tile: NDArray[np.int64]) -> SeenPairs:
    a, b = shapely.STRtree(pieces).query(pieces)
    keep = (a < b) & (tile[a] == tile[b]) & ((shapes.kind[a] != POINT) | (shapes.kind[b] != POINT))
    a, b = a[keep], b[keep]
    code = relate_pairs(pieces, shapes.kind, a, b, equals_first=False)
    related = code > 0
    low, high = _delaunay(shapes, tile)
    return SeenPairs(
        np.concatenate([a[related], low]),
        np.concatenate([b[related], high]),
        np.concatenate([code[related], np.zeros(len(low), np.uint8)]),
        np.zeros(int(related.sum()) + len(low), np.float32),
    )


def _delaunay(shapes: Shapes, tile: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Edges of the Delaunay triangulation of each tile's points where it has more than three, each once."""
    rows = np.flatnonzero(shapes.kind == POINT)
    places = shapes.xy[shapes.ring_start[shapes.node_ring[rows]]]
    found = [np.zeros((0, 2), np.int64)]
    # one triangulation per tile is the definition; there is no call that does many
    for start, stop in zip(*_runs(tile[rows]), strict=True):
        if stop - start > 3:
            try:
                corners = Delaunay(places[start:stop]).simplices
            except QhullError:  # all points on one line
                continue
            found.append(rows[start:stop][corners[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)])
    edges = np.unique(np.sort(np.concatenate(found), axis=1), axis=0)
    return edges[:, 0], edges[:, 1]


def _runs(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and stops of runs of equal values."""
    change = np.flatnonzero(np.diff(values)) + 1
    starts = np.concatenate([[0], change]) if len(values) else np.zeros(0, np.int64)
    stops = np.concatenate([change, [len(values)]]) if len(values) else np.zeros(0, np.int64)
    return starts, stops
