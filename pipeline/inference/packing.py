"""From blocks to batches: tiles of one block after the other, the last batch padded to the same shape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.geolink.graph import TileGraphs
from pipeline.inference.blocks import BlockPlan
from pipeline.inference.protocols import GraphSource
from pipeline.inference.reading import Block


@dataclass
class Batch:
    """One call of the model, and what it finishes.

    Attributes:
        images: uint8 (B, bands, T, T); zeros where padded. None where nothing is to compute.
        graphs: Tile graphs of all B tiles, or None.
        slots: Per real tile: its block, and the row and column of its upper left pixel on the grid.
        finished: Blocks whose last tile is in this batch, or that need no tile at all; in order.
    """

    images: NDArray[np.uint8] | None
    graphs: TileGraphs | None
    slots: list[tuple[Block, int, int]]
    finished: list[Block]

    def corners(self, batch_size: int) -> NDArray[np.int64]:
        """Row and column of each tile's upper left pixel, int64 (B, 2); padding repeats the first."""
        own = [(row, col) for _, row, col in self.slots]
        return np.array(own + own[:1] * (batch_size - len(own)), np.int64)


def batches(
    blocks: Iterable[Block],
    *,
    plan: BlockPlan,
    bands: int,
    batch_size: int,
    graphs: GraphSource | None,
) -> Iterator[Batch]:
    """Fill batches with tiles; a batch may hold tiles of several blocks."""
    t = plan.tiling.tile_px
    images = np.empty((batch_size, bands, t, t), np.uint8)
    slots: list[tuple[Block, int, int]] = []
    finished: list[Block] = []

    def packed() -> Batch:
        images[len(slots) :] = 0
        return Batch(images, _graphs_of(slots, plan=plan, graphs=graphs, batch_size=batch_size), slots, finished)

    for block in blocks:
        pixels, block.pixels = block.pixels, None
        last = len(block.tiles) - 1
        for k, (row, col) in enumerate(block.tiles.tolist() if pixels is not None else ()):
            y, x = row - block.window.row_px, col - block.window.col_px
            if pixels is not None:
                images[len(slots)] = pixels[:, y : y + t, x : x + t]
            slots.append((block, row, col))
            if k == last:
                finished.append(block)
            if len(slots) == batch_size:
                yield packed()
                images, slots, finished = np.empty_like(images), [], []
        if pixels is not None and last >= 0:
            continue
        if slots:
            finished.append(block)
        else:
            yield Batch(None, None, [], [block])
    if slots:
        yield packed()


def _graphs_of(
    slots: list[tuple[Block, int, int]], *, plan: BlockPlan, graphs: GraphSource | None, batch_size: int
) -> TileGraphs | None:
    if graphs is None:
        return None
    real = graphs.tile_graphs(plan.tile_bounds_m(np.array([(r, c) for _, r, c in slots], np.int64)))
    missing = batch_size - len(slots)
    return real if not missing else TileGraphs.concat([real, TileGraphs.empty(missing, rich=real.is_rich)])
