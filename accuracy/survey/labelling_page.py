"""An offline page for labelling a batch of points: one HTML file with its images inside, no network, no server."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import geopandas as gpd

from accuracy.errors import LabelError
from accuracy.survey.chips import cut_chips
from accuracy.survey.dates import read_date

ALLOWED = {"point_id", "city", "geometry", "label", "interpreter", "date_ref", "comment"}


def write_labelling_pages(
    points: gpd.GeoDataFrame,
    folder: Path,
    *,
    imagery: Path | str,
    image_date: str = "",
    half_side_m: float = 100.0,
    pixel_m: float = 10.0,
    batch: int = 200,
    title: str = "Urban village?",
) -> list[Path]:
    """Write one page per batch of points, in the order of the table.

    Keys: 1 urban village, 0 not, ? cannot say, arrow keys to move, S to save. Answers are kept in the browser and
    saved as a CSV file that `accuracy.survey.labels.read_labels` takes.

    Args:
        points: ``point_id`` and point geometry; columns that hold the map's answer are refused.
        folder: Receives ``labels_001.html`` and so on.
        imagery: 8-bit raster that covers them.
        image_date: ISO date of the imagery, written beside every answer.
        half_side_m: Half the side of a chip.
        pixel_m: Side of the square drawn about the point: the pixel that is judged.
        batch: Points per page.
        title: The question.

    Raises:
        LabelError: No points, a column that gives the map away, a date that is none, or imagery that does not fit.
    """
    if points.empty:
        raise LabelError("no points to label: draw a sample first")
    hints = sorted(set(points.columns) - ALLOWED)
    if hints:
        raise LabelError(
            f"the points carry {', '.join(hints)}: interpreters must not see the map's answer. Give the file without it"
            " (points_to_label.gpkg)"
        )
    if points.crs is None:
        raise LabelError("the points have no CRS: set it before making pages")
    if image_date:
        read_date(image_date, option="--image-date")
    template = files("accuracy.survey").joinpath("labelling_page.html").read_text(encoding="utf-8")
    chips = cut_chips(points, imagery, half_side_m=half_side_m)
    lonlat = points.geometry.to_crs("EPSG:4326")
    items = [
        {
            "id": str(name),
            "image": chip.data_uri if chip.covered else "",
            "lon": round(place.x, 6),
            "lat": round(place.y, 6),
        }
        for name, chip, place in zip(points["point_id"], chips, lonlat, strict=True)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, start in enumerate(range(0, len(items), batch), start=1):
        data = {
            "title": title,
            "batch": f"{number:03d}",
            "image_date": image_date,
            "square": pixel_m / (2 * half_side_m),
            "items": items[start : start + batch],
        }
        text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
        path = folder / f"labels_{number:03d}.html"
        path.write_text(template.replace("__DATA__", text), encoding="utf-8")
        written.append(path)
    return written
