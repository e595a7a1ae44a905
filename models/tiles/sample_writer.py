"""Labelled tiles written to shards as they come, in bounded memory."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from models.geolink.graph import TileGraphs
from models.tiles.graphs import graph_cuts, pointing_to, rows_in_table, split_graphs
from models.tiles.shards import CUT_NAME, SampleError, graph_arrays

MANIFEST_NAME = "samples.json"
SHARD_TILES = 256

Row = tuple[NDArray[np.uint8], NDArray[np.uint8], int, TileGraphs]


class Tiles(Protocol):
    """What is written: the parts of a `models.tiles.samples.SampleSet`."""

    @property
    def images(self) -> NDArray[np.uint8]:
        """uint8 (N, 3, T, T)."""

    @property
    def labels(self) -> NDArray[np.uint8]:
        """uint8 (N, T, T)."""

    @property
    def graphs(self) -> TileGraphs:
        """Of the N tiles."""

    @property
    def tag_sets(self) -> list[dict[str, str]]:
        """The table that the graphs point to."""

    @property
    def place(self) -> NDArray[np.int32]:
        """int32 (N,)."""

    @property
    def places(self) -> tuple[str, ...]:
        """Names of places."""

    @property
    def resolution_m(self) -> float | None:
        """Ground size of a pixel."""

    @property
    def source(self) -> str:
        """One line for the model card."""


class SampleWriter:
    """Writes samples part by part; equal parts give equal bytes, however they are divided.

    Use as a context manager: the manifest is written last, when the block ends without an error.

    Args:
        folder: Made if needed; an older set there is replaced.
        shard_tiles: Tiles per shard.
    """

    def __init__(self, folder: Path, *, shard_tiles: int = SHARD_TILES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
        for old in folder.glob("shard-*.npz"):
            old.unlink()
        self.folder, self.shard_tiles = folder, shard_tiles
        self._shape: tuple[int, bool] | None = None
        self._table: dict[str, int] = {}
        self._tag_sets: list[dict[str, str]] = []
        self._places: list[str] = []
        self._resolutions: dict[float | None, None] = {}
        self._sources: dict[str, None] = {}
        self._values: Counter[int] = Counter()
        self._waiting: list[Row] = []
        self._sizes: list[int] = []
        self._digests: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()

    def add(self, part: Tiles) -> None:
        """Add samples.

        Raises:
            SampleError: tiles or graphs of another form than before.
        """
        shape = (int(part.images.shape[-1]), part.graphs.is_rich)
        self._shape = self._shape or shape
        if shape != self._shape:
            raise SampleError(
                f"{self.folder}: tiles of {shape[0]} px and {self._shape[0]} px, rich graphs {shape[1]} and "
                f"{self._shape[1]} cannot be mixed: cut all sets with one tile size and build all graphs alike"
            )
        graphs = split_graphs(pointing_to(part.graphs, rows_in_table(part.tag_sets, self._table, self._tag_sets)))
        self._places += [name for name in part.places if name not in self._places]
        rows = [self._places.index(name) for name in part.places]
        self._resolutions[part.resolution_m] = None
        if part.source:
            self._sources[part.source] = None
        values, counts = np.unique(part.labels, return_counts=True)
        self._values.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        self._waiting += [
            (part.images[k], part.labels[k], rows[part.place[k]], graph) for k, graph in enumerate(graphs)
        ]
        while len(self._waiting) >= self.shard_tiles:
            self._write(self._waiting[: self.shard_tiles])
            # copies, so that a waiting tile does not hold the whole part it came in
            self._waiting = [(i.copy(), y.copy(), p, g) for i, y, p, g in self._waiting[self.shard_tiles :]]

    def finish(self) -> None:
        """Write what is left, and the manifest.

        Raises:
            SampleError: nothing was added.
        """
        if self._shape is None:
            raise SampleError(f"{self.folder}: no sample was added: check area and sources")
        if self._waiting:
            self._write(self._waiting)
            self._waiting = []
        manifest: dict[str, Any] = {
            "format": 1,
            "shards": [_shard_name(k) for k in range(len(self._sizes))],
            "shard_sizes": self._sizes,
            "digests": self._digests,
            "tiles": sum(self._sizes),
            "tile_px": self._shape[0],
            "rich": self._shape[1],
            "resolution_m": next(iter(self._resolutions)) if len(self._resolutions) == 1 else None,
            "source": "; ".join(self._sources),
            "places": self._places,
            "label_pixels": {str(value): self._values[value] for value in sorted(self._values)},
            "tag_sets": self._tag_sets,
        }
        text = json.dumps(manifest, ensure_ascii=False, sort_keys=True, indent=1)
        (self.folder / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")

    def _write(self, rows: list[Row]) -> None:
        images, labels, places, graphs = zip(*rows, strict=True)
        together = TileGraphs.concat(graphs)
        arrays = {
            "images": np.stack(images),
            "labels": np.stack(labels),
            "place": np.array(places, np.int32),
            CUT_NAME: graph_cuts(together),
            **{name: np.ascontiguousarray(values) for name, values in graph_arrays(together).items()},
        }
        path = self.folder / _shard_name(len(self._sizes))
        np.savez(path, **arrays)  # type: ignore[arg-type]
        with path.open("rb") as file:
            self._digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        self._sizes.append(len(rows))


def _shard_name(number: int) -> str:
    return f"shard-{number:05d}.npz"
