"""Two maps on the same points: the difference of a measure with its own standard error.

d_k = linearised value of map a - that of map b, through the design's variance: the two are correlated, so their errors
must not be added (McNemar's test is the case of simple random sampling).
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from accuracy.arrays import Floats
from accuracy.errors import SampleTableError
from accuracy.estimation.describe import degrees_of_freedom
from accuracy.estimation.interpreters import InterpreterPanel, join_df
from accuracy.estimation.options import EstimateOptions
from accuracy.estimation.variance import design_variance
from accuracy.intervals import wald_t
from accuracy.measures import coefficients, confusion_indicators
from accuracy.survey.sample import ReferenceSample


def compare_maps(
    sample: ReferenceSample, options: EstimateOptions | None = None, *, map_a: str, map_b: str
) -> pd.DataFrame:
    """Measures of map a less those of map b.

    Args:
        sample: The labelled sample; its strata may come from either map or neither.
        options: Measures (ratios only), variance, level and rules; None for the defaults.
        map_a: Column of the one map.
        map_b: Column of the other.

    Returns:
        ``measure``, ``a``, ``b``, ``difference``, ``se``, ``se_interpreters`` (part of ``se``),
        ``ci_low``, ``ci_high`` (Wald-t); NaN where either is not estimable.
        Interpreters' variance enters where `options.interpreters` is set.

    Raises:
        SampleTableError: A column is missing or holds no answers.
    """
    if map_a == map_b:
        raise SampleTableError(f"maps a and b are both {map_a!r}: name two columns")
    options = options or EstimateOptions()
    names = options.measures
    arrays = sample.arrays
    parts = [_linearised(sample.with_map(column), names) for column in (map_a, map_b)]
    (value_a, d_a), (value_b, d_b) = parts
    sampling = partial(
        design_variance,
        arrays=arrays,
        kind=options.variance,
        lonely=options.lonely_psu,
        fpc_in_cells=options.fpc_in_cells,
        pps=options.pps,
    )
    v = np.maximum(sampling(arrays.weight[:, None] * (d_a - d_b)), 0)
    gap = value_a - value_b
    df = np.full(len(names), degrees_of_freedom(arrays, np.ones(len(arrays.weight), dtype=bool), options.variance))
    panels = [InterpreterPanel.of(sample.with_map(column)) for column in (map_a, map_b)]
    added = np.zeros(len(names))
    if options.interpreters is not None and panels[0] is not None and panels[1] is not None:
        change = panels[0].change(arrays.weight, names) - panels[1].change(arrays.weight, names)
        added = panels[0].variance_of(arrays.weight, change, sampling_variance=sampling)
        df = np.array([join_df(s, d, m, panels[0].df) for s, d, m in zip(v, df, added, strict=True)])
    se = np.sqrt(v + added)
    low, high = wald_t(gap, se, df, options.level)
    return pd.DataFrame(
        {
            "measure": names,
            "a": value_a,
            "b": value_b,
            "difference": gap,
            "se": np.where(np.isfinite(gap), se, np.nan),
            "se_interpreters": np.sqrt(added),
            "ci_low": low,
            "ci_high": high,
        }
    )


def _linearised(sample: ReferenceSample, names: tuple[str, ...]) -> tuple[Floats, Floats]:
    """Values (K,) and linearised values (n, K) of one map."""
    y_of, x_of = coefficients(names)
    cells = confusion_indicators(sample.mapped, sample.reference)
    y, x = cells @ y_of, cells @ x_of
    weight = sample.arrays.weight
    whole = weight @ x
    value = np.where(whole > 0, weight @ y / np.where(whole > 0, whole, 1), np.nan)
    return value, (y - value * x) / np.where(whole > 0, whole, 1)
