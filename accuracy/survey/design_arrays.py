"""A table of drawn units as the flat arrays that the estimators work on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from accuracy.arrays import Bools, Floats, Ints, SampleArrays
from accuracy.errors import DesignError
from accuracy.survey.design import CELL, PSU, SamplingDesign, codes
from accuracy.survey.design_checks import find_problems, raise_fatal
from accuracy.survey.design_problem import DesignProblem

PURPOSIVE = (
    "the cities were chosen on purpose, so no design-based statement reaches beyond them; read cities_fixed"
    " (accuracy within the assessed cities)"
)


@dataclass(frozen=True, kw_only=True)
class DesignLayout:
    """A checked table's units in their cells, cities and strata, whatever was answered: made once for all answers.

    Attributes:
        problems: What is doubtful of the table, but not fatal.
        second: int64 (rows,), second-stage stratum, with ``second_names``.
        ssu: object (rows,), names of the units.
        cell: int64 (rows,), with ``cell_names``.
        psu: int64 (rows,), with ``psu_names``.
        stratum: int64 (rows,), with ``stratum_names``.
        area: float64 (rows,), area of a unit; 1 where it is unknown.
        weight: float64 (rows,), given weights of the drawn units, or None.
    """

    problems: tuple[DesignProblem, ...]
    second: Ints
    second_names: tuple[str, ...]
    ssu: NDArray[np.object_]
    cell: Ints
    cell_names: tuple[str, ...]
    psu: Ints
    psu_names: tuple[str, ...]
    stratum: Ints
    stratum_names: tuple[str, ...]
    area: Floats
    weight: Floats | None


def lay_out(design: SamplingDesign, table: pd.DataFrame) -> DesignLayout:
    """Check a table of drawn units, answered or not, and number its groups.

    Raises:
        DesignError: The table contradicts the design.
    """
    problems = find_problems(design, table)
    raise_fatal(problems)
    keys = design.keys(table)
    cell, cell_names = codes(keys, CELL)
    psu, psu_names = codes(keys, PSU)
    stratum, stratum_names = codes(keys, ["stratum"])
    second, second_names = codes(keys, ["second"])
    known = design.has_unit_area(table)
    return DesignLayout(
        problems=tuple(problems),
        second=second,
        second_names=second_names,
        ssu=keys["ssu"].to_numpy(),
        cell=cell,
        cell_names=cell_names,
        psu=psu,
        psu_names=psu_names,
        stratum=stratum,
        stratum_names=stratum_names,
        area=_floats(table[design.unit_area]) if known else np.ones(len(table)),
        weight=None if design.weight is None else _floats(table[design.weight]),
    )


def build_arrays(
    design: SamplingDesign, table: pd.DataFrame, responded: Bools | None = None, *, layout: DesignLayout | None = None
) -> SampleArrays:
    """The design as flat arrays over the rows that have an answer, in the table's order.

    Points without an answer are spread over the answered ones of their cell: weight = N/n * M/m with m the
    answered points.

    Args:
        design: How the units were drawn.
        table: One row per drawn unit.
        responded: bool (rows,); None takes all.
        layout: The table's layout, where it was made before.

    Raises:
        DesignError: The table contradicts the design, or a cell has no answered point.
    """
    layout = lay_out(design, table) if layout is None else layout
    keep = np.ones(len(table), dtype=bool) if responded is None else np.asarray(responded)
    drawn, m = np.bincount(layout.cell), np.bincount(layout.cell[keep], minlength=len(layout.cell_names))
    empty = np.flatnonzero(m == 0)
    if len(empty):
        more = f" (and {len(empty) - 1} more cells)" if len(empty) > 1 else ""
        raise DesignError(
            f"cell {layout.cell_names[empty[0]]!r} has {drawn[empty[0]]} drawn points but none with an answer{more}:"
            " its area is unassessed. Label a point there or merge the cell with a similar one"
        )
    known = design.ssu_population is not None and design.ssu_population in table.columns
    M = _first(table[design.ssu_population], layout.cell) if known else np.full(len(m), np.inf)
    cell, area = layout.cell[keep], layout.area[keep]
    given = None if layout.weight is None else (layout.weight * (drawn / m)[layout.cell])[keep] * area
    in_m2 = design.has_unit_area(table)
    if design.psu is None:
        each, names = np.arange(len(cell)), tuple(layout.ssu[keep])
        return SampleArrays(
            weight=(M / m)[cell] * area if given is None else given,
            psu=each,
            cell=each,
            stratum_of_psu=cell,
            psu_of_cell=each,
            psu_population=M,
            ssu_population=np.ones(len(cell)),
            stratum_names=layout.cell_names,
            psu_names=names,
            cell_names=names,
            single_stage=True,
            in_m2=in_m2,
        )
    stratum_of_psu = _first(layout.stratum, layout.psu).astype(np.int64)
    n = np.bincount(stratum_of_psu).astype(np.float64)
    if design.psu_selection == "probability":
        N = _first(table[design.psu_population], layout.stratum)
    else:
        N = np.full(len(n), np.inf) if design.psu_selection == "pps" else n
    pi = _first(table[design.psu_probability], layout.psu) if design.is_without_replacement(table) else None
    expansion = (N / n)[stratum_of_psu] if pi is None else 1 / pi
    hits = design.times_drawn if design.psu_selection == "pps" and pi is None else None
    psu = layout.psu[keep]
    return SampleArrays(
        weight=expansion[psu] * (M / m)[cell] * area if given is None else given,
        psu=psu,
        cell=cell,
        stratum_of_psu=stratum_of_psu,
        psu_of_cell=_first(layout.psu, layout.cell).astype(np.int64),
        psu_population=N,
        ssu_population=M,
        stratum_names=layout.stratum_names,
        psu_names=layout.psu_names,
        cell_names=layout.cell_names,
        in_m2=in_m2,
        psu_probability=pi,
        times_drawn=_first(table[hits], layout.psu) if hits is not None and hits in table.columns else None,
        between_psu=PURPOSIVE if design.psu_selection == "purposive" else None,
    )


def _floats(column: pd.Series) -> Floats:
    return np.asarray(pd.to_numeric(column), dtype=np.float64)


def _first(values: pd.Series | Ints, groups: Ints) -> Floats:
    """The value of the first row of each group (checked to be the same for all its rows)."""
    _, where = np.unique(groups, return_index=True)
    return np.asarray(pd.to_numeric(pd.Series(np.asarray(values)[where])), dtype=np.float64)
