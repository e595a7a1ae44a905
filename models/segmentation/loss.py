"""The loss of a segmentation: Dice plus cross-entropy, pixels without a label left out."""

from __future__ import annotations

import segmentation_models_pytorch as smp
from torch import Tensor, nn
from torch.nn import functional

from models.tiles.samples import IGNORE


class DiceCrossEntropy(nn.Module):
    """Dice of segmentation-models-pytorch plus cross-entropy.

    Args:
        classes: Number of classes; of two, Dice is that of the second.
        dice_weight: Weight of Dice; cross-entropy has 1.
    """

    def __init__(self, classes: int, *, dice_weight: float = 1.0) -> None:
        super().__init__()
        self.dice = smp.losses.DiceLoss("multiclass", classes=[1] if classes == 2 else None, ignore_index=IGNORE)
        self.dice_weight = dice_weight

    def forward(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Losses by name, of logits (B, classes, T, T) and labels uint8 (B, T, T)."""
        target = labels.long()
        known = (target != IGNORE).sum().clamp(min=1)
        # a batch without any known pixel has loss 0, where a plain mean gives NaN
        entropy = functional.cross_entropy(logits.float(), target, ignore_index=IGNORE, reduction="sum") / known
        return {"cross_entropy": entropy, "dice": self.dice_weight * self.dice(logits.float(), target)}
