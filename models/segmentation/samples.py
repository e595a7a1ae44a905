"""Labelled tiles for training: images, labels and graphs that belong together.

A sample set is plain numpy: what cuts it (a pipeline, a notebook) needs no torch. On disk it is a folder of ``.npz``
shards, equal bytes for equal content.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelsError
from models.geolink.graph import EDGE_TYPES, NODE_TYPES, TileGraphs

IGNORE = 255
"""Label of a pixel that no loss and no figure counts."""

_MANIFEST = "samples.json"


class SampleError(ModelsError):
    """A sample set whose parts do not fit, or that is damaged on disk."""


@dataclass(frozen=True, kw_only=True)
class SampleSet:
    """Tiles with labels, and what the map shows of them.

    Attributes:
        images: uint8 (N, 3, T, T), RGB; 0 where there is no data.
        labels: uint8 (N, T, T): class of each pixel, `IGNORE` where unknown.
        graphs: What the map shows of the N tiles; tiles without nodes are normal.
        tag_sets: The unique tag sets that ``graphs.semantic_id`` points to.
        resolution_m: Ground size of a pixel, None where unknown.
        source: One line for the model card: what the data are.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    graphs: TileGraphs
    tag_sets: list[dict[str, str]] = field(default_factory=list)
    resolution_m: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        n, side = len(self.images), self.images.shape[-1]
        if self.images.shape != (n, 3, side, side) or self.images.dtype != np.uint8:
            raise SampleError(
                f"images are {self.images.dtype} {self.images.shape}, needed are uint8 (N, 3, T, T): "
                "give RGB tiles, bands first"
            )
        if self.labels.shape != (n, side, side) or self.labels.dtype != np.uint8:
            raise SampleError(
                f"labels are {self.labels.dtype} {self.labels.shape}, the images need uint8 {(n, side, side)}: "
                "rasterise one label tile per image tile"
            )
        if self.graphs.n_tiles != n:
            raise SampleError(
                f"graphs hold {self.graphs.n_tiles} tiles, there are {n} images: "
                "use TileGraphs.empty(N) where there is no map"
            )
        highest = max((int(ids.max()) for ids in self.graphs.semantic_id.values() if len(ids)), default=-1)
        if highest >= len(self.tag_sets):
            raise SampleError(
                f"a node has semantic_id {highest}, the table has {len(self.tag_sets)} tag sets: "
                "pass the table that the graphs were built with"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def tile_px(self) -> int:
        """Side of a tile."""
        return int(self.images.shape[-1])

    def select(self, tiles: Sequence[int] | NDArray[np.int64]) -> SampleSet:
        """The samples at ``tiles``, in that order."""
        index = np.asarray(tiles, np.int64)
        singles = split_graphs(self.graphs)
        rich = self.graphs.is_rich
        graphs = TileGraphs.concat([singles[k] for k in index]) if len(index) else TileGraphs.empty(0, rich=rich)
        return replace(self, images=self.images[index], labels=self.labels[index], graphs=graphs)

    def without_map(self) -> SampleSet:
        """The same tiles where nothing is mapped."""
        return replace(self, graphs=TileGraphs.empty(len(self), rich=self.graphs.is_rich))

    @classmethod
    def image_only(
        cls,
        images: NDArray[np.uint8],
        labels: NDArray[np.uint8],
        *,
        resolution_m: float | None = None,
        source: str = "",
    ) -> SampleSet:
        """Samples from places without a map."""
        return cls(
            images=images,
            labels=labels,
            graphs=TileGraphs.empty(len(images)),
            resolution_m=resolution_m,
            source=source,
        )

    @classmethod
    def concat(cls, parts: Sequence[SampleSet]) -> SampleSet:
        """All samples of ``parts``, in order; tables of tag sets are merged.

        Raises:
            SampleError: nothing given, or tiles of different sizes.
        """
        if not parts:
            raise SampleError("nothing to concatenate: give at least one sample set")
        sides = {p.tile_px for p in parts}
        if len(sides) > 1:
            raise SampleError(f"tiles of {sorted(sides)} px cannot be mixed: cut all sets with one tile size")
        parts = share_tag_sets(parts)
        resolutions = {p.resolution_m for p in parts}
        return cls(
            images=np.concatenate([p.images for p in parts]),
            labels=np.concatenate([p.labels for p in parts]),
            graphs=TileGraphs.concat([p.graphs for p in parts]),
            tag_sets=parts[0].tag_sets,
            resolution_m=resolutions.pop() if len(resolutions) == 1 else None,
            source="; ".join(dict.fromkeys(p.source for p in parts if p.source)),
        )

    def save(self, folder: Path, *, shard_tiles: int = 256) -> None:
        """Write the set as a folder of shards.

        Args:
            folder: Made if needed; shards of an older set there are replaced.
            shard_tiles: Tiles per shard.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("shard-*.npz"):
            old.unlink()
        singles = split_graphs(self.graphs)
        starts = range(0, len(self), shard_tiles)
        names = []
        for number, start in enumerate(starts):
            cut = slice(start, start + shard_tiles)
            arrays = graph_arrays(TileGraphs.concat(singles[cut]))
            names.append(f"shard-{number:05d}.npz")
            np.savez(folder / names[-1], images=self.images[cut], labels=self.labels[cut], **arrays)  # type: ignore[arg-type]
        manifest = {
            "format": 1,
            "shards": names,
            "tiles": len(self),
            "tile_px": self.tile_px,
            "rich": self.graphs.is_rich,
            "resolution_m": self.resolution_m,
            "source": self.source,
            "tag_sets": self.tag_sets,
        }
        text = json.dumps(manifest, ensure_ascii=False, sort_keys=True, indent=1)
        (folder / _MANIFEST).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> SampleSet:
        """Read a set that `save` wrote; nothing is unpickled.

        Raises:
            SampleError: no sample set, another format, or a damaged shard.
        """
        manifest = read_manifest(folder, _MANIFEST)
        side, rich = manifest["tile_px"], manifest["rich"]
        images = [np.zeros((0, 3, side, side), np.uint8)]
        labels = [np.zeros((0, side, side), np.uint8)]
        graphs = [TileGraphs.empty(0, rich=rich)]
        for arrays in read_shards(folder, manifest["shards"]):
            images.append(arrays["images"])
            labels.append(arrays["labels"])
            graphs.append(graphs_from_arrays(arrays, n_tiles=len(arrays["images"])))
        if sum(map(len, images)) != manifest["tiles"]:
            raise SampleError(
                f"{folder} holds {sum(map(len, images))} tiles, {_MANIFEST} says {manifest['tiles']}: "
                "write the set again"
            )
        return cls(
            images=np.concatenate(images),
            labels=np.concatenate(labels),
            graphs=TileGraphs.concat(graphs),
            tag_sets=manifest["tag_sets"],
            resolution_m=manifest["resolution_m"],
            source=manifest["source"],
        )


def share_tag_sets(parts: Sequence[SampleSet]) -> list[SampleSet]:
    """The same sets with one table of unique tag sets, to which the graphs of all of them point."""
    table: dict[str, int] = {}
    tag_sets: list[dict[str, str]] = []
    renumbered = [renumbered_graphs(p.graphs, p.tag_sets, table, tag_sets) for p in parts]
    return [replace(p, graphs=g, tag_sets=tag_sets) for p, g in zip(parts, renumbered, strict=True)]


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
