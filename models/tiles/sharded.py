"""Labelled tiles that stay on disk: any tile is read when it is asked for, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.geolink.graph import TileGraphs
from models.tiles.graphs import pointing_to
from models.tiles.sample_writer import MANIFEST_NAME, SampleWriter
from models.tiles.samples import SampleSet
from models.tiles.shard_file import ShardFile
from models.tiles.shards import SampleError, read_manifest

OPEN_SHARDS = 64
"""Shards that one process keeps open."""


@dataclass(frozen=True, kw_only=True)
class ShardedSamples:
    """A set that `SampleSet.save` or `SampleWriter` wrote, read tile by tile.

    In memory are one number per tile (its place) and the table of tag sets.

    Attributes:
        folder: Where the shards are.
        shards: Their names.
        first: int64 (shards + 1,), number of the first tile of each; the last one is the number of tiles.
        digests: SHA-256 of each shard, as written.
        tile_px: Side of a tile.
        tag_sets: The unique tag sets that graphs point to.
        place: int32 (N,), row of ``places`` for each tile.
        places: Names of the places.
        resolution_m: Ground size of a pixel, None where unknown.
        source: One line for the model card.
        label_values: uint8, the values that labels have.
        rows: Row of ``tag_sets`` for each tag set as written; None where they are the same.
    """

    folder: Path
    shards: tuple[str, ...]
    first: NDArray[np.int64]
    digests: tuple[str, ...]
    tile_px: int
    tag_sets: list[dict[str, str]]
    place: NDArray[np.int32]
    places: tuple[str, ...]
    resolution_m: float | None
    source: str
    label_values: NDArray[np.uint8]
    rows: NDArray[np.int64] | None = None
    _open: OrderedDict[int, ShardFile] = field(default_factory=OrderedDict, repr=False, compare=False)

    @classmethod
    def open(cls, folder: Path) -> ShardedSamples:
        """Read the manifest and the place of each tile.

        Raises:
            SampleError: no sample set, another format, or one of an older version, which has no digests.
        """
        manifest = read_manifest(folder, MANIFEST_NAME)
        if "digests" not in manifest:
            raise SampleError(
                f"{folder} was written by an older version: SampleSet.load(folder).save(folder) writes it again"
            )
        place = [np.zeros(0, np.int32)]
        for name, size in zip(manifest["shards"], manifest["shard_sizes"], strict=True):
            shard = ShardFile(folder / name)
            try:
                if len(shard) != size:
                    raise SampleError(f"{folder / name} holds {len(shard)} tiles, not {size}: write the set again")
                place.append(shard.rows("place", 0, size))
            finally:
                shard.close()
        return cls(
            folder=folder,
            shards=tuple(manifest["shards"]),
            first=np.cumsum([0, *manifest["shard_sizes"]]).astype(np.int64),
            digests=tuple(manifest["digests"]),
            tile_px=manifest["tile_px"],
            tag_sets=manifest["tag_sets"],
            place=np.concatenate(place),
            places=tuple(manifest["places"]),
            resolution_m=manifest["resolution_m"],
            source=manifest["source"],
            label_values=np.array([int(v) for v in manifest["label_pixels"]], np.uint8),
        )

    def __len__(self) -> int:
        return int(self.first[-1])

    def __getstate__(self) -> dict[str, Any]:
        """Without open files: a worker process opens its own."""
        return {**self.__dict__, "_open": OrderedDict()}

    def tile(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], TileGraphs]:
        """Image uint8 (3, T, T), label uint8 (T, T) and graph of one tile.

        Raises:
            SampleError: the shard is missing or damaged.
        """
        shard = int(np.searchsorted(self.first, number, side="right")) - 1
        image, label, graph = self._shard(shard).tile(number - int(self.first[shard]))
        return image, label, graph if self.rows is None else pointing_to(graph, self.rows)

    @property
    def content(self) -> tuple[object, ...]:
        """What decides a training on these samples, for its key; no tile is read."""
        rows = () if self.rows is None else self.rows
        return (list(self.digests), self.place, self.places, self.tag_sets, rows)

    def with_tables(
        self,
        tag_rows: NDArray[np.int64],
        tag_sets: list[dict[str, str]],
        place_rows: NDArray[np.int32],
        places: tuple[str, ...],
    ) -> ShardedSamples:
        """The same samples pointing into other tables; row k of the present ones is row ``..._rows[k]`` of those."""
        rows = tag_rows if self.rows is None else tag_rows[self.rows]
        return replace(self, rows=rows, tag_sets=tag_sets, place=place_rows[self.place], places=places)

    def _shard(self, number: int) -> ShardFile:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        self._open[number] = ShardFile(self.folder / self.shards[number])
        if len(self._open) > OPEN_SHARDS:
            self._open.popitem(last=False)[1].close()
        return self._open[number]


Samples = SampleSet | ShardedSamples
"""Samples in memory or on disk: a training takes either, and both give equal batches."""


class SampleStore:
    """Collects samples in memory, and on disk once they are large.

    Args:
        folder: Where shards go, if it comes to that.
        limit_bytes: Pixels and labels that are kept in memory at most.
        writes: Whether this process writes; another one, which collected the same before, has written where not.
    """

    def __init__(self, folder: Path, *, limit_bytes: int, writes: bool = True) -> None:
        self.folder, self.limit_bytes, self.writes = folder, limit_bytes, writes
        self._parts: list[SampleSet] = []
        self._bytes = 0
        self._writer: SampleWriter | None = None

    def add(self, part: SampleSet) -> None:
        """Add samples.

        Raises:
            SampleError: tiles of another size than before.
        """
        self._bytes += part.images.nbytes + part.labels.nbytes
        if self._bytes > self.limit_bytes and not self.writes:
            self._parts.clear()
            return
        if self._writer is None and self._bytes > self.limit_bytes:
            self._writer = SampleWriter(self.folder)
            for waiting in self._parts:
                self._writer.add(waiting)
            self._parts.clear()
        if self._writer is None:
            self._parts.append(part)
        else:
            self._writer.add(part)

    def finish(self) -> Samples | None:
        """The samples; None where nothing was added.

        Raises:
            SampleError: another process should have written them, and has not.
        """
        if self._writer is not None:
            self._writer.finish()
        if self._bytes > self.limit_bytes:
            return ShardedSamples.open(self.folder)
        return SampleSet.concat(self._parts) if self._parts else None
