"""The sampling design: how the cities were chosen, which columns say so, and the table as arrays.

How the cities were chosen is a required input without a default, because the variance follows from it:
``probability`` (random within regions) and ``pps`` (with probability proportional to size, with replacement)
speak for all cities of the frame; ``census`` took them all; ``purposive`` speaks for the chosen cities only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from accuracy.arrays import Bools, Floats, Ints, SampleArrays
from accuracy.errors import DesignError

PsuSelection = Literal["probability", "pps", "purposive", "census"]
PSU_SELECTIONS: tuple[PsuSelection, ...] = get_args(PsuSelection)

PURPOSIVE = (
    "the cities were chosen on purpose, so no design-based statement reaches beyond them; use cities_fixed"
    " (accuracy within the assessed cities)"
)


@dataclass(frozen=True, kw_only=True)
class DesignProblem:
    """One contradiction between a design and a table.

    Attributes:
        code: Short name, for tests and machines.
        where: Stratum, city, cell or column.
        message: What conflicts and the mend.
        fatal: Whether estimation must stop.
    """

    code: str
    where: str
    message: str
    fatal: bool = True


@dataclass(frozen=True, kw_only=True)
class SamplingDesign:
    """Columns that describe how a sample was drawn.

    Attributes:
        psu_selection: How the primary units (cities) were chosen: ``probability``, ``pps``, ``purposive``,
            ``census``. No default.
        stratum: Column of first-stage strata (regions), None for a single one.
        psu: Column of primary units, None for a single-stage sample.
        ssu: Column of points or blocks, None to number them.
        second_stage_strata: Columns that cut a city into second-stage strata (map class, candidate).
        psu_population: Column of cities in the region (N_h).
        psu_sampled: Column of sampled cities in the region; counted where the table lacks it.
        ssu_population: Column of units in city x second-stage stratum (M).
        ssu_sampled: Column of points drawn there; counted where the table lacks it.
        weight: Column of weights (1 / inclusion probability); needed for ``pps``, else from the sizes.
    """

    psu_selection: PsuSelection
    stratum: str | None = "region"
    psu: str | None = "city"
    ssu: str | None = "point_id"
    second_stage_strata: tuple[str, ...] = ("map_stratum",)
    psu_population: str | None = "N_city"
    psu_sampled: str | None = "n_city"
    ssu_population: str | None = "M_pix"
    ssu_sampled: str | None = "m_pts"
    weight: str | None = None

    def __post_init__(self) -> None:
        if self.psu_selection not in PSU_SELECTIONS:
            raise DesignError(
                f"psu_selection {self.psu_selection!r} is none of {', '.join(PSU_SELECTIONS)}:"
                " say how the cities were chosen"
            )
        if self.psu_selection == "pps" and self.weight is None:
            raise DesignError(
                "psu_selection 'pps' without a weight column: name the column of 1 / inclusion probability"
            )

    @property
    def needs_psu_population(self) -> bool:
        """Whether N_h must be in the table."""
        return self.psu is not None and self.psu_selection == "probability"

    def required_columns(self) -> list[str]:
        """Columns a table must have."""
        wanted = [self.stratum, self.psu, self.ssu, *self.second_stage_strata, self.weight]
        if self.needs_psu_population:
            wanted.append(self.psu_population or "N_city")
        if self.psu_selection != "pps":
            wanted.append(self.ssu_population or "M_pix")
        return [c for c in wanted if c is not None]

    def keys(self, table: pd.DataFrame) -> pd.DataFrame:
        """Text keys of every row: ``stratum``, ``psu``, ``second``, ``ssu``; the table's index is kept."""
        one = pd.Series("all", index=table.index)
        second = [as_text(table[c]) for c in self.second_stage_strata]
        return pd.DataFrame(
            {
                "stratum": one if self.stratum is None else as_text(table[self.stratum]),
                "psu": one if self.psu is None else as_text(table[self.psu]),
                "second": _joined(second) if second else one,
                "ssu": pd.Series(np.arange(len(table)), index=table.index).astype(str)
                if self.ssu is None
                else as_text(table[self.ssu]),
            }
        )

    def validate(self, table: pd.DataFrame, *, frame: pd.DataFrame | None = None) -> list[DesignProblem]:
        """Every problem of a table of drawn units, labelled or not; empty where there is none.

        Args:
            table: One row per drawn unit.
            frame: Optional list of all cells that must be there, with the same column names.
        """
        from accuracy.survey.design_checks import find_problems  # noqa: PLC0415 - it needs this module's types

        return find_problems(self, table, frame=frame)

    def arrays(self, table: pd.DataFrame, responded: Bools | None = None) -> SampleArrays:
        """The design as flat arrays over the rows that have an answer, in the table's order.

        Points without an answer are spread over the answered ones of their cell: weight = N/n * M/m with m the
        answered points.

        Args:
            table: One row per drawn unit, as in `validate`.
            responded: bool (rows,); None takes all.

        Raises:
            DesignError: The table contradicts the design, or a cell has no answered point.
        """
        fatal = [p for p in self.validate(table) if p.fatal]
        if fatal:
            more = f" ({len(fatal) - 1} more problems)" if len(fatal) > 1 else ""
            raise DesignError(fatal[0].message + more)
        keep = np.ones(len(table), dtype=bool) if responded is None else responded
        keys = self.keys(table)
        cells, names = codes(keys, CELL)
        drawn, answered = np.bincount(cells), np.bincount(cells[keep], minlength=len(names))
        empty = np.flatnonzero(answered == 0)
        if len(empty):
            more = f" (and {len(empty) - 1} more cells)" if len(empty) > 1 else ""
            raise DesignError(
                f"cell {names[empty[0]]!r} has {drawn[empty[0]]} drawn points but none with an answer{more}: its area"
                " is unassessed. Label a point there or merge the cell with a similar one"
            )
        return self._build(table.loc[keep], keys.loc[keep], (drawn / answered)[cells[keep]])

    def _build(self, table: pd.DataFrame, keys: pd.DataFrame, spread: Floats) -> SampleArrays:
        cell, cell_names = codes(keys, CELL)
        m = np.bincount(cell)
        known = self.ssu_population is not None and self.ssu_population in table.columns
        M = _first(table[self.ssu_population], cell) if known else np.full(len(m), np.inf)
        given = None if self.weight is None else _floats(table[self.weight]) * spread
        if self.psu is None:
            each = np.arange(len(table))
            return SampleArrays(
                weight=(M / m)[cell] if given is None else given,
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
            )
        psu, psu_names = codes(keys, PSU)
        stratum, stratum_names = codes(keys, ["stratum"])
        stratum_of_psu = _first(stratum, psu).astype(np.int64)
        n = np.bincount(stratum_of_psu).astype(np.float64)
        if self.psu_selection == "probability":
            N = _first(table[self.psu_population], stratum)
        else:
            N = np.full(len(n), np.inf) if self.psu_selection == "pps" else n
        return SampleArrays(
            weight=(N / n)[stratum] * (M / m)[cell] if given is None else given,
            psu=psu,
            cell=cell,
            stratum_of_psu=stratum_of_psu,
            psu_of_cell=_first(psu, cell).astype(np.int64),
            psu_population=N,
            ssu_population=M,
            stratum_names=stratum_names,
            psu_names=psu_names,
            cell_names=cell_names,
            between_psu=PURPOSIVE if self.psu_selection == "purposive" else None,
        )


PSU = ["stratum", "psu"]
CELL = ["stratum", "psu", "second"]


def codes(keys: pd.DataFrame, columns: Sequence[str]) -> tuple[Ints, tuple[str, ...]]:
    """Group numbers of rows and the groups' names, in the order of the names whatever the order of the rows."""
    grouped = keys.groupby(list(columns), sort=True, observed=True)
    number = np.asarray(grouped.ngroup(), dtype=np.int64)
    names = keys.loc[~pd.Series(number, index=keys.index).duplicated(), list(columns)]
    order = np.argsort(number[~pd.Series(number).duplicated().to_numpy()])
    joined = ["/".join(row) for row in names.iloc[order].itertuples(index=False)]
    return number, tuple(joined)


def _joined(columns: Sequence[pd.Series]) -> pd.Series:
    text = columns[0]
    for column in columns[1:]:
        text = text + " / " + column
    return text


def as_text(column: pd.Series) -> pd.Series:
    """Ids and classes as text: 7, 7.0, "7" and "7.0" are the same; missing stays missing."""
    text = column.astype("string").str.strip()
    return text.str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True).astype(object)


def _floats(column: pd.Series) -> Floats:
    return np.asarray(pd.to_numeric(column), dtype=np.float64)


def _first(values: pd.Series | Ints, groups: Ints) -> Floats:
    """The value of the first row of each group (checked to be the same for all its rows)."""
    _, where = np.unique(groups, return_index=True)
    return np.asarray(pd.to_numeric(pd.Series(np.asarray(values)))[where], dtype=np.float64)
