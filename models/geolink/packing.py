"""Tile graphs as flat tensors of fixed shape.

`pack` turns the ragged arrays of `TileGraphs` into one flat list of nodes, one of edges, and blocks of
`CHUNK_NODES` nodes for attention. Totals are rounded up to buckets, so that a handful of shapes serves all
batches (``torch.compile``, CUDA graphs); no tile is padded to the largest one. All integer work happens here, in
NumPy, so that the forward pass has no Python loop over tiles or types and never waits for the device.

Worked example: tiles with 3, 0 and 40 nodes, blocks of 32. Tile 0 fills block 0 (29 slots empty), tile 2 blocks 1
and 2 (24 empty). Self attention visits the block pairs (0, 0), (1, 1), (1, 2), (2, 1), (2, 2).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.geolink.graph import (
    EDGE_TYPES,
    GEOMETRY_COLUMNS,
    NODE_TYPES,
    POSITION_POINTS,
    RELATIONS,
    RICH_COLUMNS,
    GraphError,
    TileGraphs,
)

CHUNK_NODES = 32
"""Nodes per block of attention."""

MAX_POINTS = max(POSITION_POINTS.values())

RELATION_START = dict(zip(EDGE_TYPES, np.cumsum([0, *(len(RELATIONS[p]) for p in EDGE_TYPES)])[:-1], strict=True))
"""First column of each edge type's relations in the packed edge attributes."""

EDGE_COLUMNS = sum(len(RELATIONS[p]) for p in EDGE_TYPES) + len(RICH_COLUMNS)
"""Columns of the packed edge attributes: the relations of all nine edge types, then the rich columns."""


LEVEL_0 = {"nodes": 32, "edges": 192, "rows": 8, "chunks": 2, "pairs": 6}
"""Room per tile in the smallest shape of `Buckets.levelled`."""


@dataclass(frozen=True)
class Buckets:
    """Totals that a batch is padded to; a batch that does not fit is refused.

    Attributes:
        nodes, edges, rows, chunks, pairs: Capacity for nodes, edges, distinct tag sets, node blocks and pairs of
            node blocks. One node and one block are kept free for padding to point at.
    """

    nodes: int
    edges: int
    rows: int
    chunks: int
    pairs: int

    @classmethod
    def fitting(cls, graphs: TileGraphs, *, node_limit: int | None = None) -> Buckets:
        """The smallest buckets that hold ``graphs``: what `pack` takes when it is given none."""
        return pack(graphs, node_limit=node_limit, node_choice="largest").buckets

    def levelled(self, n_tiles: int) -> Buckets:
        """The smallest of a short row of sizes that holds these: each twice the one before in everything.

        One number, the level, decides all five totals, so that a run meets as many shapes as it has levels (three or
        four), whatever the order of its batches; five ladders of their own give nearly every batch another shape.
        The padding costs little where the image encoder takes nearly all of the time.
        """
        base = {f.name: LEVEL_0[f.name] * n_tiles for f in fields(Buckets)}
        factor = 1
        while any(getattr(self, name) > size * factor for name, size in base.items()):
            factor *= 2
        return Buckets(**{name: size * factor for name, size in base.items()})

    def union(self, other: Buckets) -> Buckets:
        """Buckets that hold what either holds."""
        return Buckets(**{f.name: max(getattr(self, f.name), getattr(other, f.name)) for f in fields(Buckets)})


@dataclass(frozen=True)
class PackedGraphs:
    """The graphs of a batch of tiles; N nodes, E edges, U tag sets, K blocks of c nodes, R block pairs, B tiles.

    Nodes lie type by type and, within a type, tile by tile, as in `TileGraphs`; padding comes last. Padded edges
    and slots point to the last node and the last block, which are padding by construction.

    Attributes:
        n_tiles: B.
        node_counts: Nodes per type, in the order of `NODE_TYPES`, without padding.
        max_semantic_id: Largest row of the semantic table that is used, -1 without nodes.
        buckets: The totals the arrays are padded to.
        has_nodes: Whether any tile has nodes.
        any_blank: Whether a tile has none.
        semantic_rows: int64 (U,), the rows of the semantic table that the batch uses.
        node_row: int64 (N,), place of the node's tag set in ``semantic_rows``.
        node_tile: int64 (N,), tile of the node; B for padding.
        node_type: int64 (N,), index into `NODE_TYPES`; 0 for padding.
        node_valid: bool (N,), False for padding.
        points: float32 (N, 4, 2), x and y relative to the tile.
        point_weight: float32 (N, 4), 1 / P for the P points of the node's type, else 0.
        geometry: float32 (N, 8), columns `GEOMETRY_COLUMNS`.
        edge_source, edge_target: int64 (E,), nodes.
        edge_type: int64 (E,), index into `EDGE_TYPES`.
        edge_attr: float32 (E, `EDGE_COLUMNS`), relations in the columns of their edge type, then rich columns.
        chunk_node: int64 (K, c), node in each slot of a block.
        chunk_valid: bool (K, c), False for empty slots.
        chunk_tile: int64 (K,), tile of the block; 0 for padding.
        pair_query, pair_key: int64 (R,), blocks of one tile, each with each.
        tile_has_nodes: bool (B,), whether any node of the tile takes part in fusion.
    """

    n_tiles: int
    node_counts: tuple[int, ...]
    max_semantic_id: int
    buckets: Buckets
    has_nodes: bool
    any_blank: bool
    semantic_rows: Tensor
    node_row: Tensor
    node_tile: Tensor
    node_type: Tensor
    node_valid: Tensor
    points: Tensor
    point_weight: Tensor
    geometry: Tensor
    edge_source: Tensor
    edge_target: Tensor
    edge_type: Tensor
    edge_attr: Tensor
    chunk_node: Tensor
    chunk_valid: Tensor
    chunk_tile: Tensor
    pair_query: Tensor
    pair_key: Tensor
    tile_has_nodes: Tensor

    @property
    def n_nodes(self) -> int:
        """Nodes of all types, without padding."""
        return sum(self.node_counts)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.node_tile.device

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> PackedGraphs:
        """The same graphs on another device."""
        return self._map(lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> PackedGraphs:
        """The same graphs in page-locked memory, for copies that overlap with work."""
        return self._map(lambda t: t.pin_memory())

    def _map(self, change: object) -> PackedGraphs:
        tensors = {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)}
        return replace(self, **{name: change(t) for name, t in tensors.items()})  # type: ignore[operator]

    def split_by_type(self, values: Tensor) -> dict[str, Tensor]:
        """Cut per-node values (N, ...) into one view per node type, without padding."""
        parts = torch.split(values[: self.n_nodes], list(self.node_counts))
        return dict(zip(NODE_TYPES, parts, strict=True))


def pack(
    graphs: TileGraphs,
    *,
    buckets: Buckets | None = None,
    few_shapes: bool = False,
    device: torch.device | str | None = None,
    node_limit: int | None = None,
    node_choice: Literal["largest", "random"] = "largest",
    seed: int | None = None,
) -> PackedGraphs:
    """Flatten, block and pad the graphs of a batch.

    Args:
        graphs: The tiles' graphs.
        buckets: Totals to pad to; None takes the next step of a geometric ladder (at most a third of padding,
            above the smallest step).
        few_shapes: Without ``buckets``, pad to `Buckets.levelled` instead: more padding, a handful of shapes.
        device: Where to put the tensors; None is the CPU.
        node_limit: Most nodes of a tile that take part in fusion (`GeoLinkConfig.node_limit`).
        node_choice: Which nodes stay under the limit (`GeoLinkConfig.node_choice`).
        seed: Seed of ``random``; None draws others each time, as the released code does.

    Raises:
        GraphError: the arrays do not fit each other, or exceed ``buckets``.
    """
    nodes = _Nodes.of(graphs)
    fused = _limit(nodes, node_limit, node_choice, seed)
    rows, node_row = np.unique(nodes.semantic, return_inverse=True)
    source, target, edge_type, edge_attr = _edges(graphs)
    chunk_node, chunk_tile = _chunks(nodes.tile, fused, graphs.n_tiles)
    pair_query, pair_key = _pairs(chunk_tile)
    need = Buckets(len(nodes.tile) + 1, len(source), len(rows), len(chunk_tile) + 1, len(pair_query))
    if buckets is None and few_shapes:
        buckets = need.levelled(graphs.n_tiles)
    size = buckets or Buckets(**{f.name: _bucket(getattr(need, f.name), f.name) for f in fields(Buckets)})
    for f in fields(Buckets):
        if getattr(need, f.name) > getattr(size, f.name):
            raise GraphError(
                f"a batch of {graphs.n_tiles} tiles needs {getattr(need, f.name)} {f.name}, its bucket holds "
                f"{getattr(size, f.name)}: give larger buckets or fewer tiles"
            )
    last_node, last_chunk = size.nodes - 1, size.chunks - 1
    valid = np.arange(size.nodes) < len(nodes.tile)
    slot_node = np.where(chunk_node < 0, last_node, chunk_node)
    chunk_valid = _padded(chunk_node >= 0, size.chunks, fill=False)
    has_nodes = np.zeros(graphs.n_tiles, bool)
    has_nodes[chunk_tile] = True
    arrays: dict[str, NDArray[np.generic]] = {
        "semantic_rows": _padded(rows, size.rows, 0),
        "node_row": _padded(node_row.reshape(-1), size.nodes, 0),
        "node_tile": _padded(nodes.tile, size.nodes, graphs.n_tiles),
        "node_type": _padded(nodes.type, size.nodes, 0),
        "node_valid": valid,
        "points": _padded(nodes.points, size.nodes, 0),
        "point_weight": _padded(nodes.point_weight, size.nodes, 0),
        "geometry": _padded(nodes.geometry, size.nodes, 0),
        "edge_source": _padded(source, size.edges, last_node),
        "edge_target": _padded(target, size.edges, last_node),
        "edge_type": _padded(edge_type, size.edges, 0),
        "edge_attr": _padded(edge_attr, size.edges, 0),
        "chunk_node": _padded(slot_node, size.chunks, last_node),
        "chunk_valid": chunk_valid,
        "chunk_tile": _padded(chunk_tile, size.chunks, 0),
        "pair_query": _padded(pair_query, size.pairs, last_chunk),
        "pair_key": _padded(pair_key, size.pairs, last_chunk),
        "tile_has_nodes": has_nodes,
    }
    return PackedGraphs(
        n_tiles=graphs.n_tiles,
        node_counts=tuple(graphs.n_nodes(t) for t in NODE_TYPES),
        max_semantic_id=int(rows[-1]) if len(rows) else -1,
        buckets=size,
        has_nodes=bool(has_nodes.any()),
        any_blank=not bool(has_nodes.all()),
        **{name: torch.from_numpy(np.ascontiguousarray(a)).to(device or "cpu") for name, a in arrays.items()},
    )


@dataclass(frozen=True)
class _Nodes:
    tile: NDArray[np.int64]
    type: NDArray[np.int64]
    semantic: NDArray[np.int64]
    points: NDArray[np.float32]
    point_weight: NDArray[np.float32]
    geometry: NDArray[np.float32]

    @classmethod
    def of(cls, graphs: TileGraphs) -> _Nodes:
        graphs.validate()
        points, weights = [], []
        for t in NODE_TYPES:
            n, p = graphs.n_nodes(t), POSITION_POINTS[t]
            part = np.zeros((n, MAX_POINTS, 2), np.float32)
            part[:, :p] = graphs.position[t].reshape(n, p, 2)
            weight = np.zeros((n, MAX_POINTS), np.float32)
            weight[:, :p] = 1 / p
            points.append(part)
            weights.append(weight)
        return cls(
            np.concatenate([graphs.node_tile[t] for t in NODE_TYPES]),
            np.repeat(np.arange(len(NODE_TYPES)), [graphs.n_nodes(t) for t in NODE_TYPES]),
            np.concatenate([graphs.semantic_id[t] for t in NODE_TYPES]),
            np.concatenate(points),
            np.concatenate(weights),
            np.concatenate([graphs.geometry[t] for t in NODE_TYPES]),
        )


def _edges(graphs: TileGraphs) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """All edges with nodes counted over all types: source, target, type, attributes.

    Their order within a target and type is the order given, which depends on the target's own tile alone.
    """
    first = dict(zip(NODE_TYPES, np.cumsum([0, *(graphs.n_nodes(t) for t in NODE_TYPES)])[:-1], strict=True))
    counts = [graphs.edge_index[pair].shape[1] for pair in EDGE_TYPES]
    source = np.concatenate([graphs.edge_index[src, dst][0] + first[src] for src, dst in EDGE_TYPES])
    target = np.concatenate([graphs.edge_index[src, dst][1] + first[dst] for src, dst in EDGE_TYPES])
    attr = np.zeros((sum(counts), EDGE_COLUMNS), np.float32)
    row = 0
    for pair, n in zip(EDGE_TYPES, counts, strict=True):
        given, relations, start = graphs.edge_attr[pair], len(RELATIONS[pair]), RELATION_START[pair]
        if given.shape[1] not in (relations, relations + len(RICH_COLUMNS)):
            raise GraphError(
                f"edge_attr of {pair} has {given.shape[1]} columns, needs {relations} relations and then none or "
                f"{len(RICH_COLUMNS)} rich columns"
            )
        attr[row : row + n, start : start + relations] = given[:, :relations]
        if given.shape[1] > relations:
            attr[row : row + n, EDGE_COLUMNS - len(RICH_COLUMNS) :] = given[:, relations:]
        row += n
    return source, target, np.repeat(np.arange(len(EDGE_TYPES)), counts), attr


def _limit(nodes: _Nodes, limit: int | None, choice: str, seed: int | None) -> NDArray[np.int64]:
    """The nodes that take part in fusion, ordered by tile, then type, then as given."""
    order = np.argsort(nodes.tile, kind="stable")
    if limit is None:
        return order
    if choice == "random":
        rank = np.random.default_rng(seed).random(len(order))
    else:
        area, length = (nodes.geometry[:, GEOMETRY_COLUMNS.index(c)] for c in ("log_area", "log_length"))
        by_size = np.lexsort((np.arange(len(order)), -length, -area))
        rank = np.empty(len(order))
        rank[by_size] = np.arange(len(order))
    by_rank = np.lexsort((rank, nodes.tile))
    keep = by_rank[_place_in_run(nodes.tile[by_rank]) < limit]
    return order[np.isin(order, keep)]


def _place_in_run(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """For sorted values, how many equal ones come before each: [4, 4, 7] gives [0, 1, 0]."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return np.arange(len(values)) - first[inverse.reshape(-1)]


def _chunks(
    tile: NDArray[np.int64], fused: NDArray[np.int64], n_tiles: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Blocks (K, `CHUNK_NODES`) of nodes of one tile each, -1 where empty, and the tile of each block."""
    count = np.bincount(tile[fused], minlength=n_tiles)
    blocks = -(-count // CHUNK_NODES)
    start = np.cumsum(np.concatenate([[0], blocks]))
    slot = start[tile[fused]] * CHUNK_NODES + _place_in_run(tile[fused])
    out = np.full(int(start[-1]) * CHUNK_NODES, -1, np.int64)
    out[slot] = fused
    return out.reshape(-1, CHUNK_NODES), np.repeat(np.arange(n_tiles), blocks)


def _pairs(chunk_tile: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each block with each block of its tile, ordered by query block, then key block."""
    n_blocks = np.bincount(chunk_tile)[chunk_tile] if len(chunk_tile) else chunk_tile
    query = np.repeat(np.arange(len(chunk_tile)), n_blocks)
    first = np.searchsorted(chunk_tile, chunk_tile)
    return query, first[query] + _place_in_run(query)


def _bucket(n: int, kind: str) -> int:
    """Next step of 64, 96, 128, 192, 256, ... (from 4 for blocks and pairs of blocks)."""
    step = 4 if kind in ("chunks", "pairs") else 64
    while step < n:
        step = step * 3 // 2 if step & (step - 1) == 0 else step // 3 * 4
    return step


def _padded(array: NDArray[np.generic], length: int, fill: float) -> NDArray[np.generic]:
    out = np.full((length, *array.shape[1:]), fill, array.dtype)
    out[: len(array)] = array
    return out
