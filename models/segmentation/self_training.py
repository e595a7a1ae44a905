"""Self-training: what a model is sure of on unlabelled ground becomes a further place to learn from.

One round of pseudo-labels (Lee 2013, Pseudo-Label): cells of the target whose score is clearly high or low are taken
as they are, all others are left out. It sharpens a model that is right there, and hardens one that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from models.calibration import Calibration
from models.checkpoints import CheckpointConfig
from models.segmentation.head_data import PlaceFeatures, place_features
from models.segmentation.pyramid_model import PyramidSegmenter
from models.tiles.samples import IGNORE, SampleSet

SURE = (0.1, 0.8)
"""Scores up to the first are taken as other ground, from the second on as village."""
LEAST_CELLS = 64
"""Fewer sure cells of either class teach nothing."""


def target_place(
    images: Sequence[Any],
    model: PyramidSegmenter,
    checkpoint: CheckpointConfig,
    *,
    name: str,
    seed: int,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> PlaceFeatures:
    """Features of unlabelled tiles; every cell with data counts as known until it is judged.

    Args:
        images: uint8 (N, 3, T, T) of the ground to be mapped.
        model: Its encoder makes the features.
        checkpoint: Says how images are normalised.
        name: Name of the place.
        seed: Chooses tiles where there are too many.
        progress: Wraps the batches.

    Raises:
        SampleError: no tile holds data.
    """
    pixels = np.asarray(images, np.uint8)
    labels = np.where((pixels == 0).all(1), IGNORE, 0).astype(np.uint8)
    samples = SampleSet.image_only(pixels, labels, source=name)
    return place_features(samples, model, checkpoint, seed=seed, progress=progress)[0]


def pseudo_labelled(
    place: PlaceFeatures, logits: torch.Tensor, calibration: Calibration
) -> tuple[PlaceFeatures | None, dict[str, float]]:
    """The place with the labels that a model is sure of.

    Args:
        place: From `target_place`.
        logits: float32 (N, 2, h, w) of the place.
        calibration: Of the model.

    Returns:
        The place, or None where too few cells of a class are sure; and ``sure_share`` and ``village_share`` of them.
    """
    score = calibration.calibrated(logits).softmax(1)[:, 1]
    village, other = score >= SURE[1], score <= SURE[0]
    known = place.known & (village | other)
    counts = int((known & village).sum()), int((known & other).sum())
    figures = {
        "sure_share": float(known.sum() / place.known.sum().clamp(min=1)),
        "village_share": counts[0] / max(1, sum(counts)),
    }
    if min(counts) < LEAST_CELLS:
        return None, figures
    labels = torch.stack([(~village).float(), village.float()], dim=1)
    weight = place.known.double()
    share = (score.double() * weight).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1)
    return replace(place, labels=labels, known=known, share=share.numpy()), figures
