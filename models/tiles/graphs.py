"""Tile graphs one by one: cut from a batch, and pointing into a shared table of tag sets."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.geolink.graph import EDGE_TYPES, NODE_TYPES, TileGraphs


def graph_cuts(graphs: TileGraphs) -> NDArray[np.int64]:
    """Where the nodes and edges of each tile begin.

    Returns:
        int64 (n + 1, 12): first node of each of `NODE_TYPES`, then first edge of each of `EDGE_TYPES`, per tile; the
        last row ends the last tile.
    """
    tiles = np.arange(graphs.n_tiles + 1)
    nodes = [np.searchsorted(graphs.node_tile[t], tiles) for t in NODE_TYPES]
    edges = [np.searchsorted(graphs.node_tile[dst][graphs.edge_index[src, dst][1]], tiles) for src, dst in EDGE_TYPES]
    return np.stack([*nodes, *edges], axis=1).astype(np.int64)


def split_graphs(graphs: TileGraphs) -> list[TileGraphs]:
    """Cut a batch of tile graphs into single ones; `TileGraphs.concat` puts any choice of them together again."""
    cuts = graph_cuts(graphs)
    singles = []
    for first, last in itertools.pairwise(cuts):
        parts = [slice(a, b) for a, b in zip(first.tolist(), last.tolist(), strict=True)]
        node = dict(zip(NODE_TYPES, parts[: len(NODE_TYPES)], strict=True))
        edge = dict(zip(EDGE_TYPES, parts[len(NODE_TYPES) :], strict=True))
        start = {p: np.array([[node[p[0]].start], [node[p[1]].start]], np.int64) for p in EDGE_TYPES}
        singles.append(
            TileGraphs(
                1,
                {t: np.zeros(node[t].stop - node[t].start, np.int64) for t in NODE_TYPES},
                {t: graphs.semantic_id[t][node[t]] for t in NODE_TYPES},
                {t: graphs.position[t][node[t]] for t in NODE_TYPES},
                {t: graphs.geometry[t][node[t]] for t in NODE_TYPES},
                {p: graphs.edge_index[p][:, edge[p]] - start[p] for p in EDGE_TYPES},
                {p: graphs.edge_attr[p][edge[p]] for p in EDGE_TYPES},
            )
        )
    return singles


def rows_in_table(
    own: Sequence[dict[str, str]], table: dict[str, int], tag_sets: list[dict[str, str]]
) -> NDArray[np.int64]:
    """Row of each tag set in a shared table.

    Args:
        own: Tag sets.
        table: Canonical JSON of each tag set of the shared table, and its row; grows.
        tag_sets: The shared table; grows.

    Returns:
        int64 (len(own),).
    """
    ids = np.zeros(len(own), np.int64)
    for k, tags in enumerate(own):
        key = json.dumps(tags, sort_keys=True, ensure_ascii=False)
        if key not in table:
            table[key] = len(tag_sets)
            tag_sets.append(dict(tags))
        ids[k] = table[key]
    return ids


def thinned_graphs(graphs: TileGraphs, share: float, rng: np.random.Generator) -> TileGraphs:
    """The same graphs with a random share of their nodes missing, and the edges of those.

    Args:
        graphs: Of any number of tiles.
        share: Probability that a node is missing; 0 changes nothing.
        rng: Draws.
    """
    if share <= 0:
        return graphs
    kept = {t: rng.random(len(graphs.node_tile[t])) >= share for t in NODE_TYPES}
    row = {t: np.cumsum(kept[t], dtype=np.int64) - 1 for t in NODE_TYPES}
    index, attributes = {}, {}
    for src, dst in EDGE_TYPES:
        source, target = graphs.edge_index[src, dst]
        both = kept[src][source] & kept[dst][target]
        index[src, dst] = np.stack([row[src][source[both]], row[dst][target[both]]])
        attributes[src, dst] = graphs.edge_attr[src, dst][both]
    return TileGraphs(
        graphs.n_tiles,
        {t: graphs.node_tile[t][kept[t]] for t in NODE_TYPES},
        {t: graphs.semantic_id[t][kept[t]] for t in NODE_TYPES},
        {t: graphs.position[t][kept[t]] for t in NODE_TYPES},
        {t: graphs.geometry[t][kept[t]] for t in NODE_TYPES},
        index,
        attributes,
    )


def pointing_to(graphs: TileGraphs, rows: NDArray[np.int64]) -> TileGraphs:
    """The same graphs, their ``semantic_id`` k replaced by ``rows[k]``."""
    return replace(graphs, semantic_id={t: rows[graphs.semantic_id[t]] for t in NODE_TYPES})


def renumbered_graphs(
    graphs: TileGraphs, own: Sequence[dict[str, str]], table: dict[str, int], tag_sets: list[dict[str, str]]
) -> TileGraphs:
    """The same graphs pointing into a shared table; arguments as for `rows_in_table`, ``own`` being their table."""
    return pointing_to(graphs, rows_in_table(own, table, tag_sets))
