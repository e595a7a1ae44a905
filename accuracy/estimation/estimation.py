"""Estimates with standard errors and intervals: all measures, all domains, one linearisation, one variance."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from accuracy.arrays import Bools, Floats, SampleArrays
from accuracy.errors import DesignError
from accuracy.estimation.calibration import Calibration, calibrate
from accuracy.estimation.describe import DomainFacts, describe
from accuracy.estimation.interpreters import join_df
from accuracy.estimation.options import EstimateOptions, FlagRules
from accuracy.estimation.pooling import pool_points
from accuracy.estimation.variance import design_variance
from accuracy.measures import MEASURES, coefficients, confusion_indicators
from accuracy.survey.sample import ReferenceSample

WHOLE = "all"
CHUNK = 4_000_000  # values of the linearised matrix held at once: 32 MB


@dataclass(frozen=True, kw_only=True)
class EstimateTable:
    """Estimates as rows.

    Attributes:
        frame: Columns ``variance``, ``domain`` (column name, empty for the whole), ``value`` (its value,
            ``all`` for the whole), ``measure``, ``estimate``, ``se``, ``ci_low``, ``ci_high``, ``one_sided``, ``df``,
            ``n_points``, ``n_psu``, ``n_eff``, ``deff``, ``cv``, ``flags`` (tuple), ``reason`` (why something is not
            estimable, else empty), ``se_interpreters`` (their part of ``se``; NaN where no panel was given). NaN
            stands for "not estimable".
        level: Confidence level.
    """

    frame: pd.DataFrame
    level: float

    def get(self, measure: str, value: str = WHOLE) -> pd.Series:
        """The row of a measure for a domain value."""
        rows = self.frame[(self.frame["measure"] == measure) & (self.frame["value"] == value)]
        if rows.empty:
            raise DesignError(f"no estimate of {measure!r} for {value!r}: it was not asked for")
        return rows.iloc[0]

    def nested(self) -> dict[str, dict[str, dict[str, Any]]]:
        """``{variance: {domain value: {measure: {estimate, se, …}}}}`` with None for NaN."""
        out: dict[str, dict[str, dict[str, Any]]] = {}
        for row in self.frame.to_dict("records"):
            cell = out.setdefault(row["variance"], {}).setdefault(row["value"], {})
            cell[row["measure"]] = {
                "estimate": _plain(row["estimate"]),
                "se": _plain(row["se"]),
                "ci_low": _plain(row["ci_low"]),
                "ci_high": _plain(row["ci_high"]),
                "df": _plain(row["df"]),
                "one_sided": bool(row["one_sided"]),
                "n_points": int(row["n_points"]),
                "flags": list(row["flags"]),
                **({"weights": row["weights"]} if "weights" in row else {}),
                **({"reason": row["reason"]} if row["reason"] else {}),
            }
        return out


def estimate(
    sample: ReferenceSample,
    options: EstimateOptions | None = None,
    *,
    domain: str | None = None,
    calibrate_to: Mapping[tuple[str, ...], float] | None = None,
    calibrate_columns: Sequence[str] | None = None,
) -> EstimateTable:
    """Estimate measures for the whole, or for every value of a domain column, with the full design.

    Args:
        sample: The labelled sample.
        options: Measures, variance, intervals, rules; None for the defaults.
        domain: Column whose values are the domains; None for the whole.
        calibrate_to: Known sizes of the cells named by ``calibrate_columns``; None for design weights.
        calibrate_columns: Default: the design's strata and the map column.

    Raises:
        AccuracyError: The table, the design and the question do not fit; see the subclasses.
    """
    options = options or EstimateOptions()
    if domain is not None and domain == sample.design.psu and options.interpreters is not None:
        options = replace(options, interpreters=replace(options.interpreters, borrows=True))
    return estimate_arrays(
        sample.arrays,
        confusion_indicators(sample.mapped, sample.reference),
        options,
        values=None if domain is None else sample.codes(domain).to_numpy(),
        domain=domain,
        calibration=calibrate_sample(sample, calibrate_to, calibrate_columns),
    )


def calibrate_sample(
    sample: ReferenceSample,
    totals: Mapping[tuple[str, ...], float] | None,
    columns: Sequence[str] | None = None,
) -> Calibration | None:
    """The calibration of a sample to known sizes; None where no sizes are known.

    Args:
        sample: The labelled sample.
        totals: Sizes keyed by the values of ``columns``.
        columns: Default: the design's strata and the map column.

    Raises:
        DesignError: The cities were chosen on purpose, or the sizes do not fit the sample.
    """
    if totals is None:
        return None
    if sample.design.psu_selection == "purposive" and sample.design.psu is not None:
        raise DesignError(
            "known totals of the map with cities chosen on purpose: the figures speak for these cities only, whose"
            " areas are known already, and totals of more cities would make them look like a nation's. Leave the totals"
            " (--map-totals) out, or join these cities with randomly drawn ones"
        )
    stratum = [] if sample.design.stratum is None else [sample.design.stratum]
    names = list(columns or [*stratum, sample.map_column])
    found = calibrate(pd.DataFrame({c: sample.codes(c).to_numpy() for c in names}), totals)
    found.require_sane(sample.arrays.weight)
    return found


def estimate_arrays(
    arrays: SampleArrays,
    cells: Floats,
    options: EstimateOptions | None = None,
    *,
    values: NDArray[Any] | None = None,
    domain: str | None = None,
    calibration: Calibration | None = None,
) -> EstimateTable:
    """As `estimate`, from arrays.

    Args:
        arrays: The design.
        cells: float64 (n, 4), tp, fp, fn, tn of each unit: 0 and 1 for points, areas for blocks.
        options: See `estimate`.
        values: Domain value of each unit, None for the whole.
        domain: Name of the domain, for the table.
        calibration: Known totals, or None.
    """
    options = options or EstimateOptions()
    groups, code = [WHOLE], np.zeros(len(cells), dtype=np.int64)
    if values is not None:
        code, names = pd.factorize(np.asarray(values), sort=True)
        groups = [str(name) for name in names]
    added = np.zeros((len(groups), len(options.measures)))
    if options.interpreters is not None:  # of single points, which pooled rows no longer are
        factor = 1.0 if calibration is None else calibration.factors(arrays.weight)
        added = interpreter_variance(arrays, arrays.weight * factor, code == np.arange(len(groups))[:, None], options)
    labels = [code] if calibration is None else [code, calibration.cell]
    arrays, rows = pool_points(arrays, cells, labels)
    cells, code = cells[rows], code[rows]
    calibration = None if calibration is None else calibration.take(rows)
    weight = arrays.weight if calibration is None else arrays.weight * calibration.factors(arrays.mass)
    masks = code == np.arange(len(groups))[:, None]
    numbers = estimate_linearised(arrays, cells, masks, options, calibration=calibration)
    table = []
    for g, name in enumerate(groups):
        facts = DomainFacts.of(arrays, weight, cells, masks[g], options.variance)
        for k, measure in enumerate(options.measures):
            sampling, more = float(numbers["variance"][g, k]), float(added[g, k])
            df = (
                facts.df if options.interpreters is None else join_df(sampling, facts.df, more, options.interpreters.df)
            )
            described = describe(
                MEASURES[measure],
                value=float(numbers["estimate"][g, k]),
                variance=sampling + more,
                srs_variance=float(numbers["srs_variance"][g, k]),
                facts=replace(facts, df=df),
                options=options,
            )
            if options.interpreters is not None:
                described["flags"] = _flag_interpreters(described["flags"], facts, df, options.flag_rules)
                described["deff"] *= sampling / (sampling + more) if sampling > 0 else math.nan
            described["se_interpreters"] = math.nan if options.interpreters is None else math.sqrt(more)
            key = {"variance": options.variance, "domain": domain or "", "value": name, "measure": measure}
            table.append({**key, **described})
    return EstimateTable(frame=pd.DataFrame(table), level=options.level)


def _flag_interpreters(flags: tuple[str, ...], facts: DomainFacts, joined: float, rules: FlagRules) -> tuple[str, ...]:
    """Degrees of freedom that few interpreters bring below the limit are not a matter of the cities."""
    if joined >= rules.min_df or facts.df < rules.min_df:
        return flags
    few_cities = 0 < facts.fewest_psu < rules.min_psu
    return (*(f for f in flags if f != "few_psu" or few_cities), "few_interpreters")


def interpreter_variance(arrays: SampleArrays, weight: Floats, masks: Bools, options: EstimateOptions) -> Floats:
    """What the interpreters of `EstimateOptions` add to the variances of the points' own figures.

    Args:
        arrays: The design, one row per point.
        weight: float64 (n,), the weights of the estimate (calibrated ones where it is calibrated).
        masks: bool (G, n), the domains.
        options: K measures, the variance and its rules, the interpreters.

    Returns:
        float64 (G, K); 0 without interpreters, NaN where a measure has no denominator.
    """
    panel = options.interpreters
    if panel is None:
        return np.zeros((len(masks), len(options.measures)))
    return panel.variance(weight, masks, options.measures, sampling_variance=sampling_variance_of(arrays, options))


def sampling_variance_of(arrays: SampleArrays, options: EstimateOptions) -> Callable[..., Floats]:
    """The design's variance of the column sums of float64 (n, K) as the options say; takes `domains`, too."""
    return partial(
        design_variance,
        arrays=arrays,
        kind=options.variance,
        lonely=options.lonely_psu,
        fpc_in_cells=options.fpc_in_cells,
        pps=options.pps,
    )


def estimate_linearised(
    arrays: SampleArrays,
    onehot: Floats,
    masks: Bools,
    options: EstimateOptions,
    *,
    calibration: Calibration | None = None,
) -> dict[str, Floats]:
    """Estimates, variances and design effects of K measures in G domains.

    Args:
        arrays: The design.
        onehot: float64 (n, 4), tp, fp, fn, tn; block samples give areas instead of 0 and 1.
        masks: bool (G, n), the domains.
        options: K measures, the variance and its rules.
        calibration: Known cell totals, or None.

    Returns:
        ``estimate``, ``variance``, ``srs_variance``, each float64 (G, K); NaN where the denominator is 0.
    """
    y_of, x_of = coefficients(options.measures)
    y, x = onehot @ y_of, onehot @ x_of
    weight = arrays.weight if calibration is None else arrays.weight * calibration.factors(arrays.mass)
    mass = weight * arrays.points
    weighted_masks = masks * mass
    Y, X = weighted_masks @ y, weighted_masks @ x
    is_total = x_of.sum(axis=0) == 0
    X = np.where(is_total, 1.0, X)
    good = X > 0
    safe = np.where(good, X, 1.0)
    R = np.where(good, Y / safe, np.nan)
    slope = np.where(is_total, 0.0, np.where(good, R, 0.0))
    n, n_measures = y.shape
    v = np.empty_like(R)
    srs = np.empty_like(R)
    step = max(1, CHUNK // max(1, n * n_measures))
    for start in range(0, len(masks), step):
        part = slice(start, start + step)
        d = masks[part, :, None] * (y[None] - slope[part, None, :] * x[None]) / safe[part, None, :]
        flat = d.transpose(1, 0, 2).reshape(n, -1)
        srs[part] = srs_variance(flat, weight, arrays.points).reshape(-1, n_measures)
        if calibration is not None:
            flat = calibration.residuals(flat, mass)
        v[part] = design_variance(
            weight[:, None] * flat,
            arrays,
            kind=options.variance,
            lonely=options.lonely_psu,
            fpc_in_cells=options.fpc_in_cells,
            pps=options.pps,
            domains=np.repeat(masks[part].T, n_measures, axis=1) if options.lonely_psu == "average" else None,
        ).reshape(-1, n_measures)
    hidden = ~good
    v[hidden], srs[hidden] = np.nan, np.nan
    return {"estimate": R, "variance": v, "srs_variance": srs}


def srs_variance(d: Floats, weight: Floats, points: Floats | None = None) -> Floats:
    """Variance of sum w d under simple random sampling of n of N = sum w units (denominator of deff).

    As R ``svymean(deff=TRUE)``: without replacement where N > n.

    Args:
        d: float64 (n, K), linearised values.
        weight: float64 (n,), weights.
        points: float64 (n,), how many points each row stands for; None is one.

    Returns:
        float64 (K,); NaN for fewer than two units.
    """
    mass = weight if points is None else weight * points
    n, size = len(weight) if points is None else int(points.sum()), float(mass.sum())
    if n < 2:
        return np.full(d.shape[1], np.nan)
    mean = mass @ d / size
    spread = mass @ np.square(d - mean) / size * n / (n - 1)
    return np.asarray(spread * size**2 / n * max(0.0, 1 - n / size) if size > n else spread * size**2 / n)


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
