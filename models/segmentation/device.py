"""What a model's device decides: how many tiles fit at once, how weights are kept, what is said when memory ends."""

from __future__ import annotations

import torch
from torch import nn

from models.errors import ModelsError

CPU_BATCH = 8
GPU_BATCHES = ((60e9, 128), (30e9, 64), (14e9, 32), (0.0, 16))
"""Tiles per batch by memory of the card in bytes, largest first; ViT-L takes about 0.25 GB a tile in bfloat16."""


class DeviceMemoryError(ModelsError):
    """A batch does not fit into the memory of the device, also after what was cached there is freed."""


def default_batch(device: torch.device) -> int:
    """Tiles per batch for a device; the same for every run on such a card."""
    if device.type != "cuda":
        return CPU_BATCH
    memory = torch.cuda.get_device_properties(device).total_memory
    return next(tiles for least, tiles in GPU_BATCHES if memory >= least)


def keep_weights_in(model: nn.Module, dtype: torch.dtype) -> None:
    """Keep the weights of linear layers and convolutions as they are multiplied under autocast.

    Autocast would cast each of them for every batch; the products are the same to the bit. Norms, embeddings and
    scales stay in float32, as autocast leaves them.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            for name, value in module.named_parameters(recurse=False):
                setattr(module, name, nn.Parameter(value.detach().to(dtype), requires_grad=False))
