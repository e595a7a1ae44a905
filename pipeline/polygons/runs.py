"""Masks as runs: the pixels of a row between two changes, as sorted flat positions.

A position is ``row * (width + 1) + col`` on the whole grid: a run that ends at the last column stops at
``col = width``, which no other pixel has. Runs of blocks can be cut anywhere and be put together again without
loss, which is why polygons made from them cannot depend on the blocks.

Worked example, a grid 4 px wide (stride 5): row 0 ``.##.`` is the run [1, 3), row 1 ``####`` the run [5, 9).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pipeline.polygons.errors import PolygonError
from regions.raster.grid import Window


@dataclass(frozen=True)
class Runs:
    """The runs of a mask.

    Attributes:
        height_px: Rows of the whole grid.
        width_px: Columns of the whole grid.
        starts: int64 (R,), first positions, ascending.
        stops: int64 (R,), positions after the last; ``starts[k] < stops[k]``, ``stops[k] < starts[k + 1]`` except
            where two blocks meet.
        seeded: bool (R,), whether the run holds a seed pixel.
    """

    height_px: int
    width_px: int
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    seeded: NDArray[np.bool_]

    @property
    def stride(self) -> int:
        """Positions per row."""
        return self.width_px + 1

    def select(self, keep: NDArray[np.bool_]) -> Runs:
        """The runs where ``keep`` (R,) holds."""
        return Runs(self.height_px, self.width_px, self.starts[keep], self.stops[keep], self.seeded[keep])

    def __len__(self) -> int:
        return len(self.starts)


def runs_of_mask(
    mask: NDArray[np.bool_],
    *,
    window: Window,
    height_px: int,
    width_px: int,
    seeds: NDArray[np.bool_] | None = None,
) -> Runs:
    """The runs of one block.

    Args:
        mask: bool (h, w) of ``window``.
        window: Where the block lies; inside the grid.
        height_px: Rows of the whole grid.
        width_px: Columns of the whole grid.
        seeds: bool (h, w); those outside ``mask`` do not count. None: every run is seeded.

    Raises:
        PolygonError: The window does not fit the mask or the grid.
    """
    if mask.shape != (window.height_px, window.width_px):
        raise PolygonError(f"mask of {mask.shape} px for a window of {window.height_px} x {window.width_px} px")
    if min(window.row_px, window.col_px) < 0 or window.stop_row_px > height_px or window.stop_col_px > width_px:
        raise PolygonError(f"block {window} reaches past the grid of {height_px} x {width_px} px")
    starts, stops = _changes(mask)
    seeded = np.ones(len(starts), dtype=np.bool_)
    if seeds is not None:
        seed_starts, _ = _changes(seeds & mask)
        seeded[:] = False
        seeded[np.searchsorted(starts, seed_starts, side="right") - 1] = True
    first = window.row_px * (width_px + 1) + window.col_px
    local = window.width_px + 1
    return Runs(
        height_px,
        width_px,
        first + starts // local * (width_px + 1) + starts % local,
        first + stops // local * (width_px + 1) + stops % local,
        seeded,
    )


def _changes(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and stops of the runs of a mask (h, w) at positions ``row * (w + 1) + col``."""
    height, width = mask.shape
    flat = np.zeros(height * (width + 1) + 1, dtype=np.bool_)
    flat[1:].reshape(height, width + 1)[:, :width] = mask
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return changes[0::2], changes[1::2]


def join_runs(parts: Sequence[Runs]) -> Runs:
    """The runs of the whole grid from those of its blocks, in any order; runs that meet at a seam become one."""
    if not parts:
        raise PolygonError("no blocks to join")
    height, width = parts[0].height_px, parts[0].width_px
    starts = np.concatenate([part.starts for part in parts])
    order = np.argsort(starts, kind="stable")
    starts = starts[order]
    stops = np.concatenate([part.stops for part in parts])[order]
    seeded = np.concatenate([part.seeded for part in parts])[order]
    if len(starts) == 0:
        return Runs(height, width, starts, stops, seeded)
    if np.any(stops[:-1] > starts[1:]):
        raise PolygonError("blocks overlap: the same pixel belongs to two of them")
    joined = starts[1:] == stops[:-1]
    first = np.concatenate(([True], ~joined))
    last = np.concatenate((~joined, [True]))
    return Runs(height, width, starts[first], stops[last], np.logical_or.reduceat(seeded, np.flatnonzero(first)))


def label_runs(runs: Runs, *, connectivity: Literal[4, 8]) -> tuple[int, NDArray[np.int32]]:
    """Connected components: their number, and int32 (R,) the component of each run, in order of first pixel."""
    count = len(runs)
    if count == 0:
        return 0, np.zeros(0, dtype=np.int32)
    reach = 0 if connectivity == 4 else 1
    # runs of the next row that overlap: the first that stops after my start, up to the last that starts before my
    # stop (stretched by one pixel each way for corners; the gap of one position between rows keeps rows apart)
    below_start = runs.starts + runs.stride - reach
    below_stop = runs.stops + runs.stride + reach
    lo = np.searchsorted(runs.stops, below_start, side="right")
    hi = np.searchsorted(runs.starts, below_stop, side="left")
    counts = np.maximum(hi - lo, 0)
    upper = np.repeat(np.arange(count), counts)
    lower = np.arange(len(upper)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(lo, counts)
    if reach:  # a run stretched past the end of its row must not meet the row after
        rows_apart = runs.starts[lower] // runs.stride - runs.starts[upper] // runs.stride
        keep = rows_apart == 1
        upper, lower = upper[keep], lower[keep]
    graph = coo_matrix((np.ones(len(upper), dtype=np.int8), (upper, lower)), shape=(count, count))
    found, labels = connected_components(graph, directed=False)
    return int(found), labels.astype(np.int32)
