"""The report of a map compared with complete reference inside areas: a census, without sampling error."""

from __future__ import annotations

from pathlib import Path

from accuracy.comparison.wall_to_wall import WallToWallComparison
from accuracy.reporting.assessment import SCHEMA_VERSION
from accuracy.reporting.cells import tabulate_frame, write_value
from accuracy.reporting.charts import ForestRow, draw_forest
from accuracy.reporting.page import render_page, write_files

COLUMNS = ["area", "IoU", "F1", "precision", "recall", "tp", "fp", "fn", "tn", "not_predicted_px"]


def write_census_report(
    comparison: WallToWallComparison, folder: Path, *, title: str, judged: str, gallery: str | None = None
) -> dict[str, Path]:
    """Write report.html, report.json and areas.csv.

    Args:
        comparison: The figures per area and in total.
        folder: Receives the files.
        title: Heading of the page.
        judged: What was compared: the published polygons, or scores as a diagnostic.
        gallery: File name of the gallery beside the page, where there is one.

    Returns:
        The files by name.
    """
    frame = comparison.to_frame()
    rows = [
        ForestRow(
            label=str(r["area"]),
            value=r["IoU"],
            low=None,
            high=None,
            strong=r["area"] == "total",
            text=write_value(r["IoU"]),
        )
        for r in frame.to_dict("records")
    ]
    page = render_page(
        "census.html.j2",
        title=title,
        judged=judged,
        gallery=gallery,
        diagnostic=comparison.threshold is not None,
        areas=tabulate_frame(frame[COLUMNS]),
        missing_px=comparison.total.not_predicted_px,
        missing_reference_px=comparison.total.reference_not_predicted_px,
        charts=[draw_forest(rows, title="IoU per area")],
    )
    head = {"schema_version": SCHEMA_VERSION, "kind": "wall_to_wall", "title": title, "map": judged}
    return write_files(folder, page=page, data=head | comparison.as_dict(), tables={"areas": frame.assign(map=judged)})
