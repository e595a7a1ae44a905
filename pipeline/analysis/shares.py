"""Share of built-up land that is urban village: by city, province, region and nation.

Two figures go by the name "on average": the ratio of areas (all urban village by all built-up land) and the mean of the
cities' shares. They answer different questions and can be far apart; both are given, side by side.

Mapped shares are a census of the map: they have no sampling error, but the map's own errors. Adjusted shares put in the
place of the mapped area the one that an assessment estimates (`areas` of its report: the whole and each region); the
interval is the assessment's. A province or city has no estimate of its own there: its adjusted share takes the factor
of its region (synthetic estimate; the column `basis` says so).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.analysis.errors import AnalysisError
from pipeline.analysis.options import AnalysisOptions

M2_PER_KM2 = 1e6
NATION = "nation"
CITY_COLUMNS = ("adcode", "name_en", "name_zh", "province", "region", "uv_m2", "ground_m2")
AREA_COLUMNS = ("value", "estimated_km2", "low_km2", "high_km2")
WHOLE_NAMES = ("all", "nation", "whole")


def tabulate_shares(cities: pd.DataFrame, options: AnalysisOptions, areas: pd.DataFrame | None = None) -> pd.DataFrame:
    """Shares of the nation, regions, provinces and cities.

    Args:
        cities: One row per city with `CITY_COLUMNS`; ``ground_m2`` is the land that shares are of.
        options: Seed, resamples, level.
        areas: Error-adjusted ground of an assessment, `AREA_COLUMNS`: ``value`` is a region or one of `WHOLE_NAMES`.

    Returns:
        ``level`` (nation, region, province, city), ``name``, ``adcode`` (cities), ``cities``, ``uv_km2``,
        ``ground_km2``, ``share_area`` (ratio of areas), ``share_mean`` (mean of the cities' shares) with
        ``share_mean_low`` and ``share_mean_high`` (bootstrap of cities: how far the mean would move with other cities
        of the same kind), ``share_median``, ``adjusted_km2``, ``adjusted_share``, ``adjusted_low``, ``adjusted_high``,
        ``adjusted_mean`` (mean of the cities' adjusted shares), ``basis``.

    Raises:
        AnalysisError: A column is missing, a city occurs twice, ground is not positive, or is smaller than the
            villages; an assessment names a region that no city has, or leaves one out.
    """
    _check(cities)
    factors = None if areas is None else _factors(cities, areas)
    rows = [_row("nation", NATION, cities, options, factors)]
    for level in ("region", "province"):
        for name, group in cities.groupby(level, sort=True):
            rows.append(_row(level, str(name), group, options, factors))
    rows += [
        _row("city", str(c["name_en"]), cities.loc[[i]], options, factors) | {"adcode": c["adcode"]}
        for i, c in cities.sort_values("adcode").iterrows()
    ]
    table = pd.DataFrame(rows)
    return table[["level", "name", "adcode", *[c for c in table.columns if c not in {"level", "name", "adcode"}]]]


def city_shares(cities: pd.DataFrame) -> NDArray[np.float64]:
    """float64 (n,): urban village by ground of each city."""
    return np.asarray(cities["uv_m2"].to_numpy(dtype=float) / cities["ground_m2"].to_numpy(dtype=float))


def bootstrap_mean(values: NDArray[np.float64], options: AnalysisOptions) -> tuple[float, float]:
    """Percentile interval of the mean of cities drawn anew; NaN for fewer than two."""
    if len(values) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng([options.seed, len(values)])
    means = values[rng.integers(0, len(values), (options.resamples, len(values)))].mean(axis=1)
    tail = (1 - options.level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _row(
    level: str, name: str, group: pd.DataFrame, options: AnalysisOptions, factors: dict[str, NDArray[np.float64]] | None
) -> dict[str, object]:
    shares = city_shares(group)
    uv, ground = float(group["uv_m2"].sum()), float(group["ground_m2"].sum())
    low, high = bootstrap_mean(shares, options)
    row: dict[str, object] = {
        "level": level,
        "name": name,
        "adcode": None,
        "cities": len(group),
        "uv_km2": uv / M2_PER_KM2,
        "ground_km2": ground / M2_PER_KM2,
        "share_area": uv / ground,
        "share_mean": float(shares.mean()),
        "share_mean_low": low,
        "share_mean_high": high,
        "share_median": float(np.median(shares)),
    }
    return row | _adjusted(level, name, group, factors)


def _adjusted(
    level: str, name: str, group: pd.DataFrame, factors: dict[str, NDArray[np.float64]] | None
) -> dict[str, object]:
    """Adjusted figures of a group of cities from km² of the assessment (nation, region) or its regions' factors."""
    none = {f"adjusted_{c}": np.nan for c in ("km2", "share", "low", "high", "mean")}
    if factors is None:
        return none | {"basis": "mapped"}
    ground = group["ground_m2"].sum() / M2_PER_KM2
    own = group["region"].map(lambda r: factors[str(r)][0]).to_numpy(dtype=float)
    mean = float(np.mean(city_shares(group) * own))
    if level in {"nation", "region"}:
        known = factors[name]
        mapped = group["uv_m2"].sum() / M2_PER_KM2
        km2, low, high = (float(f * mapped) for f in known)
        basis = "design-based estimate of the assessment"
    else:
        lows, highs = (group["region"].map(lambda r, k=k: factors[str(r)][k]).to_numpy(dtype=float) for k in (1, 2))
        uv = group["uv_m2"].to_numpy(dtype=float) / M2_PER_KM2
        km2, low, high = (float((uv * f).sum()) for f in (own, lows, highs))
        basis = "synthetic: the factor of its region"
    values = (km2, km2 / ground, low / ground, high / ground, mean)
    return dict(zip(none, values, strict=True)) | {"basis": basis}


def _factors(cities: pd.DataFrame, areas: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Estimated, low and high by mapped ground, of the nation and each region: float64 (3,)."""
    _need(areas, AREA_COLUMNS, "the assessment's areas")
    mapped = cities.groupby("region")["uv_m2"].sum() / M2_PER_KM2
    found: dict[str, NDArray[np.float64]] = {}
    for row in areas.to_dict("records"):
        name = NATION if str(row["value"]).lower() in WHOLE_NAMES else str(row["value"])
        if name != NATION and name not in mapped.index:
            raise AnalysisError(
                f"the assessment has a row {row['value']!r}; regions of the cities are {', '.join(mapped.index)}: is it"
                " the assessment of this map?"
            )
        here = float(mapped.sum() if name == NATION else mapped[name])
        if here <= 0:
            raise AnalysisError(f"{name}: nothing is mapped there, so an assessment's {row['estimated_km2']} km² of it")
        found[name] = np.array([row["estimated_km2"], row["low_km2"], row["high_km2"]], dtype=float) / here
    absent = sorted({NATION, *mapped.index} - set(found))
    if absent:
        raise AnalysisError(
            f"the assessment says nothing of {', '.join(absent)}; `uvmap assess sample` writes a row for the whole and"
            " for each region"
        )
    return found


def _check(cities: pd.DataFrame) -> None:
    _need(cities, CITY_COLUMNS, "the table of cities")
    if len(cities) == 0:
        raise AnalysisError("no city to analyse")
    twice = cities["adcode"][cities["adcode"].duplicated()]
    if len(twice):
        raise AnalysisError(f"city {twice.iloc[0]} occurs twice in the table of cities")
    ground, uv = cities["ground_m2"].to_numpy(dtype=float), cities["uv_m2"].to_numpy(dtype=float)
    bad = ~(ground > 0) | ~(uv >= 0) | (uv > ground * (1 + 1e-6))
    if bad.any():
        row = cities.iloc[int(np.flatnonzero(bad)[0])]
        raise AnalysisError(
            f"{row['adcode']}: {row['uv_m2']:g} m² of urban village on {row['ground_m2']:g} m² of ground: villages are"
            " part of the ground that shares are of"
        )


def _need(table: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    absent = [c for c in columns if c not in table.columns]
    if absent:
        raise AnalysisError(f"{what} lacks the columns {', '.join(absent)}")
