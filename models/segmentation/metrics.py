"""Figures of a segmentation, by torchmetrics."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassF1Score,
    MulticlassJaccardIndex,
    MulticlassPrecision,
    MulticlassRecall,
)

from models.tiles.samples import IGNORE


def segmentation_metrics(classes: int) -> MetricCollection:
    """IoU, F1, precision and recall per class, over all pixels that are not ignored."""
    options = {"num_classes": classes, "average": None, "ignore_index": IGNORE}
    return MetricCollection(
        {
            "iou": MulticlassJaccardIndex(**options),  # type: ignore[arg-type]
            "f1": MulticlassF1Score(**options),  # type: ignore[arg-type]
            "precision": MulticlassPrecision(**options),  # type: ignore[arg-type]
            "recall": MulticlassRecall(**options),  # type: ignore[arg-type]
        },
        compute_groups=True,
    )


def named_figures(computed: dict[str, Tensor], classes: tuple[str, ...]) -> dict[str, float]:
    """Figures by name: those of the second class of two, or of all classes with their mean IoU."""
    if len(classes) == 2:
        return {name: float(values[1]) for name, values in computed.items()}
    figures = {
        f"{name}_{label}": float(v)
        for name, values in computed.items()
        for label, v in zip(classes, values, strict=True)
    }
    present = computed["recall"] + computed["precision"] > 0
    figures["miou"] = float(computed["iou"].mean())
    figures["miou_present"] = float(computed["iou"][present].mean()) if present.any() else 0.0
    return figures


class FigureKeeper(nn.Module):
    """Collects predictions of a validation and gives its figures."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.classes = classes
        self.metrics = segmentation_metrics(len(classes))

    @torch.no_grad()
    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add logits (B, classes, T, T) and labels uint8 (B, T, T)."""
        self.metrics.update(logits.argmax(1), labels.long())

    def result(self) -> dict[str, float]:
        """The figures so far; the next ones start from nothing."""
        figures = named_figures(self.metrics.compute(), self.classes)
        self.metrics.reset()
        return figures
