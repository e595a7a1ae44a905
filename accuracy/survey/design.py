"""The sampling design: how the cities were chosen, and which columns of a table say so.

How the cities were chosen is a required input without a default, because the variance follows from it:
``probability`` (random within regions) and ``pps`` (with unequal probabilities, such as in proportion to size) speak
for all cities of the frame; ``census`` took them all; ``purposive`` speaks for the chosen cities only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from accuracy.arrays import Ints
from accuracy.errors import DesignError

PsuSelection = Literal["probability", "pps", "purposive", "census"]
PSU_SELECTIONS: tuple[PsuSelection, ...] = get_args(PsuSelection)


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
        weight: Column of weights (1 / inclusion probability); for ``pps`` needed where ``psu_probability`` is not in
            the table, else from the sizes.
        psu_probability: Column of the cities' own inclusion probabilities, for ``pps``: the cities were drawn without
            replacement, 1 is a certainty. Where the table lacks it they count as drawn with replacement.
        times_drawn: Column that says how often a city was drawn, for ``pps`` with replacement; once where absent.
        unit_area: Column of a unit's area in m² (a pixel's); where the table has it, weights are areas, so that cities
            mapped at different resolutions count by their ground. Without it all units must be of one size.
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
    unit_area: str | None = "pixel_m2"
    psu_probability: str | None = None
    times_drawn: str | None = "times_drawn"

    def __post_init__(self) -> None:
        if self.psu_selection not in PSU_SELECTIONS:
            raise DesignError(
                f"--psu-selection {self.psu_selection!r} is none of {', '.join(PSU_SELECTIONS)}:"
                " say how the cities were chosen"
            )
        if self.psu_selection == "pps" and self.weight is None and self.psu_probability is None:
            raise DesignError(
                "--psu-selection pps without a weight column: name that of 1 / inclusion probability with --weight"
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
        if self.psu_selection != "pps" or self.weight is None:
            wanted.append(self.ssu_population or "M_pix")
        if self.psu_selection == "pps" and self.weight is None:
            wanted.append(self.psu_probability)
        return [c for c in wanted if c is not None]

    def uses(self, columns: Iterable[str]) -> bool:
        """Whether one of the columns says something of the design."""
        own = {self.stratum, self.psu, self.ssu, *self.second_stage_strata, self.psu_population, self.psu_sampled}
        own |= {self.ssu_population, self.ssu_sampled, self.weight, self.unit_area}
        own |= {self.psu_probability, self.times_drawn}
        return bool(own & set(columns))

    def is_without_replacement(self, table: pd.DataFrame) -> bool:
        """Whether cities were drawn with unequal probabilities, without replacement, as the table states them."""
        column = self.psu_probability
        return self.psu_selection == "pps" and self.psu is not None and column is not None and column in table.columns

    def has_unit_area(self, table: pd.DataFrame) -> bool:
        """Whether the table states the units' areas."""
        return self.unit_area is not None and self.unit_area in table.columns

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
    number, seen = pd.factorize(column)  # each value once: a million rows hold few strata
    text = pd.Series(seen).astype("string").str.strip()
    text = text.str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True).astype(object)
    values = np.array([*text, None], dtype=object)[number]
    return pd.Series(values, index=column.index, name=column.name, dtype=object)
