"""A sample as flat arrays: what the variance formulas, the bootstrap and the estimators work on.

A two-stage sample: strata (regions) hold primary units (cities); a primary unit is cut into cells (city x
second-stage stratum), each sampled on its own. A single-stage sample is the same with every point its own
primary unit, sampled completely (one cell of size 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class SampleArrays:
    """Design of n points in C cells of P primary units of H strata, without any outcome.

    Attributes:
        weight: float64 (n,), 1 / inclusion probability, times the area of the unit where that is known.
        psu: int64 (n,), primary unit of each point, 0..P-1.
        cell: int64 (n,), cell of each point, 0..C-1.
        stratum_of_psu: int64 (P,).
        psu_of_cell: int64 (C,).
        psu_population: float64 (H,), primary units in the frame (N_h).
        ssu_population: float64 (C,), secondary units in the cell (M_c; pixels).
        stratum_names: H names.
        psu_names: P names.
        cell_names: C names.
        single_stage: Every point is its own primary unit.
        in_m2: Weights are areas in m² that a point stands for; else numbers of units.
        psu_probability: float64 (P,), first-stage inclusion probabilities of cities drawn without replacement with
            unequal ones (1 is a certainty), or None: then they are n_h / N_h.
        count: float64 (n,), how many equal points each row stands for, or None: one each.
        times_drawn: float64 (P,), how often each city was drawn with replacement, or None: once each.
        between_psu: Why a variance between primary units has no meaning for this design, or None.
    """

    weight: Floats
    psu: Ints
    cell: Ints
    stratum_of_psu: Ints
    psu_of_cell: Ints
    psu_population: Floats
    ssu_population: Floats
    stratum_names: tuple[str, ...]
    psu_names: tuple[str, ...]
    cell_names: tuple[str, ...]
    single_stage: bool = False
    in_m2: bool = False
    psu_probability: Floats | None = None
    times_drawn: Floats | None = None
    count: Floats | None = None
    between_psu: str | None = None

    @cached_property
    def is_certain(self) -> Bools:
        """Bool (P,): primary units that every draw holds."""
        complete = (self.psu_sampled >= self.psu_population)[self.stratum_of_psu]
        return complete if self.psu_probability is None else complete | (self.psu_probability >= 1 - 1e-9)

    @cached_property
    def psu_sampled(self) -> Ints:
        """int64 (H,): primary units sampled per stratum (n_h)."""
        return np.bincount(self.stratum_of_psu, minlength=len(self.stratum_names)).astype(np.int64)

    @cached_property
    def ssu_sampled(self) -> Ints:
        """int64 (C,): points per cell (m_c)."""
        return np.bincount(self.cell, self.count, minlength=len(self.cell_names)).astype(np.int64)

    @cached_property
    def points(self) -> Floats:
        """float64 (n,): points that each row stands for."""
        return np.ones(len(self.weight)) if self.count is None else self.count

    @cached_property
    def mass(self) -> Floats:
        """float64 (n,): weight of each row's points together."""
        return self.weight if self.count is None else self.weight * self.count

    @cached_property
    def stratum(self) -> Ints:
        """int64 (n,): stratum of each point."""
        return self.stratum_of_psu[self.psu]

    @cached_property
    def points_to_psu(self) -> Any:
        """Sparse (P, n) sum of points (of rows times their count) into primary units."""
        return _summing(self.psu, len(self.psu_names), self.count)

    @cached_property
    def points_to_cells(self) -> Any:
        """Sparse (C, n) sum of points (of rows times their count) into cells."""
        return _summing(self.cell, len(self.cell_names), self.count)

    @cached_property
    def psu_to_strata(self) -> Any:
        """Sparse (H, P) sum of primary units into strata."""
        return _summing(self.stratum_of_psu, len(self.stratum_names))


def _summing(codes: Ints, groups: int, count: Floats | None = None) -> Any:
    n = len(codes)
    return sparse.csr_array((np.ones(n) if count is None else count, (codes, np.arange(n))), shape=(groups, n))
