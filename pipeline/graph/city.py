"""The graph of a city: built once from its features, cut into tile graphs for the model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.geolink.graph import TileGraphs
from pipeline.files import replacing_folder
from pipeline.graph import pairs as rules
from pipeline.graph.build import Plan, build_arrays
from pipeline.graph.errors import CityGraphError
from pipeline.graph.official import build_official_graphs
from pipeline.graph.semantics import parse_tag_sets
from pipeline.graph.sources import Part, list_parquet_parts, split_parts
from pipeline.graph.store import (
    FORMAT,
    Mode,
    NodeArrays,
    PairArrays,
    load_arrays,
    read_meta,
    save_arrays,
    write_meta,
)
from pipeline.graph.tiles import NodeIndex, build_tile_graphs, find_pairs_among, find_seen

if TYPE_CHECKING:
    import geopandas as gpd

    from pipeline.vectors import Features

PART = 25_000
"""Features measured at a time: bounds the memory of the build."""

RANGE = 25_000
"""Features whose relations are sought at a time, likewise."""


def graph_key(features_digest: str, *, mode: Mode = "rich") -> str:
    """The ledger's key of the graph of features with this digest: content, mode, rules and format of the files."""
    return hashlib.sha256(f"{features_digest} {_rules(mode)}".encode()).hexdigest()


def _rules(mode: Mode) -> str:
    """What decides the graph of given features, for keys and digests."""
    return f"{mode} format {FORMAT} neighbours {rules.NEIGHBOURS} of {rules.CANDIDATES} within {rules.NEAR_M} m"


@dataclass(frozen=True, eq=False)
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
    def build(
        cls,
        features: Features | gpd.GeoDataFrame | str | Path,
        *,
        mode: Mode = "rich",
        folder: str | Path | None = None,
        workers: int = 1,
        executor: Executor | None = None,
        part_size: int = PART,
        range_size: int = RANGE,
    ) -> CityGraph:
        """Build the graph of features in a projected CRS.

        The result is the same for every ``part_size``, ``range_size``, number of workers and order of features.

        Args:
            features: What `pipeline.vectors.read_features` gives, such a table, or a GeoParquet file of one, which is
                read part by part and never held whole.
            mode: `rich` or `official`.
            folder: Where the graph is built and stays, memory-mapped; without it the graph is made in memory.
            workers: Processes; more than one needs ``folder``.
            executor: Runs the work instead of processes of our own, for example a Dask client's `get_executor()`
                whose workers see ``folder``.
            part_size: Features measured at a time.
            range_size: Features whose relations are sought at a time.

        Raises:
            CityGraphError: a geometry that is empty or of several parts, an unreadable file, an unknown mode, or
                several workers without a folder.
        """
        if mode not in ("rich", "official"):
            raise CityGraphError(f"unknown graph mode {mode!r}; choose rich or official")
        if folder is None and (workers > 1 or executor is not None):
            raise CityGraphError(f"{workers} workers need a folder to share arrays in; give folder=")
        parts, meta = _source(features, part_size, by_value=workers > 1 or executor is not None)
        target = None if folder is None else Path(folder)
        with ExitStack() as stack:
            scratch = None if target is None else stack.enter_context(replacing_folder(target))
            plan = Plan(official=mode == "official", range_size=range_size, folder=scratch)
            with ExitStack() as workshop:
                if executor is None and workers > 1:
                    executor = workshop.enter_context(ProcessPoolExecutor(workers, get_context("spawn")))
                nodes, pairs, texts = build_arrays(parts, plan, executor)
            graph = cls(mode, nodes, pairs, texts, meta)
            if target is None or scratch is None:
                return graph
            save_arrays(scratch, pairs)
            write_meta(scratch, graph._meta())
            del graph, nodes, pairs
        return cls.load(target)

    @cached_property
    def tag_sets(self) -> list[dict[str, str]]:
        """Distinct tag sets; the row is the `semantic_id`."""
        return parse_tag_sets(self.texts)

    @cached_property
    def _index(self) -> NodeIndex:
        return NodeIndex.of(self.nodes)

    def tile_graphs(self, bounds_m: NDArray[np.float64]) -> TileGraphs:
        """What each tile sees.

        Args:
            bounds_m: float64 (B, 4) left, bottom, right, top of the tiles in the CRS of the features.
        """
        tiles = _windows(bounds_m)
        if not len(self.nodes):
            return TileGraphs.empty(len(tiles), rich=self.mode == "rich")
        if self.mode == "official":
            return build_official_graphs(self.nodes, self._index.tree, tiles)
        seen = find_seen(self._index, tiles)
        return build_tile_graphs(self.nodes, seen, find_pairs_among(self.nodes, self.pairs, seen, tiles), len(tiles))

    def digest(self, bounds_m: NDArray[np.float64]) -> str:
        """SHA-256 of the content that tiles at ``bounds_m`` ((B, 4) or (4,)) see: features, relations, tags.

        A change of a feature changes the digest of exactly the windows that see it or whose features' neighbours it
        changes; ids, order of input and features elsewhere play no part.
        """
        tiles = _windows(bounds_m)
        sha = hashlib.sha256(_rules(self.mode).encode())
        sha.update(tiles.tobytes())
        if len(self.nodes):
            seen = find_seen(self._index, tiles, places=False)
            sha.update(np.bincount(seen.tile, minlength=len(tiles)).tobytes())
            sha.update(np.ascontiguousarray(self.nodes.content[seen.node]).tobytes())
            pairs = find_pairs_among(self.nodes, self.pairs, seen, tiles)
            for part in (pairs.a, pairs.b, pairs.code, pairs.gap_m):
                sha.update(np.ascontiguousarray(part).tobytes())
        return sha.hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write the graph into ``folder``, complete or not at all."""
        with replacing_folder(Path(folder)) as temporary:
            save_arrays(temporary, self.nodes)
            save_arrays(temporary, self.pairs)
            write_meta(temporary, self._meta())

    def _meta(self) -> dict[str, Any]:
        return {**self.meta, "mode": self.mode, "tag_sets": list(self.texts)}

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


def _source(
    features: Features | gpd.GeoDataFrame | str | Path, size: int, *, by_value: bool
) -> tuple[Iterable[Part], dict[str, Any]]:
    """The parts of a source, and what is noted of it."""
    if isinstance(features, str | Path):
        parts, crs = list_parquet_parts(Path(features), size)
        return parts, {"crs": crs, "features": None}
    table: Any = getattr(features, "table", features)
    crs = None if table.crs is None else table.crs.srs
    return split_parts(table, size, by_value=by_value), {"crs": crs, "features": getattr(features, "digest", None)}
