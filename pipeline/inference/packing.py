"""From blocks to batches: tiles of one block after the other, the last batch padded to the same shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.geolink.graph import TileGraphs
from pipeline.inference.blocks import BlockPlan
from pipeline.inference.reading import Block


@dataclass
class Batch:
    """One call of the model, and what it finishes.

    Attributes:
        images: uint8 (B, bands, T, T); zeros where padded. None where nothing is to compute.
        graphs: Tile graphs of all B tiles, as the model prepares them; or None.
        slots: Per real tile: its block, and the row and column of its upper left pixel on the grid.
        finished: Blocks whose last tile is in this batch, or that need no tile at all; in order.
    """

    images: NDArray[np.uint8] | None
    graphs: Any
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
    prepare: Callable[[TileGraphs], Any] | None = None,
) -> Iterator[Batch]:
    """Fill batches with tiles; a batch may hold tiles of several blocks.

    Args:
        blocks: Blocks as read, with the graphs of their tiles.
        plan: How the city is cut.
        bands: Bands of the imagery.
        batch_size: Tiles per batch.
        prepare: What the model makes of a batch's graphs before it is asked; None hands them over as they are.
    """
    t = plan.tiling.tile_px
    images = np.empty((batch_size, bands, t, t), np.uint8)
    slots: list[tuple[Block, int, int]] = []
    finished: list[Block] = []
    pieces: list[TileGraphs] = []

    def packed() -> Batch:
        images[len(slots) :] = 0
        return Batch(images, _graphs_of(pieces, batch_size, prepare), slots, finished)

    for block in blocks:
        pixels, block.pixels = block.pixels, None
        graphs, block.graphs = block.graphs, None
        last, first = len(block.tiles) - 1, 0
        for k, (row, col) in enumerate(() if pixels is None else block.tiles.tolist()):
            images[len(slots)] = _cut(pixels, row - block.window.row_px, col - block.window.col_px, t)
            slots.append((block, row, col))
            if k == last:
                finished.append(block)
            if k == last or len(slots) == batch_size:
                pieces += [] if graphs is None else [graphs.part(first, k + 1)]
                first = k + 1
            if len(slots) == batch_size:
                yield packed()
                images, slots, finished, pieces = np.empty_like(images), [], [], []
        if pixels is not None and last >= 0:
            continue
        if slots:
            finished.append(block)
        else:
            yield Batch(None, None, [], [block])
    if slots:
        yield packed()


def _cut(pixels: Any, row: int, col: int, side: int) -> NDArray[np.uint8]:
    tile: NDArray[np.uint8] = pixels[:, row : row + side, col : col + side]
    return tile


def _graphs_of(pieces: list[TileGraphs], batch_size: int, prepare: Callable[[TileGraphs], Any] | None) -> Any:
    """The graphs of a batch from those of its blocks, filled up, and prepared where the model does that."""
    if not pieces:
        return None
    missing = batch_size - sum(p.n_tiles for p in pieces)
    filling = [TileGraphs.empty(missing, rich=pieces[0].is_rich)] if missing else []
    graphs = pieces[0] if len(pieces) == 1 and not missing else TileGraphs.concat([*pieces, *filling])
    return graphs if prepare is None else prepare(graphs)
