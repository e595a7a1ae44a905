"""Several maps on the same labelled points: releases, or products of others given as polygons.

The points were drawn in strata of one map; their weights hold for any map on them, whatever strata it would have cut.
Differences are paired, since the same points judge both maps: their errors are those of differences
(`accuracy.estimation.difference`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal, get_args

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from accuracy.arrays import Bools
from accuracy.errors import ComparisonError
from accuracy.estimation.difference import compare_maps
from accuracy.estimation.estimation import estimate
from accuracy.estimation.interpreters import InterpreterPanel
from accuracy.estimation.options import EstimateOptions
from accuracy.survey.sample import ReferenceSample

MEASURES = ("UA", "PA", "F1", "IoU", "area_map")
Uncovered = Literal["fail", "not_village", "leave_out"]
UNCOVERED: tuple[Uncovered, ...] = get_args(Uncovered)


@dataclass(frozen=True, kw_only=True)
class MapsOnPoints:
    """Maps judged by the same points.

    Attributes:
        names: The maps.
        maps: ``map``, ``measure``, ``estimate``, ``se``, ``se_interpreters`` (NaN: nobody read a
            point twice), ``ci_low``, ``ci_high``, ``flags``.
        differences: ``map``, ``less``, ``measure``, ``difference``, ``se``, ``ci_low``, ``ci_high``, and
            ``joint_low``, ``joint_high``: intervals that hold for all pairs and measures together (Bonferroni).
        agreement: ``map``, ``less``, ``both``, ``only_first``, ``only_second``, ``neither``: share of the ground.
        level: Confidence level.
        left_out: Points that one of the maps does not cover and that were left out.
    """

    names: tuple[str, ...]
    maps: pd.DataFrame
    differences: pd.DataFrame
    agreement: pd.DataFrame
    level: float
    left_out: int


def lie_inside(points: gpd.GeoSeries, polygons: gpd.GeoDataFrame) -> Bools:
    """Bool per point: whether it lies in one of the polygons (or on an outline).

    Raises:
        ComparisonError: The polygons have no CRS.
    """
    if polygons.crs is None:
        raise ComparisonError("the polygons of a map have no CRS: write one into the file (`ogr2ogr -a_srs`)")
    here = np.asarray(points.to_crs(polygons.crs).array, dtype=object)
    shapes = np.asarray(polygons.geometry.dropna().array, dtype=object)
    shapes = shapes[~shapely.is_empty(shapes)]
    inside = np.zeros(len(here), dtype=bool)
    inside[np.unique(shapely.STRtree(shapes).query(here, predicate="intersects")[0])] = True
    return inside


def compare_on_points(
    sample: ReferenceSample, options: EstimateOptions, names: Sequence[str], *, uncovered: Uncovered = "fail"
) -> MapsOnPoints:
    """Judge every map and every pair of maps.

    Args:
        sample: The labelled sample with a column per map: 1, 0, or missing where the map does not cover the point.
        options: The variance that the design calls for, level and rules; measures are `MEASURES`.
        names: Columns of the maps, at least two.
        uncovered: What a point means that a map does not cover: an error, no village there, or ground that is left out
            for all maps (as non-response: its weight goes to covered points of its cell).

    Raises:
        ComparisonError: Fewer than two maps, or points that one does not cover.
        AccuracyError: The sample does not fit its design.
    """
    if len(names) < 2:
        raise ComparisonError(f"one map ({', '.join(names)}) cannot be compared: give at least another --map NAME=PATH")
    table = sample.table
    hidden = table[list(names)].isna()
    out = 0
    if hidden.to_numpy().any():
        counts = hidden.sum()
        worst = str(counts.idxmax())
        if uncovered == "fail":
            raise ComparisonError(
                f"{int(counts[worst])} of {len(table)} points lie where map {worst!r} says nothing: choose --uncovered"
                " not_village (they count as no village) or leave_out (the comparison speaks for the common ground)"
            )
        gone = hidden.any(axis=1)
        table = table.assign(**{n: table[n].astype(object).where(~hidden[n], 0) for n in names})
        if uncovered == "leave_out":
            out = int((gone & sample.responded).sum())
            kept = table[sample.reference_column].astype(object).where(~gone.to_numpy(), None)
            table = table.assign(**{sample.reference_column: kept})
    sample = replace(sample, table=table)
    options = replace(options, measures=MEASURES, interpreters=InterpreterPanel.of(sample.with_map(names[0])))
    return MapsOnPoints(
        names=tuple(names),
        maps=pd.concat([_judge(sample, options, n) for n in names], ignore_index=True),
        differences=_differences(sample, options, names),
        agreement=_agreement(sample, names),
        level=options.level,
        left_out=out,
    )


def _judge(sample: ReferenceSample, options: EstimateOptions, name: str) -> pd.DataFrame:
    own = sample.with_map(name)
    frame = estimate(own, replace(options, interpreters=InterpreterPanel.of(own))).frame
    kept = ["measure", "estimate", "se", "se_interpreters", "ci_low", "ci_high", "flags"]
    return frame[kept].assign(map=name)[["map", *kept]]


def _differences(sample: ReferenceSample, options: EstimateOptions, names: Sequence[str]) -> pd.DataFrame:
    pairs = list(combinations(names, 2))
    joint = replace(options, level=1 - (1 - options.level) / (len(pairs) * len(MEASURES)))
    parts = []
    for a, b in pairs:
        got = compare_maps(sample, options, map_a=a, map_b=b)
        wide = compare_maps(sample, joint, map_a=a, map_b=b)
        kept = ["measure", "difference", "se", "se_interpreters", "ci_low", "ci_high"]
        parts.append(got[kept].assign(map=a, less=b, joint_low=wide["ci_low"], joint_high=wide["ci_high"]))
    frame = pd.concat(parts, ignore_index=True)
    kept = ["difference", "se", "se_interpreters", "ci_low", "ci_high", "joint_low", "joint_high"]
    return frame[["map", "less", "measure", *kept]]


def _agreement(sample: ReferenceSample, names: Sequence[str]) -> pd.DataFrame:
    weight = sample.arrays.weight / sample.arrays.weight.sum()
    found = []
    for a, b in combinations(names, 2):
        first, second = (sample.with_map(n).mapped for n in (a, b))
        shares = [float(weight[m].sum()) for m in (first & second, first & ~second, ~first & second, ~first & ~second)]
        found.append((a, b, *shares))
    return pd.DataFrame(found, columns=["map", "less", "both", "only_first", "only_second", "neither"])
