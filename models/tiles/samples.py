"""Labelled tiles for training: images, labels and graphs that belong together.

A sample set is plain numpy: what cuts it (a pipeline, a notebook) needs no torch. On disk it is a folder of ``.npz``
shards, equal bytes for equal content.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.geolink.graph import TileGraphs
from models.tiles.graphs import renumbered_graphs, split_graphs
from models.tiles.shards import SampleError, graph_arrays, graphs_from_arrays, read_manifest, read_shards

IGNORE = 255
"""Label of a pixel that no loss and no figure counts."""

_MANIFEST = "samples.json"


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
        place: int32 (N,): row of ``places`` for each tile; all 0 where not given.
        places: Names of the places, each one scene, city or folder of chips: what has one look, one season, one way of
            drawing labels. Validation means most on a place that training never saw. ``(source,)`` where not given.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    graphs: TileGraphs
    tag_sets: list[dict[str, str]] = field(default_factory=list)
    resolution_m: float | None = None
    source: str = ""
    place: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    places: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.places:
            object.__setattr__(self, "places", (self.source,))
        if not len(self.place) and len(self.places) == 1:
            object.__setattr__(self, "place", np.zeros(len(self.images), np.int32))
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
        if self.place.shape != (n,) or self.place.dtype != np.int32:
            raise SampleError(
                f"place is {self.place.dtype} {self.place.shape}, the images need int32 {(n,)}: give one row of "
                "`places` per tile"
            )
        if n and not 0 <= int(self.place.min()) <= int(self.place.max()) < len(self.places):
            raise SampleError(
                f"a tile has place {int(self.place.max())}, there are {len(self.places)} places: name each place"
            )
        if len(set(self.places)) < len(self.places):
            raise SampleError(f"places are {self.places}: name each place once")

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
        return replace(
            self, images=self.images[index], labels=self.labels[index], graphs=graphs, place=self.place[index]
        )

    def at(self, place: str) -> SampleSet:
        """The samples of one place.

        Raises:
            SampleError: no such place.
        """
        if place not in self.places:
            raise SampleError(f"no place '{place}' among the samples; there are {', '.join(self.places)}")
        return self.select(np.flatnonzero(self.place == self.places.index(place)))

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
        place: str | None = None,
    ) -> SampleSet:
        """Samples without a map, all of one place; its name is ``source`` where not given."""
        return cls(
            images=images,
            labels=labels,
            graphs=TileGraphs.empty(len(images)),
            resolution_m=resolution_m,
            source=source,
            places=() if place is None else (place,),
        )

    @classmethod
    def concat(cls, parts: Sequence[SampleSet]) -> SampleSet:
        """All samples of ``parts``, in order; tables of tag sets and of places are merged, equal names being one place.

        Raises:
            SampleError: nothing given, or tiles of different sizes.
        """
        if not parts:
            raise SampleError("nothing to concatenate: give at least one sample set")
        sides = {p.tile_px for p in parts}
        if len(sides) > 1:
            raise SampleError(f"tiles of {sorted(sides)} px cannot be mixed: cut all sets with one tile size")
        parts = share_places(share_tag_sets(parts))
        resolutions = {p.resolution_m for p in parts}
        return cls(
            images=np.concatenate([p.images for p in parts]),
            labels=np.concatenate([p.labels for p in parts]),
            graphs=TileGraphs.concat([p.graphs for p in parts]),
            tag_sets=parts[0].tag_sets,
            resolution_m=resolutions.pop() if len(resolutions) == 1 else None,
            source="; ".join(dict.fromkeys(p.source for p in parts if p.source)),
            place=np.concatenate([p.place for p in parts]),
            places=parts[0].places,
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
            own = {"images": self.images[cut], "labels": self.labels[cut], "place": self.place[cut]}
            np.savez(folder / names[-1], **own, **arrays)  # type: ignore[arg-type]
        manifest = {
            "format": 1,
            "shards": names,
            "tiles": len(self),
            "tile_px": self.tile_px,
            "rich": self.graphs.is_rich,
            "resolution_m": self.resolution_m,
            "source": self.source,
            "places": self.places,
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
        place = [np.zeros(0, np.int32)]
        for arrays in read_shards(folder, manifest["shards"]):
            images.append(arrays["images"])
            labels.append(arrays["labels"])
            graphs.append(graphs_from_arrays(arrays, n_tiles=len(arrays["images"])))
            # sets of older versions are of one place
            place.append(arrays.get("place", np.zeros(len(arrays["images"]), np.int32)))
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
            place=np.concatenate(place),
            places=tuple(manifest.get("places", (manifest["source"],))),
        )


def share_tag_sets(parts: Sequence[SampleSet]) -> list[SampleSet]:
    """The same sets with one table of unique tag sets, to which the graphs of all of them point."""
    table: dict[str, int] = {}
    tag_sets: list[dict[str, str]] = []
    renumbered = [renumbered_graphs(p.graphs, p.tag_sets, table, tag_sets) for p in parts]
    return [replace(p, graphs=g, tag_sets=tag_sets) for p, g in zip(parts, renumbered, strict=True)]


def share_places(parts: Sequence[SampleSet]) -> list[SampleSet]:
    """The same sets with one table of places; places of equal names are one."""
    places = tuple(dict.fromkeys(name for p in parts for name in p.places))
    rows = [np.array([places.index(name) for name in p.places], np.int32) for p in parts]
    return [replace(p, place=row[p.place], places=places) for p, row in zip(parts, rows, strict=True)]
