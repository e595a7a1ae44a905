"""What can be wrong between a sampling design and its table; each check lists every case it finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from accuracy.errors import DesignError
from accuracy.survey.design import CELL, PSU, SamplingDesign, codes
from accuracy.survey.design_problem import DesignProblem
from accuracy.survey.pps_checks import check_unequal
from accuracy.survey.weight_checks import check_areas, check_probabilities, check_weights

DOTTED = r"\d{1,3}(\.\d{3})+"


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
    found = [*_duplicates(design, keys), *_selection(design, table, keys), *check_unequal(design, table, keys)]
    found += [*_cells(design, table, keys), *check_areas(design, table, keys)]
    if not found:
        found += [*check_weights(design, table, keys), *check_probabilities(design, table)]
    found += _lonely(design, table, keys)
    if frame is not None:
        found += _frame(design, keys, frame)
    return found


def require_frame(design: SamplingDesign, table: pd.DataFrame, frame: pd.DataFrame) -> None:
    """Raise unless every cell of ``frame`` has a point in ``table`` and no point lies elsewhere.

    Raises:
        DesignError: A cell has no point, or a point no cell.
    """
    raise_fatal(find_problems(design, table, frame=frame))


def raise_fatal(problems: Sequence[DesignProblem]) -> None:
    """Raise the first fatal problem, if there is one.

    Raises:
        DesignError: There is.
    """
    fatal = [p for p in problems if p.fatal]
    if fatal:
        more = f" ({len(fatal) - 1} more problems)" if len(fatal) > 1 else ""
        raise DesignError(fatal[0].message + more)


def _columns(design: SamplingDesign, table: pd.DataFrame) -> Iterator[DesignProblem]:
    for column in design.required_columns():
        if column not in table.columns:
            has = f"(it has {', '.join(map(str, table.columns))})"
            message = f"column {column!r} is not in the table {has}: name the right column"
            if column == design.psu_probability:
                message = (
                    f"--psu-selection pps without a weight column, and {column!r} is not in the table {has}: name the"
                    " column of 1 / inclusion probability with --weight, or that of each city's own probability"
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
    unequal = [design.psu_probability, design.times_drawn] if design.psu_selection == "pps" else []
    for column in [*sizes, design.unit_area, *unequal]:
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
        elif column not in {design.weight, design.unit_area, design.psu_probability}:
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


def _lonely(design: SamplingDesign, table: pd.DataFrame, keys: pd.DataFrame) -> Iterator[DesignProblem]:
    """Single units show no spread; whether that stops the estimate is the estimator's ``lonely`` rule."""
    if design.psu is not None and design.psu_selection in {"probability", "pps"}:
        drawn = keys[PSU].drop_duplicates()
        if design.is_without_replacement(table):  # certainties need no spread between them
            drawn = drawn[pd.to_numeric(table.loc[drawn.index, design.psu_probability]).lt(1 - 1e-9)]
        for stratum, found in drawn.groupby("stratum").size().items():
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
