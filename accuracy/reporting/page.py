"""Report pages: one HTML file each that opens from disk with no network, plotly's script inside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs


def render_page(template: str, *, charts: Sequence[go.Figure], **values: Any) -> str:
    """A page from a template of this folder; all values are escaped but the charts, which plotly writes.

    Args:
        template: File name in `templates`.
        charts: Figures, available to the template as HTML in the same order; their script is inlined once.
        values: What the template shows.
    """
    environment = Environment(
        loader=PackageLoader("accuracy.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawn = [
        c.to_html(full_html=False, include_plotlyjs=False, div_id=f"chart-{k}", config={"displaylogo": False})
        for k, c in enumerate(charts)
    ]
    script = get_plotlyjs() if drawn else ""
    return environment.get_template(template).render(charts=drawn, plotly=script, **values)


def write_files(
    folder: Path, *, page: str, data: Mapping[str, Any], tables: Mapping[str, pd.DataFrame | None]
) -> dict[str, Path]:
    """Write report.html, report.json and a CSV file per table; the same values give the same bytes.

    Returns:
        The files by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {"report.html": folder / "report.html", "report.json": folder / "report.json"}
    files["report.html"].write_text(page, encoding="utf-8")
    text = json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False)
    files["report.json"].write_text(text + "\n", encoding="utf-8")
    for name, table in tables.items():
        if table is None:
            continue
        path = folder / f"{name}.csv"
        plain = table.assign(flags=table["flags"].map(_join_flags)) if "flags" in table.columns else table
        plain.to_csv(path, index=False, lineterminator="\n")
        files[path.name] = path
    return files


def _join_flags(flags: Any) -> str:
    return " ".join(flags) if isinstance(flags, tuple | list) else ""
