"""Building form by region: differences of villages and surroundings, with cities as the replicates.

A city gives one pair (villages, surroundings) per measure. The mean difference of a region's cities has a t interval;
the standardised effect is Hedges' g of paired differences (mean by standard deviation, corrected for small numbers:
Hedges 1981). A regional gradient is the difference of regions'
mean differences, tested by one-way analysis of variance of the cities' differences (Welch 1951, since spreads differ).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special, stats

from pipeline.analysis.form import FORM_MEASURES
from pipeline.analysis.options import AnalysisOptions
from pipeline.analysis.places import nation_and_regions

LEAST_PAIRS = 3


def tabulate_effects(form: pd.DataFrame, options: AnalysisOptions) -> pd.DataFrame:
    """Differences between villages and surroundings, of the nation and each region.

    Args:
        form: One row per city: ``region``, and ``{measure}_in`` and ``{measure}_out`` of every measure.
        options: Level.

    Returns:
        ``measure``, ``name``, ``cities`` (with both sides known), ``unknown`` (cities without), ``inside``,
        ``outside`` (means of cities), ``difference``, ``low``, ``high``, ``p`` (two-sided t), ``effect`` (Hedges' g),
        ``effect_low``, ``effect_high``; NaN where fewer than three cities are known.
    """
    rows = []
    for measure in [m for m in FORM_MEASURES if f"{m}_in" in form.columns]:
        for name, group in nation_and_regions(form):
            inside, outside = (group[f"{measure}_{s}"].to_numpy(dtype=float) for s in ("in", "out"))
            known = np.isfinite(inside) & np.isfinite(outside)
            own = {"measure": measure, "name": name, "cities": int(known.sum()), "unknown": int((~known).sum())}
            rows.append(own | _paired(inside[known], outside[known], options.level))
    return pd.DataFrame(rows)


def tabulate_gradients(form: pd.DataFrame) -> pd.DataFrame:
    """Whether the differences themselves differ between regions.

    Returns:
        ``measure``, ``regions`` (with at least three cities known), ``f``, ``df``, ``df_within``, ``p``, ``largest``
        and ``smallest`` (regions of the largest and smallest mean difference).
    """
    rows = []
    for measure in [m for m in FORM_MEASURES if f"{m}_in" in form.columns]:
        gap = form[f"{measure}_in"].astype(float) - form[f"{measure}_out"].astype(float)
        groups = {str(n): g.dropna().to_numpy(dtype=float) for n, g in gap.groupby(form["region"], sort=True)}
        groups = {n: g for n, g in groups.items() if len(g) >= LEAST_PAIRS and np.ptp(g) > 0}
        if len(groups) < 2:
            continue
        f, df, within, p = welch_anova(list(groups.values()))
        means = {n: float(g.mean()) for n, g in groups.items()}
        rows.append(
            {
                "measure": measure,
                "regions": len(groups),
                "f": f,
                "df": df,
                "df_within": within,
                "p": p,
                "largest": max(means, key=lambda n: means[n]),
                "smallest": min(means, key=lambda n: means[n]),
            }
        )
    columns = ["measure", "regions", "f", "df", "df_within", "p", "largest", "smallest"]
    return pd.DataFrame(rows, columns=columns)


def welch_anova(groups: Sequence[NDArray[Any]]) -> tuple[float, int, float, float]:
    """F, degrees of freedom between and within, p of Welch's analysis of variance (Welch 1951, Biometrika 38, 330)."""
    n = np.array([len(g) for g in groups], dtype=float)
    mean = np.array([g.mean() for g in groups])
    weight = n / np.array([g.var(ddof=1) for g in groups])
    total = weight.sum()
    centre = (weight * mean).sum() / total
    k = len(groups)
    spread = (np.square(1 - weight / total) / (n - 1)).sum()
    f = (weight * np.square(mean - centre)).sum() / (k - 1) / (1 + 2 * (k - 2) / (k**2 - 1) * spread)
    within = (k**2 - 1) / (3 * spread)
    return float(f), k - 1, float(within), float(stats.f.sf(f, k - 1, within))


def hedges_g(difference: NDArray[np.float64], level: float) -> tuple[float, float, float]:
    """Hedges' g of paired differences, low and high end: variance 1 / n + g^2 / 2n (Borenstein et al. 2009, ch. 4)."""
    n = len(difference)
    df = n - 1
    small = float(np.exp(special.gammaln(df / 2) - special.gammaln((df - 1) / 2)) * np.sqrt(2 / df))
    g = float(difference.mean() / difference.std(ddof=1)) * small
    reach = float(stats.norm.ppf((1 + level) / 2)) * float(np.sqrt(1 / n + g**2 / (2 * n))) * small
    return g, g - reach, g + reach


def _paired(inside: NDArray[np.float64], outside: NDArray[np.float64], level: float) -> dict[str, float]:
    names = ("inside", "outside", "difference", "low", "high", "p", "effect", "effect_low", "effect_high")
    out = dict.fromkeys(names, float("nan"))
    n = len(inside)
    if n == 0:
        return out
    gap = inside - outside
    out |= {"inside": float(inside.mean()), "outside": float(outside.mean()), "difference": float(gap.mean())}
    if n < LEAST_PAIRS or np.ptp(gap) == 0:
        return out
    se = float(gap.std(ddof=1) / np.sqrt(n))
    reach = float(stats.t.ppf((1 + level) / 2, n - 1)) * se
    g, low, high = hedges_g(gap, level)
    return out | {
        "low": out["difference"] - reach,
        "high": out["difference"] + reach,
        "p": float(2 * stats.t.sf(abs(out["difference"] / se), n - 1)),
        "effect": g,
        "effect_low": low,
        "effect_high": high,
    }
