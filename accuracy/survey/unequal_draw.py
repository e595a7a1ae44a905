"""Draws without replacement with unequal probabilities: the design of largest entropy, and cities by size.

Rejective sampling of fixed size n is the Poisson sample of n units: P(s) is proportional to the product of the odds
o_i of its units (Hájek 1964; Chen, Dempster & Liu 1994; Tillé 2006, ch. 5). Inclusion probabilities of given odds are
ratios of sums of products of odds, odds for given probabilities come from fixed-point steps. Of all designs with these
probabilities it has the largest entropy, which is what the variances of Brewer and Hájek assume.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from accuracy.arrays import Bools, Floats, Ints
from accuracy.errors import DrawError
from accuracy.survey.drawing import draw_growing, make_generator

STEPS = 2000
CLOSE = 1e-10


def make_probabilities(size: Floats, n: int) -> Floats:
    """float64 (N,): inclusion probabilities n x / sum x; units that would exceed 1 are certainties, again and again.

    Raises:
        DrawError: More units are asked than have a size above 0, or a size is negative.
    """
    x = np.asarray(size, dtype=np.float64)
    if not np.isfinite(x).all() or (x < 0).any():
        raise DrawError("sizes must be numbers of 0 or more")
    if n > int((x > 0).sum()):
        raise DrawError(f"{n} units asked of {int((x > 0).sum())} with a size above 0: ask for fewer")
    certain = np.zeros(len(x), dtype=bool)
    while True:
        left = n - int(certain.sum())
        if left <= 0:
            return certain.astype(np.float64)
        pi = np.where(certain, 1.0, left * x / x[~certain].sum())
        more = ~certain & (pi >= 1)
        if not more.any():
            return pi
        certain |= more


def rejective_probabilities(odds: Floats, n: int) -> Floats:
    """float64 (N,): inclusion probabilities of the rejective design of n units with these odds."""
    head, tail = _sums_of_products(odds[::-1], n)[::-1], _sums_of_products(odds, n)
    without = np.einsum("ik,ik->i", head[:-1, :n], tail[1:, n - 1 :: -1][:, :n])
    return np.asarray(odds * without / tail[0, n])


def rejective_odds(pi: Floats) -> Floats:
    """float64 (N,): odds whose rejective design has these inclusion probabilities (all inside (0, 1), sum whole)."""
    n = round(float(pi.sum()))
    wanted = special.logit(pi)
    logit, step, last = wanted.copy(), 1.0, np.inf
    for _ in range(STEPS):
        found = rejective_probabilities(np.exp(logit), n)
        gap = float(np.abs(found - pi).max())
        if gap < CLOSE:
            return np.asarray(np.exp(logit))
        if gap > 0.9 * last:  # steps to and fro: few units that are not drawn
            step = max(step / 2, 0.05)
        last = gap
        logit += step * (wanted - special.logit(np.clip(found, 1e-300, 1 - 1e-16)))
        logit -= logit.mean() - wanted.mean()  # odds have no scale of their own
    raise DrawError(f"no design of {n} of {len(pi)} units has these probabilities ({pi.min():g} to {pi.max():g})")


def _sums_of_products(odds: Floats, n: int) -> Floats:
    """float64 (N + 1, n + 1): [i, k] sums the product of the odds over all choices of k of the units i, i + 1, ..."""
    sums = np.zeros((len(odds) + 1, n + 1))
    sums[:, 0] = 1
    for i in range(len(odds) - 1, -1, -1):
        sums[i, 1:] = sums[i + 1, 1:] + odds[i] * sums[i + 1, :-1]
    return sums


def draw_rejective(pi: Floats, rng: np.random.Generator) -> Ints:
    """int64 (n,): one sample with these inclusion probabilities (sum n), in the order of the units.

    Units of probability 1 are always in, of 0 never.
    """
    inside = np.flatnonzero((pi > 0) & (pi < 1 - 1e-12))
    certain = np.flatnonzero(pi >= 1 - 1e-12)
    n = round(float(pi[inside].sum()))
    if n == 0 or len(inside) == n:
        return np.sort(np.concatenate([certain, inside if n else inside[:0]])).astype(np.int64)
    odds = rejective_odds(pi[inside])
    tail = _sums_of_products(odds, n)
    taken, left = [], n
    for i, u in enumerate(rng.random(len(odds))):
        if left and u * tail[i, left] < odds[i] * tail[i + 1, left - 1]:
            taken.append(i)
            left -= 1
    return np.sort(np.concatenate([certain, inside[np.array(taken, dtype=np.int64)]])).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class CityDraw:
    """How cities are drawn beside `draw_cities`: with certainties, in proportion to size, or both.

    Attributes:
        seed: Seed; the draw of a region depends on it, the region's name and its cities.
        per_region: Random cities per region beside the certainties, one number or by name.
        certainty: Keys of cities that are in the sample whatever is drawn.
        size: Size of every city by key, or None for equal probabilities.
    """

    seed: int
    per_region: int | Mapping[str, int]
    certainty: Collection[str] = ()
    size: Mapping[str, float] | None = None


def draw_unequal_cities(frame: pd.DataFrame, draw: CityDraw) -> pd.DataFrame:
    """Draw cities without replacement within regions, certainties beside them; every city with its probability.

    Args:
        frame: All cities: ``adcode``, ``region``.
        draw: What is drawn.

    Returns:
        The drawn rows with ``N_city``, ``n_city``, ``pi_city``, ``size`` (where there is one), by region and key.

    Raises:
        DrawError: A certainty or a region is unknown, a city repeats or has no size, or nothing is asked of a region.
    """
    repeated = frame["adcode"][frame["adcode"].duplicated()]
    if len(repeated):
        raise DrawError(f"city {repeated.iloc[0]!r} is in the frame twice: keep one row per city")
    unknown = sorted(set(draw.certainty) - set(frame["adcode"]))
    if unknown:
        raise DrawError(f"certainty {unknown[0]!r} is no city of the frame ({len(unknown)} such): correct the list")
    sizes = _sizes(frame, draw.size)
    regions = sorted(map(str, frame["region"].unique()))
    wanted = dict.fromkeys(regions, draw.per_region) if isinstance(draw.per_region, int) else dict(draw.per_region)
    strange = sorted(set(wanted) - set(regions))
    if strange:
        raise DrawError(f"region {strange[0]!r} is not in the frame ({', '.join(regions)})")
    parts = []
    for region in regions:
        rows = frame[frame["region"].astype(str) == region].assign(size=sizes).sort_values("adcode")
        certain = rows["adcode"].isin(set(draw.certainty)).to_numpy()
        pi, picked = _draw_region(rows["size"].to_numpy(), certain, wanted.get(region, 0), region, draw)
        parts.append(rows.assign(N_city=len(rows), n_city=len(picked), pi_city=pi).iloc[picked])
    drawn = pd.concat(parts, ignore_index=True)
    return drawn.drop(columns="size") if draw.size is None else drawn


def _draw_region(size: Floats, certain: Bools, wanted: int, region: str, draw: CityDraw) -> tuple[Floats, Ints]:
    free = np.flatnonzero(~certain)
    n = min(wanted, len(free))
    pi = certain.astype(np.float64)
    if n == 0 and len(free):
        raise DrawError(
            f"region {region!r} has {len(free)} cities that are no certainties and gets no random one, so most of its"
            " ground would be unassessed: ask for at least 1, better 2"
        )
    rng = make_generator(draw.seed, "cities", region)
    if draw.size is None:  # equal probabilities grow with n, as in `draw_cities`
        pi[free] = n / len(free) if len(free) else 0.0
        picked = free[draw_growing(len(free), n, rng)] if n else free[:0]
    else:
        pi[free] = make_probabilities(size[free], n)
        picked = free[draw_rejective(pi[free], rng)]
    return pi, np.sort(np.concatenate([np.flatnonzero(certain), picked])).astype(np.int64)


def _sizes(frame: pd.DataFrame, size: Mapping[str, float] | None) -> pd.Series:
    if size is None:
        return pd.Series(1.0, index=frame.index)
    absent = [c for c in frame["adcode"] if c not in size]
    if absent:
        raise DrawError(f"city {absent[0]!r} has no size ({len(absent)} such): measure all with `uvmap sample totals`")
    sizes = frame["adcode"].map(size).astype(float)
    bad = frame["adcode"][~(np.isfinite(sizes) & (sizes > 0))]
    if len(bad):
        raise DrawError(
            f"city {bad.iloc[0]!r} has a size of {sizes[bad.index[0]]:g} ({len(bad)} such): it could never be drawn, so"
            " its ground would be unassessed. Give every city a size above 0"
        )
    return sizes


def size_of_cities(cities: pd.DataFrame, *, floor: float) -> dict[str, float]:
    """Size by which cities are drawn: mapped ground, plus ``floor`` times what their ground would hold on average.

    Mapped ground alone would leave cities where everything was missed almost without a chance, and give their few
    points great weights.

    Args:
        cities: ``adcode``, ``mapped_m2``, ``unmapped_m2`` of every city, as `uvmap sample totals` writes them.
        floor: Share of the average added, above 0.

    Raises:
        DrawError: A column is missing or no number, or the floor is not above 0.
    """
    if not floor > 0:
        raise DrawError(f"--size-floor {floor:g} must be above 0: else cities without mapped ground cannot be drawn")
    for column in ("adcode", "mapped_m2", "unmapped_m2"):
        if column not in cities.columns:
            raise DrawError(f"the cities' sizes have no column {column!r}: write them with `uvmap sample totals`")
    mapped, other = (
        pd.to_numeric(cities[c], errors="coerce").to_numpy(dtype=float) for c in cities[["mapped_m2", "unmapped_m2"]]
    )
    if not np.isfinite(mapped + other).all() or (mapped + other <= 0).any():
        row = int(np.flatnonzero(~(mapped + other > 0))[0])
        raise DrawError(f"row {row + 1} of the cities' sizes has no ground: give numbers of m² above 0")
    share = mapped.sum() / (mapped + other).sum()
    sizes = mapped + floor * share * (mapped + other)
    return {str(k): float(v) for k, v in zip(cities["adcode"], sizes, strict=True)}
