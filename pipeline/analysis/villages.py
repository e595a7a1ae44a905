"""The villages themselves: sizes, shapes, roads, distance to the centre, and what became of them since a release."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import mapclassify
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.analysis.errors import AnalysisError
from pipeline.analysis.places import nation_and_regions

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
DESCRIBED = ("area_ha", "compactness", "elongation", "road_density", "centre_km")
EVENTS = ("unchanged", "changed", "split", "merge", "reorganised", "new", "gone")


def describe_villages(villages: pd.DataFrame) -> pd.DataFrame:
    """Quantiles of what is measured of villages, of the nation and each region.

    Args:
        villages: One row per village: ``region``, ``area_m2`` and any of `DESCRIBED` (``area_ha`` is computed).

    Returns:
        ``measure``, ``name``, ``known``, ``unknown``, ``mean``, ``q05`` to ``q95``, ``mean_by_area`` (each village
        weighted by its area: what a square metre of village sees).
    """
    table = villages.assign(area_ha=villages["area_m2"].astype(float) / 1e4)
    rows = []
    for measure in [m for m in DESCRIBED if m in table.columns]:
        for name, group in nation_and_regions(table):
            values = group[measure].to_numpy(dtype=float, na_value=np.nan)
            area = group["area_m2"].to_numpy(dtype=float)
            known = np.isfinite(values)
            row: dict[str, object] = {
                "measure": measure,
                "name": name,
                "known": int(known.sum()),
                "unknown": int((~known).sum()),
                "mean": float(values[known].mean()) if known.any() else float("nan"),
            }
            found = np.quantile(values[known], QUANTILES) if known.any() else np.full(len(QUANTILES), np.nan)
            row |= {f"q{round(q * 100):02d}": float(v) for q, v in zip(QUANTILES, found, strict=True)}
            row["mean_by_area"] = float(np.average(values[known], weights=area[known])) if known.any() else float("nan")
            rows.append(row)
    return pd.DataFrame(rows)


def tabulate_persistence(villages: pd.DataFrame, gone: pd.DataFrame) -> pd.DataFrame | None:
    """What became of the villages of the release before.

    Args:
        villages: ``region``, ``status`` (null: ids were not matched with a release), ``area_m2``.
        gone: Villages of the release before that no village of this one goes back to: ``region``, ``area_m2``.

    Returns:
        ``name``, ``event``, ``villages``, ``area_km2`` (of the release before for ``gone``, else of this one); None
        where no city was matched with a release.

    Raises:
        AnalysisError: a status is not known.
    """
    status = villages["status"].astype("string")
    if status.isna().all() and len(gone) == 0:
        return None
    strange = sorted(set(status.dropna()) - set(EVENTS))
    if strange:
        raise AnalysisError(f"villages have the status {strange[0]!r}; known: {', '.join(EVENTS)}")
    both = pd.concat(
        [
            villages.assign(event=status.fillna("not matched"))[["region", "event", "area_m2"]],
            gone.assign(event="gone")[["region", "event", "area_m2"]],
        ]
    )
    rows = []
    for name, group in nation_and_regions(both):
        for event in (*EVENTS, "not matched"):
            mine = group[group["event"] == event]
            if len(mine) or event in EVENTS:
                area = float(mine["area_m2"].astype(float).sum()) / 1e6
                rows.append({"name": name, "event": event, "villages": len(mine), "area_km2": area})
    return pd.DataFrame(rows)


def compactness(area_m2: NDArray[np.float64], perimeter_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """4 pi A / P^2 (Polsby & Popper 1991); NaN without a perimeter."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(perimeter_m > 0, 4 * np.pi * area_m2 / np.square(perimeter_m), np.nan))


def classify_shares(shares: NDArray[np.float64], *, most: int = 5) -> Mapping[str, list[float]]:
    """Class ends of a choropleth by natural breaks (Fisher & Jenks): ``ends``."""
    distinct = len(np.unique(shares))
    if distinct <= most:
        return {"ends": sorted(float(v) for v in np.unique(shares))}
    with warnings.catch_warnings():  # that numba is not there, and a loop takes its time
        warnings.filterwarnings("ignore", message="Numba not installed", category=UserWarning)
        return {"ends": [float(v) for v in mapclassify.FisherJenks(shares, k=most).bins]}
