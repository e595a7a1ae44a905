"""Draws one superblock: its half of the arterials, its minor roads, its parcels and their fabric."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import shapely

from regions.demo import dense_fabric, green_fabric, open_fabric
from regions.demo.canvas import Block, Canvas, OsmDraft, Parcel, Surface
from regions.demo.layout import Cover, Layout, Plan
from regions.demo.shapes import Floats, Rng, along, area, bilinear, inset_quad, sides, sub_quad

Rect = tuple[float, float, float, float]

FABRIC: dict[Cover, Callable[[Canvas, Floats], None]] = {
    Cover.UV: dense_fabric.urban_village,
    Cover.OLD_TOWN: dense_fabric.old_town,
    Cover.WORKSHOP: dense_fabric.workshops,
    Cover.VILLA: dense_fabric.villas,
    Cover.SLAB: open_fabric.slab_housing,
    Cover.TOWER: open_fabric.towers,
    Cover.INDUSTRY: open_fabric.industry,
    Cover.COMMERCE: open_fabric.commerce,
    Cover.PARK: green_fabric.park,
    Cover.WATER: green_fabric.water,
    Cover.BARE: green_fabric.bare,
    Cover.FARMLAND: green_fabric.farmland,
}

# For each plan: the fabrics of its parcels with their weights. The first is always there.
_MIX: dict[Plan, tuple[tuple[Cover, float], ...]] = {
    Plan.VILLAGE: ((Cover.WORKSHOP, 2), (Cover.SLAB, 3), (Cover.BARE, 2), (Cover.FARMLAND, 2), (Cover.PARK, 1)),
    Plan.VILLAGE_SMALL: (
        (Cover.SLAB, 3), (Cover.WORKSHOP, 3), (Cover.INDUSTRY, 2), (Cover.OLD_TOWN, 2), (Cover.BARE, 2),
        (Cover.COMMERCE, 1), (Cover.VILLA, 1),
    ),
    Plan.OLD: ((Cover.OLD_TOWN, 6), (Cover.COMMERCE, 1), (Cover.SLAB, 2), (Cover.PARK, 1)),
    Plan.HOUSING: ((Cover.TOWER, 3), (Cover.SLAB, 4), (Cover.VILLA, 2), (Cover.PARK, 1), (Cover.COMMERCE, 1)),
    Plan.INDUSTRY: ((Cover.WORKSHOP, 4), (Cover.INDUSTRY, 5), (Cover.BARE, 2)),
    Plan.GREEN: ((Cover.VILLA, 4), (Cover.PARK, 3), (Cover.WATER, 2), (Cover.FARMLAND, 1)),
    Plan.CENTRE: ((Cover.COMMERCE, 5), (Cover.TOWER, 4), (Cover.PARK, 1), (Cover.SLAB, 2)),
    Plan.FRINGE: ((Cover.FARMLAND, 5), (Cover.BARE, 2), (Cover.WATER, 2), (Cover.WORKSHOP, 1), (Cover.VILLA, 1)),
}  # fmt: skip

_LANDUSE: dict[Cover, dict[str, str]] = {
    Cover.UV: {"landuse": "residential"},
    Cover.OLD_TOWN: {"landuse": "residential"},
    Cover.SLAB: {"landuse": "residential"},
    Cover.TOWER: {"landuse": "residential", "residential": "apartments"},
    Cover.VILLA: {"landuse": "residential"},
    Cover.WORKSHOP: {"landuse": "industrial"},
    Cover.INDUSTRY: {"landuse": "industrial"},
    Cover.COMMERCE: {"landuse": "commercial"},
    Cover.PARK: {"leisure": "park", "name": "人民公园"},
    Cover.WATER: {"landuse": "grass"},
    Cover.BARE: {"landuse": "construction"},
    Cover.FARMLAND: {"landuse": "farmland"},
}


def make_block(layout: Layout, row: int, col: int) -> Block:
    """Draw a superblock from its own random streams: the same whatever else of the city is made."""
    district = layout.districts[int(layout.district_of[row, col])]
    canvas = Canvas(layout.stream(row, col), layout.stream(row, col, 1), district.completeness)
    canvas.storeys_added = layout.villages.storeys_added
    quad = layout.quad(row, col)
    inner = _arterials(canvas, layout, row, col, quad)
    plan = Plan(int(layout.plans[row, col]))
    village, rest = _split_village(canvas.rng, plan, inner)
    rects = ([village] if village else []) + [r for whole in rest for r in _split(canvas.rng, inner, whole)]
    covers = ([Cover.UV] if village else []) + _covers(canvas.rng, plan, len(rects) - bool(village))
    _minor_roads(canvas, inner, rects)
    for rect, cover in zip(rects, covers, strict=True):
        _fill(canvas, inner, rect, cover)
    return canvas.finish()


def _arterials(canvas: Canvas, layout: Layout, row: int, col: int, quad: Floats) -> Floats:
    """Pave this block's half of the arterials about it; returns what they leave."""
    lines = (row, col + 1, row + 1, col)
    half = np.array([layout.half_width_m(line) for line in lines])
    inner = inset_quad(quad, half)
    canvas.paint(quad, Surface.ASPHALT, rgb=(110, 111, 113), spread=1)
    kerb = inset_quad(quad, half - 4.0)
    canvas.paint(kerb, Surface.CONCRETE, spread=3)
    for k, line in enumerate(lines):
        ends = np.array([quad[k], quad[(k + 1) % 4]])
        outer = line in (0, layout.n)
        inside = inset_quad(quad, np.eye(4)[k] * (half[k] - 2.2))
        row_of_trees = along(np.array([inside[k], inside[(k + 1) % 4]]), 9.0)
        canvas.plant(row_of_trees + canvas.rng.normal(0, 0.4, row_of_trees.shape), radius_m=(1.6, 2.8))
        step = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
        trimmed = np.array([ends[0] + step * half[k] * 1.3, ends[1] - step * half[k] * 1.3])
        normal = np.array([-step[1], step[0]])
        strip = np.array([trimmed[0], trimmed[1], trimmed[1] + normal * 1.6, trimmed[0] + normal * 1.6])
        canvas.paint(strip, Surface.GRASS, spread=2)
        for lane in (4.5, 8.0):
            mark = trimmed + normal * lane
            canvas.paint(np.array([mark[0], mark[1], mark[1] + normal * 0.5, mark[0] + normal * 0.5]),
                         Surface.CONCRETE, rgb=(176, 176, 172), spread=1)  # fmt: skip
        cars = along(trimmed, 1.0)
        n = canvas.rng.poisson(len(cars) * 0.035)
        at = cars[canvas.rng.integers(0, len(cars), n)] + normal * canvas.rng.choice([3.0, 6.3, 9.6], n)[:, None]
        canvas.park(at, float(np.arctan2(step[1], step[0])))
        if k in (0, 3) or outer:
            _map_arterial(canvas, layout, (row, col), side=k, ends=ends)
    return inner


def _map_arterial(canvas: Canvas, layout: Layout, at: tuple[int, int], *, side: int, ends: Floats) -> None:
    """Map one arterial edge, unless a district without OpenStreetMap lies on either side."""
    row, col = at
    line = (row, col + 1, row + 1, col)[side]
    beside = {0: (row - 1, col), 3: (row, col - 1), 1: (row, col + 1), 2: (row + 1, col)}[side]
    if 0 <= beside[0] < layout.n and 0 <= beside[1] < layout.n:
        other = layout.districts[int(layout.district_of[beside])]
        if not other.has_osm:
            return
    along_x = side in (0, 2)
    kind = "primary" if line % 3 == 1 else "secondary"
    name = f"{'东西' if along_x else '南北'}{line + 1}路"
    canvas.map(OsmDraft("way", ends, {"highway": kind, "name": name, "lanes": "6" if kind == "primary" else "4"}))


def _split_village(rng: Rng, plan: Plan, inner: Floats) -> tuple[Rect | None, list[Rect]]:
    """Where the urban village of a superblock lies, in unit coordinates, and the rest of it."""
    if plan not in (Plan.VILLAGE, Plan.VILLAGE_SMALL):
        return None, [(0, 1, 0, 1)]
    share = float(rng.uniform(0.66, 0.9) if plan == Plan.VILLAGE else rng.uniform(0.42, 0.6))
    along_u = sides(inner)[0] > sides(inner)[1]
    low = rng.random() < 0.5
    a, b = (0.0, share) if low else (1 - share, 1.0)
    c, d = (share, 1.0) if low else (0.0, 1 - share)
    if along_u:
        return (a, b, 0, 1), [(c, d, 0, 1)]
    return (0, 1, a, b), [(0, 1, c, d)]


def _split(rng: Rng, inner: Floats, rect: Rect) -> list[Rect]:
    """Cut a part of a superblock into parcels of 1.2 to 4 hectares."""
    quad = sub_quad(inner, *rect)
    if area(quad) < rng.uniform(24_000, 48_000) or min(sides(quad)) < 90:
        return [rect]
    u0, u1, v0, v1 = rect
    at = float(rng.uniform(0.38, 0.62))
    if sides(quad)[0] > sides(quad)[1]:
        cut = u0 + (u1 - u0) * at
        halves: list[Rect] = [(u0, cut, v0, v1), (cut, u1, v0, v1)]
    else:
        cut = v0 + (v1 - v0) * at
        halves = [(u0, u1, v0, cut), (u0, u1, cut, v1)]
    return [leaf for half in halves for leaf in _split(rng, inner, half)]


def _covers(rng: Rng, plan: Plan, n: int) -> list[Cover]:
    """The fabrics of ``n`` parcels: the plan's first one, then by weight."""
    mix = _MIX[plan]
    weight = np.array([w for _, w in mix], float)
    drawn = [mix[k][0] for k in rng.choice(len(mix), n, p=weight / weight.sum())]
    if n:
        drawn[int(rng.integers(n))] = mix[0][0]
    return drawn


def _minor_roads(canvas: Canvas, inner: Floats, rects: list[Rect]) -> None:
    """Pave and map the roads between parcels."""
    edges: set[tuple[float, float, float, float]] = set()
    for u0, u1, v0, v1 in rects:
        edges |= {(u0, v0, u1, v0), (u0, v1, u1, v1), (u0, v0, u0, v1), (u1, v0, u1, v1)}
    for u0, v0, u1, v1 in sorted(edges):
        if (u0 == u1 and u0 in (0, 1)) or (v0 == v1 and v0 in (0, 1)):
            continue
        line = bilinear(inner, np.array([u0, u1]), np.array([v0, v1]))
        tags = {"highway": str(canvas.osm_rng.choice(["residential", "tertiary", "unclassified"], p=[0.6, 0.2, 0.2]))}
        if canvas.osm_rng.random() < 0.25:
            tags["name"] = f"{canvas.osm_rng.choice(['兴业', '和平', '建设', '文化', '新华'])}街"
        canvas.road(line, width_m=9.0, cars_per_m=0.05, tags=tags)


def _fill(canvas: Canvas, inner: Floats, rect: Rect, cover: Cover) -> None:
    """Draw one parcel, record its class and let OpenStreetMap have some of it."""
    u0, u1, v0, v1 = rect
    margins = [5.0 if v0 > 0 else 0.5, 5.0 if u1 < 1 else 0.5, 5.0 if v1 < 1 else 0.5, 5.0 if u0 > 0 else 0.5]
    quad = inset_quad(sub_quad(inner, *rect), margins)
    if area(quad) < 900 or min(sides(quad)) < 22:
        return
    canvas.parcel_mapped = bool(canvas.osm_rng.random() < canvas.completeness)
    FABRIC[cover](canvas, quad)
    if cover is Cover.UV:
        canvas.parcels.append(Parcel(shapely.get_coordinates(canvas.villages[-1].exterior)[:-1], cover))
    else:
        canvas.parcels.append(Parcel(quad, cover))
    canvas.map(OsmDraft("area", quad, dict(_LANDUSE[cover])), share=0.75 * canvas.completeness)
