"""The fabrics of large buildings: slab housing, towers, industry, commerce."""

from __future__ import annotations

import numpy as np
import shapely

from regions.demo.canvas import Canvas, Colour, OsmDraft, Roof, Surface
from regions.demo.dense_fabric import (
    BLUE_TIN,
    BRICK,
    CONCRETE,
    DIRTY,
    LIGHT,
    RUST,
    WHITE,
    shops,
)
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
)

GLASS: Colour = (96, 108, 122)
SLAB_ROOFS = ((0.5, CONCRETE), (0.25, LIGHT), (0.15, BRICK), (0.1, DIRTY))
TOWER_ROOFS = ((0.5, LIGHT), (0.35, CONCRETE), (0.15, BRICK))
INDUSTRY_ROOFS = ((0.4, BLUE_TIN), (0.25, WHITE), (0.2, CONCRETE), (0.15, RUST))
COMMERCE_ROOFS = ((0.4, LIGHT), (0.25, GLASS), (0.25, CONCRETE), (0.1, WHITE))


def slab_housing(canvas: Canvas, quad: Floats) -> None:
    """Rows of long flat-roofed houses that face south, with green strips and service roads between them."""
    rng = canvas.rng
    canvas.paint(quad, Surface(rng.choice([Surface.CONCRETE, Surface.GRASS])), spread=7)
    ring = inset_quad(quad, 6.0)
    angle = float(rng.normal(0, 0.12))
    length, depth = rng.uniform(38, 62), rng.uniform(11, 13.5)
    centres = lattice_in(ring, length + rng.uniform(7, 12), rng.uniform(23, 29), angle=angle, fit_m=(length, depth))
    at = centres.reshape(-1, 2)
    slabs = boxes(at, length * rng.uniform(0.85, 1.05, len(at)), depth, angle)
    keep = all_inside(ring, slabs) & (rng.random(len(slabs)) > 0.05)
    floors = float(rng.integers(5, 8))
    green = boxes(at, length + 4, 11.0, angle) + rotate(np.array([0.0, 13.5]), angle, np.zeros(2))
    for strip in green[all_inside(quad, green)]:
        canvas.paint(strip, Surface.GRASS)
    canvas.build(slabs[keep], cover=Cover.SLAB, height_m=floors * 3.0, palette=SLAB_ROOFS, roof=Roof.CLUTTER)
    trees = scatter(quad, rng, per_m2=1 / 190)
    canvas.plant(trees, radius_m=(1.4, 3.2))
    for row in centres[::2]:
        for line in clipped(row - rotate(np.array([0.0, 9.0]), angle, np.zeros(2)), ring):
            canvas.road(line, width_m=4.5, tags={"highway": "service"}, cars_per_m=0.07)
    shops(canvas, at[keep], per_building=0.08)


def towers(canvas: Canvas, quad: Floats) -> None:
    """High towers of 22 to 30 m in a garden, long shadows."""
    rng = canvas.rng
    canvas.paint(quad, Surface.GRASS, spread=7)
    ring = inset_quad(quad, 10.0)
    angle = float(rng.normal(0, 0.1))
    centres = lattice_in(ring, rng.uniform(40, 54), rng.uniform(44, 58), angle=angle, fit_m=(31.0, 24.0))
    line_shift = rotate(np.array([0.0, 24.0]), angle, np.zeros(2))
    for row in centres:
        for line in clipped(row + line_shift, ring):
            canvas.road(line, width_m=6.0, tags={"highway": "service"}, surface=Surface.CONCRETE, cars_per_m=0.05)
    at = centres.reshape(-1, 2) + rng.normal(0, 2.0, (centres.size // 2, 2))
    n = len(at)
    core = boxes(at, rng.uniform(14, 17, n), 24.0, angle)
    wings = boxes(at, rng.uniform(25, 31, n), 13.0, angle)
    keep = all_inside(ring, core) & all_inside(ring, wings)
    heights = np.round(rng.uniform(18, 32)) * 3.0 + rng.integers(-2, 3, n) * 3.0
    count = int(keep.sum())
    parts = np.concatenate([core[keep], wings[keep]])
    outlines = [
        (np.asarray(shapely.get_coordinates(shapely.Polygon(a).union(shapely.Polygon(b)).exterior)[:-1]), ())
        for a, b in zip(core[keep], wings[keep], strict=True)
    ]
    canvas.build(
        parts, cover=Cover.TOWER, height_m=np.tile(heights[keep], 2), palette=TOWER_ROOFS, roof=Roof.CLUTTER,
        group=np.tile(np.arange(count), 2), outlines=outlines,
    )  # fmt: skip
    canvas.plant(scatter(quad, rng, per_m2=1 / 120), radius_m=(1.6, 3.4))
    pool = boxes(quad.mean(axis=0)[None], 18, 9, angle)[0]
    if area(quad) > 25_000:
        canvas.paint(pool, Surface.WATER, rgb=(92, 160, 176))
    shops(canvas, at[keep], per_building=0.2)


def industry(canvas: Canvas, quad: Floats) -> None:
    """Large sheds with ribbed metal roofs about concrete yards."""
    rng = canvas.rng
    canvas.paint(quad, Surface.CONCRETE, spread=9)
    ring = inset_quad(quad, 6.0)
    angle = direction(quad)
    size = np.array([rng.uniform(45, 90), rng.uniform(24, 48)])
    pitch = size + rng.uniform(9, 16, 2)
    centres = lattice_in(ring, pitch[0], pitch[1], fit_m=(size[0], size[1])).reshape(-1, 2)
    sheds = boxes(centres, size[0] * rng.uniform(0.75, 1.05, len(centres)), size[1] * rng.uniform(0.8, 1.05), angle)
    keep = all_inside(ring, sheds) & (rng.random(len(sheds)) > 0.12)
    roofs = rng.choice([Roof.RIBBED, Roof.GABLE, Roof.FLAT], len(sheds), p=[0.6, 0.2, 0.2]).astype(np.uint8)
    heights = rng.uniform(8, 13, len(sheds))
    canvas.build(
        sheds[keep], cover=Cover.INDUSTRY, height_m=heights[keep], palette=INDUSTRY_ROOFS, roof=roofs[keep], spread=10
    )
    yard = points_inside(ring, (spots := scatter(ring, rng, per_m2=1 / 900)))
    canvas.park(spots[yard], angle)
    edge = bilinear(quad, np.linspace(0.02, 0.98, 24), np.full(24, 0.015))
    canvas.plant(edge)
    gate = bilinear(quad, np.array([0.5, 0.5]), np.array([0.0, 0.6]))
    canvas.map(OsmDraft("way", gate, {"highway": "service"}), share=canvas.completeness)


def commerce(canvas: Canvas, quad: Floats) -> None:
    """Malls and offices on podiums with car parks."""
    rng = canvas.rng
    canvas.paint(quad, Surface.CONCRETE, spread=7)
    ring = inset_quad(quad, 7.0)
    angle = direction(quad)
    centres = lattice_in(ring, rng.uniform(54, 68), rng.uniform(48, 62), fit_m=(48.0, 42.0)).reshape(-1, 2)
    n = len(centres)
    podium = boxes(centres, rng.uniform(36, 54, n), rng.uniform(30, 46, n), angle)
    keep = all_inside(ring, podium)
    shops(canvas, centres[keep].repeat(3, axis=0) + rng.normal(0, 8, (3 * int(keep.sum()), 2)), per_building=0.4)
    parking = keep & (rng.random(n) < 0.25)
    for k in np.flatnonzero(parking):
        canvas.paint(podium[k], Surface.ASPHALT)
        canvas.map(OsmDraft("area", podium[k], {"amenity": "parking"}), share=0.7 * canvas.completeness)
        stalls = lattice_in(inset_quad(podium[k], 3.0), 3.0, 8.0).reshape(-1, 2)
        canvas.park(stalls[rng.random(len(stalls)) < 0.6], angle + np.pi / 2)
    keep &= ~parking
    canvas.build(
        podium[keep], cover=Cover.COMMERCE, height_m=rng.uniform(12, 24, n)[keep], palette=COMMERCE_ROOFS,
        roof=Roof.CLUTTER,
    )  # fmt: skip
    shaft = boxes(centres + rng.normal(0, 4, (n, 2)), rng.uniform(18, 26, n), rng.uniform(18, 24, n), angle)
    rising = keep & (rng.random(n) < 0.4)
    canvas.build(shaft[rising], cover=Cover.COMMERCE, height_m=rng.uniform(50, 130, n)[rising], palette=COMMERCE_ROOFS)
    canvas.plant(bilinear(quad, np.linspace(0.02, 0.98, 20), np.full(20, 0.02)))
    canvas.plant(scatter(quad, rng, per_m2=1 / 900))
    school = rng.random() < 0.15
    if school:
        canvas.map(OsmDraft("node", quad.mean(axis=0)[None], {"amenity": "school", "name": "实验小学"}))
