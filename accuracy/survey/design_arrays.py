"""A table of drawn units as the flat arrays that the estimators work on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from accuracy.arrays import Bools, Floats, Ints, SampleArrays
from accuracy.errors import DesignError
from accuracy.survey.design import CELL, PSU, SamplingDesign, codes
from accuracy.survey.design_checks import require_sound

PURPOSIVE = (
    "the cities were chosen on purpose, so no design-based statement reaches beyond them; read cities_fixed"
    " (accuracy within the assessed cities)"
)


def build_arrays(design: SamplingDesign, table: pd.DataFrame, responded: Bools | None = None) -> SampleArrays:
    """The design as flat arrays over the rows that have an answer, in the table's order.

    Points without an answer are spread over the answered ones of their cell: weight = N/n * M/m with m the
    answered points.

    Args:
        design: How the units were drawn.
        table: One row per drawn unit.
        responded: bool (rows,); None takes all.

    Raises:
        DesignError: The table contradicts the design, or a cell has no answered point.
    """
    require_sound(design, table)
    keep = np.ones(len(table), dtype=bool) if responded is None else responded
    keys = design.keys(table)
    cells, names = codes(keys, CELL)
    drawn, answered = np.bincount(cells), np.bincount(cells[keep], minlength=len(names))
    empty = np.flatnonzero(answered == 0)
    if len(empty):
        more = f" (and {len(empty) - 1} more cells)" if len(empty) > 1 else ""
        raise DesignError(
            f"cell {names[empty[0]]!r} has {drawn[empty[0]]} drawn points but none with an answer{more}: its area"
            " is unassessed. Label a point there or merge the cell with a similar one"
        )
    return _build(design, table.loc[keep], keys.loc[keep], (drawn / answered)[cells[keep]])


def _build(design: SamplingDesign, table: pd.DataFrame, keys: pd.DataFrame, spread: Floats) -> SampleArrays:
    cell, cell_names = codes(keys, CELL)
    m = np.bincount(cell)
    known = design.ssu_population is not None and design.ssu_population in table.columns
    M = _first(table[design.ssu_population], cell) if known else np.full(len(m), np.inf)
    in_m2 = design.has_unit_area(table)
    area = _floats(table[design.unit_area]) if in_m2 else np.ones(len(table))
    given = None if design.weight is None else _floats(table[design.weight]) * spread * area
    if design.psu is None:
        each = np.arange(len(table))
        return SampleArrays(
            weight=(M / m)[cell] * area if given is None else given,
            psu=each,
            cell=each,
            stratum_of_psu=cell,
            psu_of_cell=each,
            psu_population=M,
            ssu_population=np.ones(len(table)),
            stratum_names=cell_names,
            psu_names=tuple(keys["ssu"]),
            cell_names=tuple(keys["ssu"]),
            single_stage=True,
            in_m2=in_m2,
        )
    psu, psu_names = codes(keys, PSU)
    stratum, stratum_names = codes(keys, ["stratum"])
    stratum_of_psu = _first(stratum, psu).astype(np.int64)
    n = np.bincount(stratum_of_psu).astype(np.float64)
    if design.psu_selection == "probability":
        N = _first(table[design.psu_population], stratum)
    else:
        N = np.full(len(n), np.inf) if design.psu_selection == "pps" else n
    pi = _first(table[design.psu_probability], psu) if design.is_without_replacement(table) else None
    expansion = (N / n)[stratum] if pi is None else (1 / pi)[psu]
    hits = design.times_drawn if design.psu_selection == "pps" and pi is None else None
    return SampleArrays(
        weight=expansion * (M / m)[cell] * area if given is None else given,
        psu=psu,
        cell=cell,
        stratum_of_psu=stratum_of_psu,
        psu_of_cell=_first(psu, cell).astype(np.int64),
        psu_population=N,
        ssu_population=M,
        stratum_names=stratum_names,
        psu_names=psu_names,
        cell_names=cell_names,
        in_m2=in_m2,
        psu_probability=pi,
        times_drawn=_first(table[hits], psu) if hits is not None and hits in table.columns else None,
        between_psu=PURPOSIVE if design.psu_selection == "purposive" else None,
    )


def _floats(column: pd.Series) -> Floats:
    return np.asarray(pd.to_numeric(column), dtype=np.float64)


def _first(values: pd.Series | Ints, groups: Ints) -> Floats:
    """The value of the first row of each group (checked to be the same for all its rows)."""
    _, where = np.unique(groups, return_index=True)
    return np.asarray(pd.to_numeric(pd.Series(np.asarray(values)))[where], dtype=np.float64)
