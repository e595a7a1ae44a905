"""How alike the map's errors are within a city: intra-city correlation, design effects, join counts.

The design variance already holds this likeness where cities are the primary units, so nothing here corrects a standard
error. It says what was lost by clustering and what the next draw should assume (`accuracy.survey.planning`).

With e = 1 where map and reference differ, in one second-stage stratum, m_i points in city i of k cities in H regions:

MSB = sum_hi m_hi (mean_hi - mean_h)^2 / (k - H)        MSW = sum_hi sum (e - mean_hi)^2 / (n - k)
m0  = (n - sum_h sum_i m_hi^2 / n_h) / (k - H)          rho = (MSB - MSW) / (MSB + (m0 - 1) MSW)

which is the analysis-of-variance estimator (Donner & Koval 1980) within regions, and 1 + (n/k - 1) rho the design
effect of that clustering (Kish 1965). Join counts (Cliff & Ord 1981) count neighbouring points that are both wrong;
their expectation is over all ways to lay a cell's errors on its points, a cell being city x second-stage stratum, so
that neither the different rates of cities nor those of strata count as likeness in space.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from accuracy.arrays import Bools, Floats, Ints, SampleArrays
from accuracy.errors import DesignError
from accuracy.estimation.estimation import WHOLE
from accuracy.estimation.options import EstimateOptions
from accuracy.estimation.table_estimates import estimate_table
from accuracy.survey.sample import ReferenceSample

LAYOUT_POINTS = 30_000_000  # points of all layouts behind a p value: 1,000 of 30,000 points, 99 of a million
MIN_LAYOUTS = 99
METRES_PER_DEGREE = 111_320.0


@dataclass(frozen=True, kw_only=True)
class AutocorrelationReport:
    """Likeness of errors.

    Attributes:
        strata: One row per second-stage stratum and one, ``all``, for joins across strata: ``stratum``, ``n_points``,
            ``n_cities``, ``error_rate`` (of points, unweighted), ``rho``, ``deff`` (1 + (n/k - 1) rho; both NaN for
            ``all`` and where nothing varies), ``joins`` (pairs of neighbours), ``both_wrong``,
            ``both_wrong_expected``, ``p_value`` (one-sided, more than chance).
        measures: One row per measure: ``measure``, ``se`` of the primary variance, ``deff`` (against simple random
            sampling of as many points), ``deff_cities`` (against the cities taken as fixed, that is points as
            independent within cities; NaN where the primary variance is that one, and for what points of a city cannot
            vary, such as its mapped area).
        notes: What could not be computed.
    """

    strata: pd.DataFrame
    measures: pd.DataFrame
    notes: tuple[str, ...]


def measure_autocorrelation(
    sample: ReferenceSample,
    options: EstimateOptions | None = None,
    *,
    neighbours: int = 4,
    permutations: int = 999,
    seed: int = 0,
) -> AutocorrelationReport:
    """Say how alike errors are within cities and between neighbouring points.

    Args:
        sample: The labelled sample; a GeoDataFrame with points for the join counts.
        options: Measures of which design effects are shown, and the rule for single units; None for the defaults.
        neighbours: Joins go from each point to so many nearest ones of its city (and stratum, in a stratum's row).
        permutations: Random layouts behind the p value.
        seed: Their seed.

    Raises:
        DesignError: A single-stage sample has no cities; ``neighbours`` or ``permutations`` below 1.
        AccuracyError: The table is wrong; see `estimate_table`.
    """
    if sample.design.psu is None:
        raise DesignError("a single-stage sample has no cities within which errors could be alike: give --psu")
    if neighbours < 1 or permutations < 1:
        raise DesignError(f"neighbours {neighbours} and permutations {permutations} must be at least 1")
    arrays = sample.arrays
    wrong = sample.mapped != sample.reference
    second = sample.second
    places, notes = _places_m(sample, arrays)
    rng = np.random.default_rng(seed)
    rows = []
    for name in [*sorted(set(second)), None]:
        here = np.ones(len(wrong), dtype=bool) if name is None else second == name
        rho, deff = (math.nan, math.nan) if name is None else intra_city_correlation(arrays, wrong, here)
        row: dict[str, Any] = {
            "stratum": WHOLE if name is None else name,
            "n_points": int(here.sum()),
            "n_cities": len(np.unique(arrays.psu[here])),
            "error_rate": float(wrong[here].mean()),
            "rho": rho,
            "deff": deff,
        }
        if places is not None:
            groups = arrays.psu if name is None else arrays.cell
            pairs = find_neighbour_pairs(places[here], groups[here], neighbours)
            row |= count_joins(wrong[here], arrays.cell[here], pairs, permutations=permutations, rng=rng)
        rows.append(row)
    return AutocorrelationReport(
        strata=pd.DataFrame(rows), measures=_design_effects(sample, options or EstimateOptions()), notes=notes
    )


def intra_city_correlation(arrays: SampleArrays, wrong: Bools, here: Bools) -> tuple[float, float]:
    """Correlation rho and 1 + (n/k - 1) rho of the points under ``here``; NaN where no error or no spread can be seen.

    Args:
        arrays: The design.
        wrong: bool (n,), errors.
        here: bool (n,), points of one second-stage stratum.
    """
    _, city = np.unique(arrays.psu[here], return_inverse=True)
    region = np.unique(arrays.stratum[here], return_inverse=True)[1]
    e = wrong[here].astype(np.float64)
    m = np.bincount(city).astype(np.float64)
    n, k = len(e), len(m)
    region_of_city = np.zeros(k, dtype=np.int64)
    region_of_city[city] = region
    size = np.bincount(region).astype(np.float64)
    between_df, within_df = k - len(size), n - k
    if between_df < 1 or within_df < 1:
        return math.nan, math.nan
    mean = np.bincount(city, e) / m
    overall = np.bincount(region, e) / size
    msb = float(m @ np.square(mean - overall[region_of_city])) / between_df
    msw = float(np.square(e - mean[city]).sum()) / within_df
    m0 = (n - float(np.sum(np.square(m) / size[region_of_city]))) / between_df
    bottom = msb + (m0 - 1) * msw
    if bottom <= 0:
        return math.nan, math.nan
    rho = (msb - msw) / bottom
    return rho, 1 + (n / k - 1) * rho


def find_neighbour_pairs(places: Floats, groups: Ints, neighbours: int) -> Ints:
    """int64 (pairs, 2), i < j: each point with its nearest ones of the same group, every pair once.

    Args:
        places: float64 (n, 2), metres; only distances within a group matter.
        groups: int64 (n,).
        neighbours: Nearest points per point, fewer in smaller groups.
    """
    found = [np.empty((0, 2), dtype=np.int64)]
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        k = min(neighbours, len(members) - 1)
        if k < 1:
            continue
        _, near = KDTree(places[members]).query(places[members], k=k + 1)
        itself = near == np.arange(len(members))[:, None]
        itself[~itself.any(axis=1), -1] = True  # more than k points at one place: drop the last one found
        size = np.int64(len(members))
        ends = np.sort(np.stack([np.repeat(np.arange(size), k), near[~itself]], axis=1))
        once = np.sort(ends[:, 0] * size + ends[:, 1])
        once = once[np.append(True, np.diff(once) > 0)]
        found.append(members[np.stack(np.divmod(once, size), axis=1)])
    return np.concatenate(found)


def count_joins(
    wrong: Bools, cell: Ints, pairs: Ints, *, permutations: int, rng: np.random.Generator
) -> dict[str, float]:
    """Pairs that are both wrong, as found, as expected, and how often chance gives so many.

    Args:
        wrong: bool (n,), errors.
        cell: int64 (n,), within which errors may lie on any point.
        pairs: int64 (pairs, 2).
        permutations: Layouts drawn for the p value (found + 1) / (permutations + 1); fewer for a great many points.
        rng: Their source.
    """
    a, b = pairs[:, 0], pairs[:, 1]
    found = int((wrong[a] & wrong[b]).sum())
    _, cell = np.unique(cell, return_inverse=True)
    n, k = np.bincount(cell).astype(np.float64), np.bincount(cell, wrong)
    together = (k * (k - 1) / np.maximum(n * (n - 1), 1))[cell[a]]
    apart = (k / n)[cell[a]] * (k / n)[cell[b]]
    expected = float(np.where(cell[a] == cell[b], together, apart).sum())
    order = np.argsort(cell, kind="stable")
    ends = np.cumsum(n).astype(np.int64)
    permutations = max(MIN_LAYOUTS, min(permutations, LAYOUT_POINTS // max(1, len(wrong))))
    reached = 0
    laid, sorted_wrong = np.empty_like(wrong), wrong[order]
    for _ in range(permutations):
        for first, end in zip(ends - n.astype(np.int64), ends, strict=True):
            rng.shuffle(sorted_wrong[first:end])
        laid[order] = sorted_wrong
        reached += int((laid[a] & laid[b]).sum()) >= found
    return {
        "joins": len(pairs),
        "both_wrong": found,
        "both_wrong_expected": expected,
        "p_value": (reached + 1) / (permutations + 1) if len(pairs) else math.nan,
    }


def _places_m(sample: ReferenceSample, arrays: SampleArrays) -> tuple[Floats | None, tuple[str, ...]]:
    """float64 (n, 2), metres east and north within each city, or None with the reason."""
    table = sample.labelled
    if not isinstance(table, gpd.GeoDataFrame) or table.geometry.isna().any() or table.crs is None:
        return None, ("no join counts: the table has no geometry with a CRS for every point",)
    places = table.geometry if table.crs == "EPSG:4326" else table.geometry.to_crs("EPSG:4326")
    if not (places.geom_type == "Point").all():
        places = places.representative_point()
    lon, lat = places.x.to_numpy(), places.y.to_numpy()
    middle = np.bincount(arrays.psu, lat) / np.bincount(arrays.psu)
    east = lon * np.cos(np.radians(middle))[arrays.psu]
    return METRES_PER_DEGREE * np.stack([east, lat], axis=1), ()


def _design_effects(sample: ReferenceSample, options: EstimateOptions) -> pd.DataFrame:
    measures = list(options.measures)
    estimates = estimate_table(sample, options)
    frame = estimates.tables.frame
    whole = frame[frame["domain"] == ""].astype({"se": float, "deff": float})
    se = whole.pivot_table(index="measure", columns="variance", values="se", dropna=False).reindex(measures)
    primary, fixed = se[estimates.primary], se["cities_fixed"]
    own = whole[whole["variance"] == estimates.primary].set_index("measure").loc[measures]
    useful = (fixed > 1e-9 * primary) & (estimates.primary != "cities_fixed")
    return pd.DataFrame(
        {
            "measure": measures,
            "se": primary.to_numpy(),
            "deff": own["deff"].to_numpy(),
            "deff_cities": np.square((primary / fixed.where(useful)).to_numpy()),
        }
    )
