"""Open sums of a block: tiles are added as they come, in any order, on the host or on the model's device."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.errors import ModelOutputError
from pipeline.inference.weights import UNITS, make_tile_weights
from regions.raster.grid import Tiling

TOLERANCE = 1e-3
"""Probabilities may leave [0, 1] by this much through rounding; they are clipped. More is an error."""


class BlockSums(Protocol):
    """Sums of one block, (outputs, H, W)."""

    def add(self, tiles: Any, corners: NDArray[np.int64]) -> None:
        """Add answers (K, outputs, T, T) for tiles whose upper left pixels are (K, 2) rows and columns of the block."""

    def total(self) -> NDArray[np.uint32]:
        """The sums as a host array (outputs, H, W)."""


class HostSums:
    """Sums in a NumPy array."""

    def __init__(self, shape: tuple[int, int, int], tiling: Tiling) -> None:
        t = tiling.tile_px
        self._sum = np.zeros(shape, np.uint32)
        self._weights = make_tile_weights(tiling)
        self._scaled = np.empty((t, t), np.float32)
        self._units = np.empty((t, t), np.uint32)

    def add(self, tiles: NDArray[np.float32], corners: NDArray[np.int64]) -> None:
        """Add answers float32 (K, outputs, T, T), values in [0, 1]."""
        for tile, (row, col) in zip(tiles, corners.tolist(), strict=True):
            self._add_one(tile, row, col)

    def _add_one(self, tile: NDArray[np.float32], row_px: int, col_px: int) -> None:
        t = len(self._weights)
        place = self._sum[:, row_px : row_px + t, col_px : col_px + t]
        for band, values in enumerate(tile):
            np.multiply(values, np.float32(UNITS), out=self._scaled)
            np.rint(self._scaled, out=self._scaled)
            np.clip(self._scaled, 0.0, UNITS, out=self._scaled)
            np.copyto(self._units, self._scaled, casting="unsafe")
            self._units *= self._weights
            place[band] += self._units

    def total(self) -> NDArray[np.uint32]:
        """The sums: uint32 (outputs, H, W)."""
        return self._sum


class DeviceSums:
    """Sums on a torch device (int64, since torch lacks arithmetic on uint32): equal to `HostSums` to the bit.

    All tiles of a call are added by one scatter, so that the device gets as many operations for a batch as for a tile.
    """

    def __init__(self, shape: tuple[int, int, int], tiling: Tiling, device: Any) -> None:
        import torch  # noqa: PLC0415 -- only where a model's answers stay on its device

        self._torch = torch
        self._sum = torch.zeros(shape, dtype=torch.int64, device=device)
        self._weights = torch.from_numpy(make_tile_weights(tiling).astype(np.int64)).to(device)
        side = torch.arange(tiling.tile_px, device=device)
        self._offsets = (side[:, None] * shape[2] + side[None, :]).reshape(-1)
        self._is_sound = torch.ones((), dtype=torch.bool, device=device)

    def add(self, tiles: Any, corners: NDArray[np.int64]) -> None:
        """Add answers, a float32 tensor (K, outputs, T, T) on the device; checked when the sums are fetched."""
        outputs, _, width = self._sum.shape
        first = self._torch.from_numpy(corners[:, 0] * width + corners[:, 1])
        if self._sum.device.type == "cuda":
            first = first.pin_memory()
        with self._torch.inference_mode():
            index = first.to(self._sum.device, non_blocking=True)[:, None] + self._offsets
            low, high = tiles.aminmax()
            self._is_sound &= (low >= -TOLERANCE) & (high <= 1 + TOLERANCE)
            units = (tiles.float() * float(UNITS)).round_().clamp_(0.0, float(UNITS)).to(self._torch.int64)
            units *= self._weights
            values = units.transpose(0, 1).reshape(outputs, -1)
            self._sum.view(outputs, -1).index_add_(1, index.reshape(-1), values)

    def total(self) -> NDArray[np.uint32]:
        """The sums, brought to the host: uint32 (outputs, H, W)."""
        if not bool(self._is_sound.item()):
            raise ModelOutputError(
                "the model gave NaN or values outside [0, 1]: check the checkpoint, or run it in float32"
            )
        sums: NDArray[np.int64] = self._sum.cpu().numpy()
        return sums.astype(np.uint32)


def check_output(values: NDArray[np.float32], *, tiles: int, outputs: int, tile_px: int) -> NDArray[np.float32]:
    """A batch's answer as float32 (B, outputs, T, T).

    Raises:
        ModelOutputError: another shape, NaN, or values outside [0, 1].
    """
    expected = (tiles, outputs, tile_px, tile_px)
    array = values[:, None] if values.ndim == 3 else values
    if array.shape != expected:
        raise ModelOutputError(f"the model gave an array {values.shape}, expected {expected}: its tile_px does not fit")
    low, high = float(array.min()), float(array.max())
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):
        raise ModelOutputError(
            f"the model gave values from {low} to {high}, expected probabilities in [0, 1]: check the checkpoint "
            "(NaN comes from a diverged training or from overflow in half precision)"
        )
    return np.asarray(array, np.float32)
