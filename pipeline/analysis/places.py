"""Places that tables have rows of: the nation, and its regions after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from pipeline.analysis.errors import AnalysisError

NATION = "nation"
M2_PER_KM2 = 1e6


def nation_and_regions(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The whole table as `NATION`, then the rows of each of its regions (column ``region``), by name."""
    yield NATION, table
    for name, rows in table.groupby("region", sort=True):
        yield str(name), rows


def need_columns(table: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Refuse a table that lacks columns.

    Raises:
        AnalysisError: It does; ``what`` names the table.
    """
    absent = [c for c in columns if c not in table.columns]
    if absent:
        raise AnalysisError(f"{what} lacks the columns {', '.join(absent)}")
