"""Tables as CSV for machines and LaTeX for papers, the same bytes for the same values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pipeline.analysis.columns import tabulate_columns
from pipeline.analysis.latex import latex_table
from pipeline.analysis.layouts import LAYOUTS


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> list[Path]:
    """Write every table as ``name.csv`` (all columns, seven digits) and ``name.tex`` (what people read, three digits).

    ``columns.csv`` says what the columns are.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, table in tables.items():
        csv, tex = folder / f"{name}.csv", folder / f"{name}.tex"
        table.to_csv(csv, index=False, float_format="%.7g", lineterminator="\n")
        tex.write_text(latex_table(name, table, LAYOUTS[name]), encoding="utf-8")
        files += [csv, tex]
    columns = folder / "columns.csv"
    tabulate_columns(tables).to_csv(columns, index=False, lineterminator="\n")
    return [*files, columns]
