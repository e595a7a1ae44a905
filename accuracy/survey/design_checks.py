"""What can be wrong between a sampling design and its table; each check lists every case it finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj

from accuracy.errors import DesignError
from accuracy.survey.design import CELL, PSU, SamplingDesign, codes

PROBABILITY = "pi"  # the column of inclusion probabilities in what `uvmap sample` writes
DOTTED = r"\d{1,3}(\.\d{3})+"
WEIGHT_TOLERANCE = 1e-6  # relative; weights are products of ratios of integers, so more is no rounding


@dataclass(frozen=True, kw_only=True)
class DesignProblem:
    """One contradiction between a design and a table.

    Attributes:
        code: Short name, for tests and machines.
        where: Stratum, city, cell or column.
        message: What conflicts, and what to do.
        fatal: Whether estimation must stop.
    """

    code: str
    where: str
    message: str
    fatal: bool = True


def find_problems(
    design: SamplingDesign, table: pd.DataFrame, *, frame: pd.DataFrame | None = None
) -> list[DesignProblem]:
    """Every problem of a table of drawn units, labelled or not; empty where there is none.

    A later check runs only where the earlier ones make it possible.

    Args:
        design: How the units were drawn.
        table: One row per drawn unit.
        frame: Optional list of all cells that must be there, with the same column names.
    """
    early = list(_columns(design, table))
    if early:
        return early
    early = list(_values(design, table))
    if early:
        return early
    keys = design.keys(table)
    found = [*_duplicates(design, keys), *_selection(design, table, keys)]
    found += [*_cells(design, table, keys), *_areas(design, table, keys)]
    if not found:
        found += [*_weights(design, table, keys), *_probabilities(design, table)]
    found += _lonely(design, table, keys)
    if frame is not None:
        found += _frame(design, keys, frame)
    return found


def require_frame(design: SamplingDesign, table: pd.DataFrame, frame: pd.DataFrame) -> None:
    """Raise unless every cell of ``frame`` has a point in ``table`` and no point lies elsewhere.

    Raises:
        DesignError: A cell has no point, or a point no cell.
    """
    _raise_fatal(find_problems(design, table, frame=frame))


def require_sound(design: SamplingDesign, table: pd.DataFrame) -> None:
    """Raise unless the table fits its design.

    Raises:
        DesignError: The first of its fatal problems.
    """
    _raise_fatal(find_problems(design, table))


def _raise_fatal(problems: list[DesignProblem]) -> None:
    fatal = [p for p in problems if p.fatal]
    if fatal:
        more = f" ({len(fatal) - 1} more problems)" if len(fatal) > 1 else ""
        raise DesignError(fatal[0].message + more)


def _columns(design: SamplingDesign, table: pd.DataFrame) -> Iterator[DesignProblem]:
    for column in design.required_columns():
        if column not in table.columns:
            message = (
                f"column {column!r} is not in the table (it has {', '.join(map(str, table.columns))}):"
                " name the right column"
            )
            yield DesignProblem(code="missing_column", where=column, message=message)
    if table.empty:
        yield DesignProblem(code="no_rows", where="table", message="the table has no rows: draw a sample first")


def _values(design: SamplingDesign, table: pd.DataFrame) -> Iterator[DesignProblem]:
    sizes = [design.psu_population, design.psu_sampled, design.ssu_population, design.ssu_sampled, design.weight]
    if not design.needs_psu_population:
        sizes = sizes[2:]
    ids = [design.stratum, design.psu, design.ssu, *design.second_stage_strata]
    for column in ids:
        if column is None:
            continue
        blank = table[column].isna() | (table[column].astype(str).str.strip() == "")
        if blank.any():
            row = int(np.flatnonzero(blank)[0])
            message = (
                f"column {column!r} is empty in {int(blank.sum())} rows (first: row {row + 1}): every unit needs it"
            )
            yield DesignProblem(code="missing_value", where=column, message=message)
    for column in [*sizes, design.unit_area]:
        if column is None or column not in table.columns:
            continue
        numbers = pd.to_numeric(table[column], errors="coerce")
        bad = ~(np.isfinite(numbers) & (numbers > 0))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            message = (
                f"column {column!r} holds {_shown(table[column].iloc[row])} in row {row + 1} ({int(bad.sum())} such"
                " rows): sizes and weights must be numbers above 0; a unit with inclusion probability 0 cannot be"
                " weighted"
            )
            yield DesignProblem(code="bad_size", where=column, message=message)
        elif column not in {design.weight, design.unit_area}:
            yield from _whole_numbers(table[column], numbers, column)


def _shown(value: object) -> str:
    """A value as a table shows it: texts in quotes, numbers without their type."""
    return repr(value) if isinstance(value, str) else str(value)


def _whole_numbers(texts: pd.Series, numbers: pd.Series, column: str) -> Iterator[DesignProblem]:
    """Sizes count cities, pixels and points; 68.693 is 68693 with a dot between the thousands, or an error."""
    written = texts.astype("string").str.strip().str.fullmatch(DOTTED).fillna(value=False).to_numpy(dtype=bool)
    bad = written | (numbers != np.floor(numbers)).to_numpy(dtype=bool)
    if texts.dtype.kind in "fiu":  # numbers, not text: only their value can be wrong
        bad = (numbers != np.floor(numbers)).to_numpy(dtype=bool)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        message = (
            f"column {column!r} holds {texts.iloc[row]!r} in row {row + 1} ({int(bad.sum())} such rows): sizes are"
            " counts, so whole numbers; write them without separators of thousands"
        )
        yield DesignProblem(code="not_whole", where=column, message=message)


def _duplicates(design: SamplingDesign, keys: pd.DataFrame) -> Iterator[DesignProblem]:
    if design.ssu is None:
        return
    repeated = keys[keys.duplicated([*CELL, "ssu"], keep="first")]
    if len(repeated):
        row = repeated.iloc[0]
        message = (
            f"point {row['ssu']!r} of {row['psu']!r} is in the table {len(keys.merge(row.to_frame().T))} times"
            f" ({len(repeated)} repeated rows): keep one row per point"
        )
        yield DesignProblem(code="duplicate_point", where=str(row["ssu"]), message=message)


def _selection(design: SamplingDesign, table: pd.DataFrame, keys: pd.DataFrame) -> Iterator[DesignProblem]:
    if design.psu is None:
        return
    per_stratum = keys[PSU].drop_duplicates().groupby("stratum").size().to_dict()
    here = keys["stratum"].to_numpy()
    for column, least in ((design.psu_population, "at_least"), (design.psu_sampled, "equal")):
        if column is None or column not in table.columns or design.psu_selection in {"pps", "purposive"}:
            continue
        for stratum, values in pd.to_numeric(table[column]).groupby(here):
            found = int(per_stratum[str(stratum)])
            size = values.iloc[0]
            if values.min() != values.max():
                low, high = values.min(), values.max()
                message = f"stratum {stratum!r} has both {low:g} and {high:g} in {column!r}: one stratum has one size"
                yield DesignProblem(code="size_conflict", where=str(stratum), message=message)
            elif least == "equal" and size != found:
                message = (
                    f"stratum {stratum!r}: {column!r} says {size:g} sampled units but the table holds {found}: keep"
                    " unlabelled points in the table (empty label), or correct the count"
                )
                yield DesignProblem(code="psu_count_mismatch", where=str(stratum), message=message)
            elif size < found:
                message = (
                    f"stratum {stratum!r}: {column!r} says {size:g} units in the frame but {found} were sampled:"
                    " correct the frame size"
                )
                yield DesignProblem(code="psu_count_mismatch", where=str(stratum), message=message)
            elif least == "at_least" and design.psu_selection == "census" and size != found:
                message = (
                    f"stratum {stratum!r}: selection is a census, but {found} of {size:g} units are in the table:"
                    " declare how they were chosen"
                )
                yield DesignProblem(code="not_a_census", where=str(stratum), message=message)


def _cells(design: SamplingDesign, table: pd.DataFrame, keys: pd.DataFrame) -> Iterator[DesignProblem]:
    cell, names = codes(keys, CELL)
    drawn = np.bincount(cell)
    for column, sampled in ((design.ssu_population, False), (design.ssu_sampled, True)):
        if column is None or column not in table.columns:
            continue
        grouped = pd.to_numeric(table[column]).groupby(cell)
        low, high = grouped.min().to_numpy(), grouped.max().to_numpy()
        for c in np.flatnonzero((low != high) | (low < drawn) | (sampled & (low != drawn))):
            if low[c] != high[c]:
                code = "size_conflict"
                message = (
                    f"cell {names[c]!r} has both {low[c]:g} and {high[c]:g} in {column!r}: one cell has one size; name"
                    " every column that cuts a city into strata"
                )
            elif sampled:
                code = "ssu_count_mismatch"
                message = (
                    f"cell {names[c]!r}: {column!r} says {low[c]:g} points were drawn but {drawn[c]} are here, so"
                    " the weights do not sum to its area: keep unlabelled points in the table (empty label)"
                )
            else:
                code = "oversampled"
                message = f"cell {names[c]!r}: {drawn[c]} points of {low[c]:g} units in {column!r}: correct the size"
            yield DesignProblem(code=code, where=names[c], message=message)


def _areas(design: SamplingDesign, table: pd.DataFrame, keys: pd.DataFrame) -> Iterator[DesignProblem]:
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
    if design.psu is None or not isinstance(table, gpd.GeoDataFrame) or table.crs is None:
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


def _weights(design: SamplingDesign, table: pd.DataFrame, keys: pd.DataFrame) -> Iterator[DesignProblem]:
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


def _probabilities(design: SamplingDesign, table: pd.DataFrame) -> Iterator[DesignProblem]:
    """Whether the inclusion probabilities that `uvmap sample` wrote are those that the sizes give."""
    columns = (design.psu_sampled, design.psu_population, design.ssu_sampled, design.ssu_population)
    if design.psu is None or any(c is None or c not in table.columns for c in (*columns, PROBABILITY)):
        return
    n, N, m, M = (pd.to_numeric(table[c], errors="coerce").to_numpy(dtype=float) for c in columns)
    stated = pd.to_numeric(table[PROBABILITY], errors="coerce").to_numpy(dtype=float)
    expected = n / N * m / M
    bad = np.isfinite(stated) & (np.abs(stated - expected) > WEIGHT_TOLERANCE * expected)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        message = (
            f"row {row + 1} has the inclusion probability {stated[row]:.6g} in {PROBABILITY!r}, but its sizes give"
            f" {n[row]:g}/{N[row]:g} x {m[row]:g}/{M[row]:g} = {expected[row]:.6g} ({int(bad.sum())} such rows):"
            " one of the two was changed after the draw; the sizes are used. Compare them with the design file"
        )
        yield DesignProblem(code="probability_mismatch", where=PROBABILITY, message=message, fatal=False)


def _lonely(design: SamplingDesign, table: pd.DataFrame, keys: pd.DataFrame) -> Iterator[DesignProblem]:
    """Single units show no spread; whether that stops the estimate is the estimator's ``lonely`` rule."""
    if design.psu is not None and design.psu_selection in {"probability", "pps"}:
        for stratum, found in keys[PSU].drop_duplicates().groupby("stratum").size().items():
            if found > 1:
                continue
            if design.psu_selection == "probability":
                size = pd.to_numeric(table.loc[(keys["stratum"] == stratum), design.psu_population]).iloc[0]
                if size == 1:
                    continue
            message = f"stratum {stratum!r} has one sampled unit: no variance between its units can be estimated"
            yield DesignProblem(code="lonely_psu", where=str(stratum), message=message, fatal=False)
    cell, names = codes(keys, CELL)
    for c in np.flatnonzero(np.bincount(cell) == 1):
        message = f"cell {names[c]!r} has one point: no variance within it can be estimated unless it is complete"
        yield DesignProblem(code="lonely_ssu", where=names[c], message=message, fatal=False)


def _frame(design: SamplingDesign, keys: pd.DataFrame, frame: pd.DataFrame) -> Iterator[DesignProblem]:
    columns = [c for c in (design.stratum, design.psu, *design.second_stage_strata) if c is not None]
    missing = [c for c in columns if c not in frame.columns]
    if missing:
        message = f"the frame has no column {missing[0]!r}: give it the sample's column names"
        yield DesignProblem(code="missing_column", where=missing[0], message=message)
        return
    named = frame.assign(**({design.ssu: np.arange(len(frame))} if design.ssu else {}))
    _, wanted = codes(design.keys(named), CELL)
    _, there = codes(keys, CELL)
    for name in sorted(set(wanted) - set(there)):
        message = f"cell {name!r} of the frame has no point, so its area is unassessed: draw points or merge it"
        yield DesignProblem(code="missing_stratum", where=name, message=message)
    for name in sorted(set(there) - set(wanted)):
        message = f"cell {name!r} has points but is not in the frame: they lie outside the map or are misnamed"
        yield DesignProblem(code="outside_frame", where=name, message=message)
