"""Accuracy of a product's attributes: values of the map's villages against reference values of drawn villages.

With weights w, product p, reference r, e = p - r (Willmott & Matsuura 2005 for what the errors say; Fleiss et al. 2003
for kappa):

bias       sum w e / sum w                       relative_bias   sum w e / sum w r
MAE        sum w |e| / sum w                     RMSE            sqrt(sum w e^2 / sum w)
R2         1 - sum w e^2 / sum w (r - mean)^2    about the line p = r, no fitted one; may be below 0
pearson    weighted correlation                  spearman        the same of weighted mid-ranks
agreement  share of w with p = r                 kappa           (agreement - chance) / (1 - chance)

Each has its influence function (for spearman with what a point does to the ranks of all others), and its variance is
the design's of w times it, with replacement between primary units: that of R ``svydesign(ids, strata, weights)``.
Intervals: t; on the logarithm for MAE and RMSE, after Fisher for correlations, on the logit for agreement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from accuracy import intervals
from accuracy.arrays import Bools, Floats, Ints, SampleArrays
from accuracy.errors import SampleTableError
from accuracy.estimation.estimation import WHOLE
from accuracy.estimation.variance import LonelyRule, design_variance
from accuracy.survey.dates import read_span
from accuracy.survey.design import as_text

Kind = Literal["number", "category", "date"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LEAST_VILLAGES = 30
FEW = "few_points"


@dataclass(frozen=True, kw_only=True)
class Field:
    """An attribute and its reference.

    Attributes:
        name: The attribute.
        product: Column of the product's value.
        reference: Column of the reference's.
        kind: How they are compared; dates in days.
        unit: Unit of the values; "" for none.
    """

    name: str
    product: str
    reference: str
    kind: Kind
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class AttributeRules:
    """How attributes are assessed.

    Attributes:
        stratum: Column of strata within which villages (or cities) were drawn; None for one.
        psu: Column of primary units (cities); None where villages were drawn themselves.
        weight: Column of weights, 1 / inclusion probability; None: all alike.
        by: Columns whose values are domains.
        level: Confidence level.
        lonely_psu: A single primary unit in a stratum: see `accuracy.estimation.variance`.
    """

    stratum: str | None = None
    psu: str | None = None
    weight: str | None = None
    by: tuple[str, ...] = ()
    level: float = 0.95
    lonely_psu: LonelyRule = "fail"


def guess_kind(values: pd.Series) -> Kind:
    """Numbers where all values are numbers, dates where all have the year first, else classes."""
    known = values.dropna().astype(str).str.strip()
    known = known[known != ""]
    if len(known) and pd.to_numeric(known, errors="coerce").notna().all():
        return "number"
    return "date" if len(known) and known.str.fullmatch(r"\d{4}-\d{1,2}-\d{1,2}(/.*|T.*)?").all() else "category"


def assess_attributes(
    table: pd.DataFrame, fields: Sequence[Field], rules: AttributeRules | None = None
) -> pd.DataFrame:
    """Every measure of every attribute, for the whole and the domains.

    Args:
        table: One row per drawn village, with the columns of fields and rules; a missing product value lowers
            ``has_value`` and counts in no other measure, a missing reference value counts nowhere.
        fields: What is compared.
        rules: Design and level; None for villages drawn at random.

    Returns:
        ``field``, ``kind``, ``unit``, ``domain``, ``value`` (``all`` for the whole), ``measure``, ``estimate``, ``se``,
        ``ci_low``, ``ci_high``, ``df``, ``n_villages``, ``flags``; NaN where it cannot be estimated.

    Raises:
        SampleTableError: A column is missing, a value is none of its kind, or a weight is not positive.
        LonelyUnitError: See `AttributeRules`.
    """
    rules = rules or AttributeRules()
    if table.empty:
        raise SampleTableError("no reference row meets a village of the product: there is nothing to compare")
    wanted = [c for f in fields for c in (f.product, f.reference)]
    for column in [*wanted, rules.stratum, rules.psu, rules.weight, *rules.by]:
        if column is not None and column not in table.columns:
            raise SampleTableError(
                f"column {column!r} is not in the table (it has {', '.join(map(str, table.columns))})"
            )
    arrays = _arrays(table, rules)
    domains: list[tuple[str, str, Bools]] = [("", WHOLE, np.ones(len(table), dtype=bool))]
    for column in rules.by:
        text = as_text(table[column])
        domains += [(column, str(v), (text == v).to_numpy(dtype=bool)) for v in sorted(text.dropna().unique())]
    rows: list[dict[str, Any]] = []
    for field in fields:
        p, r = (_values(table[c], field, c) for c in (field.product, field.reference))
        told = np.asarray(pd.notna(r), dtype=bool)
        both = told & np.asarray(pd.notna(p), dtype=bool)
        for domain, value, mask in domains:
            key = {"field": field.name, "kind": field.kind, "unit": field.unit, "domain": domain, "value": value}
            found = _measure(field.kind, p, r, arrays.weight, mask & both)
            has = _mean(both.astype(float), arrays.weight, mask & told)
            for name, (estimate, influence) in {"has_value": has, **found}.items():
                used = mask & (told if name == "has_value" else both)
                row = _describe(name, (estimate, influence), used, arrays=arrays, rules=rules)
                rows.append(key | {"measure": name} | row)
    return pd.DataFrame(rows)


Found = tuple[float, Floats]


def _measure(kind: Kind, p: Any, r: Any, weight: Floats, mask: Bools) -> dict[str, Found]:
    """Estimates with influence values (n,), 0 outside the mask."""
    if kind == "category":
        return _compare_classes(p, r, weight, mask)
    found = _compare_numbers(p, r, weight, mask)
    return {n: v for n, v in found.items() if kind == "number" or n != "relative_bias"}


def _compare_numbers(p: Floats, r: Floats, weight: Floats, mask: Bools) -> dict[str, Found]:
    p, r = np.where(mask, p, 0.0), np.where(mask, r, 0.0)
    w = weight * mask
    W = float(w.sum())
    e = p - r
    bias, mae, mse = (_mean(v, weight, mask) for v in (e, np.abs(e), np.square(e)))
    rmse = float(np.sqrt(mse[0]))
    found: dict[str, Found] = {
        "bias": bias,
        "MAE": mae,
        "RMSE": (rmse, np.asarray(mse[1] / (2 * rmse) if rmse > 0 else 0 * mse[1], dtype=np.float64)),
    }
    size = float(w @ r)
    relative = float(w @ e) / size if size > 0 else np.nan
    found["relative_bias"] = (relative, mask * (e - relative * r) / (size if size > 0 else np.nan))
    inside = mask.astype(np.float64)
    away = inside * np.square(r - float(w @ r) / max(W, 1e-300))
    spread = float(w @ away)
    r2 = 1 - float(w @ np.square(e)) / spread if spread > 0 else np.nan
    found["R2"] = (r2, -(inside * np.square(e) - (1 - r2) * away) / (spread if spread > 0 else np.nan))
    found["pearson"] = _correlate(p, r, w, mask)
    found["spearman"] = _correlate_ranks(p, r, w, mask)
    return found


def _correlate(p: Floats, r: Floats, w: Floats, mask: Bools) -> Found:
    u, v = _standardise(p, w), _standardise(r, w)
    if u is None or v is None:
        return np.nan, np.full(len(p), np.nan)
    W = float(w.sum())
    rho = float(w @ (u * v)) / W
    return rho, mask * (u * v - rho * (np.square(u) + np.square(v)) / 2) / W


def _correlate_ranks(p: Floats, r: Floats, w: Floats, mask: Bools) -> Found:
    """Correlation of mid-ranks; a point also moves the ranks of all others."""
    U, V = _mid_ranks(p, w, mask), _mid_ranks(r, w, mask)
    rho, influence = _correlate(U, V, w, mask)
    if not np.isfinite(rho):
        return rho, influence
    W = float(w.sum())
    su, sv = (float(np.sqrt(w @ np.square(x - w @ x / W) / W)) for x in (U, V))
    u, v = (U - w @ U / W) / su, (V - w @ V / W) / sv
    for ranks, slope, values in ((U, (v - rho * u) / su, p), (V, (u - rho * v) / sv, r)):
        pull = w * slope / W
        order = np.argsort(values, kind="stable")
        total = np.concatenate([[0.0], np.cumsum(pull[order])])
        low, high = (np.searchsorted(values[order], values, side=side) for side in ("left", "right"))
        above = total[-1] - total[high] + (total[high] - total[low]) / 2  # of points whose rank this one raises
        influence = influence + mask * (above - float(pull @ ranks)) / W
    return rho, influence


def _mid_ranks(values: Floats, w: Floats, mask: Bools) -> Floats:
    """float64 (n,) in (0, 1): share of the weight below, and half of that which is equal."""
    order = np.argsort(values, kind="stable")
    total = np.concatenate([[0.0], np.cumsum(w[order])])
    low, high = (np.searchsorted(values[order], values, side=side) for side in ("left", "right"))
    return np.asarray(mask * (total[low] + total[high]) / 2 / total[-1]) if total[-1] > 0 else np.zeros(len(values))


def _standardise(x: Floats, w: Floats) -> Floats | None:
    W = float(w.sum())
    if not W > 0:
        return None
    away = x - float(w @ x) / W
    spread = float(np.sqrt(w @ np.square(away) / W))
    return away / spread if spread > 1e-12 * max(1.0, float(np.abs(x).max())) else None


def _compare_classes(p: Any, r: Any, weight: Floats, mask: Bools) -> dict[str, Found]:
    agree = _mean((p == r).astype(float), weight, mask)
    w = weight * mask
    W = float(w.sum())
    if not W > 0:
        return {"agreement": agree, "kappa": (np.nan, np.full(len(w), np.nan))}
    code, names = pd.factorize(np.concatenate([p[mask], r[mask]]))
    mine, theirs = np.split(code, 2)
    P, R = (np.bincount(c, w[mask], minlength=len(names)) / W for c in (mine, theirs))
    chance = float(P @ R)
    if chance >= 1 - 1e-12:
        return {"agreement": agree, "kappa": (np.nan, np.full(len(w), np.nan))}
    by_chance = np.zeros(len(w))
    by_chance[mask] = (R[mine] + P[theirs] - 2 * chance) / W
    kappa = (agree[0] - chance) / (1 - chance)
    influence = ((1 - chance) * agree[1] - (1 - agree[0]) * by_chance) / (1 - chance) ** 2
    return {"agreement": agree, "kappa": (kappa, influence)}


def _mean(values: Floats, weight: Floats, mask: Bools) -> Found:
    W = float(weight @ mask)
    if not W > 0:
        return np.nan, np.full(len(weight), np.nan)
    mean = float((weight * mask) @ values) / W
    return mean, np.asarray(mask * (values - mean) / W, dtype=np.float64)


def _describe(name: str, found: Found, mask: Bools, *, arrays: SampleArrays, rules: AttributeRules) -> dict[str, Any]:
    (estimate, influence), n = found, int(mask.sum())
    used = np.unique(arrays.psu[mask])
    df = float(len(used) - len(np.unique(arrays.stratum_of_psu[used])))
    row = {"estimate": estimate, "se": np.nan, "ci_low": np.nan, "ci_high": np.nan, "df": df, "n_villages": n}
    flags = (FEW,) if n < LEAST_VILLAGES else ()
    if not np.isfinite(estimate) or n < 2 or df < 1:
        return row | {"flags": flags}
    z = (arrays.weight * influence)[:, None]
    se = float(np.sqrt(max(design_variance(z, arrays, kind="with_replacement", lonely=rules.lonely_psu)[0], 0.0)))
    t = float(intervals.t_quantile(df, rules.level))
    if name in {"MAE", "RMSE"}:
        reach = np.exp(min(t * se / estimate, 50.0)) if estimate > 0 else 1.0
        low, high = estimate / reach, estimate * reach
    elif name in {"pearson", "spearman"} and abs(estimate) < 1 - 1e-12:
        middle, reach = np.arctanh(estimate), t * se / (1 - estimate**2)
        low, high = np.tanh(middle - reach), np.tanh(middle + reach)
    elif name in {"agreement", "has_value"} and 0 < estimate < 1:
        low, high = (float(v) for v in intervals.logit_t(estimate, se, df, rules.level))
    else:
        low, high = estimate - t * se, estimate + t * se
        if name in {"agreement", "has_value"} and not 0 < estimate < 1:  # none of a kind was seen: that is no certainty
            bound = float(intervals.zero_count_bound(n, rules.level))
            low, high = (1 - bound, 1.0) if estimate >= 1 else (0.0, bound)
    return row | {"se": se, "ci_low": float(low), "ci_high": float(high), "flags": flags}


def _arrays(table: pd.DataFrame, rules: AttributeRules) -> SampleArrays:
    """The design; villages are their own primary units where none are named."""
    n = len(table)
    weight = np.ones(n)
    if rules.weight is not None:
        weight = pd.to_numeric(table[rules.weight], errors="coerce").to_numpy(dtype=np.float64)
        if not (np.isfinite(weight) & (weight > 0)).all():
            row = int(np.flatnonzero(~(np.isfinite(weight) & (weight > 0)))[0])
            raise SampleTableError(
                f"weight {table[rules.weight].iloc[row]} of row {row + 1} (column {rules.weight!r}) is not a number"
                " above 0: give 1 / the probability with which the village was drawn"
            )
    strata = _codes(table, rules.stratum, np.zeros(n, dtype=np.int64))
    stratum, stratum_names = strata if isinstance(strata, tuple) else (strata, ("all",))
    own = np.arange(n, dtype=np.int64)
    if rules.psu is not None:
        pair = pd.MultiIndex.from_arrays([stratum, as_text(table[rules.psu]).fillna("")])
        own = np.asarray(pd.factorize(pair, sort=True)[0], dtype=np.int64)
    first = np.unique(own, return_index=True)[1]
    names = tuple(str(k) for k in range(len(first)))
    if rules.psu is not None:
        names = tuple(as_text(table[rules.psu]).iloc[first].astype(str))
    return SampleArrays(
        weight=weight, psu=own, cell=own, stratum_of_psu=stratum[first], psu_of_cell=np.arange(len(first)),
        psu_population=np.full(len(stratum_names), np.inf), ssu_population=np.full(len(first), np.inf),
        stratum_names=stratum_names, psu_names=names, cell_names=names, single_stage=rules.psu is None,
    )  # fmt: skip


def _codes(table: pd.DataFrame, column: str | None, default: Ints) -> tuple[Ints, tuple[str, ...]] | Ints:
    if column is None:
        return default
    text = as_text(table[column])
    if text.isna().any():
        row = int(np.flatnonzero(text.isna())[0])
        raise SampleTableError(f"row {row + 1} has no value in column {column!r}: every village needs its stratum")
    code, names = pd.factorize(text, sort=True)
    return np.asarray(code, dtype=np.int64), tuple(str(v) for v in names)


def _values(column: pd.Series, field: Field, name: str) -> Any:
    """float64 of numbers and dates (days), object of classes; NaN or None where missing."""
    text = as_text(column)
    text = text.where(text.notna() & (text != ""), None)
    if field.kind == "category":
        return text.to_numpy(dtype=object)
    if field.kind == "number":
        numbers = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
        bad = text.notna().to_numpy() & ~np.isfinite(numbers)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise SampleTableError(
                f"column {name!r} of field {field.name!r} holds {text.iloc[row]!r} in row {row + 1}, which is no"
                " number: mend it, or compare the field as a category"
            )
        return numbers
    known: Mapping[str, float] = {v: _day(v, name) for v in text.dropna().unique()}
    return text.map(known).to_numpy(dtype=np.float64)


def _day(text: str, name: str) -> float:
    """Middle of a date or period, in days since 1970."""
    first, last = read_span(text, option=f"column {name!r}")
    return float((first + (last - first) / 2 - pd.Timestamp(0)) / pd.Timedelta(days=1))
