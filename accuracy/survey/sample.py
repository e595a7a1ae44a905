"""A labelled sample: a table of drawn units, its design, what the map says and what the reference says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from accuracy.arrays import Bools, SampleArrays
from accuracy.errors import SampleTableError
from accuracy.survey.design import SamplingDesign, as_text
from accuracy.survey.design_arrays import DesignLayout, build_arrays, lay_out

YES = frozenset({"1", "true", "yes", "y", "uv", "urban_village", "urban village"})
NO = frozenset({"0", "false", "no", "n", "not_uv", "not uv", "non_uv", "non-uv", "non uv", "other"})
UNANSWERED = frozenset({"", "?", "na", "n/a", "nan", "none", "null", "<na>", "unknown", "cannot say", "cannot_say"})


@dataclass(frozen=True, kw_only=True)
class ReferenceSample:
    """A table of drawn units with map and reference, checked against its design.

    Attributes:
        table: One row per drawn unit, labelled or not.
        design: How it was drawn.
        map_column: What the map says there.
        reference_column: What the reference says; empty, ``?`` or ``cannot say`` is non-response.
        positive: The class of interest where classes are names; None for yes/no answers.
        unanswered: Further values that mean "no answer".
    """

    table: pd.DataFrame
    design: SamplingDesign
    map_column: str = "map"
    reference_column: str = "ref"
    positive: str | None = None
    unanswered: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        for column in (self.map_column, self.reference_column):
            if column not in self.table.columns:
                raise SampleTableError(
                    f"column {column!r} is not in the table (it has {', '.join(map(str, self.table.columns))}):"
                    " name the columns of map and reference with --map and --ref"
                )

    @cached_property
    def responded(self) -> Bools:
        """Rows (bool) where the reference answered."""
        return ~self._is_unanswered(self.reference_column)

    @cached_property
    def labelled(self) -> pd.DataFrame:
        """The answered rows."""
        return self.table.loc[self.responded]

    @cached_property
    def arrays(self) -> SampleArrays:
        """The design over the answered rows."""
        if not self.responded.any():
            raise SampleTableError(
                f"no row of {len(self.table)} has an answer in {self.reference_column!r}: label the points first"
            )
        return build_arrays(self.design, self.table, self.responded, layout=self.layout)

    @cached_property
    def layout(self) -> DesignLayout:
        """The drawn units in their cells and cities, checked; the same whatever was answered."""
        return lay_out(self.design, self.table)

    @cached_property
    def second(self) -> NDArray[np.object_]:
        """Object (answered rows,): second-stage stratum of each."""
        return np.array(self.layout.second_names, dtype=object)[self.layout.second[self.responded]]

    @cached_property
    def mapped(self) -> Bools:
        """Answered rows (bool) where the map says urban village (or the class ``positive``)."""
        missing = self._is_unanswered(self.map_column)
        if missing.any():
            row = int(np.flatnonzero(missing)[0])
            raise SampleTableError(
                f"column {self.map_column!r} has no value in {int(missing.sum())} rows (first: row {row + 1}): the"
                " point lies outside the map, where every point must lie: draw the sample again, removing none by hand"
            )
        return self._is_positive(self.map_column)

    @cached_property
    def reference(self) -> Bools:
        """Answered rows (bool) where the reference says so."""
        return self._is_positive(self.reference_column)

    @property
    def non_response_rate(self) -> float:
        """Share of drawn units without an answer."""
        return float(1 - self.responded.mean())

    def classes(self) -> list[str]:
        """Class names that map or reference use, sorted."""
        rows = self.labelled
        return sorted({*self._text(rows, self.map_column), *self._text(rows, self.reference_column)})

    def codes(self, column: str) -> pd.Series:
        """Text values of a column over the answered rows."""
        if column not in self.table.columns:
            raise SampleTableError(
                f"column {column!r} is not in the table (it has {', '.join(map(str, self.table.columns))}):"
                " name an existing column"
            )
        return self._text(self.labelled, column)

    def with_reference(self, values: Iterable[Any]) -> ReferenceSample:
        """The same sample with other reference labels (sensitivity), one per drawn row."""
        return self.with_answers({self.reference_column: list(values)})

    def with_answers(self, columns: Mapping[str, Any], **fields: Any) -> ReferenceSample:
        """The same drawn units with other columns of answers, and other fields of this class."""
        other = replace(self, table=self.table.assign(**columns), **fields)
        if "layout" in self.__dict__ and not self.design.uses(columns):
            other.__dict__["layout"] = self.layout  # nothing of it has changed, and it costs more than an estimate
        return other

    def with_map(self, column: str) -> ReferenceSample:
        """The same points judging another map; the design, which does not depend on the map, is not read again."""
        other = replace(self, map_column=column)
        for name in ("responded", "labelled", "arrays", "reference"):
            other.__dict__[name] = getattr(self, name)  # where `cached_property` keeps what it found
        return other

    def _text(self, rows: pd.DataFrame, column: str) -> pd.Series:
        return as_text(rows[column])

    def _is_unanswered(self, column: str) -> Bools:
        text = self._text(self.table, column)
        silent = UNANSWERED | {u.lower() for u in self.unanswered}
        return np.asarray(text.isna() | text.astype("string").str.lower().isin(silent), dtype=bool)

    def _is_positive(self, column: str) -> Bools:
        text = self._text(self.labelled, column)
        if self.positive is not None:
            return np.asarray(text == self.positive, dtype=bool)
        low = text.astype("string").str.lower()
        yes, no = low.isin(YES).to_numpy(dtype=bool), low.isin(NO).to_numpy(dtype=bool)
        strange = ~(yes | no)
        if strange.any():
            seen = sorted(set(text[strange]))
            raise SampleTableError(
                f"column {column!r} holds {', '.join(map(repr, seen[:5]))}{' …' if len(seen) > 5 else ''}, which is"
                " neither 1 nor 0: name the class that is urban village (--positive), or values that mean no answer"
                " (--no-answer)"
            )
        return np.asarray(yes)
