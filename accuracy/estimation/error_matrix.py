"""Error matrices (rows = map, columns = reference) and estimates per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd

from accuracy.arrays import Floats, Ints
from accuracy.errors import SampleTableError
from accuracy.estimation.calibration import Calibration
from accuracy.estimation.estimation import estimate_linearised, interpreter_variance, sampling_variance_of
from accuracy.estimation.interpreters import InterpreterPanel
from accuracy.estimation.options import EstimateOptions
from accuracy.survey.sample import ReferenceSample

CLASS_MEASURES = ("UA", "PA", "F1", "IoU", "area", "area_map")


def tabulate_errors(
    sample: ReferenceSample,
    *,
    as_: Literal["counts", "area_proportion", "area"] = "area_proportion",
    classes: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The error matrix, rows the map's classes and columns the reference's, without margins.

    Args:
        sample: The labelled sample; its class columns hold 0 and 1, or names.
        as_: Raw counts of points, estimated share of the whole area, or estimated area in units of the sizes.
        classes: Their order; default all that occur, sorted.
    """
    names = list(classes or sample.classes())
    weight = np.ones(len(sample.labelled)) if as_ == "counts" else sample.arrays.weight
    table = np.zeros((len(names), len(names)))
    np.add.at(table, _cells(sample, names), weight)
    if as_ == "area_proportion":
        table /= sample.arrays.weight.sum()
    values = table.astype(int) if as_ == "counts" else table
    return pd.DataFrame(values, index=pd.Index(names, name="map"), columns=pd.Index(names, name="reference"))


def estimate_matrix_se(
    sample: ReferenceSample, options: EstimateOptions | None = None, *, classes: Sequence[str] | None = None
) -> pd.DataFrame:
    """Standard errors of the shares of `tabulate_errors`; they hold the interpreters, where points were read twice."""
    options = options or EstimateOptions()
    names = list(classes or sample.classes())
    row, col = _cells(sample, names)
    arrays = sample.arrays
    indicator = np.zeros((len(row), len(names) ** 2))
    indicator[np.arange(len(row)), row * len(names) + col] = 1
    size = arrays.weight.sum()
    share = arrays.weight @ indicator / size
    z = arrays.weight[:, None] * (indicator - share) / size
    sampling = sampling_variance_of(arrays, replace(options, fpc_in_cells=False))
    v = sampling(z).reshape(len(names), -1)
    change = (row[:, None] == np.arange(len(names))) / size  # the answer "this class" moves the point into its column
    for k, name in enumerate(names):
        panel = InterpreterPanel.of_class(sample, name)
        if panel is not None:
            v[:, k] += panel.variance_of(arrays.weight, change, sampling_variance=sampling)
    return pd.DataFrame(np.sqrt(v), index=names, columns=names)


def estimate_per_class(
    sample: ReferenceSample,
    options: EstimateOptions | None = None,
    *,
    classes: Sequence[str] | None = None,
    calibration: Calibration | None = None,
) -> pd.DataFrame:
    """Every class against the rest: UA, PA, F1, IoU, area share; and OA over all classes once.

    Where readings name classes and points were read twice, ``se`` holds what interpreters differ in.

    Returns:
        Columns ``class`` (empty for OA), ``measure``, ``estimate``, ``se``, ``se_interpreters`` (part of ``se``; NaN
        without double readings); NaN where not estimable.
    """
    options = options or EstimateOptions()
    names = list(classes or sample.classes())
    row, col = _cells(sample, names)
    arrays = sample.arrays
    everything = np.ones((1, len(row)), dtype=bool)
    records = []
    agree = (row == col).astype(float)
    zero = np.zeros_like(agree)
    for name, onehot, measures in [
        ("", np.stack([agree, 1 - agree, zero, zero], axis=1), ("OA",)),
        *[(name, _onehot(row == k, col == k), CLASS_MEASURES) for k, name in enumerate(names)],
    ]:
        got = estimate_linearised(
            arrays,
            onehot,
            everything,
            replace(options, measures=measures),
            calibration=calibration,
        )
        panel = InterpreterPanel.of_class(sample, name or None)
        weight = arrays.weight if calibration is None else arrays.weight * calibration.factors(arrays.weight)
        own = replace(options, measures=measures, interpreters=panel)
        added = interpreter_variance(arrays, weight, everything, own)[0]
        for k, measure in enumerate(measures):
            records.append(
                {
                    "class": name,
                    "measure": measure,
                    "estimate": float(got["estimate"][0, k]),
                    "se": float(np.sqrt(np.maximum(got["variance"][0, k], 0) + added[k])),
                    "se_interpreters": np.nan if panel is None else float(np.sqrt(added[k])),
                }
            )
    return pd.DataFrame(records)


def _cells(sample: ReferenceSample, names: list[str]) -> tuple[Ints, Ints]:
    rows = sample.codes(sample.map_column).map({n: k for k, n in enumerate(names)})
    cols = sample.codes(sample.reference_column).map({n: k for k, n in enumerate(names)})
    if rows.isna().any() or cols.isna().any():
        seen = sorted({*sample.codes(sample.map_column), *sample.codes(sample.reference_column)} - set(names))
        raise SampleTableError(f"class {seen[0]!r} occurs but is not in the given classes {', '.join(names)}")
    return np.asarray(rows, dtype=np.int64), np.asarray(cols, dtype=np.int64)


def _onehot(mapped: np.ndarray, reference: np.ndarray) -> Floats:
    return np.stack([mapped & reference, mapped & ~reference, ~mapped & reference, ~mapped & ~reference], 1).astype(
        float
    )
