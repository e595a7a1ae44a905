"""Tables as CSV for machines and LaTeX for papers, the same bytes for the same values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

NOT_IN_LATEX = ("name_zh",)
"""Columns that need fonts which not every LaTeX has."""


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> list[Path]:
    """Write every table as ``name.csv`` (seven digits) and ``name.tex`` (three digits, booktabs).

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, table in tables.items():
        csv, tex = folder / f"{name}.csv", folder / f"{name}.tex"
        table.to_csv(csv, index=False, float_format="%.7g", lineterminator="\n")
        plain = table.drop(columns=[c for c in NOT_IN_LATEX if c in table.columns])
        text = plain.to_latex(index=False, na_rep="--", escape=True, float_format=lambda v: f"{v:.3g}")
        tex.write_text(text, encoding="utf-8")
        files += [csv, tex]
    return files
