"""Random tile graphs of given sizes, for benchmarks, tests and trying a model out without data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.geolink.graph import (
    EDGE_TYPES,
    GEOMETRY_COLUMNS,
    NODE_TYPES,
    POSITION_POINTS,
    RELATIONS,
    RICH_COLUMNS,
    TileGraphs,
)

DENSE_TILE = (47, 67, 47)
"""Points, lines and polygons of the densest published example tile: 161 nodes."""


def random_tile_graphs(
    counts: Sequence[tuple[int, int, int]], *, n_tag_sets: int, seed: int, degree: int = 2, rich: bool = True
) -> TileGraphs:
    """Graphs with random places, tags and relations.

    Args:
        counts: Points, lines and polygons of each tile; zeros make a blank tile.
        n_tag_sets: Rows of the semantic table that nodes point to.
        seed: The same seed gives the same graphs.
        degree: Incoming edges of a node from each type that its tile has.
        rich: Whether edges carry the rich columns.
    """
    rng = np.random.default_rng(seed)
    tiles = [_random_tile(rng, c, n_tag_sets, degree, rich=rich) for c in counts]
    return TileGraphs.concat(tiles) if tiles else TileGraphs.empty(0, rich=rich)


def _random_tile(
    rng: np.random.Generator, counts: tuple[int, int, int], n_tag_sets: int, degree: int, *, rich: bool
) -> TileGraphs:
    n = dict(zip(NODE_TYPES, counts, strict=True))
    index = {}
    attr: dict[tuple[str, str], NDArray[np.float32]] = {}
    for src, dst in EDGE_TYPES:
        target = np.repeat(np.arange(n[dst]), degree if n[src] else 0)
        index[src, dst] = np.stack([rng.integers(0, max(n[src], 1), len(target)), target])
        relations = np.eye(len(RELATIONS[src, dst]))[rng.integers(0, len(RELATIONS[src, dst]), len(target))]
        extra = rng.random((len(target), len(RICH_COLUMNS) if rich else 0))
        attr[src, dst] = np.concatenate([relations, extra], axis=1).astype(np.float32)
    return TileGraphs(
        1,
        {t: np.zeros(n[t], np.int64) for t in NODE_TYPES},
        {t: rng.integers(0, n_tag_sets, n[t]) for t in NODE_TYPES},
        {t: rng.random((n[t], 2 * POSITION_POINTS[t])).astype(np.float32) for t in NODE_TYPES},
        {t: rng.random((n[t], len(GEOMETRY_COLUMNS))).astype(np.float32) for t in NODE_TYPES},
        index,
        attr,
    )
