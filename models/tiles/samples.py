"""Labelled tiles for training: images, labels and graphs that belong together.

A sample set is plain numpy: what cuts it (a pipeline, a notebook) needs no torch. On disk it is a folder of ``.npz``
shards, equal bytes for equal content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.geolink.graph import TileGraphs
from models.tiles.graphs import pointing_to, rows_in_table, split_graphs
from models.tiles.sample_writer import MANIFEST_NAME, SHARD_TILES, SampleWriter
from models.tiles.shards import SampleError, graph_arrays, graphs_from_arrays, read_manifest, read_shards

IGNORE = 255
"""Label of a pixel that no loss and no figure counts."""


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

    @cached_property
    def _singles(self) -> list[TileGraphs]:
        return split_graphs(self.graphs)

    def tile(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], TileGraphs]:
        """Image uint8 (3, T, T), label uint8 (T, T) and graph of one tile."""
        return self.images[number], self.labels[number], self._singles[number]

    @property
    def label_values(self) -> NDArray[np.uint8]:
        """The values that labels have, in order."""
        return np.unique(self.labels)

    @property
    def content(self) -> tuple[object, ...]:
        """What decides a training on these samples, for its key."""
        arrays = graph_arrays(self.graphs)
        own = (self.images, self.labels, self.place, self.places, self.tag_sets)
        return (*own, *(arrays[name] for name in sorted(arrays)))

    def with_tables(
        self,
        tag_rows: NDArray[np.int64],
        tag_sets: list[dict[str, str]],
        place_rows: NDArray[np.int32],
        places: tuple[str, ...],
    ) -> Self:
        """The same samples pointing into other tables; row k of the present ones is row ``..._rows[k]`` of those."""
        graphs = pointing_to(self.graphs, tag_rows)
        return replace(self, graphs=graphs, tag_sets=tag_sets, place=place_rows[self.place], places=places)

    def select(self, tiles: Sequence[int] | NDArray[np.int64]) -> SampleSet:
        """The samples at ``tiles``, in that order."""
        index = np.asarray(tiles, np.int64)
        rich = self.graphs.is_rich
        graphs = TileGraphs.concat([self._singles[k] for k in index]) if len(index) else TileGraphs.empty(0, rich=rich)
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
        parts = share_tables(parts)
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

    def save(self, folder: Path, *, shard_tiles: int = SHARD_TILES) -> None:
        """Write the set as a folder of shards.

        Args:
            folder: Made if needed; shards of an older set there are replaced.
            shard_tiles: Tiles per shard.
        """
        with SampleWriter(folder, shard_tiles=shard_tiles) as writer:
            writer.add(self)

    @classmethod
    def load(cls, folder: Path) -> SampleSet:
        """Read a set that `save` wrote; nothing is unpickled.

        Raises:
            SampleError: no sample set, another format, or a damaged shard.
        """
        manifest = read_manifest(folder, MANIFEST_NAME)
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
                f"{folder} holds {sum(map(len, images))} tiles, {MANIFEST_NAME} says {manifest['tiles']}: "
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


class Pointing(Protocol):
    """Samples that point into a table of tag sets and one of places."""

    @property
    def tag_sets(self) -> list[dict[str, str]]:
        """The tag sets."""

    @property
    def places(self) -> tuple[str, ...]:
        """The places."""

    def with_tables(
        self,
        tag_rows: NDArray[np.int64],
        tag_sets: list[dict[str, str]],
        place_rows: NDArray[np.int32],
        places: tuple[str, ...],
    ) -> Self:
        """The same samples pointing into other tables."""


P = TypeVar("P", bound=Pointing)


def share_tables(parts: Sequence[P]) -> list[P]:
    """The same sets with one table of unique tag sets and one of places, to which all of them point."""
    table: dict[str, int] = {}
    tag_sets: list[dict[str, str]] = []
    tag_rows = [rows_in_table(p.tag_sets, table, tag_sets) for p in parts]
    places = tuple(dict.fromkeys(name for p in parts for name in p.places))
    place_rows = [np.array([places.index(name) for name in p.places], np.int32) for p in parts]
    return [
        p.with_tables(tags, tag_sets, rows, places) for p, tags, rows in zip(parts, tag_rows, place_rows, strict=True)
    ]
