"""Rows of tables as plain values for JSON and as text for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

MEASURE_NAMES = {
    "UA": "precision (UA)",
    "PA": "recall (PA)",
    "area": "UV share",
    "area_map": "mapped share",
    "area_difference": "mapped - true",
}


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of a page.

    Attributes:
        columns: Headings.
        rows: Cells as text, one tuple per row.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def build_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """A table of any values: four decimals, ``not estimable`` for what is missing."""
    return Table(columns=tuple(str(c) for c in columns), rows=tuple(tuple(write_value(v) for v in row) for row in rows))


def tabulate_frame(frame: pd.DataFrame) -> Table:
    """A data frame as a table, its column names as headings."""
    return build_table(list(frame.columns), list(frame.itertuples(index=False, name=None)))


def write_value(value: Any) -> str:
    """A value as text."""
    value = make_plain(value)
    if value is None:
        return "not estimable"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def make_plain(value: Any) -> Any:
    """A value as JSON knows it: lists, text, numbers, None for NaN and infinity."""
    if isinstance(value, tuple | list):
        return list(value)
    if value is None or isinstance(value, str | bool):
        return value
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def make_plain_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries of plain values."""
    return [{str(k): make_plain(v) for k, v in row.items()} for row in frame.to_dict("records")]


def make_plain_cell(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Estimate, standard error, interval and flags of a row, with None for NaN."""
    cell: dict[str, Any] = {k: make_plain(row.get(k)) for k in ("estimate", "se", "ci_low", "ci_high")}
    flags = row.get("flags")
    cell["flags"] = list(flags) if isinstance(flags, tuple | list) else []
    return cell
