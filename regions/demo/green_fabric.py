"""The fabrics without houses: parks, water, bare ground, farmland."""

from __future__ import annotations

import numpy as np
import shapely

from regions.demo.canvas import Canvas, Colour, OsmDraft, Roof, Surface
from regions.demo.dense_fabric import LIGHT, WHITE
from regions.demo.layout import Cover
from regions.demo.shapes import (
    Floats,
    all_inside,
    area,
    bilinear,
    boxes,
    direction,
    inset_quad,
    lattice_in,
    points_inside,
    scatter,
    sub_quad,
    wobbly_ring,
)

FIELDS: tuple[Colour, ...] = (
    (96, 118, 66), (118, 128, 78), (138, 132, 88), (152, 134, 100), (84, 104, 62), (126, 138, 92), (142, 122, 92),
)  # fmt: skip


def park(canvas: Canvas, quad: Floats) -> None:
    """Lawns, groves, paths and often a lake."""
    rng = canvas.rng
    canvas.paint(quad, Surface.GRASS, spread=7)
    middle = quad.mean(axis=0)
    for _ in range(3):
        u = np.linspace(0.02, 0.98, 14)
        v = np.clip(rng.uniform(0.25, 0.75) + 0.18 * np.sin(u * rng.uniform(4, 9) + rng.uniform(0, 6)), 0.03, 0.97)
        line = bilinear(quad, u, v) if rng.random() < 0.5 else bilinear(quad, v, u)
        canvas.road(line, width_m=3.0, surface=Surface.CONCRETE, tags={"highway": "footway"})
    if rng.random() < 0.55:
        lake = wobbly_ring(middle + (quad - middle) * rng.uniform(0.35, 0.6), rng, depth_m=22)
        canvas.paint(lake, Surface.WATER)
        canvas.map(OsmDraft("area", lake, {"natural": "water", "water": "lake"}), share=0.9)
        trees = scatter(quad, rng, per_m2=1 / 75)
        trees = trees[~points_inside(lake, trees)]
    else:
        trees = scatter(quad, rng, per_m2=1 / 60)
    centre = bilinear(quad, rng.random(6), rng.random(6))
    near = np.min(np.linalg.norm(trees[:, None] - centre[None], axis=2), axis=1) < 55
    trees = trees[near | (rng.random(len(trees)) < 0.35)]
    track = _sports_ground(canvas, quad) if rng.random() < 0.4 and area(quad) > 16_000 else None
    if track is not None:
        trees = trees[~points_inside(track.buffer(3), trees)]
    canvas.plant(trees, radius_m=(2.0, 4.2))


def _sports_ground(canvas: Canvas, quad: Floats) -> shapely.Polygon | None:
    """A running track about a pitch, where there is room for one."""
    angle = direction(quad)
    field = boxes(quad.mean(axis=0)[None], 62, 30, angle)[0]
    track = shapely.Polygon(field).buffer(13, quad_segs=6)
    if not shapely.Polygon(quad).contains(track):
        return None
    ring = shapely.get_coordinates(track.exterior)[:-1]
    canvas.paint(ring, Surface.TRACK)
    canvas.paint(shapely.get_coordinates(track.buffer(-7).exterior)[:-1], Surface.GRASS, rgb=(86, 120, 62))
    canvas.map(OsmDraft("area", ring, {"leisure": "pitch", "sport": "athletics"}), share=canvas.completeness)
    return track


def water(canvas: Canvas, quad: Floats) -> None:
    """A lake or a fish pond with planted banks."""
    rng = canvas.rng
    canvas.paint(quad, Surface.GRASS, spread=7)
    ring = wobbly_ring(inset_quad(quad, 5.0), rng, depth_m=26)
    canvas.paint(ring, Surface.WATER)
    canvas.map(OsmDraft("area", ring, {"natural": "water"}), share=0.9)
    trees = scatter(quad, rng, per_m2=1 / 110)
    canvas.plant(trees[~points_inside(shapely.Polygon(ring).buffer(2), trees)])


def bare(canvas: Canvas, quad: Floats) -> None:
    """Cleared ground or a building site with tracks and a few huts."""
    rng = canvas.rng
    canvas.paint(quad, Surface.SOIL, spread=12)
    for _ in range(3):
        patch = wobbly_ring(sub_quad(quad, *np.sort(rng.random(2)), *np.sort(rng.random(2))), rng, depth_m=9)
        if area(patch) > 200:
            canvas.paint(patch, Surface(rng.choice([Surface.SOIL, Surface.GRASS, Surface.CONCRETE])), spread=12)
    u = np.linspace(0, 1, 10)
    canvas.road(
        bilinear(quad, u, 0.5 + 0.25 * np.sin(3 * u + rng.uniform(0, 6))), width_m=5, surface=Surface.SOIL, spread=14
    )
    huts = boxes(scatter(quad, rng, per_m2=1 / 9000), 12.0, 5.0, direction(quad))
    huts = huts[all_inside(quad, huts)]
    canvas.build(huts, cover=Cover.BARE, height_m=5.0, palette=((1, WHITE), (1, (90, 120, 160))), roof=Roof.RIBBED)
    canvas.plant(scatter(quad, rng, per_m2=1 / 2500))


def farmland(canvas: Canvas, quad: Floats) -> None:
    """Strips of fields between tracks, some under plastic."""
    rng = canvas.rng
    canvas.paint(quad, Surface.GRASS, spread=6)
    n = max(3, int(np.sqrt(abs(area(quad))) / 22))
    cuts = np.sort(np.concatenate([[0.0, 1.0], np.linspace(0, 1, n + 1)[1:-1] + rng.normal(0, 0.2 / n, n - 1)]))
    for k in range(n):
        half = float(rng.uniform(0.35, 0.65))
        for v0, v1 in ((0.01, half - 0.01), (half + 0.01, 0.99)):
            field = sub_quad(quad, cuts[k] + 0.03 / n, cuts[k + 1] - 0.03 / n, v0, v1)
            canvas.paint(field, Surface.CROPS, rgb=FIELDS[int(rng.integers(len(FIELDS)))], spread=6)
            if rng.random() < 0.08:
                tunnels = boxes(
                    lattice_in(inset_quad(field, 3.0), 9.0, 46.0).reshape(-1, 2), 6.5, 40.0, direction(field)
                )
                tunnels = tunnels[all_inside(field, tunnels)]
                canvas.build(
                    tunnels, cover=Cover.FARMLAND, height_m=2.5, palette=((1, LIGHT), (1, WHITE)), roof=Roof.GABLE
                )
    line = bilinear(quad, np.array([0.0, 1.0]), np.array([0.5, 0.5]))
    canvas.road(line, width_m=3.0, surface=Surface.SOIL)
    canvas.map(OsmDraft("way", line, {"highway": "track"}), share=canvas.completeness)
    canvas.plant(scatter(quad, rng, per_m2=1 / 1800))
