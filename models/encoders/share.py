"""How much of a scene is village, and what follows for the level of its scores, without labels.

Standardising by a scene hides how much of it is village: the most village-like part of a scene without villages looks
like a village. The share is therefore estimated from the scores by expectation maximisation (Saerens, Latinne and
Decaestecker 2002, Adjusting the Outputs of a Classifier to New a Priori Probabilities); where it is clearly below that
of the training ground, the log-odds are lowered by the difference of the two priors. They are never raised.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TRUSTED_RATIO = 0.75
"""From this ratio of estimated to training share on nothing is changed: the estimate is not that good."""
FULL_RATIO = 0.5
"""Below this ratio the whole difference of the priors is taken."""
LEAST_SHARE = 1e-3
ROUNDS = 100


def estimated_share(probabilities: NDArray[np.floating], source_share: float) -> float:
    """The share of the positive class by expectation maximisation.

    Args:
        probabilities: (n,), calibrated for ground where the share is ``source_share``.
        source_share: That share, inside (0, 1).
    """
    p = np.asarray(probabilities, np.float64)
    if not len(p):
        return source_share
    share = source_share
    for _ in range(ROUNDS):
        up, down = share / source_share, (1 - share) / (1 - source_share)
        share = float(np.clip((p * up / (p * up + (1 - p) * down)).mean(), LEAST_SHARE, 1 - LEAST_SHARE))
    return share


def scene_level(share: float, source_share: float) -> float:
    """What to add to the log-odds of a scene: 0 or less.

    Worked example: 0.10 where training had 0.30 gives log(1/9) - log(3/7) = -1.35; 0.25 gives 0.

    Args:
        share: Estimated share of the scene.
        source_share: Share of the training ground.
    """
    ratio = share / source_share
    weight = float(np.clip((TRUSTED_RATIO - ratio) / (TRUSTED_RATIO - FULL_RATIO), 0.0, 1.0))
    share = float(np.clip(share, LEAST_SHARE, 1 - LEAST_SHARE))
    shift = np.log(share / (1 - share)) - np.log(source_share / (1 - source_share))
    return float(weight * min(shift, 0.0))
