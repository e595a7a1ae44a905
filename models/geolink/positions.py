"""Sine and cosine encodings of places on the patch grid, one basis for patches and objects."""

from __future__ import annotations

import torch
from torch import Tensor


def frequencies(width: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float64) -> Tensor:
    """``10000 ** (-k / (width / 4))`` for k in 0..width/4-1: the basis of one axis, shape (width / 4,)."""
    k = torch.arange(width // 4, device=device, dtype=dtype)
    return torch.pow(torch.tensor(10000.0, device=device, dtype=dtype), -k / (width / 4))


def encode_points(points: Tensor, width: int) -> Tensor:
    """Encode places given in patches.

    The first half of ``width`` is x, the second y; each half is all sines, then all cosines (facts of the
    published model; the layout of MAE's fixed positions).

    Args:
        points: Float (..., 2), x and y in patches from the tile's top left corner, y downwards.
        width: Channels, a multiple of 4.

    Returns:
        Float (..., width), of the dtype of ``points``.
    """
    angle = points.unsqueeze(-1) * frequencies(width, device=points.device, dtype=points.dtype)
    return torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(-2)


def grid_encoding(rows: int, columns: int, width: int, *, centre: bool, class_token: bool = True) -> Tensor:
    """The fixed encoding of a grid of patches, row by row.

    Args:
        rows: Patches from top to bottom.
        columns: Patches from left to right.
        width: Channels, a multiple of 4.
        centre: Place a patch at its centre (True) or at its top left corner (False, as published).
        class_token: Put a row of zeros first, for the class token.

    Returns:
        float32 (1, rows * columns + class_token, width).
    """
    shift = 0.5 if centre else 0.0
    y, x = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64) + shift,
        torch.arange(columns, dtype=torch.float64) + shift,
        indexing="ij",
    )
    encoded = encode_points(torch.stack([x.flatten(), y.flatten()], dim=-1), width)
    if class_token:
        encoded = torch.cat([encoded.new_zeros(1, width), encoded])
    return encoded.float().unsqueeze(0)
