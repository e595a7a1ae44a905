"""Cells of a table as its layout shows them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pipeline.analysis.layouts import Column, Kind, Layout
from pipeline.analysis.wording import MEASURES, MISSING, p_value, significant


def lay_out(table: pd.DataFrame, layout: Layout, *, html: bool) -> tuple[list[Column], list[list[str]]]:
    """Columns and cells that are shown: those of the layout that the table has and that say anything.

    Args:
        table: As computed.
        layout: What of it, and how.
        html: Whether it is for a page, which has all fonts.
    """
    shown = [
        c for c in layout.columns
        if c.key in table.columns and (html or not c.html_only) and (len(table) == 0 or table[c.key].notna().any())
    ]  # fmt: skip
    cells = [[_write(row, c) for c in shown] for row in table.to_dict("records")]
    return shown, cells


def _write(row: dict[Any, Any], column: Column) -> str:
    text = _cell(row[column.key], column.kind)
    if column.ends is None or text == MISSING:
        return text
    low, high = (_cell(row[e], column.kind) for e in column.ends)
    return text if MISSING in {low, high} else f"{text} ({low} to {high})"


def _cell(value: Any, kind: Kind) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return MISSING
    if kind == "text":
        return MEASURES.get(str(value), str(value))
    if kind == "yes":
        return "yes" if value else "no"
    if kind == "count":
        return f"{value:,.0f}"
    if kind == "p":
        return p_value(float(value))
    return significant(100 * float(value) if kind == "percent" else float(value))


def shown_rows(name: str, table: pd.DataFrame, *, most: int) -> pd.DataFrame:
    """Rows of a table that a page shows."""
    if name in {"shares", "sdg_11_1_1"}:
        return table[table["level"].isin(["nation", "region", "province"])]
    if name == "clustering_local":
        return table[table["kind"] != "none"].sort_values("gi_z", ascending=False).head(most)
    return table.head(most)
