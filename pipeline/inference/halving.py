"""A batch that does not fit into a GPU's memory is halved, and the city goes on.

Answers are the same to the bit at one batch shape, and only there: another shape may add up in another order. So the
shape is part of every block's key, and after a halving the city is scored at the smaller shape throughout: its raster
is that of a run which was given the smaller batch from the start. Memory ends with the first batches or never, as all
have one shape, so hardly a block is done twice. The shape that worked is remembered beside the ledger: the next run
begins with it and finds all blocks again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from models.segmentation.device import DeviceMemoryError, default_batch
from pipeline.files import write_json

R = TypeVar("R")
MEMORY = "batch.json"


def halving(work: Callable[[int], R], *, asked: int | None, folder: Path) -> R:
    """Do ``work(batch_size)``, with half the tiles again and again while they do not fit.

    Args:
        work: Scores the city with so many tiles per batch.
        asked: Tiles that the campaign asks for; None for what the device should hold.
        folder: Where the shape that worked is kept for the next run.

    Raises:
        DeviceMemoryError: a single tile does not fit.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    wanted = asked or default_batch(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    memory = folder / MEMORY
    size = _known(memory, name, wanted)
    while True:
        try:
            return work(size)
        except (DeviceMemoryError, torch.OutOfMemoryError) as error:
            if size == 1:
                raise
            size //= 2
            logging.getLogger(__name__).warning("%s: going on with batches of %d tiles", error, size)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        folder.mkdir(parents=True, exist_ok=True)
        write_json(memory, {"device": name, "asked": wanted, "fits": size})


def _known(memory: Path, device: str, asked: int) -> int:
    """The batch to begin with: the one that fitted an earlier run which asked for as many tiles of such a device."""
    if not memory.exists():
        return asked
    known = json.loads(memory.read_text(encoding="utf-8"))
    return int(known["fits"]) if (known["device"], known["asked"]) == (device, asked) else asked
