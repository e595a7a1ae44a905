"""How the points of a stratum are given out between drawn cities, where the mapped ground of each is known.

With first-stage probabilities pi_i and n_i points in city i, a stratum adds sum_i a_i^2 / (pi_i n_i) to the variance of
a total on average, a_i = ground of the stratum x standard deviation of its errors. For a given expected number of
points this is least with n_i in proportion to a_i / pi_i (Neyman 1934; Cochran 1977, ch. 5 and 11). What is known of
the errors before anybody looked:

mapped, candidate   a_i ~ M_i          as much wrong per mapped ground everywhere
rest                a_i ~ sqrt(M_i A_i)  the rest of ground A_i holds missed villages in proportion to mapped M_i, so
                                       a share of them of M_i / A_i, with the standard deviation sqrt(M_i / A_i)

Equal numbers in cities drawn by size leave the rest strata of large cities thin, where each omission seen then stands
for very much ground. Weights follow the points drawn, so that estimates stay unbiased whatever was assumed here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from accuracy.arrays import Floats, Ints
from accuracy.errors import DrawError
from accuracy.survey.map_strata import STRATA

LEAST = 4
"""Points that every stratum of a city gets, so that its own variance can be estimated."""


def spread_points(
    mapped_m2: Floats, ground_m2: Floats, pi_city: Floats, mean: Mapping[str, int], *, least: int = LEAST
) -> dict[str, Ints]:
    """Points of every drawn city in every stratum, as many in all as ``mean`` in each city.

    Args:
        mapped_m2: float64 (n,), mapped ground of the drawn cities; 0 counts as a thousandth of the average share.
        ground_m2: float64 (n,), all ground of them.
        pi_city: float64 (n,), probabilities with which they were drawn.
        mean: Points per city on average, by stratum.
        least: Fewest points of a city in a stratum (``mean``, where that is less).

    Returns:
        int64 (n,) by stratum; sums are n times ``mean``.

    Raises:
        DrawError: A stratum is unknown, or a number is missing or not above 0.
    """
    unknown = sorted(set(mean) - set(STRATA))
    if unknown:
        raise DrawError(f"stratum {unknown[0]!r} is none of {', '.join(STRATA)}")
    for name, values in (("ground", ground_m2), ("probability", pi_city)):
        if not (np.isfinite(values) & (values > 0)).all():
            k = int(np.flatnonzero(~(np.isfinite(values) & (values > 0)))[0])
            raise DrawError(f"drawn city {k + 1} has a {name} of {values[k]:g}: it must be above 0")
    if not (np.isfinite(mapped_m2) & (mapped_m2 >= 0)).all() or not mapped_m2.sum() > 0:
        raise DrawError("mapped ground of the drawn cities must be numbers of 0 or more, one of them above")
    shown = np.maximum(mapped_m2, 1e-3 * mapped_m2.sum() / ground_m2.sum() * ground_m2)
    need = {"mapped": shown, "candidate": shown, "rest": np.sqrt(shown * ground_m2)}
    return {
        name: share_out(need[name] / pi_city, len(pi_city) * mean[name], least=min(least, mean[name])) for name in mean
    }


def share_out(need: Floats, total: int, *, least: int) -> Ints:
    """int64 (n,): whole numbers that sum to ``total``, in proportion to ``need`` but none below ``least``.

    Fractions go to the largest remainders, equal ones to the first.

    Raises:
        DrawError: ``total`` is less than ``least`` for each.
    """
    n = len(need)
    if total < least * n:
        raise DrawError(f"{total} points are fewer than {least} for each of {n} cities: ask for more")
    low = np.zeros(n, dtype=bool)
    while True:
        rate = (total - least * int(low.sum())) / need[~low].sum() if not low.all() else 0.0
        share = np.where(low, least, rate * need)
        more = ~low & (share < least)
        if not more.any():
            break
        low |= more
    whole = np.floor(share + 1e-9).astype(np.int64)
    rest = np.argsort(-(share - whole), kind="stable")[: total - int(whole.sum())]
    whole[rest] += 1
    return whole


def spread_over_cities(
    cities: pd.DataFrame, drawn: Mapping[str, float], mean: Mapping[str, int], *, source: str = "the cities' sizes"
) -> dict[str, dict[str, int]]:
    """`spread_points` from the table of `uvmap sample totals`: points by city and stratum.

    Args:
        cities: ``adcode``, ``mapped_m2``, ``unmapped_m2`` of every city.
        drawn: Probability of every drawn city, by key.
        mean: Points per city on average, by stratum.
        source: Name of the table, for messages.

    Raises:
        DrawError: A drawn city is not in the table, or a number is none.
    """
    missing = [c for c in ("adcode", "mapped_m2", "unmapped_m2") if c not in cities.columns]
    if missing:
        raise DrawError(f"{source}: no column {missing[0]!r}; write the table with `uvmap sample totals`")
    known = cities.assign(adcode=cities["adcode"].astype(str)).drop_duplicates("adcode").set_index("adcode")
    absent = [c for c in drawn if c not in known.index]
    if absent:
        raise DrawError(f"{source}: drawn city {absent[0]!r} is not there ({len(absent)} such): measure all cities")
    rows = known.loc[list(drawn)]
    mapped, other = (
        pd.to_numeric(rows[c], errors="coerce").to_numpy(dtype=np.float64) for c in ("mapped_m2", "unmapped_m2")
    )
    got = spread_points(mapped, mapped + other, np.array(list(drawn.values()), dtype=np.float64), mean)
    return {city: {name: int(n[k]) for name, n in got.items()} for k, city in enumerate(drawn)}
