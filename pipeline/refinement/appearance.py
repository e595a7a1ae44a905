"""How the ground inside a village looks and how that round it does, learnt at the village itself.

Pixels well inside its outline and pixels well outside, on a ring along it, are told apart by boosted trees on colour
and texture (histogram-based, after Ke et al., NeurIPS 2017). The ring is a chessboard: pixels on white are judged by
the trees that learnt on black, and the other way round. So the answers on the ring are answers on ground not learnt
from; they say how much appearance is worth here, and how far its odds may be trusted (Platt 1999).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter, sobel
from scipy.optimize import minimize
from skimage.color import rgb2lab
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits  # comes with scikit-learn

Mask = NDArray[np.bool_]
CELL_PX = 32
"""Side of the chessboard's fields; divides half a window, so that windows on a lattice share one chessboard."""
LEAST_SURE = 0.02
"""No pixel is held less likely than this to be on either side."""
SAMPLES = 5000
"""Pixels of either side that the trees of one colour learn from, at most."""
FEWEST = 200
"""With fewer nothing is learnt."""
TREES = 80
LEAVES = 15
MAX_SLOPE = 1.0
"""Odds are drawn towards even where the ring says so, never away from it: the outline is harder than the ring."""


@dataclass(frozen=True)
class Ring:
    """The ground along an outline.

    Attributes:
        known_inside: bool (h, w), pixels that are surely village.
        known_outside: bool (h, w), pixels that are surely not.
        asked: bool (h, w), pixels whose odds are wanted, those of the ring and between its two sides.
    """

    known_inside: Mask
    known_outside: Mask
    asked: Mask


@dataclass(frozen=True)
class Odds:
    """What appearance says.

    Attributes:
        logits: float64 (h, w), log-odds of village, 0 where nothing was asked.
        informedness: Share of village told plus share of its surroundings told, minus 1, on ground not learnt from
            (Youden 1950): 0 for a coin, 1 for no mistake.
    """

    logits: NDArray[np.float64]
    informedness: float


def measure_appearance(image: NDArray[np.uint8], *, resolution_m: float) -> NDArray[np.float32]:
    """float32 (h, w, features): colour at two scales, its spread, steps, their direction, shadows.

    Args:
        image: uint8 (3, h, w), red, green, blue.
        resolution_m: Side of a pixel; the scales are in metres, so finer imagery is averaged first.
    """
    lab = rgb2lab(np.moveaxis(image, 0, 2)).astype(np.float32) / 100

    def blur(values: NDArray[np.float32], metres: float) -> NDArray[np.float32]:
        return np.asarray(gaussian_filter(values, metres / resolution_m), dtype=np.float32)

    def spread(values: NDArray[np.float32], metres: float) -> NDArray[np.float32]:
        return np.asarray(np.sqrt(np.maximum(blur(values**2, metres) - blur(values, metres) ** 2, 0)))

    light = blur(lab[..., 0], 0.4)
    down, right = sobel(light, 0), sobel(light, 1)
    step = np.hypot(down, right)
    side_px = max(3, round(5 / resolution_m))
    across, along, both = blur(right**2, 3), blur(down**2, 3), blur(right * down, 3)
    layers = [blur(lab[..., band], metres) for metres in (1.0, 2.5) for band in range(3)]
    layers += [spread(lab[..., 0], metres) for metres in (2.0, 4.0)]
    layers += [spread(lab[..., band], 2.5) for band in (1, 2)]
    layers += [blur(step, 1.5), blur(step, 3.0), maximum_filter(step, side_px)]
    layers += [minimum_filter(light, side_px), maximum_filter(light, side_px)]
    layers += [np.sqrt((across - along) ** 2 + 4 * both**2) / (across + along + 1e-4)]
    return np.stack(layers, axis=-1).astype(np.float32)


def judge_appearance(appearance: NDArray[np.float32], ring: Ring, *, blur_px: float) -> Odds | None:
    """Log-odds of village along an outline from its surroundings; None where too little is known of either side.

    Args:
        appearance: float32 (h, w, features).
        ring: What is known, and what is asked.
        blur_px: Standard deviation of the average over neighbours.
    """
    height, width, count = appearance.shape
    row, col = np.indices((height, width))
    white = ((row // CELL_PX + col // CELL_PX) % 2 == 0).ravel()
    flat = appearance.reshape(-1, count)
    inside, outside, asked = ring.known_inside.ravel(), ring.known_outside.ravel(), ring.asked.ravel()
    raw = np.zeros(height * width)
    # so few pixels that threads wait for each other longer than they work, on a busy machine many times as long
    with threadpool_limits(1):
        for learn in (white, ~white):
            one, two = _spread_out(inside & learn), _spread_out(outside & learn)
            if min(len(one), len(two)) < FEWEST:
                return None
            trees = HistGradientBoostingClassifier(max_iter=TREES, max_leaf_nodes=LEAVES, early_stopping=False)
            trees.fit(np.concatenate((flat[one], flat[two])), np.repeat([1, 0], [len(one), len(two)]))
            judged = np.flatnonzero(asked & ~learn)
            if len(judged):
                chance = np.clip(trees.predict_proba(flat[judged])[:, 1], LEAST_SURE, 1 - LEAST_SURE)
                raw[judged] = np.log(chance / (1 - chance))
    weight = gaussian_filter(ring.asked.astype(np.float64), blur_px)
    smooth = gaussian_filter(raw.reshape(height, width), blur_px) / np.maximum(weight, 0.05)
    village, around = smooth[ring.known_inside & ring.asked], smooth[ring.known_outside & ring.asked]
    if len(village) == 0 or len(around) == 0:
        return None
    told = float(np.mean(village > 0) + np.mean(around < 0) - 1)
    slope = min(MAX_SLOPE, _fit_slope(village, around))
    return Odds(np.where(ring.asked, slope * smooth, 0.0), told)


def _spread_out(mask: Mask) -> NDArray[np.int64]:
    """At most `SAMPLES` of a mask's pixels, evenly over it."""
    found = np.flatnonzero(mask)
    if len(found) <= SAMPLES:
        return found
    return found[np.linspace(0, len(found) - 1, SAMPLES).astype(np.int64)]


def _fit_slope(village: NDArray[np.float64], around: NDArray[np.float64]) -> float:
    """The factor on log-odds under which the sides that are known are likeliest, both sides counting alike."""

    def loss(slope: NDArray[np.float64]) -> float:
        return float(np.logaddexp(0, -slope[0] * village).mean() + np.logaddexp(0, slope[0] * around).mean())

    found = minimize(loss, np.array([0.5]), method="L-BFGS-B", bounds=[(0.0, 2 * MAX_SLOPE)])
    return float(found.x[0])
