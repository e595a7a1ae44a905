"""Resampling checks of the linearised variance: Rao-Wu bootstrap and the delete-one-city jackknife.

Cities are resampled inside regions, never points over cities (Rao & Wu 1988; Rao, Wu & Yue 1992):

    w* = w {1 - s + s (n_h / m_h) r_hi},  s = sqrt(m_h / (n_h - 1)), or sqrt(m_h (1 - f_h) / (n_h - 1)) with the
    finite-population correction, m_h = n_h - 1 cities drawn with replacement, r_hi = times drawn

With m_h = n_h - 1 and no correction w* = w n_h / (n_h - 1) r_hi, never negative. The jackknife (JKn) drops a city at
a time: V = sum_h (n_h - 1) / n_h sum_i (theta_(hi) - theta)^2. Calibration is redone in every replicate.

Cities that are certainties were not drawn, so the bootstrap resamples the points of their cells in their place, by the
same formula with m points and f = m / M. Equal points are one row, of which a replicate draws some: the cost depends
on cells, not on points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import norm

from accuracy.arrays import Bools, Floats, Ints, SampleArrays
from accuracy.errors import DesignError, LonelyUnitError
from accuracy.estimation.calibration import Calibration
from accuracy.estimation.pooling import pool_points
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
        interpreters: float64 (G, K), variance that interpreters add, which drawing points again cannot show; or None.
    """

    kind: Literal["bootstrap", "jackknife"]
    full: Floats
    estimates: Floats
    factor: Floats
    interpreters: Floats | None = None

    def variance(self, *, about: Literal["full", "mean"] = "full") -> Floats:
        """float64 (G, K): sum of factor * (theta_b - centre)^2, and what the interpreters add.

        NaN replicates are left out, the others weighted up.

        Args:
            about: The full sample's estimate, or the mean of the replicates (R's ``mse = FALSE``).
        """
        centre = self.full if about == "full" else np.nanmean(self.estimates, axis=0)
        squares = np.square(self.estimates - centre)
        seen = np.isfinite(squares)
        used = np.einsum("b,bgk->gk", self.factor, seen.astype(float))
        total = np.einsum("b,bgk->gk", self.factor, np.where(seen, squares, 0.0))
        with np.errstate(divide="ignore", invalid="ignore"):
            own = np.asarray(np.where(used > 0, total * self.factor.sum() / used, np.nan))
        return own if self.interpreters is None else own + self.interpreters

    def se(self, *, about: Literal["full", "mean"] = "full") -> Floats:
        """float64 (G, K): root of `variance`."""
        return np.asarray(np.sqrt(self.variance(about=about)))

    @property
    def not_estimable(self) -> Floats:
        """float64 (G, K): share of replicates without an estimate."""
        return np.asarray(1 - np.isfinite(self.estimates).mean(axis=0))

    def percentile_interval(self, level: float = 0.95) -> tuple[Floats, Floats]:
        """Bootstrap percentiles, each float64 (G, K).

        Where interpreters add a variance, each replicate is moved by a normal deviate of it: equally spaced quantiles
        in an order that depends on B alone.

        Raises:
            DesignError: The replicates are a jackknife's.
        """
        if self.kind != "bootstrap":
            raise DesignError("percentile intervals need bootstrap replicates, these are a jackknife's")
        tail = (1 - level) / 2
        moved = self.estimates
        if self.interpreters is not None:
            B = len(moved)
            deviates = norm.ppf((np.random.default_rng(B).permutation(B) + 0.5) / B)
            moved = moved + deviates[:, None, None] * np.sqrt(np.nan_to_num(self.interpreters))
        low, high = np.nanquantile(moved, [tail, 1 - tail], axis=0)
        return low, high


def draw_rao_wu_multipliers(arrays: SampleArrays, *, replicates: int, seed: int, fpc: bool = False) -> Floats:
    """float64 (B, P): factor of each city's weights in each replicate; 1 for certainties.

    Raises:
        LonelyUnitError: A stratum with one city that is not a certainty.
        DesignError: The design knows no variance between cities.
    """
    _check(arrays)
    rng = np.random.default_rng(seed)
    out = np.ones((replicates, len(arrays.stratum_of_psu)))
    draws = np.ones(out.shape[1]) if arrays.times_drawn is None else arrays.times_drawn
    for h in range(len(arrays.stratum_names)):
        members = np.flatnonzero((arrays.stratum_of_psu == h) & ~arrays.is_certain)
        if not len(members):
            continue
        n = round(float(draws[members].sum()))
        if n == 1:
            _lonely(arrays, h)
        fraction = n / arrays.psu_population[h] if fpc else 0.0
        times = rng.multinomial(n - 1, draws[members] / n, size=replicates) / draws[members]
        out[:, members] = _multiplier(times, n, fraction)
    return out


def make_jackknife_multipliers(arrays: SampleArrays) -> tuple[Floats, Floats]:
    """float64 (P', P) weight factors, one city dropped at a time, and float64 (P',) factors (n_h - 1) / n_h.

    Certainties of equal probability (a region taken whole) are dropped too, as in R's ``JKn``, which takes all cities
    for drawn with replacement; those among cities of unequal probability are not.
    """
    _check(arrays)
    free = np.ones(len(arrays.stratum_of_psu), dtype=bool) if arrays.psu_probability is None else ~arrays.is_certain
    rows, factor = [], []
    for h in range(len(arrays.stratum_names)):
        members = np.flatnonzero((arrays.stratum_of_psu == h) & free)
        n = len(members)
        if n == 1 and not arrays.is_certain[members[0]]:
            _lonely(arrays, h)
        if n < 2:
            continue
        for i in members:
            row = np.ones(len(arrays.stratum_of_psu))
            row[members] = n / (n - 1)
            row[i] = 0
            rows.append(row)
            factor.append((n - 1) / n)
    if not rows:
        raise DesignError("every city is a certainty: there is none to drop for a jackknife")
    return np.stack(rows), np.array(factor)


def replicate(  # noqa: PLR0913 - design, outcome and domains of one sample, and how it is drawn again
    arrays: SampleArrays,
    onehot: Floats,
    masks: Bools,
    multipliers: Floats,
    *,
    measures: tuple[str, ...],
    kind: Literal["bootstrap", "jackknife"] = "bootstrap",
    factor: Floats | None = None,
    calibration: Calibration | None = None,
    within: np.random.Generator | None = None,
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
        within: Resamples the points of certainties, None leaves them as they are.
    """
    y_of, x_of = coefficients(measures)
    B, G = len(multipliers), len(masks)
    is_total = x_of.sum(axis=0) == 0
    labels = [_signatures(masks), *([] if calibration is None else [calibration.cell])]
    arrays, rows = pool_points(arrays, onehot, labels)
    where, onehot = masks[:, rows], onehot[rows]
    known = None if calibration is None else calibration.take(rows)
    # values of every domain and cell of the confusion, mostly zero: rows x (G * 4)
    g, r = np.nonzero(where)
    values = sparse.csr_array(
        (onehot[r].ravel(), (np.repeat(r, 4), (4 * g[:, None] + np.arange(4)).ravel())), shape=(len(rows), 4 * G)
    )
    cells = np.empty((B + 1, G, 4))
    step = max(1, CHUNK // max(1, len(rows)))
    for start in range(0, B + 1, step):
        part = np.vstack([np.ones(multipliers.shape[1]), multipliers])[start : start + step][:, arrays.psu]
        if within is not None:
            _resample_points(part, arrays, within, first_is_full=start == 0)
        weights = part * arrays.mass
        if known is not None:
            weights = weights * _gains(weights, known)
        cells[start : start + step] = (values.T @ weights.T).T.reshape(-1, G, 4)
    y, x = cells @ y_of, np.where(is_total, 1.0, cells @ x_of)
    estimates = np.where(x > 0, y / np.where(x > 0, x, 1), np.nan)
    return Replicates(
        kind=kind,
        full=estimates[0],
        estimates=estimates[1:],
        factor=np.full(B, 1 / B) if factor is None else factor,
    )


def _signatures(masks: Bools) -> Ints:
    """int64 (n,): equal for points of the same domains."""
    out = np.zeros(masks.shape[1], dtype=np.int64)
    for mask in masks:  # two columns at a time, so that numbers stay small
        out = pd.factorize(2 * out + mask)[0].astype(np.int64)
    return out


def _gains(weights: Floats, known: Calibration) -> Floats:
    """float64 (B, rows): calibration factors of every replicate; NaN where a cell has no point left."""
    size = len(known.totals)
    part = sparse.csr_array(
        (np.ones(len(known.cell)), (np.arange(len(known.cell)), known.cell)), shape=(len(known.cell), size)
    )
    estimated = weights @ part
    gain = np.where(estimated > 0, known.totals / np.where(estimated > 0, estimated, 1), np.nan)
    return np.asarray(gain[:, known.cell])


def _resample_points(part: Floats, arrays: SampleArrays, rng: np.random.Generator, *, first_is_full: bool) -> None:
    """Draw the points of certainties' cells anew, in place; ``part`` is float64 (B, rows)."""
    begin = int(first_is_full)
    rows = np.flatnonzero(arrays.is_certain[arrays.psu])
    for c in np.unique(arrays.cell[rows]):
        here = rows[arrays.cell[rows] == c]
        count = arrays.points[here]
        m = round(float(count.sum()))
        if m == 1:
            continue  # nothing to draw from
        times = rng.multinomial(m - 1, count / m, size=len(part) - begin) / count
        part[begin:, here] = _multiplier(times, m, min(1.0, m / arrays.ssu_population[c]))


def _multiplier(times: Floats, n: int, fraction: float) -> Floats:
    m = n - 1
    s = np.sqrt(m * (1 - fraction) / (n - 1))
    return np.asarray(1 - s + s * (n / m) * times)


def _check(arrays: SampleArrays) -> None:
    if arrays.between_psu is not None:
        raise DesignError(f"cities cannot be resampled: {arrays.between_psu}")


def _lonely(arrays: SampleArrays, h: int) -> None:
    raise LonelyUnitError(
        f"stratum {arrays.stratum_names[h]!r} has 1 sampled primary unit of {arrays.psu_population[h]:g}: nothing"
        " to resample. Merge it with a similar stratum"
    )
