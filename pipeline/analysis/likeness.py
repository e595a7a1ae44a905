"""Likeness of neighbouring cities as a null model: what clustering of regions must go beyond.

Cities near each other are alike for many reasons. A test that permutes shares over all cities takes any likeness for
clustering of regions. Here the null model is likeness without regions: the spatial error model u = X b + e,
e = rho W e + noise (Anselin 1988, ch. 8; W row-standardised), X the regions' means and rho of the restricted likelihood
(REML: maximum likelihood takes too small a rho, since it takes the means for known). Fields of that rho and without
regional means are what a statistic is compared with.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.analysis.neighbours import Neighbourhood

GRID = np.linspace(0.0, 0.95, 39)
"""Values of rho that are tried. Cities less alike than by chance count as not alike."""
LEAST_FREE = 10
"""Cities beyond the number of regions, below which rho is fitted with one mean for all."""

Floats = NDArray[np.float64]


class LikenessModel:
    """Likeness of neighbours, for any variable over the same cities.

    Args:
        regions: Each city's region; their means are left out of account.
        near: Neighbourhood.
    """

    def __init__(self, regions: Sequence[str], near: Neighbourhood) -> None:
        names = np.asarray(regions, dtype=str)
        n = len(names)
        design = (names[:, None] == np.unique(names)).astype(np.float64)
        if n - design.shape[1] < LEAST_FREE:
            design = np.ones((n, 1))
        matrix = near.weights.sparse.toarray().astype(np.float64)
        total = matrix.sum(axis=1, keepdims=True)
        self.weights: Floats = np.asarray(matrix / np.where(total > 0, total, 1.0))
        spectrum = np.linalg.eigvals(self.weights)
        self.free = n - design.shape[1]
        self._known: list[tuple[float, Floats]] = []
        for rho in GRID:
            q, r = np.linalg.qr(design - rho * (self.weights @ design))
            logdet = np.log(np.abs(1 - rho * spectrum)).sum() - np.log(np.abs(np.diag(r))).sum()
            self._known.append((float(logdet), np.asarray(q)))

    def fit(self, values: Floats) -> float:
        """The rho of `GRID` with the largest restricted likelihood; ``values`` float64 (n,), one per city."""
        lag = self.weights @ values
        found = []
        for rho, (logdet, q) in zip(GRID, self._known, strict=True):
            y = values - rho * lag
            rest = y - q @ (q.T @ y)
            found.append(logdet - self.free / 2 * np.log(rest @ rest))
        return float(GRID[int(np.argmax(found))])

    def simulate(self, rho: float, count: int, rng: np.random.Generator) -> Floats:
        """float64 (n, count): fields of cities that are alike by rho, without regions."""
        noise = rng.standard_normal((len(self.weights), count))
        if rho == 0:
            return noise
        return np.asarray(np.linalg.solve(np.eye(len(noise)) - rho * self.weights, noise), dtype=np.float64)
