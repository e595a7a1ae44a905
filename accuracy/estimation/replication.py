"""Resampling checks of the linearised variance: Rao-Wu bootstrap and the delete-one-city jackknife.

Cities are resampled inside regions, never points over cities (Rao & Wu 1988; Rao, Wu & Yue 1992):

    w* = w {1 - s + s (n_h / m_h) r_hi},  s = sqrt(m_h / (n_h - 1)), or sqrt(m_h (1 - f_h) / (n_h - 1)) with the
    finite-population correction, m_h = n_h - 1 cities drawn with replacement, r_hi = times drawn

With m_h = n_h - 1 and no correction w* = w n_h / (n_h - 1) r_hi, never negative. The jackknife (JKn) drops a city at
a time: V = sum_h (n_h - 1) / n_h sum_i (theta_(hi) - theta)^2. Calibration is redone in every replicate. Since a
replicate's weights are the same for all points of a city, both work on city totals and cost next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from accuracy.arrays import Bools, Floats, SampleArrays
from accuracy.errors import DesignError, LonelyUnitError
from accuracy.estimation.calibration import Calibration
from accuracy.measures import coefficients

CHUNK = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Replicates:
    """Replicate estimates.

    Attributes:
        kind: Bootstrap or jackknife.
        full: float64 (G, K), estimates of the full sample.
        estimates: float64 (B, G, K), replicate estimates; NaN where a denominator is 0.
        factor: float64 (B,), weight of each replicate's squared deviation from ``full``.
    """

    kind: Literal["bootstrap", "jackknife"]
    full: Floats
    estimates: Floats
    factor: Floats

    def variance(self, *, about: Literal["full", "mean"] = "full") -> Floats:
        """float64 (G, K): sum of factor * (theta_b - centre)^2; NaN replicates are left out, weighted up.

        Args:
            about: The full sample's estimate, or the mean of the replicates (R's ``mse = FALSE``).
        """
        centre = self.full if about == "full" else np.nanmean(self.estimates, axis=0)
        squares = np.square(self.estimates - centre)
        seen = np.isfinite(squares)
        used = np.einsum("b,bgk->gk", self.factor, seen.astype(float))
        total = np.einsum("b,bgk->gk", self.factor, np.where(seen, squares, 0.0))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(used > 0, total * self.factor.sum() / used, np.nan))

    def se(self, *, about: Literal["full", "mean"] = "full") -> Floats:
        """float64 (G, K): root of `variance`."""
        return np.asarray(np.sqrt(self.variance(about=about)))

    @property
    def not_estimable(self) -> Floats:
        """float64 (G, K): share of replicates without an estimate."""
        return np.asarray(1 - np.isfinite(self.estimates).mean(axis=0))

    def percentile_interval(self, level: float = 0.95) -> tuple[Floats, Floats]:
        """Bootstrap percentiles, each float64 (G, K).

        Raises:
            DesignError: The replicates are a jackknife's.
        """
        if self.kind != "bootstrap":
            raise DesignError("percentile intervals need bootstrap replicates, these are a jackknife's")
        tail = (1 - level) / 2
        low, high = np.nanquantile(self.estimates, [tail, 1 - tail], axis=0)
        return low, high


def draw_rao_wu_multipliers(arrays: SampleArrays, *, replicates: int, seed: int, fpc: bool = False) -> Floats:
    """float64 (B, P): factor of each city's weights in each replicate.

    Raises:
        LonelyUnitError: A stratum with one city that is not a certainty.
        DesignError: The design knows no variance between cities.
    """
    _check(arrays)
    rng = np.random.default_rng(seed)
    out = np.ones((replicates, len(arrays.stratum_of_psu)))
    for h, n in enumerate(arrays.psu_sampled):
        members = np.flatnonzero(arrays.stratum_of_psu == h)
        fraction = n / arrays.psu_population[h] if fpc else 0.0
        if n == 1:
            _lonely(arrays, h)
            continue
        times = rng.multinomial(n - 1, np.full(n, 1 / n), size=replicates).astype(np.float64)
        out[:, members] = _multiplier(times, n, fraction)
    return out


def make_jackknife_multipliers(arrays: SampleArrays) -> tuple[Floats, Floats]:
    """float64 (P', P) weight factors, one city dropped at a time, and float64 (P',) factors (n_h - 1) / n_h."""
    _check(arrays)
    rows, factor = [], []
    for h, n in enumerate(arrays.psu_sampled):
        members = np.flatnonzero(arrays.stratum_of_psu == h)
        if n == 1:
            _lonely(arrays, h)
            continue
        for i in members:
            row = np.ones(len(arrays.stratum_of_psu))
            row[members] = n / (n - 1)
            row[i] = 0
            rows.append(row)
            factor.append((n - 1) / n)
    return np.stack(rows), np.array(factor)


def replicate(
    arrays: SampleArrays,
    onehot: Floats,
    masks: Bools,
    multipliers: Floats,
    *,
    measures: tuple[str, ...],
    kind: Literal["bootstrap", "jackknife"] = "bootstrap",
    factor: Floats | None = None,
    calibration: Calibration | None = None,
) -> Replicates:
    """Estimates under every set of replicate weights.

    Args:
        arrays: The design.
        onehot: float64 (n, 4), tp, fp, fn, tn.
        masks: bool (G, n), domains.
        multipliers: float64 (B, P), from one of the functions above.
        measures: K names.
        kind: What the multipliers are.
        factor: float64 (B,); default 1 / B.
        calibration: Known totals, met again in every replicate.
    """
    y_of, x_of = coefficients(measures)
    B, G = len(multipliers), len(masks)
    is_total = x_of.sum(axis=0) == 0

    def measured(cells: Floats) -> Floats:
        y, x = cells @ y_of, np.where(is_total, 1.0, cells @ x_of)
        return np.where(x > 0, y / np.where(x > 0, x, 1), np.nan)

    parts = np.zeros(len(onehot), dtype=np.int64) if calibration is None else calibration.cell
    count = int(parts.max()) + 1
    everyone = np.vstack([np.ones(len(arrays.stratum_of_psu)), multipliers])
    gains = np.ones((B + 1, count))
    by_part = [arrays.points_to_psu @ np.where(parts == q, arrays.weight, 0.0) for q in range(count)]
    if calibration is not None:
        estimated = everyone @ np.stack(by_part, axis=1)
        gains = np.where(estimated > 0, calibration.totals / np.where(estimated > 0, estimated, 1), np.nan)
    cells = np.zeros((B + 1, G, 4))
    step = max(1, CHUNK // max(1, 4 * len(onehot)))
    for start in range(0, G, step):
        part = masks[start : start + step]
        for q in range(count):
            w = np.where(parts == q, arrays.weight, 0.0)
            used = part[:, w > 0].any(axis=1)
            if not used.any():
                continue
            values = (part[used, :, None] * (w[:, None] * onehot)[None]).transpose(1, 0, 2).reshape(len(w), -1)
            psu_totals = arrays.points_to_psu @ values
            scaled = (everyone * gains[:, q : q + 1]) @ psu_totals
            cells[:, np.flatnonzero(used) + start] += scaled.reshape(B + 1, -1, 4)
    values = measured(cells)
    return Replicates(
        kind=kind,
        full=values[0],
        estimates=values[1:],
        factor=np.full(B, 1 / B) if factor is None else factor,
    )


def _multiplier(times: Floats, n: int, fraction: float) -> Floats:
    m = n - 1
    s = np.sqrt(m * (1 - fraction) / (n - 1))
    return np.asarray(1 - s + s * (n / m) * times)


def _check(arrays: SampleArrays) -> None:
    if arrays.between_psu is not None:
        raise DesignError(f"cities cannot be resampled: {arrays.between_psu}")


def _lonely(arrays: SampleArrays, h: int) -> None:
    if arrays.psu_population[h] > 1:
        raise LonelyUnitError(
            f"stratum {arrays.stratum_names[h]!r} has 1 sampled primary unit of {arrays.psu_population[h]:g}: nothing"
            " to resample. Merge it with a similar stratum"
        )
