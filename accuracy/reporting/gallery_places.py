"""Which places of an evaluation are looked at: villages, error regions, and ground that nobody chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.transform import rowcol
from rasterio.windows import Window

from accuracy.comparison.error_kinds import ErrorCensus
from accuracy.comparison.judged_ground import JudgedGround
from accuracy.survey.drawing import draw_growing, make_generator

Group = Literal["village", "missed", "false", "tile"]
MARGIN_M = 20.0
"""Ground shown about a village or a region, beside a quarter of its size."""
LEAST_SIDE_M = 160.0
MOST_SIDE_PX = 4096
"""Frames of larger villages show their middle."""
LEAST_JUDGED = 0.5
"""Share of a random tile that must be judged."""
ZOOM = 3
"""A region is shown again where the frame that holds it is more than so many times its own."""
TRIES = 50
"""Random tiles looked at per tile wanted, before it is said that there are no more."""


@dataclass(frozen=True, kw_only=True)
class GalleryLimits:
    """How much is shown.

    Attributes:
        villages: Reference villages at most: half of them those with most ground missed, half at random of the others.
        regions: Largest regions of missed ground, and of false alarms.
        tiles: Tiles drawn at random, whatever the map does there.
        tile_m: Side of such a tile.
        seed: Seed of what is drawn.
    """

    villages: int = 24
    regions: int = 14
    tiles: int = 16
    tile_m: float = 224.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class GalleryPlace:
    """A place to show.

    Attributes:
        group: Why it is shown.
        frame: Square window of the mask in pixels; may reach past it.
        title: Heading.
        facts: What is known of it as a whole, as text.
    """

    group: Group
    frame: Window
    title: str
    facts: tuple[str, ...] = ()


def choose_places(census: ErrorCensus, ground: JudgedGround, limits: GalleryLimits) -> list[GalleryPlace]:
    """The places of an evaluation, group by group; the same census and limits give the same places.

    A region that a frame shown before holds at a readable size is not shown again.
    """
    places = _villages(census, ground, limits)
    for group in ("missed", "false"):
        rows = census.regions[census.regions["kind"] == group]
        shown = 0
        for number, (area, shape) in enumerate(zip(rows["area_m2"], rows.geometry, strict=True), start=1):
            if shown == limits.regions:
                break
            frame, extent = frame_of(shape, ground), _extent_px(shape, ground)
            if any(p.frame.width <= ZOOM * frame.width and _holds(p.frame, extent) for p in places):
                continue
            title = f"{'Missed' if group == 'missed' else 'False alarm'} {number} of {len(rows)}"
            places.append(GalleryPlace(group=group, frame=frame, title=title, facts=(f"region of {write_ha(area)}",)))
            shown += 1
    return places + _tiles(ground, limits)


def frame_of(shape: shapely.Geometry, ground: JudgedGround) -> Window:
    """The square window about a shape, in whole pixels of the mask."""
    left, top, right, bottom = _extent_px(shape, ground)
    size = max(right - left, bottom - top)
    side = max(1.25 * size + 2 * MARGIN_M / ground.pixel_m, LEAST_SIDE_M / ground.pixel_m)
    side_px = min(round(side), MOST_SIDE_PX)
    return Window(round((left + right - side_px) / 2), round((top + bottom - side_px) / 2), side_px, side_px)


def write_ha(area_m2: float) -> str:
    """An area as text in hectares."""
    if area_m2 == 0:
        return "0 ha"
    hectares = area_m2 / 10_000
    return f"{hectares:.2f} ha" if hectares < 10 else f"{hectares:,.0f} ha"


def _villages(census: ErrorCensus, ground: JudgedGround, limits: GalleryLimits) -> list[GalleryPlace]:
    villages = census.villages
    missed = (villages["reference_px"] - villages["mapped_px"]).to_numpy(np.int64)
    order = np.lexsort((villages["row"].to_numpy(np.int64), -missed))
    if len(order) > limits.villages:
        worst = order[: limits.villages // 2]
        others = np.sort(order[limits.villages // 2 :])
        drawn = draw_growing(len(others), limits.villages - len(worst), make_generator(limits.seed, "gallery villages"))
        order = np.concatenate([worst, others[drawn]])
    return [_village(villages.iloc[int(k)], ground) for k in order]


def _village(village: Any, ground: JudgedGround) -> GalleryPlace:
    area = village["reference_px"] * ground.pixel_area_m2
    share = village["mapped_px"] / village["reference_px"]
    return GalleryPlace(
        group="village",
        frame=frame_of(village.geometry, ground),
        title=f"Reference village {village['row'] + 1}",
        facts=(f"{write_ha(area)}, {share:.0%} of it mapped",),
    )


def _tiles(ground: JudgedGround, limits: GalleryLimits) -> list[GalleryPlace]:
    """Tiles of a fixed lattice in the order of a random draw, of which enough is judged."""
    side = max(1, round(limits.tile_m / ground.pixel_m))
    rows, cols = -(-ground.mask.height // side), -(-ground.mask.width // side)
    picks = draw_growing(
        rows * cols, min(rows * cols, TRIES * limits.tiles), make_generator(limits.seed, "gallery tiles")
    )
    places: list[GalleryPlace] = []
    for pick in picks.tolist():
        if len(places) == limits.tiles:
            break
        window = Window(pick % cols * side, pick // cols * side, side, side)
        if ground.read(window).judged.mean() >= LEAST_JUDGED:
            places.append(GalleryPlace(group="tile", frame=window, title=f"Random tile {len(places) + 1}"))
    return places


def _extent_px(shape: shapely.Geometry, ground: JudgedGround) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a shape in columns and rows of the mask."""
    west, south, east, north = shape.bounds
    (top, bottom), (left, right) = rowcol(ground.mask.transform, [west, east], [north, south], op=lambda v: v)
    return float(left), float(top), float(right), float(bottom)


def _holds(frame: Window, extent_px: tuple[float, float, float, float]) -> bool:
    left, top, right, bottom = extent_px
    return bool(
        frame.col_off <= left
        and frame.row_off <= top
        and frame.col_off + frame.width >= right
        and frame.row_off + frame.height >= bottom
    )


def count_groups(places: Sequence[GalleryPlace]) -> dict[str, int]:
    """Places per group."""
    names: NDArray[np.str_] = np.array([p.group for p in places], dtype=np.str_)
    return {str(name): int((names == name).sum()) for name in ("village", "missed", "false", "tile")}


def outline_table(polygons: gpd.GeoDataFrame, crs: Any) -> NDArray[np.object_]:
    """Polygons of a table in a CRS, those that have an area."""
    shapes = np.asarray(polygons.to_crs(crs).geometry.array, dtype=object)
    return np.asarray(shapes[shapely.area(shapes) > 0], dtype=object)
