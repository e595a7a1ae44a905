"""Ground of urban village of every city, sampled or not, by a model: the Fay-Herriot composite.

A_i = x_i' b + k_i u_i, u_i of variance s2, x_i = (mapped ground, average mapped share x ground), k_i = x_i1 + x_i2;
a sampled city's own estimate is y_i = A_i + e_i with the sampling variance psi_i of its points (Fay & Herriot 1979).
b by weighted least squares with k_i^2 s2 + psi_i, s2 from the restricted likelihood times s2 (Li & Lahiri 2010), which
is above 0: with few cities an s2 of 0 is common, and would claim that all cities are alike.

A sampled city gets g y + (1 - g) x' b with g = k^2 s2 / (k^2 s2 + psi), another x' b. Mean squared errors after Prasad
& Rao (1990): g psi + (1 - g)^2 x' V(b) x + 2 psi^2 k^4 V(s2) / (k^2 s2 + psi)^3, and k^2 s2 + x' V(b) x.

These are statements of the model, not of the design: they are only as good as it fits, and every table says so. psi is
smoothed: error rates of the second-stage strata are those of all sampled cities, since a city whose rest stratum shows
no omission has not therefore none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize

from accuracy.arrays import Floats
from accuracy.errors import AccuracyError, DesignError
from accuracy.estimation.ground import M2_PER_KM2, estimate_ground
from accuracy.estimation.options import EstimateOptions
from accuracy.intervals import t_quantile
from accuracy.survey.design import as_text
from accuracy.survey.map_totals import require_frame_columns
from accuracy.survey.sample import ReferenceSample

MODEL_NOTE = (
    "cities: a model (Fay-Herriot composite of each city's own points and what cities of its mapped and whole ground"
    " have on average); not design-based"
)
LEAST_CITIES = 6


@dataclass(frozen=True, kw_only=True)
class NationGround:
    """Urban village in km² of the whole, of regions and of every city.

    Attributes:
        ground: Rows of `accuracy.estimation.ground.estimate_ground`, by design.
        cities: Rows of `estimate_city_ground`, by a model; None where it could not be fitted.
        reason: Why not; empty where it was.
    """

    ground: pd.DataFrame
    cities: pd.DataFrame | None
    reason: str = ""


def estimate_nation_ground(
    sample: ReferenceSample, cities: pd.DataFrame, options: EstimateOptions, *, source: str = "the table of cities"
) -> NationGround:
    """Ground of the whole and regions by design, of every city by a model.

    Args:
        sample: The labelled sample, whose weights are areas.
        cities: ``adcode``, ``region``, ``mapped_m2``, ``unmapped_m2`` of every city of the frame, as `uvmap sample
            totals` writes them (``city_totals.csv``).
        options: The variance that the design calls for, level, rules, interpreters.
        source: Name of the table, for messages.

    Raises:
        AccuracyError: The table lacks a column, or `estimate_ground` refuses the sample.
    """
    require_frame_columns(cities, source, ("adcode", "region", "mapped_m2", "unmapped_m2"))
    cities = cities.assign(adcode=as_text(cities["adcode"]), region=as_text(cities["region"]))
    cities[["mapped_m2", "unmapped_m2"]] = cities[["mapped_m2", "unmapped_m2"]].astype(float)
    group = cities["region"] if sample.design.stratum else pd.Series("all", index=cities.index)
    mapped = {str(k): float(v) for k, v in cities["mapped_m2"].groupby(group).sum().items()}
    ground = estimate_ground(sample, mapped, options)
    try:
        return NationGround(ground=ground, cities=estimate_city_ground(sample, cities, level=options.level))
    except AccuracyError as error:
        return NationGround(ground=ground, cities=None, reason=str(error))


def fit_fay_herriot(y: Floats, psi: Floats, x: Floats, k: Floats) -> tuple[float, Floats, Floats]:
    """Model variance s2, coefficients (p,) and their covariance (p, p).

    Args:
        y: float64 (n,), direct estimates.
        psi: float64 (n,), their sampling variances.
        x: float64 (n, p), covariates.
        k: float64 (n,), scale of each unit's own deviation.

    Raises:
        DesignError: Too few units for a model.
    """
    n = len(y)
    if n < LEAST_CITIES:
        raise DesignError(f"{n} sampled cities are too few for a model of cities: at least {LEAST_CITIES} are needed")

    def solve(s2: float) -> tuple[Floats, Floats]:
        w = 1 / (np.square(k) * s2 + psi)
        cov = np.linalg.inv((x * w[:, None]).T @ x)
        return np.asarray(cov @ (x.T @ (w * y)), dtype=np.float64), np.asarray(cov, dtype=np.float64)

    def loss(log_s2: float) -> float:  # adjusted restricted likelihood, which never ends at 0
        v = np.square(k) * np.exp(log_s2) + psi
        b, cov = solve(float(np.exp(log_s2)))
        fit = np.sum(np.log(v)) - np.linalg.slogdet(cov)[1] + np.sum(np.square(y - x @ b) / v)
        return float(fit / 2 - log_s2)

    scale = float(np.log(np.mean((np.square(y) + psi) / np.square(k))))
    found = optimize.minimize_scalar(loss, bounds=(scale - 16, scale + 6), method="bounded", options={"xatol": 1e-9})
    s2 = float(np.exp(found.x))
    b, cov = solve(s2)
    return s2, b, cov


def estimate_city_ground(sample: ReferenceSample, cities: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """Urban village in km² of every city of the frame, labelled as a model.

    Args:
        sample: The labelled sample, whose weights are areas and whose primary units are the cities.
        cities: ``adcode``, ``mapped_m2``, ``unmapped_m2`` of every city, as `uvmap sample totals` writes them.
        level: Confidence level.

    Returns:
        ``city``, ``sampled``, ``direct_km2`` (NaN for cities not sampled), ``km2``, ``rmse``, ``ci_low``, ``ci_high``,
        ``weight_of_direct`` (g), ``mapped_km2``, ``basis`` ("model").

    Raises:
        DesignError: Weights are no areas, a sampled city is not in the table, or too few cities were sampled.
    """
    if sample.design.psu is None or not sample.arrays.in_m2:
        raise DesignError("ground of cities needs a sample of cities whose weights are areas (column pixel_m2)")
    frame = cities.set_index("adcode")
    mapped, other = (frame[c].astype(float) for c in ("mapped_m2", "unmapped_m2"))
    share = float(mapped.sum() / (mapped + other).sum())
    x = np.stack([mapped, share * (mapped + other)], axis=1) / M2_PER_KM2
    k = x.sum(axis=1)
    names, y, psi = _direct(sample, mapped / M2_PER_KM2)
    where = frame.index.get_indexer(pd.Index(names))
    s2, b, cov = fit_fay_herriot(y, psi, x[where], k[where])
    own = np.full(len(frame), np.nan)
    own[where] = y
    noise = np.full(len(frame), np.inf)
    noise[where] = psi
    spread = np.square(k) * s2
    with np.errstate(invalid="ignore"):
        g = np.where(np.isfinite(noise), spread / np.where(spread + noise > 0, spread + noise, 1), 0.0)
    synthetic = x @ b
    km2 = np.where(g > 0, g * np.nan_to_num(own) + (1 - g) * synthetic, synthetic)
    fit = np.einsum("ip,pq,iq->i", x, cov, x)
    information = float(np.sum(np.power(k[where], 4) / np.square(spread[where] + psi))) / 2
    finite = np.where(np.isfinite(noise), noise, 0.0)
    third = np.divide(
        2 * np.square(finite) * np.power(k, 4), information * np.power(spread + finite, 3),
        out=np.zeros_like(k), where=(spread + finite > 0) & (information > 0),
    )  # fmt: skip
    mse = np.where(np.isfinite(noise), g * finite + np.square(1 - g) * fit + third, spread + fit)
    rmse = np.sqrt(mse)
    t = float(t_quantile(len(names) - 2, level))
    return pd.DataFrame(
        {
            "city": frame.index,
            "sampled": np.isfinite(noise),
            "direct_km2": own,
            "km2": np.maximum(km2, 0.0),
            "rmse": rmse,
            "ci_low": np.maximum(km2 - t * rmse, 0.0),
            "ci_high": np.maximum(km2 + t * rmse, 0.0),
            "weight_of_direct": g,
            "mapped_km2": (mapped / M2_PER_KM2).to_numpy(),
            "basis": "model",
        }
    )


def _direct(sample: ReferenceSample, mapped_km2: pd.Series) -> tuple[list[str], Floats, Floats]:
    """Names, own estimates (mapped ground corrected by its points) and smoothed variances of the sampled cities."""
    arrays = sample.arrays
    missed = np.where(sample.mapped, -(~sample.reference).astype(float), sample.reference.astype(float))
    names = [str(c) for c in sample.codes(sample.design.psu or "").groupby(arrays.psu).first()]
    absent = [c for c in names if c not in mapped_km2.index]
    if absent:
        raise DesignError(f"sampled city {absent[0]!r} is not in the table of cities ({len(absent)} such)")
    m = arrays.ssu_sampled.astype(np.float64)
    unit = np.ones(len(missed))
    if sample.design.has_unit_area(sample.table):
        unit = pd.to_numeric(sample.labelled[sample.design.unit_area]).to_numpy(dtype=float)
    area = np.bincount(arrays.cell, unit, minlength=len(m)) / m * arrays.ssu_population / M2_PER_KM2
    mean = np.bincount(arrays.cell, missed, minlength=len(m)) / m
    kind = np.zeros(len(m), dtype=np.int64)
    kind[arrays.cell] = np.unique(sample.second.astype(str), return_inverse=True)[1]
    # spread of the strata's errors over all sampled cities, by ground
    weight = area / np.bincount(kind, area)[kind]
    square = np.bincount(arrays.cell, np.square(missed), minlength=len(m)) / m
    centre = np.bincount(kind, weight * mean)
    variance = np.bincount(kind, weight * square) - np.square(centre)
    psi = np.square(area) * variance[kind] / m * np.maximum(1 - m / arrays.ssu_population, 0)
    shown = mapped_km2.loc[names].to_numpy(dtype=float)
    total = shown + np.bincount(arrays.psu_of_cell, area * mean)
    noise = np.bincount(arrays.psu_of_cell, psi)
    return names, np.asarray(total, dtype=np.float64), np.maximum(noise, 1e-18).astype(np.float64)
