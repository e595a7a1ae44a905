"""Packed graphs on their way to a device: all arrays in one piece of memory, one copy instead of eighteen."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from models.geolink.packing import PackedGraphs

ALIGN_BYTES = 16
"""Every array starts at a multiple of this, so that it can be viewed in its own type."""


@dataclass(frozen=True)
class StagedGraphs:
    """The graphs of a batch in host memory, ready to be copied at once.

    Attributes:
        graphs: Their arrays, views of ``memory``.
        memory: uint8, page-locked where a GPU will take it.
        places: First byte of each array, by its name.
    """

    graphs: PackedGraphs
    memory: Tensor
    places: dict[str, int]

    @property
    def n_tiles(self) -> int:
        """Tiles of the batch."""
        return self.graphs.n_tiles

    def to(self, device: torch.device) -> PackedGraphs:
        """The graphs on a device, by one copy that the host does not wait for."""
        return _viewed(self.graphs, self.memory.to(device, non_blocking=True), self.places)


def staged(graphs: PackedGraphs, *, pinned: bool) -> StagedGraphs:
    """Lay the arrays of a batch side by side."""
    arrays = {f.name: v for f in fields(graphs) if isinstance(v := getattr(graphs, f.name), Tensor)}
    places, end = {}, 0
    for name, array in arrays.items():
        places[name] = end
        end += -(-array.nbytes // ALIGN_BYTES) * ALIGN_BYTES
    memory = torch.zeros(end, dtype=torch.uint8, pin_memory=pinned)
    moved = _viewed(graphs, memory, places)
    for name, array in arrays.items():
        getattr(moved, name).copy_(array)
    return StagedGraphs(moved, memory, places)


def _viewed(like: PackedGraphs, memory: Tensor, places: dict[str, int]) -> PackedGraphs:
    views = {}
    for name, first in places.items():
        array: Tensor = getattr(like, name)
        views[name] = memory[first : first + array.nbytes].view(array.dtype).view(array.shape)
    return replace(like, **views)  # type: ignore[arg-type]
