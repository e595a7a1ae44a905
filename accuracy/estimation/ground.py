"""Ground of urban village in km²: what the map shows, corrected by what a sample finds of its errors.

With M the mapped ground that is known of every city, and weighted totals of sampled points with reference r and map m:

expansion    A = sum w r
difference   A = M + sum w (r - m)                      (Särndal et al. 1992, ch. 6)
ratio        A = M sum w r / sum w m,  variance of (M / sum w m) sum w (r - R m)

The ratio is the regression estimator through the origin: true and mapped ground of a city rise together, so that what
is left to the luck of the draw is their disagreement alone. All three are design-based. They need samples whose weights
are areas.

Intervals are symmetric on the logarithm, with t. Regions differ much in their share of the variance (few omissions
seen, of great weight), so degrees of freedom are Satterthwaite's, (sum V_h)^2 / sum V_h^2 / df_h over the regions
(Cochran 1977, eq. 5.16), not cities less regions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import pandas as pd

from accuracy.arrays import Bools, Floats, SampleArrays
from accuracy.errors import DesignError
from accuracy.estimation.describe import degrees_of_freedom
from accuracy.estimation.estimation import WHOLE, sampling_variance_of
from accuracy.estimation.interpreters import join_df
from accuracy.estimation.options import EstimateOptions
from accuracy.intervals import t_quantile
from accuracy.measures import confusion_indicators
from accuracy.survey.sample import ReferenceSample

GroundMethod = Literal["expansion", "difference", "ratio"]
GROUND_METHODS: tuple[GroundMethod, ...] = get_args(GroundMethod)
M2_PER_KM2 = 1e6


def estimate_ground(
    sample: ReferenceSample, mapped_m2: Mapping[str, float], options: EstimateOptions | None = None
) -> pd.DataFrame:
    """Urban village in km² of the whole and of each stratum (region), by every method.

    Args:
        sample: The labelled sample, whose weights are areas.
        mapped_m2: Mapped ground of every stratum of the frame, by name.
        options: Variance, level, rules for single units, interpreters.

    Returns:
        ``value``, ``method``, ``km2``, ``se``, ``se_interpreters`` (part of ``se``; NaN without), ``ci_low``,
        ``ci_high`` (all km²), ``df``, ``mapped_km2``.

    Raises:
        DesignError: The weights are no areas, a stratum has no mapped ground known, or the cities were chosen on
            purpose, so that the sample says nothing of the others.
    """
    options = options or EstimateOptions()
    if not sample.arrays.in_m2:
        raise DesignError(
            "the sample's weights are numbers of pixels, not areas: km² need a column of a pixel's area"
            " (`uvmap sample points` writes pixel_m2)"
        )
    if sample.design.psu_selection == "purposive" and sample.design.psu is not None:
        raise DesignError(
            "the cities were chosen on purpose, so their errors say nothing of other cities' ground by design: join"
            " them with randomly drawn ones"
        )
    stratum = sample.design.stratum
    values = np.full(len(sample.arrays.weight), WHOLE, dtype=object)
    if stratum is not None:
        values = sample.codes(stratum).to_numpy()
    unknown = sorted(set(values) - set(mapped_m2)) if stratum is not None else []
    if unknown:
        raise DesignError(f"no mapped ground is known of {unknown[0]!r} ({len(unknown)} such): measure all cities")
    extra = sorted(set(mapped_m2) - set(values)) if stratum is not None else []
    if extra:
        raise DesignError(f"{extra[0]!r} has mapped ground but no sampled city: its ground would be unassessed")
    cells = confusion_indicators(sample.mapped, sample.reference)
    masks = {WHOLE: np.ones(len(values), dtype=bool)}
    known = {WHOLE: float(sum(mapped_m2.values()))}
    if stratum is not None and len(set(values)) > 1:
        masks |= {name: values == name for name in sorted(set(values))}
        known |= {name: float(mapped_m2[name]) for name in masks if name != WHOLE}
    rows = []
    for name, mask in masks.items():
        rows += ground_of(sample.arrays, cells, mask, known[name], options).assign(value=name).to_dict("records")
    columns = ["value", "method", "km2", "se", "se_interpreters", "ci_low", "ci_high", "df", "mapped_km2"]
    return pd.DataFrame(rows, columns=columns)


def satterthwaite_df(z: Floats, arrays: SampleArrays, mask: Bools, options: EstimateOptions) -> float:
    """Degrees of freedom of the variance of sum z, from what each stratum adds to it.

    Args:
        z: float64 (n,), weight times linearised value.
        arrays: The design.
        mask: bool (n,), the domain.
        options: Variance and rules.

    Returns:
        At most `degrees_of_freedom`, which it is where all strata add alike; a stratum of certainties counts points
        less cells.
    """
    whole = float(degrees_of_freedom(arrays, mask, options.variance))
    strata = np.unique(arrays.stratum[mask])
    if len(strata) < 2 or whole <= 1:
        return whole
    inside = mask[:, None] & (arrays.stratum[:, None] == strata)
    quiet = replace(options, lonely_psu="certainty" if options.lonely_psu == "fail" else options.lonely_psu)
    V = np.maximum(np.nan_to_num(sampling_variance_of(arrays, quiet)(z[:, None] * inside, domains=inside)), 0.0)
    df = np.array([degrees_of_freedom(arrays, m, options.variance) for m in inside.T], dtype=np.float64)
    points = np.array([degrees_of_freedom(arrays, m, "cities_fixed") for m in inside.T], dtype=np.float64)
    certain = np.array([arrays.is_certain[arrays.psu[m]].all() for m in inside.T])
    each = np.maximum(np.where(certain, points, df), 1.0)
    parts = float(np.sum(np.square(V) / each))
    return min(whole, float(V.sum() ** 2 / parts)) if parts > 0 else whole


def ground_of(
    arrays: SampleArrays, cells: Floats, mask: Bools, mapped_m2: float, options: EstimateOptions
) -> pd.DataFrame:
    """The ground of one domain by every method; columns as `estimate_ground`, without ``value``.

    Args:
        arrays: The design, weights in m².
        cells: float64 (n, 4), tp, fp, fn, tn.
        mask: bool (n,), the domain.
        mapped_m2: Its mapped ground.
        options: Variance, level, rules, interpreters (then rows are single points).
    """
    inside = mask.astype(np.float64)
    r, m = inside * (cells[:, 0] + cells[:, 2]), inside * (cells[:, 0] + cells[:, 1])
    true, shown = float(arrays.mass @ r), float(arrays.mass @ m)
    ratio = true / shown if shown > 0 else np.nan
    totals = {"expansion": true, "difference": mapped_m2 + true - shown, "ratio": mapped_m2 * ratio}
    factor = mapped_m2 / shown if shown > 0 else np.nan
    parts = np.stack([r, r - m, factor * (r - ratio * m)], axis=1)
    sampling = sampling_variance_of(arrays, options)
    weighted = arrays.weight[:, None] * np.nan_to_num(parts)
    variance = np.maximum(sampling(weighted, domains=np.repeat(mask[:, None], 3, axis=1)), 0.0)
    panel, added = options.interpreters, np.zeros(3)
    if panel is not None:  # the answer 1 instead of 0 adds the point's own ground
        change = np.stack([inside, inside, factor * inside], axis=1)
        added = np.nan_to_num(panel.variance_of(arrays.weight, change, sampling_variance=sampling))
    rows = []
    for k, method in enumerate(GROUND_METHODS):
        km2, se = totals[method] / M2_PER_KM2, float(np.sqrt(variance[k] + added[k])) / M2_PER_KM2
        sampled_df = satterthwaite_df(weighted[:, k], arrays, mask, options)
        df = sampled_df if panel is None else join_df(float(variance[k]), sampled_df, float(added[k]), panel.df)
        t = float(t_quantile(df, options.level))
        se = se if np.isfinite(km2) else np.nan
        reach = np.exp(min(t * se / km2, 50.0)) if np.isfinite(km2) and km2 > 0 else np.nan
        rows.append(
            {
                "method": method,
                "km2": km2,
                "se": se,
                "se_interpreters": np.nan if panel is None else float(np.sqrt(added[k])) / M2_PER_KM2,
                "ci_low": km2 / reach,  # symmetric on the logarithm: ground is never negative
                "ci_high": km2 * reach,
                "df": df,
                "mapped_km2": mapped_m2 / M2_PER_KM2,
            }
        )
    return pd.DataFrame(rows)
