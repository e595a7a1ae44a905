"""The refiner that needs no weights: it learns at each village how the village looks and how its surroundings do.

The outline of the scores is right in the large and off by some metres. Ground further from it than that is known, so
the imagery there teaches what is village here and what is not (`appearance`); between, each pixel goes to the side
that is likelier from its appearance and its distance from the outline. How well the known ground was told apart, on
pixels not learnt from, is the refiner's quality: where it is low, appearance says nothing here and the rule keeps the
outline of the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.special import log_ndtr

from pipeline.polygons.morphology import close_gaps
from pipeline.refinement.appearance import Ring, judge_appearance, measure_appearance
from pipeline.refinement.prompts import Prompt
from pipeline.refinement.refiner import RefinedMask
from regions.raster.scores import probability_of

LIKELY = 0.5
"""Ground that the scores hold for village is no example of what is not, and the other way round."""


@dataclass(frozen=True)
class AppearanceRefiner:
    """Appearance of each village against its surroundings.

    Attributes:
        resolution_m: Side of a pixel.
        shift_m: Standard deviation of the distance between the outline of the scores and the true one.
        reach_m: How far the outline may move.
        known_m: Beyond this distance from the outline ground is known.
        ring_m: Ground up to this distance is looked at.
        blur_m: Standard deviation of the average of the odds over neighbours.
        smooth_m: Gaps and tongues of the new outline up to twice as wide go.
        side_px: Side of the windows.
    """

    resolution_m: float = 1.0
    shift_m: float = 8.0
    reach_m: float = 12.0
    known_m: float = 8.0
    ring_m: float = 30.0
    blur_m: float = 2.5
    smooth_m: float = 4.0
    side_px: int = 1024
    name: str = "built-in"

    def refine(self, images: NDArray[np.uint8], prompts: Sequence[Sequence[Prompt]]) -> list[list[RefinedMask]]:
        """See `Refiner.refine`; the quality is the informedness of appearance."""
        return [
            [self._draw(image, prompt) for prompt in of_window]
            for image, of_window in zip(images, prompts, strict=True)
        ]

    def _draw(self, image: NDArray[np.uint8], prompt: Prompt) -> RefinedMask:
        margin = round(self.ring_m / self.resolution_m) + 8
        left, top, right, bottom = prompt.box
        # whole fields of the chessboard, so that a window's place in the lattice decides their colour
        first_row, first_col = (max(0, edge - margin) // 64 * 64 for edge in (top, left))
        part = (slice(first_row, bottom + margin), slice(first_col, right + margin))
        inside = prompt.inside[part]
        signed = self._signed_distances(inside)
        near = np.abs(signed) <= self.reach_m
        if not near.any():
            return RefinedMask(prompt.inside, None)  # the village fills what the window shows: no outline, no doubt
        ring = self._ring(signed, prompt.scores[part], prompt.allowed[part])
        seen = measure_appearance(image[(slice(3), *part)], resolution_m=self.resolution_m)
        odds = judge_appearance(seen, ring, blur_px=self.blur_m / self.resolution_m)
        if odds is None:
            return RefinedMask(prompt.inside, 0.0)
        place = signed / self.shift_m
        drawn = odds.logits + log_ndtr(place) - log_ndtr(-place) > 0
        drawn = self._smooth(np.where(near, drawn, inside))
        refined = prompt.inside.copy()
        refined[part] = np.where(near, drawn, inside) & (prompt.allowed[part] | inside)
        return RefinedMask(refined, odds.informedness)

    def _signed_distances(self, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Metres from the outline, above 0 inside; at the window's edge the village goes on."""
        reach = round(self.ring_m / self.resolution_m) + 1

        def depth(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
            padded = np.pad(mask, reach, mode="edge")
            if padded.all():
                return np.full(mask.shape, np.inf)
            return np.asarray(distance_transform_edt(padded)[reach:-reach, reach:-reach])

        return np.where(inside, depth(inside) - 0.5, 0.5 - depth(~inside)) * self.resolution_m

    def _ring(self, signed: NDArray[np.float64], scores: NDArray[np.uint8], allowed: NDArray[np.bool_]) -> Ring:
        score = probability_of(scores, not_predicted=np.nan)
        asked = np.abs(signed) <= self.ring_m
        return Ring(
            known_inside=asked & (signed > self.known_m) & (score >= LIKELY),
            known_outside=asked & (signed < -self.known_m) & (score < LIKELY) & allowed,
            asked=asked,
        )

    def _smooth(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        radius = round(self.smooth_m / self.resolution_m)
        closed = close_gaps(mask, radius_px=radius)
        return ~close_gaps(~closed, radius_px=radius)
