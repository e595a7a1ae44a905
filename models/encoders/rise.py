"""How far adaptation raises the scores of a scene, and how much of that is villages that the scene lacks.

Standardised by its own mean every scene gets the same mean score, so adaptation raises the scores of ground with few
villages as it raises those of ground seen through haze. Two things tell them apart, in part. With *w* the classifier
and *z* the scene's mean in deviations of the training, the mean log-odds rise by -*w*·*z*. A change of look moves the
features every way, so the rise is small beside |*w*| |*z*|; fewer villages move them against the classifier. What is
beyond `TOLERATED` times |*w*| |*z*|, or beyond `MOST_RISE`, is taken back, `RATE` times, at most the rise itself: the
scores then have the level that the model has without adaptation. The numbers were chosen on real places, each left out
in turn, and on copies of them in other colours, blurred and under haze: docs/quality.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.encoders.share import scene_level

TOLERATED = 0.14
"""Largest ratio of the rise to |w| |z| of a scene with its villages: real places had 0.12 at most."""
MOST_RISE = 2.4
"""Largest rise, in log-odds, that a change of look alone was seen to need: 2.3 on 24 strongly changed copies."""
RATE = 2.0
"""What is beyond it is taken back so many times."""
LEAST_SPREAD = 0.5
"""Least spread of a scene's features, as a share of that in training: on water, noise is not stretched further."""


@dataclass(frozen=True)
class SceneRise:
    """What adapting to a scene does to its mean log-odds.

    Attributes:
        log_odds: The rise; below 0 where adaptation lowers the scores.
        reach: |w| |z|: the largest rise that a shift as far as this could make.
    """

    log_odds: float
    reach: float

    @property
    def alignment(self) -> float:
        """The rise as a share of its reach, -1 to 1; 0 where the scene has the training's mean."""
        return self.log_odds / self.reach if self.reach > 0 else 0.0

    @property
    def level(self) -> float:
        """What to add to the scene's log-odds: 0 or less, and not below minus the rise.

        Worked example: a rise of 1.1 at a reach of 5 is 0.4 beyond 0.14 times 5; twice that, 0.8, is taken back.
        """
        beyond = self.log_odds - min(TOLERATED * self.reach, MOST_RISE)
        return -float(min(RATE * max(beyond, 0.0), max(self.log_odds, 0.0)))


def scene_rise(
    mean: NDArray[np.floating],
    source_mean: NDArray[np.floating],
    source_std: NDArray[np.floating],
    direction: NDArray[np.floating],
) -> SceneRise:
    """The rise of a scene's mean log-odds when it is standardised by its own mean instead of the training's.

    Args:
        mean: (C,), mean features of the scene.
        source_mean: (C,), those of the training.
        source_std: (C,), standard deviations of the training, above 0.
        direction: (C,), as `village_direction` gives it.
    """
    z = (np.asarray(mean, np.float64) - source_mean) / source_std
    w = np.asarray(direction, np.float64)
    return SceneRise(float(-(w @ z)), float(np.linalg.norm(w) * np.linalg.norm(z)))


def bounded_level(share: float, source_share: float, rise: SceneRise) -> float:
    """The lower of two levels of a scene, log-odds, 0 or less: that of its estimated share, and that of its rise.

    Args:
        share: Estimated share of villages on the scene.
        source_share: That of the training.
        rise: What adapting to the scene added.
    """
    return min(scene_level(share, source_share), rise.level)


def village_direction(weight: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Weight of each standardised feature in the calibrated log-odds of the second class, float64 (C,).

    Args:
        weight: (classes, C), of a linear classifier.
        temperature: What its logits are divided by.
    """
    w = np.asarray(weight, np.float64)
    direction: NDArray[np.float64] = (w[1] - np.delete(w, 1, axis=0).mean(0)) / temperature
    return direction


def spread_of(std: NDArray[np.float32], source_std: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standard deviations (..., C) of scenes, none below `LEAST_SPREAD` of the training's (C,)."""
    found: NDArray[np.float32] = np.maximum(std, np.float32(LEAST_SPREAD) * source_std).astype(np.float32)
    return found
