"""Calibration (post-stratification) of weights to the known totals of the wall-to-wall map.

Calibration to the map's areas helps areas and hurts rates: where cities differ much in their share of urban village
it multiplies whole regions by the luck of the draw, so that F1, IoU, precision and recall are by default estimated
with design weights (`AREA_MEASURES`).

g_c = T_c / That_c for c = region x map class, w* = w g_c; the linearised residual is e = d - mean of d in the cell
(weighted), and the variance is the design's variance of sum w* e. Matches R ``survey::postStratify``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import pandas as pd
from scipy import sparse

from accuracy.arrays import Floats, Ints
from accuracy.errors import DesignError

CalibratedMeasures = Literal["areas", "all"]
CALIBRATED_MEASURES: tuple[CalibratedMeasures, ...] = get_args(CalibratedMeasures)
AREA_MEASURES = frozenset({"area", "area_map", "area_difference", "area_total", "total"})
"""What calibration to the map's totals improves; the others keep design weights unless all are asked for."""

MAX_FACTOR = 3.0  # of the whole: a draw of cities is rarely off by more, a wrong unit is
MAX_CELL_FACTOR = 10.0  # of a region's map class, whose cities differ more


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Cells of known size.

    Attributes:
        cell: int64 (n,), calibration cell of each point.
        totals: float64 (Q,), known size of each cell, in the units of the weights.
        names: Q names.
    """

    cell: Ints
    totals: Floats
    names: tuple[str, ...]

    def factors(self, weight: Floats) -> Floats:
        """float64 (n,): g of each row's cell, from the rows' weights (of all their points)."""
        estimated = np.bincount(self.cell, weight, minlength=len(self.totals))
        return (self.totals / np.where(estimated > 0, estimated, 1))[self.cell]

    def take(self, rows: Ints) -> Calibration:
        """The calibration of some of the rows."""
        return replace(self, cell=self.cell[rows])

    def require_sane(self, weight: Floats) -> None:
        """Raise where the known sizes are too far from what the sample estimates to be of the same thing.

        Raises:
            DesignError: The whole, or a cell, differs by more than `MAX_FACTOR` and `MAX_CELL_FACTOR`.
        """
        estimated = np.bincount(self.cell, weight, minlength=len(self.totals))
        whole = float(self.totals.sum() / estimated.sum())
        advice = (
            "give totals of the same map and frame in the units of the sample's weights (m² where it has the column of"
            " a pixel's area, else pixels); `uvmap sample totals` writes them"
        )
        if not 1 / MAX_FACTOR <= whole <= MAX_FACTOR:
            raise DesignError(
                f"map totals sum to {self.totals.sum():g}, the sample's weights to {estimated.sum():g}, {whole:.3g}"
                f" times as much, where a sample is rarely off by {MAX_FACTOR:g}: {advice}"
            )
        factor = self.totals / estimated
        bad = np.flatnonzero((factor > MAX_CELL_FACTOR) | (factor < 1 / MAX_CELL_FACTOR))
        if len(bad):
            first = int(bad[0])
            raise DesignError(
                f"map total of {self.names[first]} is {self.totals[first]:g}, the sample estimates"
                f" {estimated[first]:g}: a calibration factor of {factor[first]:.3g} is beyond 1/{MAX_CELL_FACTOR:g} to"
                f" {MAX_CELL_FACTOR:g} ({len(bad)} such cells): {advice}"
            )

    def residuals(self, d: Floats, weight: Floats) -> Floats:
        """float64 (n, K): d less the weighted mean of its cell."""
        size = np.bincount(self.cell, weight, minlength=len(self.totals))
        summing = sparse.csr_array((weight, (self.cell, np.arange(len(weight)))), shape=(len(self.totals), len(weight)))
        return np.asarray(d - ((summing @ d) / np.where(size > 0, size, 1)[:, None])[self.cell])


def is_calibrated(measure: str, which: CalibratedMeasures) -> bool:
    """Whether a measure takes the calibrated weights."""
    return which == "all" or measure in AREA_MEASURES


def calibrate(keys: pd.DataFrame, totals: Mapping[tuple[str, ...], float]) -> Calibration:
    """Match points to known totals.

    Args:
        keys: Text columns that name each point's cell, for example region and map class.
        totals: Size of every cell, keyed by the values of those columns.

    Raises:
        DesignError: A point's cell has no total, or a cell of positive size has no point.
    """
    wanted = {tuple(map(str, k)): float(v) for k, v in totals.items()}
    here = list(keys.itertuples(index=False, name=None))
    present = sorted(set(here))
    unknown = [k for k in present if k not in wanted]
    if unknown:
        raise DesignError(
            f"no known map total for {' x '.join(unknown[0])} ({len(unknown)} such cells; totals are known for"
            f" {len(wanted)}): give the size of every {' x '.join(map(str, keys.columns))}"
        )
    empty = sorted(k for k, v in wanted.items() if v > 0 and k not in set(present))
    if empty:
        raise DesignError(
            f"map total {wanted[empty[0]]:g} of {' x '.join(empty[0])} has no sampled point ({len(empty)} such cells):"
            " its area is unassessed. Merge it with a similar cell or draw points there"
        )
    bad = [k for k in present if wanted[k] <= 0]
    if bad:
        raise DesignError(
            f"map total of {' x '.join(bad[0])} is {wanted[bad[0]]:g}, but it holds sampled points: correct it"
        )
    number = {k: i for i, k in enumerate(present)}
    return Calibration(
        cell=np.array([number[k] for k in here], dtype=np.int64),
        totals=np.array([wanted[k] for k in present]),
        names=tuple(" x ".join(k) for k in present),
    )
