"""From digitised blocks to weighted object and boundary measures of the map.

A sampled block is digitised completely: every village that touches it is drawn to its full extent. Pixels are compared
inside the block. An object counts in the block that holds its representative point, so that totals over all blocks are
the totals of the map; pairs count with their reference object.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from rasterio.transform import from_bounds

from accuracy.arrays import Bools, Floats, SampleArrays
from accuracy.comparison.objects import find_splits_and_merges, match_objects
from accuracy.errors import ComparisonError
from accuracy.estimation.describe import degrees_of_freedom
from accuracy.estimation.estimation import estimate_arrays
from accuracy.estimation.options import EstimateOptions
from accuracy.estimation.variance import design_variance
from accuracy.intervals import logit_t
from accuracy.survey.design import SamplingDesign
from accuracy.survey.design_arrays import build_arrays
from regions.raster.boundaries import count_boundaries
from regions.raster.burn import burn_into

IOU_LEVELS = (0.3, 0.5, 0.75)


@dataclass(frozen=True, kw_only=True)
class BlockRules:
    """How blocks are compared.

    Attributes:
        resolution_m: Side of a pixel.
        tolerances_m: Tolerances of the boundary measures.
        iou_levels: Thresholds of object matching.
    """

    resolution_m: float
    tolerances_m: tuple[float, ...] = ()
    iou_levels: tuple[float, ...] = IOU_LEVELS

    def tolerances(self) -> tuple[float, ...]:
        """The tolerances, by default 1 and 3 pixels."""
        return self.tolerances_m or (self.resolution_m, 3 * self.resolution_m)


@dataclass(frozen=True, kw_only=True)
class BlockSurvey:
    """A sample of blocks, digitised and compared.

    Attributes:
        counts: Counts of every block, of `compare_blocks`.
        design: How the blocks were drawn.
        rules: How they were compared.
    """

    counts: pd.DataFrame
    design: SamplingDesign
    rules: BlockRules


def compare_blocks(
    blocks: gpd.GeoDataFrame, reference: gpd.GeoDataFrame, mapped: gpd.GeoDataFrame, rules: BlockRules
) -> pd.DataFrame:
    """Counts of every block: pixels, objects at each IoU, splits and merges, rings and contours.

    Args:
        blocks: ``block_id`` and design columns, rectangles in a metric CRS.
        reference: Digitised villages, single objects.
        mapped: The product's polygons.
        rules: How to compare.

    Returns:
        The blocks' columns with ``tp``, ``fp``, ``fn``, ``tn`` (pixels), ``tp_30`` … (objects), ``iou_50`` (sum of the
        matched IoU), ``split``, ``merged``, and per tolerance ``ring_both_3m``, ``ring_either_3m``, ``map_3m``,
        ``map_near_3m``, ``reference_3m``, ``reference_near_3m``.

    Raises:
        ComparisonError: No CRS, or a block that is too small.
    """
    if blocks.crs is None or reference.crs is None or mapped.crs is None or not blocks.crs.is_projected:
        raise ComparisonError("blocks, reference and map need a CRS each, the blocks a projected one")
    parts = [_objects(f.to_crs(blocks.crs)) for f in (reference, mapped)]
    trees = [shapely.STRtree(g) for g in parts]
    rows = []
    margin_m = max(rules.tolerances()) + 2 * rules.resolution_m
    for block in blocks.itertuples(index=False):
        near = [
            g[np.sort(t.query(block.geometry.buffer(margin_m), predicate="intersects"))]
            for g, t in zip(parts, trees, strict=True)
        ]
        rows.append(_one(block.geometry, near[0], near[1], rules))
    counts = pd.DataFrame(rows, index=blocks.index)
    return pd.concat([pd.DataFrame(blocks.drop(columns="geometry")), counts], axis=1)


def estimate_from_blocks(survey: BlockSurvey, options: EstimateOptions | None = None) -> pd.DataFrame:
    """Pixel, object and boundary measures of the map from the weighted blocks: ratios of totals, never means of ratios.

    Returns:
        ``kind`` (pixels, objects, boundary), ``at`` (IoU or tolerance in metres), ``measure``, ``estimate``, ``se``,
        ``ci_low``, ``ci_high``; NaN where not estimable.
    """
    counts = survey.counts.assign(_zero=0.0)
    estimator = _BlockEstimator(
        counts=counts, arrays=build_arrays(survey.design, counts), options=options or EstimateOptions()
    )
    rows = estimator.estimate_cells("pixels", None, ("tp", "fp", "fn", "tn"), ("UA", "PA", "F1", "IoU"))
    for iou in survey.rules.iou_levels:
        tag = _tag(iou)
        rows += estimator.estimate_cells(
            "objects", iou, (f"tp_{tag}", f"fp_{tag}", f"fn_{tag}", "_zero"), ("UA", "PA", "F1")
        )
        halves = counts[f"tp_{tag}"] + (counts[f"fp_{tag}"] + counts[f"fn_{tag}"]) / 2
        rows.append(estimator.describe("objects", iou, "PQ", *estimator.ratio(counts[f"iou_{tag}"], halves)))
    for metres in survey.rules.tolerances():
        rows += _estimate_boundaries(estimator, metres)
    return pd.DataFrame(rows)


@dataclass(frozen=True, kw_only=True)
class _BlockEstimator:
    counts: pd.DataFrame
    arrays: SampleArrays
    options: EstimateOptions

    def estimate_cells(
        self, kind: str, at: float | None, cells: Sequence[str], measures: tuple[str, ...]
    ) -> list[dict[str, Any]]:
        values = self.counts[list(cells)].to_numpy(dtype=np.float64)
        frame = estimate_arrays(self.arrays, values, replace(self.options, measures=measures)).frame
        kept = ("measure", "estimate", "se", "ci_low", "ci_high")
        return [{"kind": kind, "at": at, **{c: r[c] for c in kept}} for r in frame.to_dict("records")]

    def ratio(self, top: pd.Series, bottom: pd.Series) -> tuple[float, Floats]:
        """The ratio of two totals and its linearised values (n,)."""
        y, x = top.to_numpy(dtype=float), bottom.to_numpy(dtype=float)
        whole = float(self.arrays.weight @ x)
        if whole <= 0:
            return float("nan"), np.full(len(y), np.nan)
        value = float(self.arrays.weight @ y) / whole
        return value, (y - value * x) / whole

    def describe(self, kind: str, at: float, measure: str, value: float, d: Floats) -> dict[str, Any]:
        """A row from an estimate and its linearised values (n,)."""
        z = (self.arrays.weight * d)[:, None]
        v = design_variance(
            z,
            self.arrays,
            kind=self.options.variance,
            lonely=self.options.lonely_psu,
            fpc_in_cells=self.options.fpc_in_cells,
            pps=self.options.pps,
        )
        se = float(np.sqrt(v[0]))
        df = degrees_of_freedom(self.arrays, np.ones(len(z), dtype=bool), self.options.variance)
        low, high = logit_t(value, se, df, self.options.level) if np.isfinite(value) else (np.nan, np.nan)
        cell = {"estimate": value, "se": se, "ci_low": float(low), "ci_high": float(high)}
        return {"kind": kind, "at": at, "measure": measure, **cell}


def _estimate_boundaries(estimator: _BlockEstimator, metres: float) -> list[dict[str, Any]]:
    """Boundary IoU, precision, recall and F1 at one tolerance."""
    counts, tag = estimator.counts, f"{metres:g}m"
    iou, d_iou = estimator.ratio(counts[f"ring_both_{tag}"], counts[f"ring_either_{tag}"])
    p, dp = estimator.ratio(counts[f"map_near_{tag}"], counts[f"map_{tag}"])
    r, dr = estimator.ratio(counts[f"reference_near_{tag}"], counts[f"reference_{tag}"])
    f1 = 2 * p * r / (p + r) if p + r else np.nan
    slope = 2 / (p + r) ** 2 if p + r else np.nan
    return [
        estimator.describe("boundary", metres, "boundary IoU", iou, d_iou),
        estimator.describe("boundary", metres, "boundary precision", p, dp),
        estimator.describe("boundary", metres, "boundary recall", r, dr),
        estimator.describe("boundary", metres, "boundary F1", f1, slope * (r**2 * dp + p**2 * dr)),
    ]


def _one(block: Any, reference: Any, mapped: Any, rules: BlockRules) -> dict[str, float]:
    margin = math.ceil(max(rules.tolerances()) / rules.resolution_m) + 1
    wide_truth, wide_mapped = (_mask(g, block, rules.resolution_m, margin) for g in (reference, mapped))
    inside = (slice(margin, -margin),) * 2
    truth, mapped_px = wide_truth[inside], wide_mapped[inside]
    row: dict[str, float] = {
        "tp": int((truth & mapped_px).sum()),
        "fp": int((~truth & mapped_px).sum()),
        "fn": int((truth & ~mapped_px).sum()),
        "tn": int((~truth & ~mapped_px).sum()),
    }
    own_r, own_m = (_inside(g, block) for g in (reference, mapped))
    for iou in rules.iou_levels:
        match = match_objects(reference, mapped, iou=iou)
        matched_m = np.zeros(len(mapped), dtype=bool)
        matched_m[match.predicted] = True
        here = own_r[match.reference]
        tag = _tag(iou)
        row[f"tp_{tag}"] = int(here.sum())
        row[f"iou_{tag}"] = float(match.iou[here].sum())
        row[f"fn_{tag}"] = int(own_r.sum()) - int(here.sum())
        row[f"fp_{tag}"] = int((own_m & ~matched_m).sum())
    split, merged = find_splits_and_merges(reference, mapped)
    row["split"], row["merged"] = int(own_r[split].sum()), int(own_m[merged].sum())
    for metres in rules.tolerances():
        c = count_boundaries(wide_truth, wide_mapped, tolerance_px=metres / rules.resolution_m, inside=inside)
        tag = f"{metres:g}m"
        row |= {
            f"ring_both_{tag}": c.ring_both_px,
            f"ring_either_{tag}": c.ring_either_px,
            f"map_{tag}": c.contour_map_px,
            f"map_near_{tag}": c.contour_map_near_px,
            f"reference_{tag}": c.contour_reference_px,
            f"reference_near_{tag}": c.contour_reference_near_px,
        }
    return row


def _objects(frame: gpd.GeoDataFrame) -> Any:
    single = frame[["geometry"]].explode(ignore_index=True)
    array = np.asarray(shapely.make_valid(np.asarray(single.geometry.array, dtype=object)), dtype=object)
    return array[shapely.area(array) > 0]


def _mask(geometries: Any, block: Any, resolution_m: float, margin_px: int) -> Bools:
    """Mask of the block and a margin, so that the block's edge is no boundary of a village."""
    left, bottom, right, top = block.bounds
    shape = (round((top - bottom) / resolution_m), round((right - left) / resolution_m))
    if min(shape) < 1:
        raise ComparisonError(f"a block of {right - left:g} x {top - bottom:g} m is smaller than a pixel")
    pad = margin_px * resolution_m
    shape = (shape[0] + 2 * margin_px, shape[1] + 2 * margin_px)
    transform = from_bounds(left - pad, bottom - pad, right + pad, top + pad, shape[1], shape[0])
    return burn_into(geometries, transform, shape)


def _inside(geometries: Any, block: Any) -> Bools:
    """Half-open, so that a point on the line between two blocks belongs to one."""
    points = shapely.point_on_surface(geometries)
    x, y = shapely.get_x(points), shapely.get_y(points)
    left, bottom, right, top = block.bounds
    return np.asarray((x >= left) & (x < right) & (y > bottom) & (y <= top), dtype=bool)


def _tag(iou: float) -> str:
    return f"{round(100 * iou)}"
