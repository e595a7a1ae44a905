"""Confidence intervals of proportions, for counts and for weighted estimates.

logit_t          logit(p) +- t_df SE / (p (1 - p)), back-transformed: the default for weighted quantities
wald_t           p +- t_df SE
likelihood       every p whose deviance does not exceed t_df^2, at the design's effective sample size
asin             Wald's interval of asin(sqrt(p)), back-transformed
korn_graubard    Clopper-Pearson with the effective sample size p (1 - p) / SE^2 (t_{n-1} / t_df)^2, at most n
wilson           Wilson 1927, method 3 of Newcombe 1998, for a count of one stratum
clopper_pearson  exact, method 5 of Newcombe 1998, for a count of one stratum
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats
from scipy.optimize import elementwise

from accuracy.arrays import Floats
from accuracy.errors import AccuracyError

IntervalKind = Literal["logit_t", "wald_t", "wilson", "clopper_pearson", "korn_graubard", "likelihood", "asin"]
INTERVAL_KINDS: tuple[IntervalKind, ...] = get_args(IntervalKind)
ROUNDING = 1e-12


def t_quantile(df: ArrayLike, level: float) -> Floats:
    """Two-sided critical value of Student's t; infinite where df < 1 (no interval), the normal where df is inf."""
    check_level(level)
    df = np.asarray(df, dtype=np.float64)
    upper = 0.5 + level / 2
    with np.errstate(invalid="ignore"):
        value = np.where(np.isinf(df), special.ndtri(upper), special.stdtrit(np.clip(df, 1, 1e15), upper))
    return np.asarray(np.where(df < 1, np.inf, value))


def wald_t(p: ArrayLike, se: ArrayLike, df: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Wald's p +- t SE; the whole line where df < 1 (inf times an SE of 0 is 0).

    An SE below 1e-12 of p (or of 1) is the rounding of sums, hence 0.
    """
    p, se = np.asarray(p, dtype=np.float64), np.asarray(se, dtype=np.float64)
    known = se <= ROUNDING * np.maximum(1.0, np.abs(p))
    half = np.where(known, 0.0, t_quantile(df, level) * np.where(known, 1.0, se))
    return p - half, p + half


def logit_t(p: ArrayLike, se: ArrayLike, df: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Wald's interval of logit(p), back-transformed (R ``svyciprop(method="xlogit")``); p itself at 0 and 1."""
    p, se = np.asarray(p, dtype=np.float64), np.asarray(se, dtype=np.float64)
    inner = (p > 0) & (p < 1)
    q = np.where(inner, p, 0.5)
    low, high = wald_t(special.logit(q), se / (q * (1 - q)), df, level)
    return np.where(inner, special.expit(low), p), np.where(inner, special.expit(high), p)


def asin(p: ArrayLike, se: ArrayLike, df: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Wald's interval of the arc sine of sqrt(p), back-transformed (R ``svyciprop(method="asin")``); p at 0, 1.

    The transformed bounds are kept in [0, pi/2], where R would fold them back into the interval.
    """
    p, se = np.asarray(p, dtype=np.float64), np.asarray(se, dtype=np.float64)
    inner = (p > 0) & (p < 1)
    q = np.where(inner, p, 0.5)
    low, high = wald_t(np.arcsin(np.sqrt(q)), se / (2 * np.sqrt(q * (1 - q))), df, level)
    bounds = [np.square(np.sin(np.clip(v, 0, np.pi / 2))) for v in (low, high)]
    return np.where(inner, bounds[0], p), np.where(inner, bounds[1], p)


def likelihood(p: ArrayLike, se: ArrayLike, df: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Likelihood interval with the deviance scaled by the design (R ``svyciprop(method="likelihood")``).

    All q with 2 n_eff (p ln(p/q) + (1-p) ln((1-p)/(1-q))) <= t_df^2 n/(n-1), where n_eff = p (1-p) / SE^2 and
    n/(n-1) is the dispersion of the weighted binomial fit (Rao & Scott 1984 scale the deviance in this way). R reads
    the bounds off a spline through a profile and is therefore up to 2e-5 away from these roots. p itself at 0 and 1.

    Args:
        p: Estimates.
        se: Standard errors.
        df: Degrees of freedom; 0 to 1 for df < 1.
        n: Points in the denominator.
        level: Confidence level.
    """
    p, se, df, n = np.broadcast_arrays(*(np.asarray(v, dtype=np.float64) for v in (p, se, df, n)))
    t = t_quantile(df, level)
    inner = (p > 0) & (p < 1) & (se > 0) & np.isfinite(t)
    q, spread = np.where(inner, p, 0.5), np.where(inner, se, 0.1)
    limit = np.where(inner, t, 1.0) ** 2 * n / np.maximum(n - 1, 1)
    limit = limit * np.square(spread) / (q * (1 - q)) / 2

    def excess(x: Floats, q: Floats, limit: Floats) -> Floats:  # x: logit of the bound
        deviance = q * (np.log(q) - special.log_expit(x)) + (1 - q) * (np.log1p(-q) - special.log_expit(-x))
        return np.asarray(deviance - limit)

    # beyond these logits one of the two terms alone exceeds the limit
    middle, reach = special.logit(q), (limit + 1) / np.minimum(q, 1 - q) + 1
    low = elementwise.find_root(excess, (-reach, middle), args=(q, limit)).x
    high = elementwise.find_root(excess, (middle, reach), args=(q, limit)).x
    none = ~np.isfinite(t) & (p > 0) & (p < 1) & (se > 0)
    wald = wald_t(q, spread, df, level)  # where rounding hides the deviance: SE below about 1e-8
    bounds = [
        np.where(inner, np.where(np.isfinite(x), special.expit(x), w), p)
        for x, w in zip((low, high), wald, strict=True)
    ]
    return np.where(none, 0.0, bounds[0]), np.where(none, 1.0, bounds[1])


def wilson(k: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Wilson's score interval of k of n."""
    k, n, z = *_counts(k, n), float(t_quantile(np.inf, level))
    middle = (k + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * np.sqrt(k * (n - k) / n + z**2 / 4)
    return np.where(k == 0, 0.0, middle - half), np.where(k == n, 1.0, middle + half)


def clopper_pearson(k: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Exact interval of k of n; both may be fractional (effective sizes)."""
    k, n = _counts(k, n)
    tail = (1 - level) / 2
    check_level(level)
    with np.errstate(invalid="ignore"):
        low = np.where(k <= 0, 0.0, stats.beta.ppf(tail, k, n - k + 1))
        high = np.where(k >= n, 1.0, stats.beta.ppf(1 - tail, k + 1, n - k))
    return low, high


def korn_graubard(
    p: ArrayLike, se: ArrayLike, df: ArrayLike, n: ArrayLike, level: float = 0.95, *, cap_at_n: bool = True
) -> tuple[Floats, Floats]:
    """Clopper-Pearson at the effective sample size (Korn & Graubard 1998; R ``svyciprop(method="beta")``).

    ``cap_at_n`` keeps a design better than simple random sampling from claiming more points than there are (R's
    older versions do not cap). At p = 0 or 1 the standard error is 0 and says nothing: the effective size is then n.
    """
    p, se, n = (np.asarray(v, dtype=np.float64) for v in (p, se, n))
    with np.errstate(divide="ignore", invalid="ignore"):
        shrink = np.where(np.isinf(df), 1.0, t_quantile(np.maximum(n - 1, 1), level) / t_quantile(df, level))
        effective = np.where(se > 0, p * (1 - p) / np.square(se) * np.square(shrink), n)
    effective = np.clip(effective, 1e-9, n if cap_at_n else np.inf)
    return clopper_pearson(effective * p, effective, level)


def zero_count_bound(n: ArrayLike, level: float = 0.95) -> Floats:
    """One-sided upper bound of a rate of which n independent units show none: 1 - (1 - level)^(1/n).

    0 of 100 at 95 %: 2.95 % (the rule of three says 3 %).
    """
    check_level(level)
    n = np.maximum(np.asarray(n, dtype=np.float64), 1e-9)
    return np.asarray(1 - np.power(1 - level, 1 / n))


def check_level(level: float) -> None:
    """Raise unless 0 < level < 1."""
    if not 0 < level < 1:
        raise AccuracyError(f"confidence level {level} is outside (0, 1): give for example 0.95")


def _counts(k: ArrayLike, n: ArrayLike) -> tuple[Floats, Floats]:
    k, n = np.asarray(k, dtype=np.float64), np.asarray(n, dtype=np.float64)
    if np.any(n <= 0) or np.any(k < 0) or np.any(k > n * (1 + 1e-12)):
        raise AccuracyError(f"counts {k} of {n}: k must lie between 0 and n, and n above 0")
    return k, n
