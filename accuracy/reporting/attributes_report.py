"""Accuracy of attributes as files: report.html (one file, no network), report.json, and CSV tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from accuracy.estimation.attributes import Field
from accuracy.estimation.estimation import WHOLE
from accuracy.reporting.cells import Table, build_table, make_plain_records
from accuracy.reporting.charts import draw_pairs
from accuracy.reporting.page import render_page, write_files

SCHEMA_VERSION = "1.0.0"
OF_NUMBERS = ("has_value", "bias", "relative_bias", "MAE", "RMSE", "R2", "pearson", "spearman")
OF_CLASSES = ("has_value", "agreement", "kappa")
MOST_CHARTS = 12


def write_attributes_report(
    measures: pd.DataFrame,
    table: pd.DataFrame,
    fields: Sequence[Field],
    folder: Path,
    *,
    title: str,
    level: float,
    design: Mapping[str, str],
    notes: Sequence[str] = (),
) -> dict[str, Path]:
    """Write the report of `accuracy.estimation.attributes.assess_attributes`; the same input gives the same bytes.

    Args:
        measures: Its rows.
        table: The villages compared, with the columns of the fields.
        fields: What was compared.
        folder: Where to.
        title: Of the page.
        level: Confidence level.
        design: How villages were drawn and matched, label to text.
        notes: What a reader must know.

    Returns:
        The files by name.
    """
    whole = measures[measures["value"] == WHOLE]
    parts = measures[measures["value"] != WHOLE]
    classes = whole[whole["kind"] == "category"]
    page = render_page(
        "attributes.html.j2",
        title=title,
        rows=len(table),
        notes=list(notes),
        level=f"{level:.0%}",
        numbers=_tabulate(whole[whole["kind"] != "category"], OF_NUMBERS),
        classes=_tabulate(classes, OF_CLASSES) if len(classes) else None,
        domains=_tabulate(parts, ("has_value", "bias", "MAE", "RMSE", "agreement", "kappa")) if len(parts) else None,
        design=list(design.items()),
        charts=_charts(table, fields),
    )
    data = {
        "schema_version": SCHEMA_VERSION,
        "kind": "attributes",
        "title": title,
        "level": level,
        "design": dict(design),
        "measures": make_plain_records(measures),
        "notes": list(notes),
    }
    return write_files(folder, page=page, data=data, tables={"attributes": measures, "pairs": _pairs(table, fields)})


def _tabulate(frame: pd.DataFrame, measures: Sequence[str]) -> Table:
    shown = [m for m in measures if m in set(frame["measure"])]
    rows = []
    for (name, unit, value), group in frame.groupby(["field", "unit", "value"], sort=False):
        cells = {r["measure"]: r for r in group.to_dict("records")}
        where = [] if value == WHOLE else [f"{group['domain'].iloc[0]} = {value}"]
        rows.append(
            [
                ", ".join([f"{name} ({unit})" if unit else str(name), *where]),
                max(r["n_villages"] for m, r in cells.items() if m != "has_value"),
                *[_write(cells[m]) if m in cells else "" for m in shown],
                ", ".join(sorted({f for r in cells.values() for f in r["flags"]})),
            ]
        )
    return build_table(["attribute", "villages", *shown, "marks"], rows)


def _write(row: Mapping[Any, Any]) -> str:
    if pd.isna(row["estimate"]):
        return "not estimable"
    value = f"{row['estimate']:.4g}"
    return value if pd.isna(row["se"]) else f"{value} [{row['ci_low']:.4g}, {row['ci_high']:.4g}]"


def _pairs(table: pd.DataFrame, fields: Sequence[Field]) -> pd.DataFrame:
    """``village``, ``field``, ``product``, ``reference``: what was compared."""
    names = _names(table)
    parts = [
        pd.DataFrame({"village": names, "field": f.name, "product": table[f.product], "reference": table[f.reference]})
        for f in fields
    ]
    return pd.concat(parts, ignore_index=True).astype(object)


def _names(table: pd.DataFrame) -> list[str]:
    for column in ("map:uv_id", "uv_id"):
        if column in table.columns:
            return [str(v) for v in table[column]]
    return [str(k + 1) for k in range(len(table))]


def _charts(table: pd.DataFrame, fields: Sequence[Field]) -> list[Any]:
    charts = []
    names = pd.Series(_names(table), index=table.index)
    for field in [f for f in fields if f.kind == "number"][:MOST_CHARTS]:
        p, r = (pd.to_numeric(table[c], errors="coerce") for c in (field.product, field.reference))
        both = p.notna() & r.notna()
        if both.any():
            unit = f" ({field.unit})" if field.unit else ""
            charts.append(
                draw_pairs(
                    p[both].astype(float).tolist(),
                    r[both].astype(float).tolist(),
                    title=field.name + unit,
                    names=names[both].tolist(),
                )
            )
    return charts
