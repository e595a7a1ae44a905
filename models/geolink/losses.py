"""The three losses of pretraining, as functions of tensors."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_functional
from torch import Tensor
from torch.nn import functional

from models.geolink.image_encoder import patchify

TEMPERATURE = 0.2
"""Of the contrastive loss, as published."""

VARIANCE_FLOOR = 1e-6
"""Added to the variance of a patch's pixels before they are normalised."""


def normalised_patches(images: Tensor, patch_px: int) -> Tensor:
    """Pixels to predict: each patch less its mean, by its standard deviation (Bessel's correction).

    Args:
        images: Float (B, C, H, W).
        patch_px: Side of a patch.

    Returns:
        float32 (B, P, patch_px * patch_px * C); y, x, band within a patch.
    """
    target = patchify(images.float(), patch_px)
    variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
    return (target - mean) / (variance + VARIANCE_FLOOR).sqrt()


def reconstruction_loss(prediction: Tensor, images: Tensor, masked: Tensor, *, patch_px: int) -> Tensor:
    """Mean squared error over masked patches.

    Args:
        prediction: Float (B, P, pixels of a patch).
        images: Float (B, C, H, W), normalised as the encoder saw them.
        masked: Float or bool (B, P), 1 where a patch was hidden.
        patch_px: Side of a patch.

    Returns:
        float32 scalar, 0 where nothing is masked.
    """
    error = (prediction.float() - normalised_patches(images, patch_px)).square().mean(-1)
    hidden = masked.float()
    return (error * hidden).sum() / hidden.sum().clamp(min=1)


def gathered(x: Tensor) -> Tensor:
    """The rows of all ranks, own gradient included; ``x`` itself where there is one process."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    return torch.cat(dist_functional.all_gather(x.contiguous()))  # type: ignore[no-untyped-call]


def contrastive_loss(
    image: Tensor,
    graph: Tensor,
    *,
    temperature: float = TEMPERATURE,
    paired: Tensor | None = None,
    gather: bool = True,
) -> Tensor:
    """Symmetric InfoNCE of image and map embeddings, cosine similarity.

    Args:
        image: Float (B, D).
        graph: Float (B, D).
        temperature: Divides the similarities.
        paired: bool (B,), False for tiles without map objects, which are neither pairs nor negatives; None takes
            all.
        gather: Take the tiles of all ranks as negatives (the released code takes its own rank's only).

    Returns:
        float32 scalar, the mean of both directions; 0 where nothing is paired.
    """
    image, graph = functional.normalize(image.float(), dim=-1), functional.normalize(graph.float(), dim=-1)
    valid = torch.ones(len(image), dtype=torch.bool, device=image.device) if paired is None else paired
    if gather:
        image, graph = gathered(image), gathered(graph)
        valid = gathered(valid.float()) > 0.5
    logits = image @ graph.T / temperature
    own = torch.arange(len(logits), device=logits.device)
    # an unpaired tile keeps its own column, so that its row stays finite; its row is not counted
    allowed = valid[None, :] | (own[None, :] == own[:, None])
    weight = valid.float()
    total = sum(
        (functional.cross_entropy(side.masked_fill(~allowed, -torch.inf), own, reduction="none") * weight).sum()
        for side in (logits, logits.T)
    )
    loss: Tensor = total / (2 * weight.sum().clamp(min=1))
    return loss


def consistency_loss(prediction: Tensor, semantics: Tensor, counted: Tensor) -> Tensor:
    """Mean squared error between predicted and true semantics of masked nodes.

    Args:
        prediction: Float (..., width).
        semantics: Float (..., width), the tag-set embeddings before masking.
        counted: bool (...), the nodes that count.

    Returns:
        float32 scalar, 0 where nothing counts.
    """
    error = (prediction.float() - semantics.float()).square().mean(-1)
    weight = counted.float()
    return (error * weight).sum() / weight.sum().clamp(min=1)
