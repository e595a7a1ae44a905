"""Read blocks ahead of the model: which tiles, which key, and whether the work is done already."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.geolink.graph import TileGraphs
from pipeline.files import digest_of
from pipeline.imagery.source import content_digest
from pipeline.inference.area import AreaOfInterest
from pipeline.inference.blocks import BlockId, BlockPlan, unite_windows
from pipeline.inference.protocols import GraphSource, Imagery
from pipeline.ledger import Entry, Ledger
from regions.raster.grid import Window

STAGE = "scores"
STAGE_VERSION = 1
"""Raise it with every change that alters a score or the layout of a block's file; a test pins the two together."""


@dataclass
class Block:
    """A block on its way through the engine.

    Attributes:
        id: Which block.
        outcome: "compute", "reused", "blank" (imagery without a valid pixel), "empty" (nothing to look at).
        entry: Its entry in the ledger, where it is done.
        key: Digest of all that shapes its scores.
        stamp: Cheaper digest from which the key follows.
        tiles: int64 (K, 2): upper left pixels on the grid of the tiles to score.
        window: What was read.
        pixels: uint8 (bands, H, W) of ``window``; dropped once the tiles are cut.
        predicted: bool (h, w) over the core.
        graphs: Graphs of the tiles, of all at once; None where the model takes none. Dropped like the pixels.
        read_s: Seconds spent reading.
    """

    id: BlockId
    outcome: str
    entry: Entry | None = None
    key: str = ""
    stamp: str = ""
    tiles: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    window: Window = field(default_factory=lambda: Window(0, 0, 0, 0))
    pixels: NDArray[np.uint8] | None = None
    predicted: NDArray[np.bool_] | None = None
    graphs: TileGraphs | None = None
    read_s: float = 0.0


class BlockReader:
    """Decides per block what is to do, and reads what is; safe to call from several threads."""

    def __init__(
        self,
        *,
        plan: BlockPlan,
        imagery: Imagery,
        graphs: GraphSource | None,
        area: AreaOfInterest,
        ledger: Ledger,
        describe_model: dict[str, Any],
    ) -> None:
        self._plan, self._imagery, self._graphs = plan, imagery, graphs
        self._area, self._ledger, self._model_facts = area, ledger, describe_model

    def read(self, block: BlockId) -> Block:
        """What to do with a block, with its pixels where it is to be computed."""
        start = time.perf_counter()
        result = self._read(block)
        result.read_s = time.perf_counter() - start
        return result

    def _read(self, block: BlockId) -> Block:
        plan = self._plan
        tile_px = plan.tiling.tile_px
        tiles = plan.tiles(block)
        tiles = tiles[self._area.touches(plan.tile_bounds_m(tiles))]
        if not len(tiles) or not self._imagery.may_have_data(unite_windows(tiles, tile_px)):
            return Block(block, "empty")
        seen = [self._imagery.may_have_data(Window(int(r), int(c), tile_px, tile_px)) for r, c in tiles]
        tiles = tiles[np.array(seen, np.bool_)]
        if not len(tiles):
            return Block(block, "empty")
        window = unite_windows(tiles, tile_px)
        core = plan.core(block)
        in_area = self._area.mask(core)
        facts = self._facts(block, tiles, in_area)
        stamp = digest_of(facts | {"imagery_stamp": self._imagery.stamp(window)})
        entry = self._ledger.find(block.name, stamp=stamp)
        if entry is not None:
            return Block(block, "reused", entry, entry.key, stamp)
        pixels, valid = self._imagery.read(window)
        key = digest_of(facts | {"imagery": content_digest(pixels, valid)})
        entry = self._ledger.find(block.name, key=key)
        if entry is not None:
            return Block(block, "reused", self._ledger.restamp(entry, stamp), key, stamp)
        predicted = np.zeros((core.height_px, core.width_px), np.bool_)
        common = core.intersection(window)
        predicted[common.slices_in(core)] = valid[common.slices_in(window)]
        predicted &= in_area
        has_valid = [_any(valid, int(r) - window.row_px, int(c) - window.col_px, tile_px) for r, c in tiles]
        tiles = tiles[np.array(has_valid, np.bool_)]
        outcome = "compute" if len(tiles) else "blank"
        graphs = None
        if self._graphs is not None and len(tiles):
            graphs = self._graphs.tile_graphs(plan.tile_bounds_m(tiles))
        return Block(block, outcome, None, key, stamp, tiles, window, pixels, predicted, graphs)

    def _facts(self, block: BlockId, tiles: NDArray[np.int64], in_area: NDArray[np.bool_]) -> dict[str, Any]:
        """All that shapes a block besides imagery; places count from the block, not from the grid."""
        plan = self._plan
        core = plan.core(block)
        clip = plan.footprint(block).intersection(plan.grid.window)
        graph_digest = ""
        if self._graphs is not None:
            graph_digest = self._graphs.digest(plan.tile_bounds_m(tiles))
        return {
            "stage": [STAGE, STAGE_VERSION],
            "model": self._model_facts,
            "crs": plan.grid.crs,
            "resolution_m": plan.grid.resolution_m,
            "tiling": [plan.tiling.tile_px, plan.tiling.stride_px, plan.tiles_per_side],
            "block": [block.row, block.col],
            "clip": [clip.row_px - core.row_px, clip.col_px - core.col_px, clip.height_px, clip.width_px],
            "tiles": hashlib.sha256((tiles - [core.row_px, core.col_px]).astype("<i8").tobytes()).hexdigest(),
            "area": hashlib.sha256(np.packbits(in_area).data).hexdigest(),
            "graphs": graph_digest,
        }


def _any(valid: NDArray[np.bool_], row: int, col: int, size: int) -> bool:
    return bool(valid[row : row + size, col : col + size].any())


def read_ahead(reader: BlockReader, blocks: Iterable[BlockId], *, readers: int) -> Generator[Block, None, None]:
    """Blocks in order, read by ``readers`` threads that are at most that many blocks ahead of the consumer.

    Close it where it is not read to its end: closing waits for the reads that have begun.
    """
    waiting: deque[Future[Block]] = deque()
    with ThreadPoolExecutor(readers, thread_name_prefix="block-reader") as pool:
        try:
            for block in blocks:
                waiting.append(pool.submit(reader.read, block))
                if len(waiting) > readers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
