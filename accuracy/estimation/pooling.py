"""Equal points as one row: the figures of a million points from some thousand rows.

Points of one cell with the same weight, the same outcome, the same domain and the same calibration cell enter every
formula alike, so that one row with their number gives the same estimates and variances (to rounding).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from accuracy.arrays import Floats, Ints, SampleArrays

WORTHWHILE = 2000  # rows; below it nothing is won


def pool_points(arrays: SampleArrays, cells: Floats, labels: Sequence[NDArray[Any]] = ()) -> tuple[SampleArrays, Ints]:
    """The design with equal points as one row, and the row of the old one that stands for each.

    Args:
        arrays: The design; one that is pooled already, or of a single stage, comes back as it is.
        cells: float64 (n, K), outcomes of each point.
        labels: Further (n,) values in which pooled points must agree.

    Returns:
        The pooled design of r rows, and int64 (r,): outcomes and labels of the rows are ``cells[rows]``.
    """
    n = len(arrays.weight)
    if arrays.single_stage or arrays.count is not None or n < WORTHWHILE:
        return arrays, np.arange(n)
    key = arrays.cell
    for values in (arrays.weight, *cells.T, *labels):
        codes, seen = pd.factorize(np.asarray(values), use_na_sentinel=False)
        if len(seen) > 1:
            key = pd.factorize(key * np.int64(len(seen)) + codes)[0].astype(np.int64)
    codes = pd.factorize(key)[0]
    count = np.bincount(codes).astype(np.float64)
    rows = np.full(len(count), n, dtype=np.int64)
    np.minimum.at(rows, codes, np.arange(n))
    pooled = replace(arrays, weight=arrays.weight[rows], psu=arrays.psu[rows], cell=arrays.cell[rows], count=count)
    return pooled, rows
