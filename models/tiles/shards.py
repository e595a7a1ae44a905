"""Shards of tiles on disk: named arrays in `.npz` files beside a manifest; nothing is pickled."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelsError
from models.geolink.graph import EDGE_TYPES, NODE_TYPES, TileGraphs

CUT_NAME = "cut"
"""Array of a shard with the first node and edge of each tile, int64 (n + 1, 12), `models.tiles.graphs.graph_cuts`."""


class SampleError(ModelsError):
    """A sample set whose parts do not fit, or that is damaged on disk."""


def read_manifest(folder: Path, name: str) -> dict[str, Any]:
    """Read the manifest of a sharded set.

    Raises:
        SampleError: missing, not JSON, or of another format.
    """
    file = folder / name
    if not file.is_file():
        raise SampleError(f"{folder} is no sample set (it has no {name}): check the path, or write the set first")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SampleError(f"{file} is not valid JSON ({error}): write the set again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != 1:
        raise SampleError(f"{file} is of another format than 1: write the set again with this version")
    return manifest


def read_shards(folder: Path, names: Sequence[str]) -> Iterator[dict[str, NDArray[Any]]]:
    """Read shards one by one, without pickle.

    Raises:
        SampleError: a shard is missing or damaged.
    """
    for name in names:
        try:
            with np.load(folder / name, allow_pickle=False) as data:
                arrays = dict(data)
        except Exception as error:  # numpy and zipfile raise many types for a damaged file
            raise SampleError(f"{folder / name} cannot be read ({error}): write the set again") from error
        yield arrays


def graph_arrays(graphs: TileGraphs) -> dict[str, NDArray[Any]]:
    """Tile graphs as a flat dictionary of named arrays, for a file."""
    arrays: dict[str, NDArray[Any]] = {}
    for t in NODE_TYPES:
        for name in ("node_tile", "semantic_id", "position", "geometry"):
            arrays[f"{name}.{t}"] = getattr(graphs, name)[t]
    for src, dst in EDGE_TYPES:
        arrays[f"edge_index.{src}.{dst}"] = graphs.edge_index[src, dst]
        arrays[f"edge_attr.{src}.{dst}"] = graphs.edge_attr[src, dst]
    return arrays


def graphs_from_arrays(arrays: dict[str, NDArray[Any]], *, n_tiles: int) -> TileGraphs:
    """The inverse of `graph_arrays`, checked.

    Raises:
        SampleError: an array is missing.
        GraphError: arrays do not fit each other.
    """
    try:
        graphs = TileGraphs(
            n_tiles,
            {t: arrays[f"node_tile.{t}"] for t in NODE_TYPES},
            {t: arrays[f"semantic_id.{t}"] for t in NODE_TYPES},
            {t: arrays[f"position.{t}"] for t in NODE_TYPES},
            {t: arrays[f"geometry.{t}"] for t in NODE_TYPES},
            {p: arrays[f"edge_index.{p[0]}.{p[1]}"] for p in EDGE_TYPES},
            {p: arrays[f"edge_attr.{p[0]}.{p[1]}"] for p in EDGE_TYPES},
        )
    except KeyError as error:
        raise SampleError(f"a shard has no array {error}: write the set again with this version") from error
    graphs.validate()
    return graphs
