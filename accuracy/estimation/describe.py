"""From an estimate and its variance to what a reader may say: interval, bound for zero counts, flags."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from accuracy import intervals
from accuracy.arrays import Bools, Floats, SampleArrays
from accuracy.estimation.options import EstimateOptions, FlagRules
from accuracy.estimation.variance import VarianceKind
from accuracy.intervals import IntervalKind
from accuracy.measures import CELLS, Measure

FLAG_TEXT = {
    "not_estimable": "not estimable from this sample",
    "zero_count": "a cell that the measure needs was never observed; a one-sided bound stands where the estimate is"
    " 0 or 1",
    "few_points": "fewer points in the denominator than recommended",
    "few_psu": "too few cities in a region for a two-stage interval",
    "few_interpreters": "few interpreters show how much interpreters differ, so the interval is wide",
    "few_omissions": "recall rests on too few omission points: the sample is below the recommended size and the"
    " interval may cover less than it claims",
    "cv_caution": "coefficient of variation above 0.15: use with caution",
    "cv_do_not_quote": "coefficient of variation above 0.30: do not quote",
    "korn_graubard_used": "weights differ, so the count's interval does not hold: Korn-Graubard is shown",
    "no_variance": "no variance of this kind for this design",
}


@dataclass(frozen=True, kw_only=True)
class DomainFacts:
    """What a domain of the sample holds.

    Attributes:
        counts: float64 (4,), points with tp, fp, fn, tn.
        totals: float64 (4,), their weighted totals.
        kish: float64 (4,), effective number of points per cell.
        kish_mapped: Effective number of mapped points.
        kish_unmapped: Effective number of unmapped points.
        weights: float64 (rows,), weights of a point of each row.
        onehot: float64 (rows, 4), their cells.
        n_points: Points.
        n_psu: Primary units.
        fewest_psu: Primary units of the smallest stratum that is not a certainty; 0 where all are.
        df: See `degrees_of_freedom`.
        points: float64 (rows,), points of each row, or None: one each.
    """

    counts: Floats
    totals: Floats
    kish: Floats
    kish_mapped: float
    kish_unmapped: float
    weights: Floats
    onehot: Floats
    n_points: int
    n_psu: int
    fewest_psu: int
    df: float
    points: Floats | None = None

    def count(self, inside: Bools) -> int:
        """Points of the rows under ``inside`` (bool (rows,))."""
        return int(inside.sum() if self.points is None else self.points[inside].sum())

    @classmethod
    def of(
        cls, arrays: SampleArrays, weight: Floats, onehot: Floats, mask: Bools, variance: VarianceKind
    ) -> DomainFacts:
        """Facts of the points under ``mask``."""
        w, points = weight[mask], arrays.points[mask]
        part = onehot[mask]
        psu = np.unique(arrays.psu[mask])
        mapped = part[:, 0] + part[:, 1] > 0
        free = psu[~arrays.is_certain[psu]]
        _, per_stratum = np.unique(arrays.stratum_of_psu[free], return_counts=True)
        fixed = are_cities_fixed(arrays, mask, variance)
        return cls(
            counts=points @ (part > 0),
            totals=(w * points) @ part,
            kish=np.array([_kish(w * part[:, k], points) for k in range(4)]),
            kish_mapped=_kish(w[mapped], points[mapped]),
            kish_unmapped=_kish(w[~mapped], points[~mapped]),
            weights=w,
            points=points,
            onehot=part,
            n_points=int(points.sum()),
            n_psu=len(psu),
            fewest_psu=0 if fixed or not len(per_stratum) else int(per_stratum.min()),
            df=degrees_of_freedom(arrays, mask, variance),
        )


def are_cities_fixed(arrays: SampleArrays, mask: Bools, variance: VarianceKind) -> bool:
    """Whether a domain's variance is that between points alone: fixed cities, or certainties only."""
    if arrays.single_stage or variance == "with_replacement":
        return False
    return variance == "cities_fixed" or bool(arrays.is_certain[np.unique(arrays.psu[mask])].all())


def degrees_of_freedom(arrays: SampleArrays, mask: Bools, variance: VarianceKind) -> float:
    """Degrees of freedom of any estimate in a domain.

    Points less cells where the cities are fixed or certainties; else cities less strata, as R ``survey`` counts them.
    Certainties among cities of unequal probability do not count, nor do strata of such only; a city drawn twice with
    replacement counts twice.

    Args:
        arrays: The design.
        mask: bool (n,), the domain.
        variance: Which variance.
    """
    if are_cities_fixed(arrays, mask, variance):
        return float(arrays.points[mask].sum() - len(np.unique(arrays.cell[mask])))
    psu = np.unique(arrays.psu[mask])
    if variance == "two_stage" and arrays.psu_probability is not None:
        psu = psu[~arrays.is_certain[psu]]
    draws = len(psu) if arrays.times_drawn is None else float(arrays.times_drawn[psu].sum())
    return float(draws - len(np.unique(arrays.stratum_of_psu[psu])))


def describe(
    measure: Measure,
    *,
    value: float,
    variance: float,
    srs_variance: float,
    facts: DomainFacts,
    options: EstimateOptions,
) -> dict[str, Any]:
    """The columns of one row of an estimate table, from its estimate and variance."""
    row: dict[str, Any] = {
        "estimate": value,
        "se": math.sqrt(max(variance, 0.0)) if math.isfinite(variance) else math.nan,
        "ci_low": math.nan,
        "ci_high": math.nan,
        "one_sided": False,
        "df": facts.df,
        "n_points": facts.n_points,
        "n_psu": facts.n_psu,
        "n_eff": math.nan,
        "deff": math.nan,
        "cv": math.nan,
        "flags": (),
        "reason": "",
    }
    if not math.isfinite(value):
        row["flags"] = ("not_estimable",)
        row["reason"] = _why_not(measure)
        return row
    flags = _flags(measure, facts, options.flag_rules)
    if not math.isfinite(variance):
        row["flags"] = (*flags, "no_variance")
        return row
    se = row["se"]
    if srs_variance > 0:
        row["deff"] = variance / srs_variance
    if measure.proportion and se > 0 and 0 < value < 1:
        row["n_eff"] = value * (1 - value) / se**2
    if value != 0:
        row["cv"] = abs(se / value)
        if measure.name != "area_difference" and row["cv"] > options.flag_rules.cv_caution:
            flags.append("cv_do_not_quote" if row["cv"] > options.flag_rules.cv_do_not_quote else "cv_caution")
    bound = _zero_count_interval(measure, value, facts, options.level)
    if bound is not None:
        row["ci_low"], row["ci_high"] = bound
        row["one_sided"] = measure.name != "area_difference"
    else:
        row["ci_low"], row["ci_high"] = _interval(
            measure, value, se, facts, kind=options.interval_kind, level=options.level, flags=flags
        )
        if "zero_count" in flags:
            _widen(row, measure, facts, options.level)
    row["flags"] = tuple(flags)
    return row


def _flags(measure: Measure, facts: DomainFacts, rules: FlagRules) -> list[str]:
    flags = []
    needed = [CELLS.index(c) for c in {*measure.perfect_if_zero, *measure.nothing_if_zero} if not measure.total]
    if any(facts.counts[k] == 0 for k in needed):
        flags.append("zero_count")
    if _denominator_points(measure, facts) < rules.min_points:
        flags.append("few_points")
    if (0 < facts.fewest_psu < rules.min_psu) or (facts.fewest_psu and facts.df < rules.min_df):
        flags.append("few_psu")
    if measure.name in {"PA", "F1", "IoU", "area"} and facts.kish[2] < rules.min_effective_omissions:
        flags.append("few_omissions")
    return flags


def _denominator_points(measure: Measure, facts: DomainFacts) -> int:
    return facts.count((facts.onehot @ np.array(measure.denominator)) > 0)


def _interval(
    measure: Measure,
    value: float,
    se: float,
    facts: DomainFacts,
    *,
    kind: IntervalKind,
    level: float,
    flags: list[str],
) -> tuple[float, float]:
    if not measure.proportion or kind == "wald_t":
        low, high = intervals.wald_t(value, se, facts.df, level)
        return float(low), float(high)
    inside = facts.onehot @ np.array(measure.denominator) > 0
    n = facts.count(inside)
    if kind in {"wilson", "clopper_pearson"}:
        w = facts.weights[inside]
        is_count = set(measure.numerator) | set(measure.denominator) <= {0, 1} and np.ptp(w) <= 1e-9 * w.max()
        if is_count:
            k = round(value * n)
            low, high = (intervals.wilson if kind == "wilson" else intervals.clopper_pearson)(k, n, level)
            return float(low), float(high)
        flags.append("korn_graubard_used")
        kind = "korn_graubard"
    if kind == "korn_graubard":
        low, high = intervals.korn_graubard(value, se, facts.df, n, level)
    elif kind == "likelihood":
        low, high = intervals.likelihood(value, se, facts.df, n, level)
    elif kind == "asin":
        low, high = intervals.asin(value, se, facts.df, level)
    else:
        low, high = intervals.logit_t(value, se, facts.df, level)
    return float(low), float(high)


def _zero_count_interval(
    measure: Measure, value: float, facts: DomainFacts, level: float
) -> tuple[float, float] | None:
    """A one-sided bound where the sample shows none of the cells that could make the measure less extreme.

    Each unseen cell gets the largest total that the points would have missed with probability 1 - level (shared
    between the cells), with Kish's effective number of points; points are treated as independent.
    """
    zero = [name for name in CELLS if facts.counts[CELLS.index(name)] == 0]
    perfect = measure.perfect_if_zero
    nothing = measure.nothing_if_zero
    if perfect and all(c in zero for c in perfect) and not all(c in zero for c in nothing):
        return _with_upper(measure, perfect, facts, level), value
    if nothing and all(c in zero for c in nothing) and measure.name != "total":
        if measure.name == "area_difference":
            each = 0.5 + level / 2
            return _with_upper(measure, ("fn",), facts, each), _with_upper(measure, ("fp",), facts, each)
        return value, _with_upper(measure, nothing, facts, level)
    return None


def _widen(row: dict[str, Any], measure: Measure, facts: DomainFacts, level: float) -> None:
    """Let the interval reach what one unseen cell could still do, which the standard error cannot show."""
    for name in {*measure.perfect_if_zero, *measure.nothing_if_zero}:
        if facts.counts[CELLS.index(name)] == 0:
            other = _with_upper(measure, (name,), facts, 0.5 + level / 2)
            row["ci_low"], row["ci_high"] = min(row["ci_low"], other), max(row["ci_high"], other)


def _with_upper(measure: Measure, unseen: tuple[str, ...], facts: DomainFacts, level: float) -> float:
    cells = dict(zip(CELLS, facts.totals, strict=True))
    each = 1 - (1 - level) / len(unseen)
    pairs = {"tp": "fp", "fp": "tp", "fn": "tn", "tn": "fn"}
    for name in unseen:
        effective = facts.kish_mapped if name in {"tp", "fp"} else facts.kish_unmapped
        other = pairs[name]
        both = cells[name] + cells[other]
        cells[name] = both * float(intervals.zero_count_bound(effective, each)) if both > 0 else 0.0
        cells[other] = both - cells[name]
    values = np.array([cells[c] for c in CELLS])
    top = float(values @ np.array(measure.numerator))
    if measure.total:
        return top
    bottom = float(values @ np.array(measure.denominator))
    return top / bottom if bottom > 0 else math.nan


def _why_not(measure: Measure) -> str:
    reasons = {
        "UA": "the map shows no urban village at the sampled points",
        "PA": "the reference shows no urban village at the sampled points",
        "F1": "neither map nor reference shows urban village at the sampled points",
        "IoU": "neither map nor reference shows urban village at the sampled points",
        "specificity": "the reference shows nothing but urban village at the sampled points",
        "NPV": "the map shows nothing but urban village at the sampled points",
    }
    return reasons.get(measure.name, "its denominator is zero in this sample")


def _kish(weight: Floats, points: Floats) -> float:
    total = float(points @ np.square(weight))
    return float(points @ weight) ** 2 / total if total > 0 else 0.0
