"""Image and map pairs on disk: a folder of shards that need not fit into memory.

Layout of a folder: ``shard-00000.npz``, ``shard-00001.npz``, ... each with ``images`` uint8 (n, 3, T, T) and the
arrays of the tile graphs; ``pairs.json`` with the table of tag sets, which is written last: a folder without it was
not finished. Equal pairs give equal bytes.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelsError
from models.geolink.graph import TileGraphs
from models.tiles.graphs import renumbered_graphs, split_graphs
from models.tiles.shards import graph_arrays, graphs_from_arrays, read_manifest, read_shards

MANIFEST_NAME = "pairs.json"


class PairsError(ModelsError):
    """Pairs that do not fit each other, or a folder that cannot be written."""


class PairWriter:
    """Writes pairs, batch by batch, in bounded memory.

    Use as a context manager; the manifest is written when the block ends without an error.

    Args:
        folder: Made if needed.
        shard_tiles: Pairs per shard.
        source: One line on the data, for the model card.

    Raises:
        PairsError: the folder holds pairs already.
    """

    def __init__(self, folder: Path, *, shard_tiles: int = 256, source: str = "") -> None:
        if (folder / MANIFEST_NAME).exists():
            raise PairsError(f"{folder} holds pairs already: choose another folder, or remove it first")
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in folder.glob("shard-*.npz"):
            unfinished.unlink()
        self.folder, self.shard_tiles, self.source = folder, shard_tiles, source
        self._table: dict[str, int] = {}
        self._tag_sets: list[dict[str, str]] = []
        self._waiting: list[tuple[NDArray[np.uint8], TileGraphs]] = []
        self._sizes: list[int] = []
        self._tile_px: int | None = None
        self._rich: bool | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()

    def add(self, images: NDArray[np.uint8], graphs: TileGraphs, tag_sets: Sequence[dict[str, str]]) -> None:
        """Add pairs.

        Args:
            images: uint8 (n, 3, T, T); T may exceed what the model sees, since crops are drawn from it.
            graphs: Graphs of the n tiles.
            tag_sets: The table that ``graphs.semantic_id`` points to.

        Raises:
            PairsError: other sizes than before, or numbers that do not fit.
        """
        side = images.shape[-1]
        self._tile_px = side if self._tile_px is None else self._tile_px
        self._rich = graphs.is_rich if self._rich is None else self._rich
        if images.shape != (len(images), 3, self._tile_px, self._tile_px) or images.dtype != np.uint8:
            raise PairsError(
                f"images are {images.dtype} {images.shape}, needed are uint8 (n, 3, {self._tile_px}, {self._tile_px}): "
                "cut all tiles with one size, bands first"
            )
        if graphs.n_tiles != len(images):
            raise PairsError(f"{len(images)} images come with graphs of {graphs.n_tiles} tiles: give one per image")
        if graphs.is_rich != self._rich:
            raise PairsError("rich and plain graphs cannot be mixed: build all graphs with one setting")
        own = renumbered_graphs(graphs, tag_sets, self._table, self._tag_sets)
        self._waiting += [(images[k], g) for k, g in enumerate(split_graphs(own))]
        while len(self._waiting) >= self.shard_tiles:
            self._write(self._waiting[: self.shard_tiles])
            del self._waiting[: self.shard_tiles]

    def finish(self) -> None:
        """Write what is left, and the manifest."""
        if self._waiting:
            self._write(self._waiting)
            self._waiting = []
        if not self._sizes:
            raise PairsError(f"{self.folder}: no pair was added: check the area and the sources")
        manifest = {
            "format": 1,
            "tile_px": self._tile_px,
            "rich": self._rich,
            "source": self.source,
            "shard_sizes": self._sizes,
            "tag_sets": self._tag_sets,
        }
        text = json.dumps(manifest, ensure_ascii=False, sort_keys=True, indent=1)
        (self.folder / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")

    def _write(self, pairs: list[tuple[NDArray[np.uint8], TileGraphs]]) -> None:
        arrays = graph_arrays(TileGraphs.concat([g for _, g in pairs]))
        images = np.stack([image for image, _ in pairs])
        np.savez(self.folder / _shard_name(len(self._sizes)), images=images, **arrays)  # type: ignore[arg-type]
        self._sizes.append(len(pairs))


class PairSet:
    """Reads pairs; keeps a few shards in memory.

    Args:
        folder: What `PairWriter` wrote.
        cached_shards: Shards kept in memory.

    Raises:
        SampleError: no pairs there, or of another format.
    """

    def __init__(self, folder: Path, *, cached_shards: int = 4) -> None:
        manifest = read_manifest(folder, MANIFEST_NAME)
        self.folder = folder
        self.tile_px: int = manifest["tile_px"]
        self.rich: bool = manifest["rich"]
        self.source: str = manifest["source"]
        self.tag_sets: list[dict[str, str]] = manifest["tag_sets"]
        self.shard_sizes: list[int] = manifest["shard_sizes"]
        self._first = np.cumsum([0, *self.shard_sizes])
        self._cached_shards = cached_shards
        self._cache: OrderedDict[int, tuple[NDArray[np.uint8], list[TileGraphs]]] = OrderedDict()

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], TileGraphs]:
        """One pair: image uint8 (3, T, T) and the graph of that tile."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        shard = int(np.searchsorted(self._first, index, side="right")) - 1
        images, graphs = self._shard(shard)
        row = index - int(self._first[shard])
        return images[row], graphs[row]

    def order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """A random order that reads each shard once: shards are shuffled, then pairs within a few of them."""
        shards = rng.permutation(len(self.shard_sizes))
        group = max(1, self._cached_shards - 1)
        parts = []
        for start in range(0, len(shards), group):
            rows = [np.arange(self._first[s], self._first[s + 1]) for s in shards[start : start + group]]
            parts.append(rng.permutation(np.concatenate(rows)))
        return np.concatenate(parts).astype(np.int64)

    def _shard(self, number: int) -> tuple[NDArray[np.uint8], list[TileGraphs]]:
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        (arrays,) = read_shards(self.folder, [_shard_name(number)])
        graphs = split_graphs(graphs_from_arrays(arrays, n_tiles=self.shard_sizes[number]))
        self._cache[number] = (arrays["images"], graphs)
        if len(self._cache) > self._cached_shards:
            self._cache.popitem(last=False)
        return self._cache[number]


def _shard_name(number: int) -> str:
    return f"shard-{number:05d}.npz"
