"""The refiner that needs no weights: a random walker in a band round the outline.

Pixels deeper inside than the band are village, those further outside are not; in between, each pixel goes to the
side that a random walker (Grady 2006, IEEE TPAMI 28(11), 1768) starting there is likelier to reach first, where
steps across edges of image and scores are unlikely. The outline loses the steps of the model's patches; how far
it gains from image edges is measured by ``benchmarks/polygons.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.color import rgb2lab
from skimage.segmentation import random_walker

from pipeline.refinement.prompts import Prompt
from pipeline.refinement.refiner import RefinedMask
from regions.raster.scores import probability_of

INSIDE, OUTSIDE, UNUSED = 1, 2, -1
STRONG_EDGE = 0.95
RIM_PX = 3
"""Pixels beyond the band that serve as the walker's goals."""


@dataclass(frozen=True)
class BandRefiner:
    """Random walker in a band of ``2 * band_px`` round the outline.

    Attributes:
        band_px: How far the outline may move.
        edge_weight: Minus the logarithm of the chance, against that on flat ground, of a step across an edge that
            only one step in twenty of the band exceeds.
        score_weight: Weight of the scores beside the image's lightness (in units of its full range).
        blur_px: Standard deviation of the blur of the image.
        side_px: Side of the windows.
    """

    band_px: int = 12
    edge_weight: float = 1.0
    score_weight: float = 0.5
    blur_px: float = 3.0
    side_px: int = 1024
    name: str = "built-in"

    def refine(self, images: NDArray[np.uint8], prompts: Sequence[Sequence[Prompt]]) -> list[list[RefinedMask]]:
        """See `Refiner.refine`."""
        return [
            [RefinedMask(self._walk(image, prompt), None) for prompt in of_window]
            for image, of_window in zip(images, prompts, strict=True)
        ]

    def _walk(self, image: NDArray[np.uint8], prompt: Prompt) -> NDArray[np.bool_]:
        """Bool (T, T): the outline drawn anew, in the part of the window round the village."""
        reach = self.band_px + RIM_PX + 1
        left, top, right, bottom = prompt.box
        part = (slice(max(0, top - reach), bottom + reach), slice(max(0, left - reach), right + reach))
        inside = prompt.inside[part]
        # at the window's edge the village goes on: padding by its own edge keeps the distance there
        depth = distance_transform_edt(np.pad(inside, reach, mode="edge"))[reach:-reach, reach:-reach]
        distance = distance_transform_edt(np.pad(~inside, reach, mode="edge"))[reach:-reach, reach:-reach]
        signed = np.where(inside, depth, -distance)
        goals = np.zeros(inside.shape, dtype=np.int32)
        goals[signed > self.band_px] = INSIDE
        goals[signed < -self.band_px] = OUTSIDE
        goals[np.abs(signed) > self.band_px + RIM_PX] = UNUSED
        refined = prompt.inside.copy()
        if not (np.any(goals == INSIDE) and np.any(goals == OUTSIDE) and np.any(goals == 0)):
            return refined  # thinner than the band: nothing is sure enough to start from
        lab = rgb2lab(np.moveaxis(image[(slice(3), *part)], 0, 2))
        lab = gaussian_filter(lab, (self.blur_px, self.blur_px, 0)) / 100
        score = probability_of(prompt.scores[part], not_predicted=0.0)
        data = np.dstack((lab[..., 0], lab[..., 1] * 2, lab[..., 2] * 2, score * self.score_weight))
        steps = np.sum(np.diff(data, axis=0) ** 2, axis=-1)[goals[1:] == 0]
        strong = float(np.quantile(steps, STRONG_EDGE))
        if strong == 0:
            return refined  # nothing but flat ground: no edge to follow
        # scikit-image divides squared steps by ten standard deviations
        beta = self.edge_weight / strong * 10 * float(data.std())
        reached = random_walker(data, goals, beta=beta, mode="bf", channel_axis=-1)
        refined[part] = (reached == INSIDE) | (signed > self.band_px)
        return refined
