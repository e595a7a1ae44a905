"""Sizes of villages: classes, concentration, and the distribution beside two families that are often claimed of it."""

from __future__ import annotations

from collections.abc import Iterator

import mapclassify
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from pipeline.analysis.places import nation_and_regions

SIZE_ENDS_HA = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
"""Upper ends of the classes of size; one more is open."""
TAIL = 0.1
"""Upper part of the villages that the tail is fitted to."""
LEAST = 20
"""Fewer villages get no fit."""
CURVE = 200
"""Points of a curve at most."""

Floats = NDArray[np.float64]


def tabulate_sizes(villages: pd.DataFrame) -> pd.DataFrame:
    """Numbers and area by class of size: ``size``, ``villages``, ``share_of_villages``, ``area_km2``,
    ``share_of_area``.
    """  # noqa: D205 - one sentence
    area = villages["area_m2"].to_numpy(dtype=float)
    classes = mapclassify.UserDefined(area / 1e4, [*SIZE_ENDS_HA, np.inf]) if len(area) else None
    ends = [0.0, *SIZE_ENDS_HA, np.inf]
    rows = []
    for k in range(len(ends) - 1):
        mine = classes.yb == k if classes is not None else np.zeros(0, dtype=bool)
        name = f"more than {ends[k]:g} ha" if np.isinf(ends[k + 1]) else f"{ends[k]:g} to {ends[k + 1]:g} ha"
        rows.append(
            {
                "size": name,
                "villages": int(mine.sum()),
                "share_of_villages": float(mine.mean()) if len(area) else float("nan"),
                "area_km2": float(area[mine].sum() / 1e6),
                "share_of_area": float(area[mine].sum() / area.sum()) if area.sum() > 0 else float("nan"),
            }
        )
    return pd.DataFrame(rows)


def describe_sizes(villages: pd.DataFrame) -> pd.DataFrame:
    """How sizes are spread, of the nation and each region.

    Args:
        villages: ``region``, ``area_m2``.

    Returns:
        ``name``, ``villages``, ``median_ha``, ``geometric_sd`` (of a log-normal: the factor by which sizes scatter),
        ``lognormal_distance`` (largest distance of the two distribution functions, Kolmogorov's; 0.05 is near),
        ``tail_index`` (Hill 1975, of the largest tenth: P(size > x) falls as x to the minus this power; about 1 is
        Zipf's) with ``tail_low`` and ``tail_high`` (95 %, normal), ``gini``, ``largest_tenth_share`` (of the area).
        Fits are NaN for fewer than 20 villages.
    """
    rows = []
    for name, area in _sorted_sizes(villages):
        n = len(area)
        row: dict[str, object] = {"name": name, "villages": n}
        row["median_ha"] = float(np.median(area)) if n else float("nan")
        row |= dict.fromkeys(
            ("geometric_sd", "lognormal_distance", "tail_index", "tail_low", "tail_high"), float("nan")
        )
        row |= {"gini": float("nan"), "largest_tenth_share": float("nan")}
        if n >= LEAST:
            logs = np.log(area)
            mean, sd = float(logs.mean()), float(logs.std(ddof=1))
            if sd > 0:
                distance = stats.kstest(logs, "norm", args=(mean, sd)).statistic
                row |= {"geometric_sd": float(np.exp(sd)), "lognormal_distance": float(distance)}
            k = max(LEAST // 2, int(TAIL * n))
            excess = float(np.mean(logs[-k:] - logs[-k - 1]))
            if excess > 0:
                index = 1 / excess
                reach = float(stats.norm.ppf(0.975)) * index / np.sqrt(k)
                row |= {"tail_index": index, "tail_low": index - reach, "tail_high": index + reach}
            row["gini"] = float((2 * np.arange(1, n + 1) - n - 1) @ area / (n * area.sum()))
            row["largest_tenth_share"] = float(area[-max(1, n // 10) :].sum() / area.sum())
        rows.append(row)
    return pd.DataFrame(rows)


def _sorted_sizes(villages: pd.DataFrame) -> Iterator[tuple[str, Floats]]:
    """Sizes above 0 in hectares, ascending, of the nation and each region."""
    for name, group in nation_and_regions(villages):
        area = np.sort(group["area_m2"].to_numpy(dtype=float) / 1e4)
        yield name, area[area > 0]


def rank_sizes(villages: pd.DataFrame) -> pd.DataFrame:
    """Share of villages that are at least so large, of the nation and each region: a curve of `CURVE` points at most.

    Returns:
        ``name``, ``area_ha``, ``share_at_least``, and ``lognormal`` (the fitted one's; NaN for fewer than 20 villages).
    """
    rows = []
    for name, area in _sorted_sizes(villages):
        n = len(area)
        if n == 0:
            continue
        chosen = np.unique(np.concatenate([np.linspace(0, n - 1, CURVE // 2), n - np.geomspace(1, n, CURVE // 2)]))
        index = np.unique(chosen.astype(int))
        fitted = np.full(len(index), np.nan)
        logs = np.log(area)
        if n >= LEAST and np.ptp(logs) > 0:
            fitted = stats.norm.sf(np.log(area[index]), logs.mean(), logs.std(ddof=1))
        rows.append(
            pd.DataFrame({"name": name, "area_ha": area[index], "share_at_least": 1 - index / n, "lognormal": fitted})
        )
    return pd.concat(rows, ignore_index=True)
