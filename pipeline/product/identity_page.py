"""The difference between two releases as tables and as a page with a map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from pipeline.product.files import polygon_paths, read_manifest
from pipeline.product.identity import EVENTS, MIN_OVERLAP, IdentityError, diff_figures, diff_villages
from pipeline.product.report_page import MapLayers, ReportPage, ReportTable, render_report
from pipeline.reference.areas import read_polygons
from regions.raster.grid import Grid

COLOURS = {
    "unchanged": "#7f7f7f",
    "changed": "#1f77b4",
    "split": "#9467bd",
    "merge": "#8c564b",
    "reorganised": "#e377c2",
    "new": "#2ca02c",
    "gone": "#d62728",
}
MAX_ROWS = 200
"""Rows of the page's table; the CSV has all."""


def read_villages(path: Path) -> gpd.GeoDataFrame:
    """The villages of a product folder or of a vector file, with ``uv_id``.

    Raises:
        IdentityError: The file has no CRS or no ``uv_id``.
        PipelineError: The folder is no product, or the file cannot be read.
    """
    if path.is_dir():
        path = polygon_paths(path, read_manifest(path)["adcode"])[0]
    if path.suffix == ".parquet" and path.exists():
        villages = gpd.read_parquet(path)
    elif path.exists():
        villages = gpd.read_file(path)
    else:
        raise IdentityError(f"{path}: no such product folder or file")
    if villages.crs is None:
        raise IdentityError(f"{path}: has no CRS; declare one")
    if "uv_id" not in villages.columns:
        raise IdentityError(f"{path}: has no column `uv_id` (found {list(villages.columns)}); take a product")
    return villages if path.suffix == ".parquet" else read_polygons([path], crs=villages.crs.to_wkt())


def write_diff(old: gpd.GeoDataFrame, new: gpd.GeoDataFrame, folder: Path, *, title: str) -> dict[str, Any]:
    """Write ``events.csv``, ``events.parquet`` and ``diff.html``; give the figures.

    Args:
        old: Villages with ``uv_id``.
        new: Villages with ``uv_id``; the page and the tables are in their CRS.
        folder: Made where it does not exist.
        title: Heading of the page.
    """
    events = diff_villages(old, new)
    figures = diff_figures(old, new, events)
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(events.drop(columns="geometry"))
    table.to_csv(folder / "events.csv", index=False, lineterminator="\n", float_format="%.3f")
    events.to_parquet(folder / "events.parquet", compression="zstd", index=False)
    page = diff_page(old, new, events, figures, title=title)
    (folder / "diff.html").write_text(page, encoding="utf-8")
    return figures


def diff_page(
    old: gpd.GeoDataFrame,
    new: gpd.GeoDataFrame,
    events: gpd.GeoDataFrame,
    figures: dict[str, float | int],
    *,
    title: str,
) -> str:
    """The page: a map with a layer per event over the old outlines, the figures, and the events."""
    layers = [("before", old.to_crs(new.crs), "#bbbbbb")]
    for event in EVENTS:
        rows = events[events["event"] == event]
        if len(rows):
            layers.append((event, rows, COLOURS[event]))
    everything = np.array([table.total_bounds for _, table, _ in layers if len(table)])
    bounds = (0.0, 0.0, 1.0, 1.0)
    if len(everything):
        low, high = everything[:, :2].min(axis=0), everything[:, 2:].max(axis=0)
        bounds = (float(low[0]) - 50, float(low[1]) - 50, float(high[0]) + 50, float(high[1]) + 50)
    grid = Grid.covering(bounds, crs=new.crs.to_string(), resolution_m=1.0)
    shown = events[events["event"] != "unchanged"].drop(columns="geometry").head(MAX_ROWS)
    rows = tuple(tuple(None if pd.isna(cell) else cell for cell in row) for row in shown.itertuples(index=False))
    tables = (
        ReportTable(
            "Figures", ("figure", "value"), tuple(figures.items()), "Areas in m2, equal-area CRS of the nation."
        ),
        ReportTable(
            "Events",
            tuple(shown.columns),
            rows,
            f"Villages that changed, at most {MAX_ROWS}; events.csv has all. Two villages are linked where they "
            f"overlap by at least {MIN_OVERLAP:.0%} of the smaller one.",
        ),
    )
    page = ReportPage(title=title, subtitle="What became of the villages", tables=tables)
    return render_report(page, MapLayers(grid, None, None, layers))
