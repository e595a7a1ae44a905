"""Tile graphs: what a batch of tiles sees of the map, as flat ragged arrays.

This is the contract between the room that builds graphs (`pipeline.graph`) and the model. Nodes of one type lie
behind each other, tile by tile; nothing is padded. Semantics are ids into a table of unique tag sets, so a
tag set is embedded once per city and gathered on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelsError

NodeType = str
EdgeType = tuple[str, str]

NODE_TYPES: tuple[NodeType, ...] = ("point", "line", "polygon")
EDGE_TYPES: tuple[EdgeType, ...] = tuple((src, dst) for src in NODE_TYPES for dst in NODE_TYPES)

POSITION_POINTS: dict[NodeType, int] = {"point": 1, "line": 3, "polygon": 4}
"""Points per node: the point itself; centroid, first and last vertex; three interior points and the centroid."""

GEOMETRY_COLUMNS: tuple[str, ...] = (
    "log_area",  # ln(1 + area in m2) / 10, polygons
    "log_length",  # ln(1 + length or perimeter in m) / 10
    "elongation",  # 1 - short side / long side of the minimum rotated rectangle
    "cos_2_orientation",  # of the long side, doubled angle: 0 and 180 degrees are one
    "sin_2_orientation",
    "height",  # height in m / 50, 0 where unknown
    "height_known",  # 1 where tagged
    "leaves_tile",  # 1 where the feature reaches past the tile
)


def _relations(src: NodeType, dst: NodeType) -> tuple[str, ...]:
    if "point" in (src, dst):
        return ("self", "neighbour") if src == dst else ("touches", "within")
    if src == dst:
        return ("self", "touches", "overlaps", "covers", "covered_by", "equals")
    return ("touches", "crosses", "covers")


RELATIONS: dict[EdgeType, tuple[str, ...]] = {pair: _relations(*pair) for pair in EDGE_TYPES}
"""One-hot relation columns of the published graph per edge type, in order."""

RICH_COLUMNS: tuple[str, ...] = ("near", "log_distance", "sin_bearing", "cos_bearing")
"""Columns that the rich graph appends: nearest-neighbour flag, ln(1 + distance in m) / 10, bearing src to dst."""


class GraphError(ModelsError):
    """A tile graph whose arrays do not fit each other."""


@dataclass(frozen=True)
class TileGraphs:
    """The graphs of ``n_tiles`` tiles.

    Attributes:
        n_tiles: Number of tiles, with or without nodes.
        node_tile: Per node type, int64 (N,): index of the tile of each node, never decreasing.
        semantic_id: Per node type, int64 (N,): row in the table of unique tag sets.
        position: Per node type, float32 (N, 2 P), P from `POSITION_POINTS`: x, y of each point relative to the
            tile, 0 to 1, y downwards, not clamped.
        geometry: Per node type, float32 (N, 8), columns `GEOMETRY_COLUMNS`.
        edge_index: Per edge type, int64 (2, E): source and target node, each counted within its type over the
            whole batch; ordered by tile.
        edge_attr: Per edge type, float32 (E, A): `RELATIONS` columns, then `RICH_COLUMNS` where the graph is rich.
    """

    n_tiles: int
    node_tile: dict[NodeType, NDArray[np.int64]]
    semantic_id: dict[NodeType, NDArray[np.int64]]
    position: dict[NodeType, NDArray[np.float32]]
    geometry: dict[NodeType, NDArray[np.float32]]
    edge_index: dict[EdgeType, NDArray[np.int64]]
    edge_attr: dict[EdgeType, NDArray[np.float32]]

    @property
    def is_rich(self) -> bool:
        """Whether edges carry the `RICH_COLUMNS`."""
        return bool(self.edge_attr["point", "point"].shape[1] > len(RELATIONS["point", "point"]))

    def n_nodes(self, node_type: NodeType) -> int:
        """Number of nodes of a type over all tiles."""
        return len(self.node_tile[node_type])

    def validate(self) -> None:
        """Check that all arrays fit each other.

        Raises:
            GraphError: naming the array and both values.
        """
        for t in NODE_TYPES:
            n = self.n_nodes(t)
            tiles = self.node_tile[t]
            if n and (tiles[0] < 0 or tiles[-1] >= self.n_tiles or (np.diff(tiles) < 0).any()):
                raise GraphError(f"node_tile of {t} must rise within 0..{self.n_tiles - 1}")
            expected = {"semantic_id": (n,), "position": (n, 2 * POSITION_POINTS[t]), "geometry": (n, 8)}
            for name, shape in expected.items():
                got = getattr(self, name)[t].shape
                if got != shape:
                    raise GraphError(f"{name} of {t} has shape {got}, expected {shape}")
        for pair in EDGE_TYPES:
            index, attr = self.edge_index[pair], self.edge_attr[pair]
            if index.shape[0] != 2 or index.shape[1] != attr.shape[0]:
                raise GraphError(f"edges {pair}: index {index.shape} does not fit attributes {attr.shape}")
            for row, t in zip(index, pair, strict=True):
                if row.size and (row.min() < 0 or row.max() >= self.n_nodes(t)):
                    raise GraphError(f"edges {pair} point to node {row.max()} of {self.n_nodes(t)} {t} nodes")

    @classmethod
    def empty(cls, n_tiles: int, *, rich: bool = True) -> TileGraphs:
        """Graphs without any node: the normal case where the map is blank."""
        extra = len(RICH_COLUMNS) if rich else 0
        return cls(
            n_tiles,
            {t: np.zeros(0, np.int64) for t in NODE_TYPES},
            {t: np.zeros(0, np.int64) for t in NODE_TYPES},
            {t: np.zeros((0, 2 * POSITION_POINTS[t]), np.float32) for t in NODE_TYPES},
            {t: np.zeros((0, len(GEOMETRY_COLUMNS)), np.float32) for t in NODE_TYPES},
            {p: np.zeros((2, 0), np.int64) for p in EDGE_TYPES},
            {p: np.zeros((0, len(RELATIONS[p]) + extra), np.float32) for p in EDGE_TYPES},
        )

    @classmethod
    def concat(cls, parts: Sequence[TileGraphs]) -> TileGraphs:
        """One batch of all tiles of ``parts``, in order."""
        if not parts:
            raise GraphError("nothing to concatenate: give at least one TileGraphs")
        tile_start = np.cumsum([0] + [p.n_tiles for p in parts])
        node_start = {t: np.cumsum([0] + [p.n_nodes(t) for p in parts]) for t in NODE_TYPES}

        def shifted_edges(pair: EdgeType) -> NDArray[np.int64]:
            src, dst = pair
            return np.concatenate(
                [
                    p.edge_index[pair] + np.array([[node_start[src][k]], [node_start[dst][k]]])
                    for k, p in enumerate(parts)
                ],
                axis=1,
            )

        return cls(
            int(tile_start[-1]),
            {t: np.concatenate([p.node_tile[t] + tile_start[k] for k, p in enumerate(parts)]) for t in NODE_TYPES},
            {t: np.concatenate([p.semantic_id[t] for p in parts]) for t in NODE_TYPES},
            {t: np.concatenate([p.position[t] for p in parts]) for t in NODE_TYPES},
            {t: np.concatenate([p.geometry[t] for p in parts]) for t in NODE_TYPES},
            {pair: shifted_edges(pair) for pair in EDGE_TYPES},
            {pair: np.concatenate([p.edge_attr[pair] for p in parts]) for pair in EDGE_TYPES},
        )

    def part(self, first: int, stop: int) -> TileGraphs:
        """The graphs of the tiles from ``first`` to before ``stop``: cut, not gathered."""
        cut = {t: slice(*np.searchsorted(self.node_tile[t], [first, stop])) for t in NODE_TYPES}
        index: dict[EdgeType, NDArray[np.int64]] = {}
        attr: dict[EdgeType, NDArray[np.float32]] = {}
        for pair in EDGE_TYPES:
            src, dst = pair
            edges = self.edge_index[pair]
            # edges are ordered by tile, and both ends lie in one tile
            own = slice(*np.searchsorted(self.node_tile[dst][edges[1]], [first, stop]))
            index[pair] = edges[:, own] - np.array([[cut[src].start], [cut[dst].start]])
            attr[pair] = self.edge_attr[pair][own]
        return TileGraphs(
            stop - first,
            {t: self.node_tile[t][cut[t]] - first for t in NODE_TYPES},
            {t: self.semantic_id[t][cut[t]] for t in NODE_TYPES},
            {t: self.position[t][cut[t]] for t in NODE_TYPES},
            {t: self.geometry[t][cut[t]] for t in NODE_TYPES},
            index,
            attr,
        )

    def select(self, tiles: Sequence[int] | NDArray[np.int64]) -> TileGraphs:
        """The graphs of some tiles, in the order given (a tile may be repeated)."""
        return (
            TileGraphs.concat([self.part(int(k), int(k) + 1) for k in tiles])
            if len(tiles)
            else TileGraphs.empty(0, rich=self.is_rich)
        )
