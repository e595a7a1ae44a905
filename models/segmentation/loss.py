"""The loss of a segmentation: Dice plus cross-entropy, pixels without a label left out; and what helps noisy labels."""

from __future__ import annotations

from typing import Annotated

import segmentation_models_pytorch as smp
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from models.tiles.samples import IGNORE


class LossConfig(BaseModel):
    """What is minimised.

    Attributes:
        dice_weight: Weight of Dice; cross-entropy has 1.
        label_smoothing: Share of a label that is spread over all classes (Szegedy et al. 2016), in cross-entropy:
            nobody is quite sure.
        ignore_band_px: Pixels this near to one of another class are left out: labels are drawn some metres off.
        bootstrap: Share of a label that is replaced by the class that the model itself finds most likely, in
            cross-entropy (hard bootstrapping, Reed et al. 2015, there 0.2): labels that all else speaks against
            count less.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dice_weight: Annotated[float, Field(ge=0)] = 1.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    ignore_band_px: Annotated[int, Field(ge=0)] = 0
    bootstrap: Annotated[float, Field(ge=0, lt=1)] = 0.0


class DiceCrossEntropy(nn.Module):
    """Dice of segmentation-models-pytorch plus cross-entropy.

    Args:
        classes: Number of classes; of two, Dice is that of the second.
        config: Weights, and what helps noisy labels; None for the plain loss.
    """

    def __init__(self, classes: int, config: LossConfig | None = None) -> None:
        super().__init__()
        self.dice = smp.losses.DiceLoss("multiclass", classes=[1] if classes == 2 else None, ignore_index=IGNORE)
        self.config = config or LossConfig()

    def forward(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Losses by name, of logits (B, classes, T, T) and labels uint8 (B, T, T)."""
        config, logits = self.config, logits.float()
        if config.ignore_band_px:
            labels = torch.where(near_another_class(labels, config.ignore_band_px), IGNORE, labels)
        target = labels.long()
        known = (target != IGNORE).sum().clamp(min=1)
        # a batch without any known pixel has loss 0, where a plain mean gives NaN
        entropy = functional.cross_entropy(
            logits, target, ignore_index=IGNORE, reduction="sum", label_smoothing=config.label_smoothing
        )
        if config.bootstrap:
            own = torch.where(target == IGNORE, IGNORE, logits.detach().argmax(1))
            found = functional.cross_entropy(logits, own, ignore_index=IGNORE, reduction="sum")
            entropy = (1 - config.bootstrap) * entropy + config.bootstrap * found
        return {"cross_entropy": entropy / known, "dice": config.dice_weight * self.dice(logits, target)}


def near_another_class(labels: Tensor, band_px: int) -> Tensor:
    """Pixels with one of another class at most ``band_px`` rows and columns away; unlabelled ones are of no class.

    Args:
        labels: uint8 (B, T, T), `IGNORE` where unknown.
        band_px: Half the width of the band.

    Returns:
        bool (B, T, T); False where unknown.
    """
    known = labels != IGNORE
    values = labels.float()
    side = 2 * band_px + 1
    highest = functional.max_pool2d(torch.where(known, values, -1.0)[:, None], side, stride=1, padding=band_px)[:, 0]
    lowest = -functional.max_pool2d(
        torch.where(known, -values, -float(IGNORE))[:, None], side, stride=1, padding=band_px
    )[:, 0]
    return known & (highest != lowest)
