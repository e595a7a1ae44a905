"""An offline page for labelling a batch of points: one HTML file with its images inside, no network, no server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd

from accuracy.errors import LabelError
from accuracy.survey.chips import ChipSize, choose_chips
from accuracy.survey.dates import read_date

ALLOWED = {"point_id", "city", "geometry", "label", "interpreter", "date_ref", "comment"}
WITHOUT_PICTURE = "points_without_picture.csv"


@dataclass(frozen=True, kw_only=True)
class LabelImagery:
    """A raster that interpreters look at.

    Attributes:
        path: 8-bit raster.
        date: ISO date of it, written beside every answer; empty where it is not known.
    """

    path: Path | str
    date: str = ""

    def __post_init__(self) -> None:
        if self.date:
            read_date(self.date, option="--image-date")


@dataclass(frozen=True, kw_only=True)
class LabellingPages:
    """What was written.

    Attributes:
        pages: The pages, in the order of the points.
        shown: Points on them.
        without_picture: Points that no raster shows, which are on no page: ``point_id``, ``city`` where it is known,
            ``lon``, ``lat``.
        list_file: The same as a file, None where every point is shown.
        undated: Points whose imagery has no date.
        unused: Rasters that show no point that another does not show better.
    """

    pages: list[Path]
    shown: int
    without_picture: pd.DataFrame
    list_file: Path | None
    undated: int
    unused: list[str]


def write_labelling_pages(
    points: gpd.GeoDataFrame,
    folder: Path,
    *,
    imagery: Sequence[LabelImagery],
    size: ChipSize | None = None,
    batch: int = 200,
    title: str = "Urban village?",
) -> LabellingPages:
    """Write one page per batch of points, in the order of the table.

    Every point is shown on the raster that covers most of its surroundings. Points that no raster shows are on no
    page: a list of them is written, so that they are labelled on other imagery and do not become non-response unseen.

    Keys: 1 urban village, 0 not, ? cannot say, arrow keys to move, S to save. Answers are kept in the browser, apart
    for every interpreter, batch and date of imagery, and saved as a CSV file that `accuracy.survey.labels.read_labels`
    takes.

    Args:
        points: ``point_id`` and point geometry; columns that hold the map's answer are refused.
        folder: Receives ``labels_001.html`` and so on, and ``points_without_picture.csv``.
        imagery: The rasters.
        size: How much ground a chip shows.
        batch: Points per page.
        title: The question.

    Raises:
        LabelError: No points, a column that gives the map away, or imagery that does not fit.
    """
    if points.empty:
        raise LabelError("no points to label: draw a sample first")
    if batch < 1:
        raise LabelError(f"--batch {batch}: a page holds at least 1 point")
    hints = sorted(set(points.columns) - ALLOWED)
    if hints:
        raise LabelError(
            f"the points carry {', '.join(hints)}: interpreters must not see the map's answer. Give the file without it"
            " (points_to_label.gpkg)"
        )
    if points.crs is None:
        raise LabelError("the points have no CRS: set it before making pages")
    size = size or ChipSize()
    chips, source = choose_chips(points, [i.path for i in imagery], size)
    lonlat = points.geometry.to_crs("EPSG:4326")
    items: list[dict[str, Any]] = []
    hidden = []
    for k, (name, chip, place) in enumerate(zip(points["point_id"], chips, lonlat, strict=True)):
        where = {"lon": round(place.x, 6), "lat": round(place.y, 6)}
        if chip is None:
            city = {"city": str(points["city"].iloc[k])} if "city" in points.columns else {}
            hidden.append({"point_id": str(name), **city, **where})
        else:
            items.append({"id": str(name), "image": chip.data_uri, "date": imagery[source[k]].date, **where})
    folder.mkdir(parents=True, exist_ok=True)
    without = pd.DataFrame(hidden)
    listed = folder / WITHOUT_PICTURE
    listed.unlink(missing_ok=True)
    if hidden:
        without.to_csv(listed, index=False, lineterminator="\n")
    return LabellingPages(
        pages=_write_pages(items, folder, square=size.pixel_m / (2 * size.half_side_m), batch=batch, title=title),
        shown=len(items),
        without_picture=without,
        list_file=listed if hidden else None,
        undated=sum(not item["date"] for item in items),
        unused=[str(i.path) for k, i in enumerate(imagery) if k not in source],
    )


def _write_pages(items: list[dict[str, Any]], folder: Path, *, square: float, batch: int, title: str) -> list[Path]:
    template = files("accuracy.survey").joinpath("labelling_page.html").read_text(encoding="utf-8")
    written = []
    for number, start in enumerate(range(0, len(items), batch), start=1):
        part = items[start : start + batch]
        data = {
            "title": title,
            "batch": f"{number:03d}",
            "key": _key_of(part, title, number),
            "square": square,
            "items": part,
        }
        text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
        path = folder / f"labels_{number:03d}.html"
        path.write_text(template.replace("__DATA__", text), encoding="utf-8")
        written.append(path)
    return written


def _key_of(items: list[dict[str, Any]], title: str, number: int) -> str:
    """What tells batches apart in a browser's storage, which pages opened from disk share: points and image dates."""
    told = [title, number, [(item["id"], item["date"]) for item in items]]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
