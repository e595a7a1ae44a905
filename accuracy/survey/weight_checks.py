"""What can be wrong with weights, areas and probabilities: they must say what the sizes say."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyproj

from accuracy.survey.design import CELL, PSU, SamplingDesign, codes
from accuracy.survey.design_problem import DesignProblem

PROBABILITY = "pi"  # the column of inclusion probabilities in what `uvmap sample` writes
WEIGHT_TOLERANCE = 1e-6  # relative; weights are products of ratios of integers, so more is no rounding


def check_areas(design: SamplingDesign, table: pd.DataFrame, keys: pd.DataFrame) -> Iterator[DesignProblem]:
    """The units of a cell are pixels of one raster, so of one area."""
    if not design.has_unit_area(table):
        yield from _mixed_resolutions(design, table, keys)
        return
    cell, names = codes(keys, CELL)
    grouped = pd.to_numeric(table[design.unit_area]).groupby(cell)
    low, high = grouped.min().to_numpy(dtype=float), grouped.max().to_numpy(dtype=float)
    for c in np.flatnonzero(high > low * (1 + WEIGHT_TOLERANCE)):
        message = (
            f"cell {names[c]!r} has units of {low[c]:g} and of {high[c]:g} m² in {design.unit_area!r}: its points come"
            " from rasters of different resolution. Draw the city in one product"
        )
        yield DesignProblem(code="unit_area_conflict", where=names[c], message=message)


def _mixed_resolutions(design: SamplingDesign, table: pd.DataFrame, keys: pd.DataFrame) -> Iterator[DesignProblem]:
    """Without areas, sizes in pixels of different rasters cannot be added; places and pixel numbers show the side."""
    if design.psu is None or not hasattr(table, "to_crs") or table.crs is None:
        return
    if not {"row_px", "col_px"} <= set(table.columns) or table.geometry.isna().any():
        return
    psu, names = codes(keys, PSU)
    places = table.geometry.to_crs("EPSG:4326").representative_point()
    lon, lat = places.x.to_numpy(), places.y.to_numpy()
    row, col = (pd.to_numeric(table[c]).to_numpy(dtype=float) for c in ("row_px", "col_px"))
    first = np.unique(psu, return_index=True)[1][psu]
    pixels = np.hypot(row - row[first], col - col[first])
    far = pd.Series(pixels).groupby(psu).idxmax().to_numpy()
    far = far[pixels[far] >= 20]  # nearer pairs say too little of the side of a pixel
    if len(far) < 2:
        return
    near = first[far]
    metres = pyproj.Geod(ellps="WGS84").inv(lon[near], lat[near], lon[far], lat[far])[2]
    side = np.asarray(metres) / pixels[far]
    if side.max() > 1.1 * side.min():
        low, high = int(np.argmin(side)), int(np.argmax(side))
        message = (
            f"{names[psu[far[low]]]!r} was drawn in pixels of {side[low]:.3g} m and {names[psu[far[high]]]!r} in pixels"
            f" of {side[high]:.3g} m, but the table has no column {design.unit_area or 'pixel_m2'!r} with a pixel's"
            " area in m², so their pixels would count alike: draw the points again (the same seed gives the same"
            " places), or add that column"
        )
        yield DesignProblem(code="mixed_resolutions", where=design.unit_area or "pixel_m2", message=message)


def check_weights(design: SamplingDesign, table: pd.DataFrame, keys: pd.DataFrame) -> Iterator[DesignProblem]:
    """Given weights must sum to the area that the sizes state."""
    sizes = [design.ssu_population, *([design.psu_population] if design.psu else [])]
    if design.weight is None or design.psu_selection == "pps" or any(c not in table.columns for c in sizes):
        return
    cell, names = codes(keys, CELL)
    total = np.bincount(cell, pd.to_numeric(table[design.weight]))
    grouped = pd.to_numeric(table[design.ssu_population]).groupby(cell)
    area = grouped.first().to_numpy(dtype=float)
    if design.psu is not None and design.psu_selection == "probability":
        stratum, _ = codes(keys, ["stratum"])
        n = keys[PSU].drop_duplicates().groupby("stratum", sort=True).size().to_numpy()
        expansion = pd.to_numeric(table[design.psu_population]).to_numpy(dtype=float) / n[stratum]
        area = area * pd.Series(expansion).groupby(cell).first().to_numpy()
    for c in np.flatnonzero(np.abs(total - area) > WEIGHT_TOLERANCE * area):
        message = (
            f"cell {names[c]!r}: weights in {design.weight!r} sum to {total[c]:.10g}, its sizes to {area[c]:.10g}:"
            " leave the weight column out, or correct one of the two"
        )
        yield DesignProblem(code="weights_area", where=names[c], message=message)


def check_probabilities(design: SamplingDesign, table: pd.DataFrame) -> Iterator[DesignProblem]:
    """Whether the inclusion probabilities that `uvmap sample` wrote are those that the sizes give."""
    unequal = design.is_without_replacement(table)
    first_stage = [design.psu_probability] if unequal else [design.psu_sampled, design.psu_population]
    columns = [c for c in (*first_stage, design.ssu_sampled, design.ssu_population) if c is not None]
    if design.psu is None or any(c not in table.columns for c in (*columns, PROBABILITY)):
        return
    if len(columns) < (3 if unequal else 4):
        return
    numbers = [pd.to_numeric(table[c], errors="coerce").to_numpy(dtype=float) for c in columns]
    first = numbers[0] if unequal else numbers[0] / numbers[1]
    m, M = numbers[-2:]
    stated = pd.to_numeric(table[PROBABILITY], errors="coerce").to_numpy(dtype=float)
    expected = first * m / M
    bad = np.isfinite(stated) & (np.abs(stated - expected) > WEIGHT_TOLERANCE * expected)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        city = f"{first[row]:.6g}" if unequal else f"{numbers[0][row]:g}/{numbers[1][row]:g}"
        parts = f"{city} x {m[row]:g}/{M[row]:g}"
        message = (
            f"row {row + 1} has the inclusion probability {stated[row]:.6g} in {PROBABILITY!r}, but its sizes give"
            f" {parts} = {expected[row]:.6g} ({int(bad.sum())} such rows):"
            " one of the two was changed after the draw; the sizes are used. Compare them with the design file"
        )
        yield DesignProblem(code="probability_mismatch", where=PROBABILITY, message=message, fatal=False)
