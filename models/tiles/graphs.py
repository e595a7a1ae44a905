"""Tile graphs one by one: cut from a batch, and pointing into a shared table of tag sets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from models.geolink.graph import EDGE_TYPES, NODE_TYPES, TileGraphs


def split_graphs(graphs: TileGraphs) -> list[TileGraphs]:
    """Cut a batch of tile graphs into single ones; `TileGraphs.concat` puts any choice of them together again."""
    tiles = np.arange(graphs.n_tiles + 1)
    node_cut = {t: np.searchsorted(graphs.node_tile[t], tiles) for t in NODE_TYPES}
    edge_cut = {}
    for src, dst in EDGE_TYPES:
        edge_tile = graphs.node_tile[dst][graphs.edge_index[src, dst][1]]
        edge_cut[src, dst] = np.searchsorted(edge_tile, tiles)
    singles = []
    for k in range(graphs.n_tiles):
        node = {t: slice(node_cut[t][k], node_cut[t][k + 1]) for t in NODE_TYPES}
        edge = {p: slice(edge_cut[p][k], edge_cut[p][k + 1]) for p in EDGE_TYPES}
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


def renumbered_graphs(
    graphs: TileGraphs, own: Sequence[dict[str, str]], table: dict[str, int], tag_sets: list[dict[str, str]]
) -> TileGraphs:
    """The same graphs pointing into a shared table.

    Args:
        graphs: Graphs that point into ``own``.
        own: Their table.
        table: Canonical JSON of each tag set of the shared table, and its row; grows.
        tag_sets: The shared table; grows.
    """
    ids = np.zeros(len(own), np.int64)
    for k, tags in enumerate(own):
        key = json.dumps(tags, sort_keys=True, ensure_ascii=False)
        if key not in table:
            table[key] = len(tag_sets)
            tag_sets.append(dict(tags))
        ids[k] = table[key]
    return replace(graphs, semantic_id={t: ids[graphs.semantic_id[t]] for t in NODE_TYPES})
