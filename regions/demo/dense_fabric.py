"""The fabrics of small houses: urban villages and the three that look like them.

Urban village: tall narrow houses of 8 to 15 m, all roofs different, rows that bend, alleys of 1 to 4 m in shadow.
Old town: low grey courtyard houses in straight lanes. Workshops: low sheds with metal roofs in straight rows.
Villas: detached houses with gardens.
"""

from __future__ import annotations

import numpy as np
import shapely

from regions.demo.canvas import Canvas, Colour, OsmDraft, Roof, Surface
from regions.demo.layout import Cover
from regions.demo.shapes import (
    Floats,
    all_inside,
    area,
    bilinear,
    boxes,
    clipped,
    direction,
    inset_quad,
    lattice_in,
    points_inside,
    rotate,
    scatter,
    sides,
    wobbly_ring,
)

CONCRETE: Colour = (156, 152, 144)
LIGHT: Colour = (186, 182, 174)
DIRTY: Colour = (128, 120, 108)
BRICK: Colour = (150, 106, 90)
BLUE_TIN: Colour = (98, 130, 162)
GREEN_TIN: Colour = (98, 126, 112)
RUST: Colour = (142, 100, 80)
DARK_TILE: Colour = (104, 103, 101)
RED_TILE: Colour = (160, 94, 76)
WHITE: Colour = (210, 210, 206)

UV_ROOFS = (
    (0.38, CONCRETE), (0.17, LIGHT), (0.17, DIRTY), (0.09, BRICK), (0.07, BLUE_TIN), (0.05, RUST), (0.04, WHITE),
    (0.03, GREEN_TIN),
)  # fmt: skip
OLD_ROOFS = ((0.66, DARK_TILE), (0.16, DIRTY), (0.12, BRICK), (0.06, CONCRETE))
NEW_IN_OLD_ROOFS = ((0.6, CONCRETE), (0.25, LIGHT), (0.15, BRICK))
WORKSHOP_ROOFS = ((0.34, BLUE_TIN), (0.24, LIGHT), (0.2, RUST), (0.14, CONCRETE), (0.08, DIRTY))
VILLA_ROOFS = ((0.45, RED_TILE), (0.25, BRICK), (0.2, DARK_TILE), (0.1, CONCRETE))

_SURNAMES = "石陈林黄李杨冼沙棠员三元猎德上下新东西南北车".strip()
_SHOPS = ("convenience", "clothes", "supermarket", "hairdresser", "mobile_phone", "bakery", "hardware", "greengrocer")
_AMENITIES = ("restaurant", "fast_food", "pharmacy", "clinic", "internet_cafe", "bank", "kindergarten")


def urban_village(canvas: Canvas, quad: Floats) -> None:
    """An urban village within a parcel: its outline is irregular and becomes the truth."""
    rng = canvas.rng
    fringe = rng.choice([Surface.SOIL, Surface.GRASS, Surface.CONCRETE, Surface.PAVING], p=[0.2, 0.25, 0.3, 0.25])
    canvas.paint(quad, Surface(fringe), spread=8)
    shape = shapely.Polygon(wobbly_ring(quad, rng, depth_m=min(rng.uniform(10.0, 36.0), 0.18 * min(sides(quad)))))
    quads, lanes = _village_houses(canvas, quad, shape)
    pond = _pond(canvas, shape) if rng.random() < 0.4 else None
    if pond is not None:
        centroids = quads.mean(axis=1)
        quads = quads[~points_inside(pond.buffer(9), centroids)]
    outline = village_outline(quads)
    quads = quads[points_inside(outline, quads.mean(axis=1))]
    canvas.villages.append(outline)
    canvas.paint(shapely.get_coordinates(outline.exterior)[:-1], Surface.PAVING, spread=6)
    for lane, width_m in lanes:
        for piece in clipped(lane, shape.buffer(12), longer_than_m=20.0):
            canvas.road(
                piece, width_m=width_m, surface=Surface.CONCRETE, cars_per_m=0.02,
                tags={"highway": str(rng.choice(["service", "residential", "living_street"]))},
            )  # fmt: skip
    if pond is not None:
        ring = shapely.get_coordinates(pond.exterior)[:-1]
        canvas.paint(shapely.get_coordinates(pond.buffer(4).exterior)[:-1], Surface.CONCRETE)
        canvas.paint(ring, Surface.WATER)
        canvas.map(OsmDraft("area", ring, {"natural": "water", "water": "pond"}), share=canvas.completeness)
    drawn = rng.normal(rng.uniform(3.4, 5.2), 1.3, len(quads)) + canvas.storeys_added
    floors = np.clip(np.round(drawn), 1, 8 + max(0.0, np.ceil(canvas.storeys_added)))
    tin = rng.random(len(quads)) < 0.08
    roofs = np.where(tin, Roof.RIBBED, Roof.CLUTTER).astype(np.uint8)
    canvas.build(
        quads, cover=Cover.UV, height_m=np.asarray(floors * 3.1, float), palette=UV_ROOFS, roof=roofs, spread=15
    )
    trees = scatter(quad, rng, per_m2=1 / 450)
    outside = ~points_inside(outline.buffer(1.0), trees)
    canvas.plant(trees[outside | (rng.random(len(trees)) < 0.15)], radius_m=(1.5, 3.0))
    shops(canvas, quads.mean(axis=1), per_building=0.05)
    centre = shape.representative_point()
    name = f"{_SURNAMES[int(rng.integers(len(_SURNAMES)))]}{rng.choice(['牌', '家', '塘', '岗', '溪', '头'])}村"
    canvas.map(
        OsmDraft("node", np.array([[centre.x, centre.y]]), {"place": "neighbourhood", "name": name}),
        share=0.4 * canvas.completeness,
    )


def _village_houses(canvas: Canvas, quad: Floats, shape: shapely.Polygon) -> tuple[Floats, list[tuple[Floats, float]]]:
    """Houses (n, 4, 2) in bending rows, and the wider lanes left free between them."""
    rng = canvas.rng
    angle, centre = rng.uniform(-np.pi / 2, np.pi / 2), quad.mean(axis=0)
    reach = float(np.linalg.norm(quad - centre, axis=1).max()) + 20
    depth = rng.uniform(8.5, 14.0, int(2 * reach / 10))
    alley = rng.choice([1.2, 2.0, 3.0, 4.0], len(depth), p=[0.3, 0.35, 0.25, 0.1])
    y1 = np.cumsum(depth + alley) - reach
    y0 = y1 - depth
    width = rng.uniform(8.0, 14.5, (len(depth), int(2 * reach / 9)))
    gap = rng.choice([0.4, 1.2, 2.4, 4.0], width.shape, p=[0.4, 0.35, 0.15, 0.1])
    x1 = np.cumsum(width + gap, axis=1) - reach - rng.uniform(0, 12, (len(depth), 1))
    x0 = x1 - width
    trim = rng.uniform(0, 1.8, width.shape) * (rng.random(width.shape) < 0.4)
    low, high = y0[:, None] + 0 * width, y1[:, None] - trim
    quads = np.stack([np.stack([x0, low], -1), np.stack([x1, low], -1), np.stack([x1, high], -1),
                      np.stack([x0, high], -1)], axis=-2).reshape(-1, 4, 2)  # fmt: skip
    quads = quads + rng.normal(0, 0.3, quads.shape)
    wave = rng.uniform(55, 95, 2)
    phase = rng.uniform(0, 2 * np.pi, 2)
    bend = rng.uniform(4.0, 9.0, 2)
    bent = quads.copy()
    bent[..., 1] += bend[0] * np.sin(2 * np.pi * quads[..., 0] / wave[0] / 2 + phase[0])
    bent[..., 0] += bend[1] * np.sin(2 * np.pi * quads[..., 1] / wave[1] / 2 + phase[1])
    houses = rotate(bent, angle, centre)
    middle = houses.mean(axis=1)
    keep = points_inside(shape, middle) & (rng.random(len(houses)) > 0.035)
    keep &= all_inside(shapely.Polygon(inset_quad(quad, 1.0)), houses)
    lanes: list[tuple[Floats, float]] = []
    for k in range(1 + (reach > 150)):
        t = np.linspace(-reach, reach, 12)
        sway = np.column_stack([t, rng.uniform(-0.3, 0.3) * reach + 7 * np.sin(t / 40 + phase[0])])
        lane = rotate(sway, angle + (np.pi / 2) * k + rng.normal(0, 0.25), centre)
        width_m = float(rng.uniform(4.0, 6.0))
        lanes.append((lane, width_m))
        near = shapely.LineString(lane).buffer(width_m / 2 + 3.5)
        keep &= ~points_inside(near, middle)
    return houses[keep], lanes


def village_outline(quads: Floats) -> shapely.Polygon:
    """The outline that a mapper would draw about houses (n, 4, 2): gaps under 20 m closed, 1.5 m of margin."""
    houses = shapely.union_all(shapely.buffer(shapely.polygons(quads), 10.0, quad_segs=1, join_style="mitre"))
    shrunk = houses.buffer(-13.0, join_style="mitre").buffer(4.5, join_style="bevel")
    largest = max(getattr(shrunk, "geoms", [shrunk]), key=lambda g: g.area)
    holes = [ring for ring in largest.interiors if shapely.Polygon(ring).area > 4000]
    return shapely.Polygon(largest.exterior, holes).simplify(0.6)


def _pond(canvas: Canvas, shape: shapely.Polygon) -> shapely.Polygon | None:
    spot = shape.buffer(-45)
    if spot.is_empty:
        return None
    x, y = canvas.rng.uniform(spot.bounds[:2], spot.bounds[2:])
    middle = shapely.Point(x, y)
    return middle.buffer(float(canvas.rng.uniform(11, 20)), quad_segs=4) if spot.contains(middle) else None


def shops(canvas: Canvas, at: Floats, *, per_building: float) -> None:
    """Shops and services as OSM nodes at some of the points (n, 2)."""
    rng = canvas.osm_rng
    for x, y in at[rng.random(len(at)) < per_building * canvas.completeness]:
        tags = {"shop": str(rng.choice(_SHOPS))} if rng.random() < 0.6 else {"amenity": str(rng.choice(_AMENITIES))}
        if rng.random() < 0.5:
            kind = {"shop": "商店", "amenity": "服务部"}[next(iter(tags))]
            tags["name"] = f"{_SURNAMES[int(rng.integers(len(_SURNAMES)))]}记{kind}"
        canvas.map(OsmDraft("node", np.array([[x, y]]), tags))


def old_town(canvas: Canvas, quad: Floats) -> None:
    """Lanes of low courtyard houses, all in one direction, grey tiled roofs."""
    rng = canvas.rng
    canvas.paint(quad, Surface.PAVING, spread=6)
    ring = inset_quad(quad, 2.0)
    size = np.array([rng.uniform(16, 19), rng.uniform(15, 18)])
    centres = lattice_in(
        ring, size[0] + 0.8, size[1] + rng.uniform(3.0, 4.5), angle=float(rng.normal(0, 0.05)), fit_m=(size[0], size[1])
    )
    angle = float(np.arctan2(*(centres[0, -1] - centres[0, 0])[::-1])) if centres.shape[1] > 1 else 0.0
    lots = boxes(centres.reshape(-1, 2), size[0], size[1], angle)
    middle = centres.reshape(-1, 2)[all_inside(ring, lots)]
    if not len(middle):
        return
    modern = rng.random(len(middle)) < rng.uniform(0.04, 0.35)
    _courtyards(canvas, middle[~modern], size, angle)
    new = boxes(middle[modern], size[0] * rng.uniform(0.6, 0.95, modern.sum()), size[1] * 0.7, angle)
    floors = rng.integers(2, 4, len(new)).astype(float)
    canvas.build(new, cover=Cover.OLD_TOWN, height_m=floors * 3.1, palette=NEW_IN_OLD_ROOFS, roof=Roof.CLUTTER)
    shops(canvas, middle, per_building=0.06)
    for row in centres[:: int(rng.integers(3, 5))]:
        for piece in clipped(row - np.array([0, size[1] / 2 + 2]), quad):
            canvas.road(
                piece, width_m=4.5, surface=Surface.CONCRETE, cars_per_m=0.01,
                tags={"highway": str(rng.choice(["residential", "living_street", "pedestrian"]))},
            )  # fmt: skip


def _courtyards(canvas: Canvas, middle: Floats, size: Floats, angle: float) -> None:
    """Four gabled wings about a court, as one building with a hole."""
    rng, n = canvas.rng, len(middle)
    w, d = size
    hall, wing = rng.uniform(5.2, 6.2, n), rng.uniform(3.6, 4.4, n)
    x = np.stack([0 * hall, 0 * hall, -(w - wing) / 2, (w - wing) / 2], axis=1)
    y = np.stack([(d - hall) / 2, -(d - wing) / 2, (wing - hall) / 2, (wing - hall) / 2], axis=1)
    pw = np.stack([0 * hall + w, 0 * hall + w, wing, wing], axis=1)
    pd = np.stack([hall, wing, d - hall - wing, d - hall - wing], axis=1)
    shift = rotate(np.stack([x, y], -1), angle, np.zeros(2))
    parts = boxes((middle[:, None] + shift).reshape(-1, 2), pw.ravel(), pd.ravel(), angle)
    outer = boxes(middle, w, d, angle)
    court_at = middle + rotate(np.stack([0 * hall, (wing - hall) / 2], -1), angle, np.zeros(2))
    inner = boxes(court_at, w - 2 * wing, d - hall - wing, angle)
    outlines = [(outer[k], (inner[k],)) for k in range(n)]
    heights = np.asarray(np.repeat(rng.uniform(3.8, 5.2, n), 4), float)
    canvas.build(
        parts, cover=Cover.OLD_TOWN, height_m=heights, palette=OLD_ROOFS, roof=Roof.GABLE,
        group=np.repeat(np.arange(n), 4), outlines=outlines, spread=7,
    )  # fmt: skip
    canvas.plant(court_at[rng.random(n) < 0.45], radius_m=(1.6, 3.0))


def workshops(canvas: Canvas, quad: Floats) -> None:
    """Small sheds of 11 to 26 m with metal roofs, in straight rows along yards."""
    rng = canvas.rng
    canvas.paint(quad, Surface.CONCRETE, spread=8)
    ring = inset_quad(quad, 2.5)
    angle = direction(quad)
    centres = lattice_in(ring, rng.uniform(17, 22), rng.uniform(17, 21), fit_m=(17.0, 15.0))
    n_rows, n_cols = centres.shape[:2]
    depth = np.repeat(rng.uniform(12, 16, (n_rows, 1)), n_cols, axis=1)
    width = rng.uniform(11, 19, (n_rows, n_cols)) * np.where(rng.random((n_rows, n_cols)) < 0.15, 1.35, 1)
    at = centres.reshape(-1, 2) + rng.normal(0, 0.7, (n_rows * n_cols, 2))
    sheds = boxes(at, width.ravel(), depth.ravel(), angle + rng.normal(0, 0.015, n_rows * n_cols))
    sheds = sheds[all_inside(ring, sheds) & (rng.random(len(sheds)) > 0.12)]
    roofs = rng.choice([Roof.RIBBED, Roof.GABLE, Roof.FLAT], len(sheds), p=[0.5, 0.35, 0.15]).astype(np.uint8)
    heights = np.asarray(rng.uniform(4.0, 6.5, len(sheds)))
    canvas.build(sheds, cover=Cover.WORKSHOP, height_m=heights, palette=WORKSHOP_ROOFS, roof=roofs, spread=12)
    canvas.park(scatter(ring, rng, per_m2=1 / 1800), angle)
    canvas.plant(scatter(quad, rng, per_m2=1 / 4000))
    if n_rows > 3:
        line = bilinear(quad, np.array([0.0, 1.0]), np.array([0.5, 0.5]))
        canvas.map(OsmDraft("way", line, {"highway": "service"}), share=canvas.completeness)


def villas(canvas: Canvas, quad: Floats) -> None:
    """Detached houses of 10 to 14 m in gardens, along bent service roads."""
    rng = canvas.rng
    canvas.paint(quad, Surface.GRASS, spread=8)
    ring = inset_quad(quad, 5.0)
    angle = direction(quad)
    pitch = float(rng.uniform(20, 24))
    centres = lattice_in(ring, rng.uniform(18.5, 22), pitch, fit_m=(14.0, 16.0))
    rows, cols = centres.shape[:2]
    side = np.array([-np.sin(angle), np.cos(angle)])
    sway = 5 * np.sin(np.linspace(0, 2 * np.pi, cols) + rng.uniform(0, 6))
    centres = centres + sway[None, :, None] * side
    for k in range(0, rows - 1, 2):
        line = (centres[k] + centres[k + 1]) / 2
        line = line[points_inside(quad, line)]
        if len(line) > 2:
            canvas.road(line, width_m=5.5, tags={"highway": "service"}, cars_per_m=0.02)
    shift = np.where(np.arange(rows) % 2 == 0, -1.5, 1.5)[:, None, None] * side
    at = (centres + shift).reshape(-1, 2) + rng.normal(0, 0.8, (rows * cols, 2))
    houses = boxes(
        at, rng.uniform(11, 14, len(at)), rng.uniform(9, 11.5, len(at)), angle + rng.normal(0, 0.08, len(at))
    )
    houses = houses[all_inside(ring, houses) & (rng.random(len(houses)) > 0.06)]
    heights = rng.uniform(6.5, 9.5, len(houses))
    canvas.build(houses, cover=Cover.VILLA, height_m=heights, palette=VILLA_ROOFS, roof=Roof.GABLE, spread=8)
    trees = scatter(quad, rng, per_m2=1 / 130)
    canvas.plant(trees, radius_m=(1.2, 3.0))
    if area(quad) > 15_000 and rng.random() < 0.5:
        canvas.map(OsmDraft("node", quad.mean(axis=0)[None], {"name": "翠湖山庄", "place": "neighbourhood"}), share=0.3)
