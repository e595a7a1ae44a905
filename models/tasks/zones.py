"""Urban function zones: segmentation into nine classes.

`models.segmentation.trainer.train_segmenter` trains it with ``classes=ZONES`` and a configuration of nine classes;
`models.segmentation.predictor.SegmentationPredictor.probabilities` gives the probability of each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.tiles.samples import IGNORE

ZONES: tuple[str, ...] = (
    "water",
    "green",
    "farmland",
    "undeveloped",
    "residential",
    "commercial",
    "institution",
    "industrial",
    "transport",
)
"""Classes 0 to 8 of the published data."""


def zone_labels(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels of the published data; 9 (streets, unclassified land) and above are no class and become `IGNORE`."""
    return np.where(labels < len(ZONES), labels, IGNORE).astype(np.uint8)
