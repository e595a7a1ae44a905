"""The graph of a city: built once from its features, cut into tile graphs for the model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from models.geolink.graph import TileGraphs
from pipeline.graph import build as building
from pipeline.graph.errors import CityGraphError
from pipeline.graph.official import official_tile_graphs
from pipeline.graph.semantics import semantics_of, tag_sets_of
from pipeline.graph.store import (
    Mode,
    NodeArrays,
    PairArrays,
    finish,
    fresh,
    load_arrays,
    read_meta,
    save_arrays,
    write_meta,
)
from pipeline.graph.tiles import pairs_among, seen_by, tile_graphs_of
from pipeline.graph.tree import BoxTree
from pipeline.vectors import Features

RANGE = 50_000
"""Features whose relations are sought at a time: bounds the memory of the build."""


@dataclass(frozen=True)
class CityGraph:
    """All features of a city as nodes, their relations as pairs; a graph source for training and inference.

    Attributes:
        mode: `rich` (ours) or `official` (the published graph with its quirks).
        nodes: The features.
        pairs: Their relations.
        texts: Distinct canonical tag sets; `semantic_id` of a tile graph is a row in it.
        meta: CRS and the digest of the features the graph was made of.
    """

    mode: Mode
    nodes: NodeArrays
    pairs: PairArrays
    texts: tuple[str, ...]
    meta: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def build(cls, features: Features | gpd.GeoDataFrame, *, mode: Mode = "rich", range_size: int = RANGE) -> CityGraph:
        """Build the graph of features in a projected CRS.

        Args:
            features: What `pipeline.vectors.read_features` gives, or such a table.
            mode: `rich` or `official`.
            range_size: Features worked on at a time; the result does not depend on it.

        Raises:
            CityGraphError: a geometry that is empty or of several parts, or an unknown mode.
        """
        if mode not in ("rich", "official"):
            raise CityGraphError(f"unknown graph mode {mode!r}; choose rich or official")
        table = features.table if isinstance(features, Features) else features
        digest = features.digest if isinstance(features, Features) else None
        semantics = semantics_of(table["tags"].to_numpy(object), all_keys=mode == "official")
        nodes = building.ordered_nodes(np.asarray(table.geometry.to_numpy(), object), semantics)
        tree = BoxTree.over(nodes.bounds)
        related, near = [], []
        if mode == "rich":
            for start in range(0, len(nodes), range_size):
                stop = min(start + range_size, len(nodes))
                related.append(building.relation_pairs(nodes, tree, start, stop))
                near.append(building.near_pairs(nodes, tree, start, stop))
        pairs = building.assemble_pairs(nodes, related, near)
        crs = None if table.crs is None else table.crs.to_string()
        return cls(mode, nodes, pairs, semantics.texts, {"crs": crs, "features": digest})

    @cached_property
    def tag_sets(self) -> list[dict[str, str]]:
        """Distinct tag sets; the row is the `semantic_id`."""
        return tag_sets_of(self.texts)

    @cached_property
    def _tree(self) -> BoxTree:
        return BoxTree.over(self.nodes.bounds)

    def tile_graphs(self, bounds_m: NDArray[np.float64]) -> TileGraphs:
        """What each tile sees.

        Args:
            bounds_m: float64 (B, 4) left, bottom, right, top of the tiles in the CRS of the features.
        """
        tiles = _windows(bounds_m)
        if not len(self.nodes):
            return TileGraphs.empty(len(tiles), rich=self.mode == "rich")
        if self.mode == "official":
            return official_tile_graphs(self.nodes, self._tree, tiles)
        seen = seen_by(self.nodes, self._tree, tiles)
        return tile_graphs_of(self.nodes, seen, pairs_among(self.nodes, self.pairs, seen, tiles), len(tiles))

    def digest(self, bounds_m: NDArray[np.float64]) -> str:
        """SHA-256 of the content that tiles at ``bounds_m`` ((B, 4) or (4,)) see: features, relations, tags.

        A change of a feature changes the digest of exactly the windows that see it or whose features' neighbours it
        changes; ids, order of input and features elsewhere play no part.
        """
        tiles = _windows(bounds_m)
        sha = hashlib.sha256(f"{self.mode} {building.NEIGHBOURS} {building.CANDIDATES} {building.NEAR_M}".encode())
        sha.update(tiles.tobytes())
        if len(self.nodes):
            seen = seen_by(self.nodes, self._tree, tiles, places=False)
            sha.update(np.bincount(seen.tile, minlength=len(tiles)).tobytes())
            sha.update(np.ascontiguousarray(self.nodes.content[seen.node]).tobytes())
            pairs = pairs_among(self.nodes, self.pairs, seen, tiles)
            for part in (pairs.a, pairs.b, pairs.code, pairs.gap_m):
                sha.update(np.ascontiguousarray(part).tobytes())
        return sha.hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write the graph into ``folder``, complete or not at all."""
        target = Path(folder)
        temporary = fresh(target)
        save_arrays(temporary, self.nodes)
        save_arrays(temporary, self.pairs)
        write_meta(temporary, {**self.meta, "mode": self.mode, "tag_sets": list(self.texts)})
        finish(temporary, target)

    @classmethod
    def load(cls, folder: str | Path) -> CityGraph:
        """Map a saved graph; arrays are read as they are needed and shared between processes.

        Raises:
            CityGraphError: the folder holds no complete graph of this format.
        """
        path = Path(folder)
        meta = read_meta(path)
        texts = tuple(meta.pop("tag_sets"))
        mode: Mode = meta.pop("mode")
        return cls(mode, load_arrays(path, NodeArrays), load_arrays(path, PairArrays), texts, meta)


def _windows(bounds_m: NDArray[np.float64]) -> NDArray[np.float64]:
    windows = np.atleast_2d(np.asarray(bounds_m, np.float64))
    if windows.ndim != 2 or windows.shape[1] != 4:
        raise CityGraphError(f"bounds of shape {windows.shape}; give (B, 4): left, bottom, right, top")
    return windows
