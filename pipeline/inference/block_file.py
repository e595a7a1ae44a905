"""The file of one finished block: final scores where it is alone, sums where neighbours still add.

An uncompressed ``.npz``. Windows are of the grid and clipped to it; a part without pixels is left out.

========== =================== ==============================================================
part       dtype               pixels
========== =================== ==============================================================
exclusive  uint8 (C, h, w)     core pixels that only this block's tiles reach: final
top, left  uint32 (C, h, w)    core pixels that neighbours' tiles reach too: sums, `MASKED` where not predicted
right,     uint32 (C, h, w)    pixels of the neighbours' cores: sums to be added there
bottom
========== =================== ==============================================================
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.blocks import BlockId, BlockPlan
from pipeline.inference.weights import MASKED, scale_sums
from regions.raster.grid import Window
from regions.raster.scores import NOT_PREDICTED

OVERHANG_PARTS = ("right", "bottom")


def place_parts(plan: BlockPlan, block: BlockId) -> dict[str, Window]:
    """Where each part of a block lies on the grid, clipped to it (possibly empty)."""
    core, side = plan.core(block), plan.core_px
    over = plan.overhang_px
    lead = min(over, side)
    windows = {
        "exclusive": Window(core.row_px + lead, core.col_px + lead, side - lead, side - lead),
        "top": Window(core.row_px, core.col_px, lead, side),
        "left": Window(core.row_px + lead, core.col_px, side - lead, lead),
        "right": Window(core.row_px, core.stop_col_px, side, over),
        "bottom": Window(core.stop_row_px, core.col_px, over, side + over),
    }
    return {name: window.intersection(plan.grid.window) for name, window in windows.items()}


def encode_block(
    plan: BlockPlan, block: BlockId, sums: NDArray[np.uint32], predicted: NDArray[np.bool_]
) -> tuple[memoryview, int]:
    """The file of a block.

    Args:
        plan: The plan.
        block: The block.
        sums: (outputs, H, W) over its footprint.
        predicted: (h, w) over its core: in the grid, in the area of interest, and with imagery.

    Returns:
        The bytes, and the number of predicted pixels.
    """
    footprint, core = plan.footprint(block), plan.core(block)
    arrays: dict[str, NDArray[np.uint8] | NDArray[np.uint32]] = {}
    for name, window in place_parts(plan, block).items():
        if window.is_empty:
            continue
        part = sums[:, *window.slices_in(footprint)]
        if name in OVERHANG_PARTS:
            arrays[name] = part
            continue
        there = predicted[window.slices_in(core)]
        if name == "exclusive":
            arrays[name] = np.where(there, scale_sums(part), np.uint8(NOT_PREDICTED))
        else:
            arrays[name] = np.where(there, part, np.uint32(MASKED))
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getbuffer(), int(np.count_nonzero(predicted))


def read_core(
    plan: BlockPlan, block: BlockId, files: dict[BlockId, Path], *, outputs: int
) -> tuple[Window, NDArray[np.uint8]]:
    """The final scores of a block's core.

    Args:
        plan: The plan.
        block: The block; it must have a file.
        files: Files of all blocks that have one.
        outputs: Values per pixel.

    Returns:
        The core clipped to the grid, and uint8 (outputs, h, w).
    """
    window = plan.core(block).intersection(plan.grid.window)
    scores = np.full((outputs, window.height_px, window.width_px), NOT_PREDICTED, np.uint8)
    own = place_parts(plan, block)
    lenders = [
        other
        for i in range(plan.reach + 1)
        for j in range(plan.reach + 1)
        if (i or j) and (other := BlockId(block.row - i, block.col - j)) in files
    ]
    with np.load(files[block], allow_pickle=False) as file:
        if "exclusive" in file:
            scores[:, *own["exclusive"].slices_in(window)] = file["exclusive"]
        shared = {name: file[name] for name in ("top", "left") if name in file}
    masks = {name: sums == np.uint32(MASKED) for name, sums in shared.items()}
    for lender in lenders:
        lent = place_parts(plan, lender)
        with np.load(files[lender], allow_pickle=False) as file:
            for part in OVERHANG_PARTS:
                added = None
                for name, sums in shared.items():
                    common = lent[part].intersection(own[name])
                    if common.is_empty:
                        continue
                    added = file[part] if added is None else added
                    sums[:, *common.slices_in(own[name])] += added[:, *common.slices_in(lent[part])]
    for name, sums in shared.items():
        scores[:, *own[name].slices_in(window)] = np.where(masks[name], np.uint8(NOT_PREDICTED), scale_sums(sums))
    return window, scores
