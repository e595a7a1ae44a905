"""Estimates from a sample of fully digitised blocks: areas TP, FP, FN, TN per block, blocks as secondary units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from accuracy.errors import SampleTableError
from accuracy.estimation.estimation import EstimateTable, estimate_arrays
from accuracy.estimation.intervals import IntervalKind
from accuracy.estimation.measures import CELLS
from accuracy.estimation.variance import LonelyRule, VarianceKind
from accuracy.reporting.describe import FlagRules
from accuracy.survey.design import SamplingDesign

BLOCK_MEASURES = ("UA", "PA", "F1", "IoU", "OA", "specificity", "area", "area_map", "area_difference")


def estimate_blocks(
    blocks: pd.DataFrame,
    design: SamplingDesign,
    *,
    cells: Sequence[str] = CELLS,
    measures: Sequence[str] = BLOCK_MEASURES,
    domain: str | None = None,
    variance: VarianceKind = "two_stage",
    interval_kind: IntervalKind = "logit_t",
    level: float = 0.95,
    lonely_psu: LonelyRule = "fail",
    rules: FlagRules | None = None,
) -> EstimateTable:
    """Area measures of the map from a weighted sample of blocks: ratios of totals, never means of block ratios.

    Args:
        blocks: One row per block, with design columns and four columns of areas (any unit).
        design: How the blocks were drawn.
        cells: Columns of tp, fp, fn, tn. Objects may be counted there too (tn = 0).
        measures: Names of `accuracy.estimation.measures.MEASURES`.
        domain: Column of domains, None for the whole.
        variance: Which variance.
        interval_kind: How intervals are built.
        level: Confidence level.
        lonely_psu: Rule for single units.
        rules: Limits of the flags.

    Raises:
        SampleTableError: A column is missing or an area is negative.
    """
    missing = [c for c in cells if c not in blocks.columns]
    if missing:
        raise SampleTableError(f"column {missing[0]!r} is not in the table of blocks: name the columns of {CELLS}")
    values = blocks[list(cells)].to_numpy(dtype=np.float64)
    if not np.isfinite(values).all() or (values < 0).any():
        row = int(np.flatnonzero((~np.isfinite(values) | (values < 0)).any(axis=1))[0])
        raise SampleTableError(
            f"block in row {row + 1} has {dict(zip(cells, values[row], strict=True))}: areas are >= 0"
        )
    names = None if domain is None else blocks[domain].astype(str).to_numpy()
    return estimate_arrays(
        design.arrays(blocks),
        values,
        names,
        domain=domain,
        measures=measures,
        variance=variance,
        interval_kind=interval_kind,
        level=level,
        lonely_psu=lonely_psu,
        rules=rules,
    )
