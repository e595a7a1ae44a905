"""Error matrices (rows = map, columns = reference) and estimates per class, also from published count tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd

from accuracy.arrays import Floats
from accuracy.errors import SampleTableError
from accuracy.estimation.calibration import Calibration
from accuracy.estimation.estimation import linearised_estimates
from accuracy.estimation.variance import LonelyRule, VarianceKind, design_variance
from accuracy.survey.design import SamplingDesign
from accuracy.survey.sample import ReferenceSample

CLASS_MEASURES = ("UA", "PA", "F1", "IoU", "area", "area_map")


def error_matrix(
    sample: ReferenceSample,
    *,
    as_: Literal["counts", "area_proportion", "area"] = "area_proportion",
    classes: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The error matrix, rows the map's classes and columns the reference's, without margins.

    Args:
        sample: The labelled sample; its class columns are read as they are (0 and 1, or names).
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


def error_matrix_se(
    sample: ReferenceSample,
    *,
    variance: VarianceKind = "two_stage",
    classes: Sequence[str] | None = None,
    lonely_psu: LonelyRule = "fail",
) -> pd.DataFrame:
    """Standard errors of the shares of `error_matrix`."""
    names = list(classes or sample.classes())
    row, col = _cells(sample, names)
    arrays = sample.arrays
    indicator = np.zeros((len(row), len(names) ** 2))
    indicator[np.arange(len(row)), row * len(names) + col] = 1
    size = arrays.weight.sum()
    share = arrays.weight @ indicator / size
    z = arrays.weight[:, None] * (indicator - share) / size
    v = design_variance(z, arrays, kind=variance, lonely=lonely_psu)
    return pd.DataFrame(np.sqrt(v).reshape(len(names), -1), index=names, columns=names)


def per_class_estimates(
    sample: ReferenceSample,
    *,
    variance: VarianceKind = "two_stage",
    classes: Sequence[str] | None = None,
    calibration: Calibration | None = None,
    lonely_psu: LonelyRule = "fail",
) -> pd.DataFrame:
    """Every class against the rest: UA, PA, F1, IoU, area share; and OA over all classes once.

    Returns:
        Columns ``class`` (empty for OA), ``measure``, ``estimate``, ``se``; NaN where not estimable.
    """
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
        got = linearised_estimates(
            arrays,
            onehot,
            everything,
            measures=measures,
            variance=variance,
            calibration=calibration,
            lonely=lonely_psu,
        )
        for k, measure in enumerate(measures):
            se = float(np.sqrt(np.maximum(got["variance"][0, k], 0)))
            records.append({"class": name, "measure": measure, "estimate": float(got["estimate"][0, k]), "se": se})
    return pd.DataFrame(records)


def stratified_from_counts(
    counts: Sequence[Sequence[int]],
    stratum_sizes: Mapping[str, float],
    *,
    classes: Sequence[str],
    finite: bool = False,
) -> pd.DataFrame:
    """Estimates from a published matrix of counts whose strata are the map's classes (Olofsson et al. 2014).

    Args:
        counts: Points, rows = map, columns = reference, in the order of ``classes``.
        stratum_sizes: Size of each map class, by name (areas, pixels or shares).
        classes: Names.
        finite: Finite-population correction; sizes must then be pixels.

    Returns:
        As `per_class_estimates`.

    Raises:
        SampleTableError: Shapes, names or counts do not fit.
    """
    table = np.asarray(counts)
    if table.shape != (len(classes), len(classes)):
        raise SampleTableError(f"error matrix of shape {table.shape} for {len(classes)} classes: it must be square")
    missing = [c for c in classes if c not in stratum_sizes]
    if missing:
        raise SampleTableError(f"no size for map class {missing[0]!r}; sizes are keyed by {', '.join(stratum_sizes)}")
    if (table < 0).any() or (table != np.round(table)).any():
        raise SampleTableError(f"counts must be whole and not negative, found {table.min()}: give points, not shares")
    unassessed = [c for k, c in enumerate(classes) if table[k].sum() == 0 and stratum_sizes[c] > 0]
    if unassessed:
        raise SampleTableError(
            f"map class {unassessed[0]!r} of size {stratum_sizes[unassessed[0]]:g} has no point: its area is unassessed"
        )
    row, col = np.nonzero(table)
    repeat = table[row, col].astype(int)
    units = pd.DataFrame(
        {
            "map": np.repeat(np.array(classes, dtype=object)[row], repeat),
            "ref": np.repeat(np.array(classes, dtype=object)[col], repeat),
        }
    )
    units["size"] = units["map"].map(dict(stratum_sizes))
    design = SamplingDesign(
        psu_selection="probability",
        stratum="map",
        psu=None,
        ssu=None,
        second_stage_strata=(),
        ssu_population="size",
        ssu_sampled=None,
    )
    if finite:
        return per_class_estimates(ReferenceSample(table=units, design=design), classes=classes)
    # sizes may be shares below the number of points, so they enter as weights and the frame is unbounded
    drawn = units["map"].map(units["map"].value_counts())
    units = units.assign(weight=units["size"] / drawn, size=np.iinfo(np.int64).max)
    free = replace(design, weight="weight", psu_selection="pps")
    sample = ReferenceSample(table=units, design=free)
    return per_class_estimates(sample, variance="with_replacement", classes=classes)


def _cells(sample: ReferenceSample, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    rows = sample.codes(sample.map_column).map({n: k for k, n in enumerate(names)})
    cols = sample.codes(sample.reference_column).map({n: k for k, n in enumerate(names)})
    if rows.isna().any() or cols.isna().any():
        seen = sorted({*sample.codes(sample.map_column), *sample.codes(sample.reference_column)} - set(names))
        raise SampleTableError(f"class {seen[0]!r} occurs but is not in the given classes {', '.join(names)}")
    return rows.to_numpy(dtype=np.int64), cols.to_numpy(dtype=np.int64)


def _onehot(mapped: np.ndarray, reference: np.ndarray) -> Floats:
    return np.stack([mapped & reference, mapped & ~reference, ~mapped & reference, ~mapped & ~reference], 1).astype(
        float
    )
