"""From an assessment's km2 to error-adjusted areas of the cities at hand.

An assessment estimates the nation and each region by design; with `--city-totals` it also gives every city by a model
(`accuracy.estimation.city_ground`). A province has no estimate of its own in either: it is the sum of its cities'.
Without the model, provinces and cities take the factor (true by mapped ground) of their region. That is a guess of the
middle without an interval: how far the map's error differs between a region's cities is not in the region's figures.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.analysis.errors import AnalysisError
from pipeline.analysis.places import M2_PER_KM2, NATION, need_columns

AREA_COLUMNS = ("value", "estimated_km2", "low_km2", "high_km2")
GROUND_COLUMNS = ("city", "km2", "ci_low", "ci_high")
WHOLE_NAMES = ("all", "nation", "whole")
KNOWN_BASIS = "share of the known area"
"""Basis of areas whose mapped part was measured on all cities, not estimated from the sample."""
SAME = 0.02
"""Mapped ground of assessment and products may differ by this part before it is said."""

DESIGN = "by design"
MODEL = "by a model"
SUM = "sum of a model's cities"
SYNTHETIC = "factor of its region"
MAPPED = "as mapped"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Assessed:
    """What an assessment says of areas.

    Attributes:
        areas: `AREA_COLUMNS`: ``value`` is a region or one of `WHOLE_NAMES`; with ``mapped_km2`` and ``basis`` where
            the report has them.
        cities: `GROUND_COLUMNS` of every city by a model, None without.
        warnings: What the assessment says of itself.
    """

    areas: pd.DataFrame
    cities: pd.DataFrame | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Adjustment:
    """Factors for the cities at hand.

    Attributes:
        factors: Region or `NATION` to float64 (3,): estimated, low and high by mapped ground.
        cities: adcode to float64 (3,): km2, low, high of the model; None without.
        notes: Where assessment and products do not speak of the same ground.
    """

    factors: dict[str, Floats]
    cities: dict[str, Floats] | None = None
    notes: tuple[str, ...] = field(default=())


def read_assessed(report: Path) -> Assessed:
    """Areas of `report.json` of `uvmap assess sample`, or of the folder that holds it.

    Raises:
        AnalysisError: no such report, or it has no areas (its weights are no areas, or cities were chosen on purpose).
    """
    path = report / "report.json" if report.is_dir() else report
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AnalysisError(f"{path}: no report of `uvmap assess sample`: {error}") from error
    rows = data.get("areas") if isinstance(data, dict) else None
    if not rows:
        raise AnalysisError(
            f"{path}: the assessment estimates no areas: sample with `uvmap sample points` (pixel_m2) and assess with"
            " --psu-selection probability or pps"
        )
    ground = data.get("city_ground")
    warnings = [str(w) for w in data.get("warnings") or ()]
    if (level := data.get("level")) is not None:
        warnings.append(f"its intervals are of {100 * float(level):g} %")
    return Assessed(pd.DataFrame(rows), pd.DataFrame(ground) if ground else None, tuple(warnings))


def make_adjustment(cities: pd.DataFrame, assessed: Assessed) -> Adjustment:
    """Factors of an assessment for these cities.

    Args:
        cities: ``adcode``, ``region``, ``uv_m2``.
        assessed: The assessment.

    Raises:
        AnalysisError: it names a region that no city has, leaves one out, says nothing of a city while it speaks of
            others, or speaks of ground where nothing is mapped.
    """
    need_columns(assessed.areas, AREA_COLUMNS, "the assessment's areas")
    mapped = cities.groupby("region")["uv_m2"].sum() / M2_PER_KM2
    found: dict[str, Floats] = {}
    notes = [f"the assessment says: {w}" for w in assessed.warnings]
    for row in assessed.areas.to_dict("records"):
        name = NATION if str(row["value"]).lower() in WHOLE_NAMES else str(row["value"])
        if name != NATION and name not in mapped.index:
            raise AnalysisError(
                f"the assessment has a row {row['value']!r}; regions of the cities are {', '.join(mapped.index)}: is it"
                " the assessment of this map?"
            )
        here = float(mapped.sum() if name == NATION else mapped[name])
        theirs = here
        if row.get("basis") == KNOWN_BASIS:  # measured on all cities of the frame, so it can be compared
            theirs = float(row["mapped_km2"])
            if abs(here - theirs) > SAME * max(theirs, 1e-9):
                notes.append(
                    f"{name}: the assessment is of {theirs:,.2f} km² of mapped villages, the products here have"
                    f" {here:,.2f} km²; its factor is applied to these, which is right if they are the same map and the"
                    " other cities err alike"
                )
        if theirs <= 0:
            raise AnalysisError(
                f"{name}: nothing is mapped there, but the assessment estimates {row['estimated_km2']:g} km²: a factor"
                " cannot adjust that; map the region, or assess without it"
            )
        found[name] = np.array([row["estimated_km2"], row["low_km2"], row["high_km2"]], dtype=float) / theirs
    absent = sorted({NATION, *mapped.index} - set(found))
    if absent:
        raise AnalysisError(
            f"the assessment says nothing of {', '.join(absent)}; `uvmap assess sample` writes a row for the whole and"
            " for each region"
        )
    return Adjustment(found, _city_ground(cities, assessed.cities), tuple(notes))


def adjust(level: str, name: str, group: pd.DataFrame, adjustment: Adjustment | None) -> dict[str, object]:
    """Adjusted figures of a group of cities.

    Args:
        level: nation, region, province or city.
        name: Of the group.
        group: ``adcode``, ``region``, ``uv_m2``, ``ground_m2``.
        adjustment: None leaves all unknown.

    Returns:
        ``adjusted_km2``, ``adjusted_share``, ``adjusted_low``, ``adjusted_high`` (shares), ``adjusted_mean`` (mean of
        the cities' shares times their regions' factors) with ``adjusted_mean_low`` and ``adjusted_mean_high``: the
        assessment's errors of independent regions put together (Zou & Donner 2008, MOVER); ``basis``.
    """
    names = ("adjusted_km2", "adjusted_share", "adjusted_low", "adjusted_high", "adjusted_mean")
    out: dict[str, object] = dict.fromkeys((*names, "adjusted_mean_low", "adjusted_mean_high"), float("nan"))
    if adjustment is None:
        return out | {"basis": MAPPED}
    ground = float(group["ground_m2"].sum()) / M2_PER_KM2
    uv = group["uv_m2"].to_numpy(dtype=float) / M2_PER_KM2
    factors = np.stack([adjustment.factors[str(r)] for r in group["region"]])
    shares = uv / (group["ground_m2"].to_numpy(dtype=float) / M2_PER_KM2)
    mean = float(np.mean(shares * factors[:, 0]))
    out["adjusted_mean"] = mean
    low, high = float("nan"), float("nan")
    if level in {"nation", "region"}:
        km2, low, high = (float(f * uv.sum()) for f in adjustment.factors[name])
        basis = DESIGN
        part = pd.Series(shares / len(shares)).groupby(group["region"].to_numpy()).sum()
        own = np.stack([adjustment.factors[str(r)] for r in part.index])
        below, above = (float(np.sqrt(np.square(part.to_numpy() * (own[:, 0] - own[:, k])).sum())) for k in (1, 2))
        out |= {"adjusted_mean_low": max(0.0, mean - below), "adjusted_mean_high": mean + above}
    elif adjustment.cities is not None:
        km2, low, high = (float(v) for v in np.sum([adjustment.cities[str(a)] for a in group["adcode"]], axis=0))
        basis = MODEL if level == "city" else SUM
    else:
        km2, basis = float((uv * factors[:, 0]).sum()), SYNTHETIC
    out |= {"adjusted_km2": km2, "adjusted_share": km2 / ground, "adjusted_low": low / ground}
    return out | {"adjusted_high": high / ground, "basis": basis}


def _city_ground(cities: pd.DataFrame, ground: pd.DataFrame | None) -> dict[str, Floats] | None:
    if ground is None:
        return None
    need_columns(ground, GROUND_COLUMNS, "the assessment's ground of cities")
    known = {
        str(r["city"]): np.array([r["km2"], r["ci_low"], r["ci_high"]], dtype=float) for r in ground.to_dict("records")
    }
    absent = [str(a) for a in cities["adcode"] if str(a) not in known]
    if absent:
        raise AnalysisError(
            f"the assessment gives ground of {len(known)} cities, but none of {absent[0]} ({len(absent)} such): measure"
            " the frame again by `uvmap sample totals` and assess with its --city-totals"
        )
    return known
