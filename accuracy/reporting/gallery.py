"""The gallery of an evaluation: one HTML file that shows image, label, scores and errors where it matters.

Pictures are embedded, so the page works from disk without network; its size is bounded by `GalleryLimits`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.warp import transform as transform_coordinates
from rasterio.windows import Window as RasterWindow

from accuracy.comparison.confusion import Confusion
from accuracy.comparison.error_kinds import (
    BOUNDARY_COMMITTED,
    BOUNDARY_OMITTED,
    FALSE,
    KIND_OF_CODE,
    MISSED,
    RIGHT_OTHER,
    RIGHT_VILLAGE,
    UNJUDGED,
    ErrorCensus,
    classify_errors,
    find_errors,
    tabulate_kinds,
)
from accuracy.comparison.judged_ground import JudgedGround
from accuracy.reporting.gallery_places import (
    GalleryLimits,
    GalleryPlace,
    choose_places,
    count_groups,
    outline_table,
    write_ha,
)
from accuracy.reporting.page import render_page
from accuracy.reporting.pictures import (
    ERROR_COLOURS,
    PICTURE_PX,
    SCORE_RAMP,
    draw_errors,
    draw_image,
    draw_outlines,
    draw_scores,
)
from accuracy.survey.map_strata import MapRasters
from regions.raster.grid import Window
from regions.raster.scores import NOT_PREDICTED

ImageReader = Callable[[Window], NDArray[np.uint8]]
"""Gives uint8 (3, H, W) of a window of the mask's grid, which may reach past it."""

GROUPS = {
    "village": "Villages of the reference",
    "missed": "Missed ground",
    "false": "False alarms",
    "tile": "Tiles drawn at random",
}
LEGEND = (
    ("right", RIGHT_VILLAGE),
    ("missed", MISSED),
    ("false", FALSE),
    ("boundary", BOUNDARY_OMITTED),
    ("not judged", UNJUDGED),
)


@dataclass(frozen=True, kw_only=True)
class GallerySubject:
    """What a gallery shows.

    Attributes:
        rasters: Mask and scores of the product: what is published, and what the model said.
        published: The product's polygons, whose burning the mask is.
        reference: Urban villages, complete inside the areas.
        areas: Where the map is judged; None for everywhere.
        unlabelled: Ground of which the reference says nothing.
        read_image: Gives the imagery; None for pictures without.
    """

    rasters: MapRasters
    published: gpd.GeoDataFrame
    reference: gpd.GeoDataFrame
    areas: gpd.GeoDataFrame | None = None
    unlabelled: gpd.GeoDataFrame | None = None
    read_image: ImageReader | None = None


@dataclass(frozen=True, kw_only=True)
class GalleryResult:
    """A gallery that was written.

    Attributes:
        page: The HTML file.
        census: Errors by kind over all ground judged.
        shown: Places per group.
    """

    page: Path
    census: ErrorCensus
    shown: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"gallery": str(self.page), "errors": tabulate_kinds(self.census), "shown": self.shown}


def write_gallery(
    subject: GallerySubject,
    page: Path,
    *,
    title: str,
    where: str = "all ground with labels",
    limits: GalleryLimits | None = None,
) -> GalleryResult:
    """Write the gallery of a product against its reference; the same inputs give the same bytes.

    Args:
        subject: What is shown.
        page: HTML file to write.
        title: Heading.
        where: Which ground is judged, in words.
        limits: How much is shown.

    Raises:
        ComparisonError: Mask, reference and areas do not fit each other.
    """
    limits = limits or GalleryLimits()
    census = find_errors(subject.rasters.mask, subject.reference, areas=subject.areas, unlabelled=subject.unlabelled)
    with (
        JudgedGround.open(
            subject.rasters.mask, subject.reference, areas=subject.areas, unlabelled=subject.unlabelled
        ) as ground,
        rasterio.open(subject.rasters.scores) as scores,
    ):
        places = choose_places(census, ground, limits)
        published, truth = outline_table(subject.published, ground.crs), ground.villages
        painter = _Painter(ground, scores, published, truth, subject.read_image, census.reach_m)
        cards = [painter.card(k, place) for k, place in enumerate(places)]
    shown = count_groups(places)
    text = render_page(
        "gallery.html.j2",
        charts=(),
        title=title,
        where=where,
        figures=_figures(census),
        kinds=_kind_rows(census),
        reach_m=f"{census.reach_m:g}",
        groups=[
            {"key": key, "name": name, "note": _note(key, census, limits), "cards": mine}
            for key, name in GROUPS.items()
            if (mine := [c for c in cards if c["group"] == key])
        ],
        legend=[(name, _css(ERROR_COLOURS[code])) for name, code in LEGEND],
        ramp=", ".join(_css((*colour, 255)) for colour in SCORE_RAMP),
        has_image=subject.read_image is not None,
        side=PICTURE_PX,
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text, encoding="utf-8")
    return GalleryResult(page=page, census=census, shown=shown)


@dataclass(frozen=True)
class _Painter:
    """Draws the pictures of places."""

    ground: JudgedGround
    scores: Any
    published: NDArray[np.object_]
    truth: NDArray[np.object_]
    read_image: ImageReader | None
    reach_m: float

    def card(self, number: int, place: GalleryPlace) -> dict[str, Any]:
        """What the template shows of a place."""
        frame = place.frame
        row, col, height, width = (int(v) for v in (frame.row_off, frame.col_off, frame.height, frame.width))
        codes = self._codes(frame)
        bounds = rasterio.windows.bounds(frame, self.ground.mask.transform)
        lon, lat = transform_coordinates(
            self.ground.crs, "EPSG:4326", [(bounds[0] + bounds[2]) / 2], [(bounds[1] + bounds[3]) / 2]
        )
        image = None if self.read_image is None else draw_image(self.read_image(Window(row, col, height, width)))
        return {
            "id": f"c{number}",
            "group": place.group,
            "title": place.title,
            "facts": " · ".join((*place.facts, *self._facts(codes))),
            "place": f"{lat[0]:.5f}, {lon[0]:.5f}",
            "side": f"{width * self.ground.pixel_m:,.0f} m",
            "image": image,
            "scores": draw_scores(self._scores(frame)),
            "errors": draw_errors(codes),
            "published": draw_outlines(self.published, bounds),
            "reference": draw_outlines(self.truth, bounds),
        }

    def _codes(self, frame: RasterWindow) -> NDArray[np.uint8]:
        reach_px = self.reach_m / self.ground.pixel_m
        window = self.ground.read(frame, halo_px=int(np.ceil(reach_px)) + 1)
        return window.inner(classify_errors(window.mapped, window.truth, window.judged, reach_px=reach_px))

    def _scores(self, frame: RasterWindow) -> NDArray[np.uint8]:
        return np.asarray(self.scores.read(1, window=frame, boundless=True, fill_value=NOT_PREDICTED), np.uint8)

    def _facts(self, codes: NDArray[np.uint8]) -> list[str]:
        counts = np.bincount(codes.ravel(), minlength=len(ERROR_COLOURS))
        area = self.ground.pixel_area_m2
        facts = [
            f"{kind} {write_ha(sum(int(counts[c]) for c, of in KIND_OF_CODE.items() if of == kind) * area)}"
            for kind in dict.fromkeys(KIND_OF_CODE.values())
        ]
        iou = Confusion(
            tp=int(counts[RIGHT_VILLAGE]),
            fp=int(counts[FALSE] + counts[BOUNDARY_COMMITTED]),
            fn=int(counts[MISSED] + counts[BOUNDARY_OMITTED]),
            tn=int(counts[RIGHT_OTHER]),
        ).iou
        return [*facts, *([] if iou is None else [f"IoU here {iou:.2f}"])]


def _figures(census: ErrorCensus) -> list[tuple[str, str]]:
    c = census.confusion
    values = (("IoU", c.iou), ("F1", c.f1), ("precision", c.precision), ("recall", c.recall))
    return [(name, "not estimable" if v is None else f"{v:.3f}") for name, v in values]


def _kind_rows(census: ErrorCensus) -> list[tuple[str, ...]]:
    rows = tabulate_kinds(census)
    wrong = sum(row["area_m2"] for row in rows[:-1])
    return [
        (
            str(row["kind"]),
            f"{row['regions']:,}",
            write_ha(row["area_m2"]),
            f"{row['area_m2'] / wrong:.0%}" if wrong else "-",
        )
        for row in rows
    ]


def _note(group: str, census: ErrorCensus, limits: GalleryLimits) -> str:
    """What the places of a group stand for."""
    total = len(census.villages)
    if group == "village":
        if total <= limits.villages:
            return f"All {total}, those with most ground missed first."
        worst = limits.villages // 2
        return f"{limits.villages} of {total}: the {worst} with most ground missed, then others drawn at random."
    if group == "tile":
        return "Nobody chose them: what the map is like where one looks by chance."
    return "The largest, but for those that a picture above shows."


def _css(colour: Sequence[int]) -> str:
    red, green, blue, opacity = colour
    return f"rgb({red} {green} {blue} / {opacity / 255:.2f})"
