"""Windows round candidate villages, anchored to the lattice of the CRS, and the part of each that counts.

Windows of side T lie every T / 2. A village with its margin that fits into one is seen in the one that shows it most
centrally. A larger one is seen in all that touch it, and each window answers for its core only, the middle half (to
the edge where no further window of that village follows): cores do not overlap, so the pieces meet without a seam.

Worked example in one dimension, T = 8: windows start at 0, 4, 8, ...; a village over columns 3..14 with no margin takes
the windows 0, 4 and 8 with the cores [0, 6), [6, 10) and [10, 16).
"""

from __future__ import annotations

from dataclasses import dataclass

from regions.raster.grid import Grid, Window


@dataclass(frozen=True, order=True)
class View:
    """One window of one village.

    Attributes:
        window: What the refiner sees.
        core: What it answers for.
        village: Row of the village.
    """

    window: Window
    core: Window
    village: int


def place_views(village: int, area: Window, *, grid: Grid, side_px: int, margin_px: int) -> list[View]:
    """The views of a village whose outline lies in ``area``, in row-major order.

    Args:
        village: Row of the village.
        area: Bounding window of its outline on ``grid``.
        grid: The city's grid; only its lattice matters.
        side_px: Side T of the windows, even.
        margin_px: Ground round the outline that must be seen.
    """
    wanted = area.padded(margin_px)
    rows = _spans(wanted.row_px + grid.first_row, wanted.height_px, side_px)
    cols = _spans(wanted.col_px + grid.first_col, wanted.width_px, side_px)
    return [
        View(
            Window(row - grid.first_row, col - grid.first_col, side_px, side_px),
            Window(row_from - grid.first_row, col_from - grid.first_col, row_to - row_from, col_to - col_from),
            village,
        )
        for row, row_from, row_to in rows
        for col, col_from, col_to in cols
    ]


def _spans(start: int, length: int, side: int) -> list[tuple[int, int, int]]:
    """Windows along one axis as (start, core start, core stop)."""
    half = side // 2
    stop = start + length
    # the window whose centre is nearest to that of the ground wanted
    central = round((start + stop - side) / 2 / half) * half
    if central <= start and stop <= central + side:
        return [(central, central, central + side)]
    first = (start // half) * half
    starts = list(range(first, max(first + 1, stop - half), half))
    spans = []
    for k, at in enumerate(starts):
        core_from = at if k == 0 else at + half // 2
        core_to = at + side if k == len(starts) - 1 else at + half + half // 2
        spans.append((at, core_from, core_to))
    return spans
