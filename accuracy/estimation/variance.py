"""Design variance of weighted totals (Cochran 1977, ch. 10 and 11; Särndal et al. 1992, ch. 4).

With z = weight * value of a point, z_hi the total of city i in region h, and f the sampling fractions:

two_stage         sum_h (1 - f_h) n_h/(n_h - 1) sum_i (z_hi - mean_h)^2
                  + sum_h f_h sum_i sum_c (1 - f_hic) m_hic/(m_hic - 1) sum_k (z_hick - mean_hic)^2
with_replacement  sum_h n_h/(n_h - 1) sum_i (z_hi - mean_h)^2
cities_fixed      sum_h sum_i sum_c m_hic/(m_hic - 1) sum_k (z_hick - mean_hic)^2

The z hold the full weight, which is why the second line carries f_h and not its square. A certainty region
(f_h = 1) has no first term. `cities_fixed` speaks about the sampled cities only.

Cities drawn without replacement with unequal probabilities pi_i have the between-city term of Brewer (2002; R
``svydesign(pps="brewer")``) or Hájek (1964), which need no joint probabilities, and pi_i in place of f_h:

brewer            sum_h n_h/(n_h - 1) sum_i (1 - pi_i) (z_hi - mean_h)^2
hajek             the same about the mean of the z_hi weighted by 1 - pi_i

where n_h and the means are those of the cities with pi_i < 1; certainties have the second term only. A city drawn r
times with replacement counts as r cities of z_hi / r.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from accuracy.arrays import Bools, Floats, Ints, SampleArrays
from accuracy.errors import DesignError, LonelyUnitError

VarianceKind = Literal["two_stage", "with_replacement", "cities_fixed"]
LonelyRule = Literal["fail", "certainty", "adjust", "average"]
PpsVariance = Literal["brewer", "hajek"]

VARIANCE_KINDS: tuple[VarianceKind, ...] = get_args(VarianceKind)
LONELY_RULES: tuple[LonelyRule, ...] = get_args(LonelyRule)
NO_CORRECTION = 1e-7  # a group whose finite-population correction is below has no variance of its own


@dataclass(frozen=True, kw_only=True)
class VarianceRules:
    """How a variance treats what the design leaves open.

    Attributes:
        lonely: What a stratum with a single sampled unit that is not a certainty does: ``fail`` raises,
            ``certainty`` adds nothing, ``adjust`` takes its square about the grand mean (0 for linearised
            values), ``average`` gives it the mean contribution of the other strata (of its domain). As in R ``survey``.
        fpc_in_cells: Finite-population correction of points in cells for ``cities_fixed`` (``two_stage``
            always has it).
        pps: Which approximation serves cities drawn without replacement with unequal probabilities.
    """

    lonely: LonelyRule = "fail"
    fpc_in_cells: bool = False
    pps: PpsVariance = "brewer"


def design_variance(
    z: Floats,
    arrays: SampleArrays,
    *,
    kind: VarianceKind,
    lonely: LonelyRule = "fail",
    fpc_in_cells: bool = False,
    pps: PpsVariance = "brewer",
    domains: Bools | None = None,
) -> Floats:
    """Variance of the column sums of ``z``.

    Args:
        z: float64 (n, K), weight times linearised value; 0 outside a domain (the design stays whole).
        arrays: The design.
        kind: Which variance, see the module's text.
        lonely: See `VarianceRules`.
        fpc_in_cells: See `VarianceRules`.
        pps: See `VarianceRules`.
        domains: bool (n, K), where each column's domain lies; None is everywhere. ``average`` borrows from strata of
            the domain only: a lonely stratum elsewhere says nothing of it.

    Returns:
        float64 (K,); NaN where ``average`` finds nothing in the domain to borrow from.

    Raises:
        LonelyUnitError: ``lonely="fail"`` and there is such a stratum, or ``average`` has nothing to average.
        DesignError: The design has no variance of this kind.
    """
    rules = VarianceRules(lonely=lonely, fpc_in_cells=fpc_in_cells, pps=pps)
    if kind == "cities_fixed" and not arrays.single_stage:
        return _within(z, arrays, rules, fpc=fpc_in_cells, scale=None, domains=domains)
    if arrays.between_psu is not None:
        raise DesignError(f"no {kind} variance: {arrays.between_psu}")
    between = _between(z, arrays, kind, rules, domains)
    if kind != "two_stage" or arrays.single_stage:
        return between
    share = (arrays.psu_sampled / arrays.psu_population)[arrays.stratum_of_psu]
    if arrays.psu_probability is not None:
        share = arrays.psu_probability
    return between + _within(z, arrays, rules, fpc=True, scale=share[arrays.psu_of_cell], domains=domains)


@dataclass(frozen=True, kw_only=True)
class _Groups:
    """Groups of units, each sampled on its own.

    Attributes:
        codes: int64 (units,), group of each unit.
        summing: Sparse (groups, units).
        sampled: float64 (groups,), units sampled that are no certainties.
        unit_factor: float64 (units,), finite-population correction of each unit; 0 for a certainty.
        counts: float64 (units,), as how many units each counts: 0 for a certainty, r for one drawn r times.
        centre: float64 (units,), weights of the mean that squares are taken about.
        name: Says which group it is and that it has a single unit.
    """

    codes: Ints
    summing: Any
    sampled: Floats
    unit_factor: Floats
    counts: Floats
    centre: Floats
    name: Callable[[int], str]


def _between(
    z: Floats, arrays: SampleArrays, kind: VarianceKind, rules: VarianceRules, domains: Bools | None
) -> Floats:
    totals = arrays.points_to_psu @ z
    counts = np.ones(len(totals)) if arrays.times_drawn is None else arrays.times_drawn
    unequal = kind == "two_stage" and arrays.psu_probability is not None
    if unequal:
        factor = np.where(arrays.is_certain, 0.0, 1 - np.asarray(arrays.psu_probability))
        counts = np.where(arrays.is_certain, 0.0, counts)
    elif kind == "two_stage":
        factor = (1 - arrays.psu_sampled / arrays.psu_population)[arrays.stratum_of_psu]
    else:
        factor = np.ones(len(totals))
    strata = _Groups(
        codes=arrays.stratum_of_psu,
        summing=arrays.psu_to_strata,
        sampled=arrays.psu_to_strata @ counts,
        unit_factor=factor,
        counts=counts,
        centre=factor if unequal and rules.pps == "hajek" else counts,
        name=lambda h: (
            f"stratum {arrays.stratum_names[h]!r} has 1 sampled primary unit of {arrays.psu_population[h]:g}"
            if np.isfinite(arrays.psu_population[h])
            else f"stratum {arrays.stratum_names[h]!r} has 1 sampled primary unit that is no certainty"
        ),
    )
    inside = None if domains is None else (arrays.points_to_psu @ domains.astype(np.float64)) > 0
    return _stratified(totals, strata, rules, domains=inside)


def _within(
    z: Floats, arrays: SampleArrays, rules: VarianceRules, *, fpc: bool, scale: Floats | None, domains: Bools | None
) -> Floats:
    m = arrays.ssu_sampled
    complete = m >= arrays.ssu_population
    correction = np.maximum(1 - m / arrays.ssu_population, 0) if fpc else np.where(complete & (m == 1), 0.0, 1.0)
    ones = np.ones(len(z))
    cells = _Groups(
        codes=arrays.cell,
        summing=arrays.points_to_cells,
        sampled=m.astype(np.float64),
        unit_factor=correction[arrays.cell],
        counts=ones,
        centre=ones,
        name=lambda c: f"cell {arrays.cell_names[c]!r} has 1 labelled point of {arrays.ssu_population[c]:g} units",
    )
    parent = arrays.psu_of_cell if scale is not None else None
    return _stratified(z, cells, rules, scale=scale, average_over=parent, domains=domains)


def _stratified(
    z: Floats,
    groups: _Groups,
    rules: VarianceRules,
    *,
    scale: Floats | None = None,
    average_over: Ints | None = None,
    domains: Bools | None = None,
) -> Floats:
    """Sum over groups of n/(n-1) * corrected squares about the group's mean, with rules for n = 1."""
    n = groups.sampled
    corrected = np.asarray(groups.summing @ groups.unit_factor)
    alone: Bools = (n == 1) & (corrected > NO_CORRECTION)
    if alone.any() and rules.lonely == "fail":
        first = int(np.flatnonzero(alone)[0])
        others = f" (and {int(alone.sum()) - 1} more)" if alone.sum() > 1 else ""
        raise LonelyUnitError(
            f"{groups.name(first)}{others}: one unit shows no spread. Sample another, merge the stratum with a similar"
            " one, or choose how to treat it with --lonely-psu certainty, adjust or average"
        )
    per_unit = z / np.maximum(groups.counts, 1)[:, None]
    middle = groups.summing @ groups.centre
    mean = (groups.summing @ (groups.centre[:, None] * per_unit)) / np.where(middle > 0, middle, 1)[:, None]
    if rules.lonely == "adjust":
        mean[alone] = 0
    weight = groups.unit_factor * groups.counts
    spread = groups.summing @ (weight[:, None] * np.square(per_unit - mean[groups.codes]))
    contribution = spread * np.where(n > 1, n / np.maximum(n - 1, 1), 1.0)[:, None]
    if scale is not None:
        contribution *= scale[:, None]
    if rules.lonely == "average" and alone.any():
        contribution = _share_average(contribution, alone, groups, average_over, domains)
    return np.asarray(contribution.sum(axis=0))


def _share_average(
    contribution: Floats, alone: Bools, groups: _Groups, average_over: Ints | None, domains: Bools | None
) -> Floats:
    """Lonely groups get the mean contribution of the others that their domain (and parent) touches."""
    parent = np.zeros(len(alone), dtype=np.int64) if average_over is None else average_over
    count = int(parent.max()) + 1
    good = np.bincount(parent[~alone], minlength=count)
    if (good == 0).any():
        bad = int(np.flatnonzero(np.isin(parent, np.flatnonzero(good == 0)))[0])
        raise LonelyUnitError(f"{groups.name(bad)} and so have all beside it: there is nothing to average over")
    touched = np.ones(contribution.shape, dtype=bool)
    if domains is not None:
        touched = (groups.summing @ domains.astype(np.float64)) > 0
    known, missing = (np.zeros((count, contribution.shape[1])) for _ in range(2))
    np.add.at(known, parent[~alone], touched[~alone].astype(np.float64))
    np.add.at(missing, parent[alone], touched[alone].astype(np.float64))
    gain = np.where(known > 0, (known + missing) / np.where(known > 0, known, 1), np.where(missing > 0, np.nan, 1.0))
    shared = np.where(alone[:, None], 0.0, contribution)
    lost = (known == 0) & (missing > 0)
    return np.asarray(shared * np.where(lost, 0.0, gain)[parent] + np.where(lost, np.nan, 0.0)[parent])
