"""Design variance of weighted totals (Cochran 1977, ch. 10 and 11; Särndal et al. 1992, ch. 4).

With z = weight * value of a point, z_hi the total of city i in region h, and f the sampling fractions:

two_stage         sum_h (1 - f_h) n_h/(n_h - 1) sum_i (z_hi - mean_h)^2
                  + sum_h f_h sum_i sum_c (1 - f_hic) m_hic/(m_hic - 1) sum_k (z_hick - mean_hic)^2
with_replacement  sum_h n_h/(n_h - 1) sum_i (z_hi - mean_h)^2
cities_fixed      sum_h sum_i sum_c m_hic/(m_hic - 1) sum_k (z_hick - mean_hic)^2

The z hold the full weight, which is why the second line carries f_h and not its square. A certainty region
(f_h = 1) has no first term. `cities_fixed` speaks about the sampled cities only.
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

VARIANCE_KINDS: tuple[VarianceKind, ...] = get_args(VarianceKind)
LONELY_RULES: tuple[LonelyRule, ...] = get_args(LonelyRule)


def design_variance(
    z: Floats,
    arrays: SampleArrays,
    *,
    kind: VarianceKind,
    lonely: LonelyRule = "fail",
    fpc_in_cells: bool = False,
) -> Floats:
    """Variance of the column sums of ``z``.

    Args:
        z: float64 (n, K), weight times linearised value; 0 outside a domain (the design stays whole).
        arrays: The design.
        kind: Which variance, see the module's text.
        lonely: What a stratum with a single sampled unit that is not a certainty does: ``fail`` raises,
            ``certainty`` adds nothing, ``adjust`` takes its square about the grand mean (0 for linearised
            values), ``average`` gives it the mean contribution of the other strata. As in R ``survey``.
        fpc_in_cells: Finite-population correction of points in cells for ``cities_fixed`` (``two_stage``
            always has it).

    Returns:
        float64 (K,).

    Raises:
        LonelyUnitError: ``lonely="fail"`` and there is such a stratum.
        DesignError: The design has no variance of this kind.
    """
    if kind == "cities_fixed" and not arrays.single_stage:
        return _within(z, arrays, lonely=lonely, fpc=fpc_in_cells, scale=None)
    if arrays.between_psu is not None:
        raise DesignError(f"no {kind} variance: {arrays.between_psu}")
    totals = arrays.points_to_psu @ z
    n = arrays.psu_sampled
    fraction = n / arrays.psu_population if kind == "two_stage" else np.zeros(len(n))
    strata = _Groups(
        codes=arrays.stratum_of_psu,
        summing=arrays.psu_to_strata,
        sampled=n,
        correction=1 - fraction,
        name=lambda h: (
            f"stratum {arrays.stratum_names[h]!r} has 1 sampled primary unit of {arrays.psu_population[h]:g}"
        ),
    )
    between = _stratified(totals, strata, lonely=lonely)
    if kind != "two_stage" or arrays.single_stage:
        return between
    return between + _within(z, arrays, lonely=lonely, fpc=True, scale=fraction[arrays.stratum_of_cell])


@dataclass(frozen=True, kw_only=True)
class _Groups:
    """Groups of units, each sampled on its own.

    Attributes:
        codes: int64 (units,), group of each unit.
        summing: Sparse (groups, units).
        sampled: int64 (groups,), units sampled.
        correction: float64 (groups,), finite-population correction.
        name: Says which group it is and that it has a single unit.
    """

    codes: Ints
    summing: Any
    sampled: Ints
    correction: Floats
    name: Callable[[int], str]


def _within(z: Floats, arrays: SampleArrays, *, lonely: LonelyRule, fpc: bool, scale: Floats | None) -> Floats:
    m = arrays.ssu_sampled
    complete = m >= arrays.ssu_population
    cells = _Groups(
        codes=arrays.cell,
        summing=arrays.points_to_cells,
        sampled=m,
        correction=np.maximum(1 - m / arrays.ssu_population, 0) if fpc else np.where(complete & (m == 1), 0.0, 1.0),
        name=lambda c: f"cell {arrays.cell_names[c]!r} has 1 labelled point of {arrays.ssu_population[c]:g} units",
    )
    return _stratified(z, cells, lonely=lonely, scale=scale, average_over=arrays.psu_of_cell)


def _stratified(
    z: Floats, groups: _Groups, *, lonely: LonelyRule, scale: Floats | None = None, average_over: Ints | None = None
) -> Floats:
    """Sum over groups of correction * n/(n-1) * squares about the group's mean, with rules for n = 1."""
    n = groups.sampled
    alone: Bools = (n == 1) & (groups.correction > 1e-7)
    if alone.any() and lonely == "fail":
        first = int(np.flatnonzero(alone)[0])
        others = f" (and {int(alone.sum()) - 1} more)" if alone.sum() > 1 else ""
        raise LonelyUnitError(
            f"{groups.name(first)}{others}: one unit shows no spread. Sample another, merge the stratum with a similar"
            " one, or choose how to treat it with --lonely-psu certainty, adjust or average"
        )
    mean = (groups.summing @ z) / np.maximum(n, 1)[:, None]
    if lonely == "adjust":
        mean[alone] = 0
    spread = groups.summing @ np.square(z - mean[groups.codes])
    factor = groups.correction * np.where(n > 1, n / np.maximum(n - 1, 1), 1.0)
    contribution = spread * factor[:, None]
    if scale is not None:
        contribution *= scale[:, None]
    if lonely == "average" and alone.any():
        contribution[alone] = 0
        parent = np.zeros(len(n), dtype=np.int64) if average_over is None or scale is None else average_over
        share = np.bincount(parent, minlength=parent.max() + 1).astype(float)
        good = np.bincount(parent[~alone], minlength=len(share)).astype(float)
        if (good == 0).any():
            bad = int(np.flatnonzero(np.isin(parent, np.flatnonzero(good == 0)))[0])
            raise LonelyUnitError(f"{groups.name(bad)} and so have all beside it: there is nothing to average over")
        contribution *= (share / good)[parent][:, None]
    return np.asarray(contribution.sum(axis=0))
