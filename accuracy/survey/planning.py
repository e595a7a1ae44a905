"""How many points, where: sample sizes for any ratio, allocation, two stages.

Formulas: Olofsson et al. 2014 eq. 13 and its combined-ratio form for any measure; Neyman and cost-weighted
allocation (Cochran 1977, ch. 5); two stages with an intra-city correlation (Cochran 1977, ch. 10).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from accuracy.arrays import Floats
from accuracy.errors import PlanningError
from accuracy.measures import MEASURES

Allocation = Literal["proportional", "neyman", "cost", "equal", "fixed_minimum"]
ALLOCATIONS: tuple[Allocation, ...] = get_args(Allocation)


@dataclass(frozen=True, kw_only=True)
class ExpectedStratum:
    """What is guessed of a stratum before sampling.

    Attributes:
        name: Its name.
        share: Share of the area, 0 to 1.
        mapped: Whether the map says urban village there.
        true_share: Share of it that is truly urban village (user's accuracy, or the omission rate).
    """

    name: str
    share: float
    mapped: bool
    true_share: float


def expected_measure(strata: Sequence[ExpectedStratum], measure: str) -> float:
    """The measure's value if the guesses are right."""
    cells = _cells(strata)
    return _ratio(cells, _shares(strata), measure)[0]


def ratio_sd(strata: Sequence[ExpectedStratum], measure: str) -> Floats:
    """float64 (H,): SD of (y - R x) / Xbar in each stratum, the S_i to put into `sample_size` and `allocate`.

    Raises:
        PlanningError: Shares do not sum to 1, a guess lies outside [0, 1], or the measure's denominator is 0.
    """
    cells, shares = _cells(strata), _shares(strata)
    value, y, x = _ratio(cells, shares, measure)
    xbar = float(shares @ (cells @ x))
    d = y - value * x
    mean = cells @ d
    return np.asarray(np.sqrt(np.maximum(cells @ np.square(d) - np.square(mean), 0)) / xbar)


def sample_size(
    shares: Sequence[float], sd: Sequence[float], target_se: float, *, population: float | None = None
) -> float:
    """Points for a target standard error under optimal allocation (Olofsson et al. 2014, eq. 13); round up yourself.

    n = (sum W S)^2 / (SE^2 + sum W S^2 / N)

    Raises:
        PlanningError: The target is not above 0.
    """
    if not target_se > 0:
        raise PlanningError(f"--target-se {target_se} must be above 0")
    W, S = np.asarray(shares, dtype=float), np.asarray(sd, dtype=float)
    correction = 0.0 if population is None else float(W @ np.square(S)) / population
    return float(W @ S) ** 2 / (target_se**2 + correction)


def planned_se(shares: Sequence[float], sd: Sequence[float], n: Sequence[float]) -> float:
    """Standard error of an allocation: sqrt(sum W^2 S^2 / n)."""
    W, S, points = (np.asarray(v, dtype=float) for v in (shares, sd, n))
    if ((points <= 0) & (W * S > 0)).any():
        raise PlanningError("a stratum with spread gets no point: its part of the error is unbounded")
    return math.sqrt(float(np.sum(np.square(W * S) / np.maximum(points, 1e-12))))


def allocate_real(
    n: float,
    shares: Sequence[float],
    sd: Sequence[float] | None = None,
    *,
    method: Allocation,
    minimum: int = 50,
    cost: Sequence[float] | None = None,
) -> Floats:
    """Points per stratum before rounding, float64 (H,), in the order of the strata.

    ``proportional`` n W; ``neyman`` ~ W S; ``cost`` ~ W S / sqrt(cost); ``equal``; ``fixed_minimum`` gives every
    stratum whose proportional part is smaller the minimum, and the rest in proportion.

    Raises:
        PlanningError: Something that the method needs is missing, or the minima exceed n.
    """
    W = np.asarray(shares, dtype=float)
    if method == "proportional":
        return np.asarray(n * W / W.sum())
    if method == "equal":
        return np.full(len(W), n / len(W))
    if method == "fixed_minimum":
        return _fixed_minimum(n, W, minimum)
    if sd is None or (method == "cost" and cost is None):
        raise PlanningError(f"allocation {method!r} needs the strata's {'costs' if sd is not None else 'spread (sd)'}")
    parts = W * np.asarray(sd, dtype=float)
    if method == "cost":
        parts = parts / np.sqrt(np.asarray(cost, dtype=float))
    if parts.sum() <= 0:
        raise PlanningError("no stratum has any spread, so nothing can be optimised: use proportional")
    return np.asarray(n * parts / parts.sum())


def allocate(
    n: int,
    shares: Sequence[float],
    sd: Sequence[float] | None = None,
    *,
    method: Allocation,
    minimum: int = 50,
    cost: Sequence[float] | None = None,
    sizes: Sequence[int] | None = None,
) -> list[int]:
    """Whole points per stratum that sum to n (largest remainders), at most ``sizes`` and at least 2 where it exists.

    Raises:
        PlanningError: As `allocate_real`, or n exceeds the population.
    """
    real = allocate_real(n, shares, sd, method=method, minimum=minimum, cost=cost)
    top = np.full(len(real), np.inf) if sizes is None else np.asarray(sizes, dtype=float)
    if top.sum() < n:
        raise PlanningError(f"{n} points of {int(top.sum())} units: ask for fewer")
    least = np.minimum(2, top)
    if least.sum() > n:
        raise PlanningError(f"{n} points for {len(real)} strata: at least 2 in each are needed for a variance")
    whole = np.clip(np.floor(real), least, top)
    while whole.sum() != n:
        more = whole.sum() < n
        gap = np.where(whole < top, real - whole, -np.inf) if more else np.where(whole > least, whole - real, -np.inf)
        whole[int(np.argmax(gap))] += 1 if more else -1
    return [int(v) for v in whole]


def design_effect(points_per_city: float, rho: float) -> float:
    """Deff = 1 + (m - 1) rho."""
    return 1 + (points_per_city - 1) * rho


def best_points_per_city(cost_ratio: float, rho: float) -> float:
    """M = sqrt(c1 / c2 (1 - rho) / rho), with a city costing c1 and a point c2."""
    if not (cost_ratio > 0 and 0 < rho < 1):
        raise PlanningError(f"--city-cost {cost_ratio} must be above 0 and --rho {rho} in (0, 1)")
    return math.sqrt(cost_ratio * (1 - rho) / rho)


@dataclass(frozen=True, kw_only=True)
class TwoStageSize:
    """A two-stage plan.

    Attributes:
        cities: Cities to draw.
        points_per_city: Points in each.
        points: All points.
        deff: Design effect.
        floor_se: Standard error that these cities cannot go below with any number of points.
    """

    cities: int
    points_per_city: int
    points: int
    deff: float
    floor_se: float


def two_stage_size(
    points_srs: float, *, target_se: float, rho: float, points_per_city: int, cities_in_frame: int | None = None
) -> TwoStageSize:
    """Cities and points for the precision that ``points_srs`` independent points would have.

    Args:
        points_srs: From `sample_size`.
        target_se: The target it was made for.
        rho: Intra-city correlation of the linearised values.
        points_per_city: Points in each city.
        cities_in_frame: Upper limit; None for no limit.

    Raises:
        PlanningError: More cities are needed than there are.
    """
    deff = design_effect(points_per_city, rho)
    cities = max(2, math.ceil(points_srs * deff / points_per_city))
    if cities_in_frame is not None and cities > cities_in_frame:
        raise PlanningError(
            f"{cities} cities are needed at {points_per_city} points each, the frame has {cities_in_frame}: take more"
            " points per city or a wider target"
        )
    floor = target_se * math.sqrt(points_srs * rho / cities)
    return TwoStageSize(
        cities=cities,
        points_per_city=points_per_city,
        points=cities * points_per_city,
        deff=deff,
        floor_se=floor,
    )


@dataclass(frozen=True, kw_only=True)
class CityPlan:
    """Cities and their points for a target.

    Attributes:
        cities: Cities to draw at random.
        points: Points per city in each stratum.
        se: Standard error of this plan.
        floor_se: Standard error that these cities cannot go below with any number of points.
    """

    cities: int
    points: tuple[int, ...]
    se: float
    floor_se: float


def plan_cities(
    strata: Sequence[ExpectedStratum],
    measure: str,
    *,
    target_se: float,
    points: Sequence[int],
    error_cv: float = 0.4,
    city_cv: float = 0.5,
) -> CityPlan:
    """Cities for a target standard error, with so many points per city in each stratum.

    Errors of points of one stratum and city are alike because cities' error rates q differ: by a coefficient of
    variation ``error_cv`` their correlation is q error_cv^2 / (1 - q), next to nothing where errors are rare. With W, S
    as in `sample_size` and cities of sizes that vary by ``city_cv``

        n = (1 + city_cv^2) sum_h W_h^2 S_h^2 (1/m_h + rho_h) / SE^2

    One correlation for all points of a city would let the rest stratum, which is nearly all ground and hardly has
    errors, ask for several times as many cities.

    Raises:
        PlanningError: The target is not above 0, a stratum with errors gets no point, or a spread is negative.
    """
    if not target_se > 0 or error_cv < 0 or city_cv < 0:
        raise PlanningError(
            f"--target-se {target_se:g} must be above 0, --error-cv {error_cv:g} and --city-cv {city_cv:g} not below"
        )
    W, S = _shares(strata), ratio_sd(strata, measure)
    m = np.asarray(points, dtype=float)
    if ((m < 1) & (W * S > 0)).any():
        raise PlanningError("a stratum with spread gets no point: its part of the error is unbounded")
    q = np.array([1 - s.true_share if s.mapped else s.true_share for s in strata])
    rho = np.minimum(q * error_cv**2 / np.maximum(1 - q, 1e-9), 1.0)
    spread = np.square(W * S) * (1 + city_cv**2)
    one, between = float(spread @ (1 / np.maximum(m, 1) + rho)), float(spread @ rho)
    cities = max(2, math.ceil(one / target_se**2 - 1e-9))
    return CityPlan(
        cities=cities,
        points=tuple(int(k) for k in points),
        se=math.sqrt(one / cities),
        floor_se=math.sqrt(between / cities),
    )


def _fixed_minimum(n: float, W: Floats, minimum: int) -> Floats:
    if minimum * len(W) > n:
        raise PlanningError(f"{minimum} points in each of {len(W)} strata exceed {n:g}: lower --minimum")
    fixed = np.zeros(len(W), dtype=bool)
    while True:
        rest = n - minimum * fixed.sum()
        parts = np.where(fixed, minimum, rest * W / max(W[~fixed].sum(), 1e-300))
        small = ~fixed & (parts < minimum)
        if not small.any():
            return np.asarray(parts, dtype=np.float64)
        fixed |= small


def _shares(strata: Sequence[ExpectedStratum]) -> Floats:
    shares = np.array([s.share for s in strata], dtype=float)
    if abs(shares.sum() - 1) > 1e-6 or (shares < 0).any():
        raise PlanningError(f"shares of the strata sum to {shares.sum():g}: they must be >= 0 and sum to 1")
    return shares


def _cells(strata: Sequence[ExpectedStratum]) -> Floats:
    bad = [s for s in strata if not 0 <= s.true_share <= 1]
    if bad:
        raise PlanningError(f"stratum {bad[0].name!r}: true share {bad[0].true_share} lies outside [0, 1]")
    return np.array(
        [(s.true_share, 1 - s.true_share, 0, 0) if s.mapped else (0, 0, s.true_share, 1 - s.true_share) for s in strata]
    )


def _ratio(cells: Floats, shares: Floats, measure: str) -> tuple[float, Floats, Floats]:
    if measure not in MEASURES or MEASURES[measure].total:
        raise PlanningError(f"measure {measure!r} is no ratio of {', '.join(MEASURES)}")
    y, x = np.array(MEASURES[measure].numerator), np.array(MEASURES[measure].denominator)
    bottom = float(shares @ (cells @ x))
    if bottom <= 0:
        raise PlanningError(f"{measure} has a denominator of 0 under these guesses")
    return float(shares @ (cells @ y)) / bottom, y, x
