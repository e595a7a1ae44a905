"""What one superblock holds, and the canvas on which it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import shapely
from numpy.typing import NDArray

from regions.demo.layout import Cover
from regions.demo.shapes import Floats, Rng, along, boxes

Colour = tuple[int, int, int]
Palette = Sequence[tuple[float, Colour]]
Tags = dict[str, str]


class Surface(IntEnum):
    """Ground material: its texture in the image."""

    ASPHALT = 0
    CONCRETE = 1
    GRASS = 2
    SOIL = 3
    CROPS = 4
    WATER = 5
    PAVING = 6
    TRACK = 7


class Roof(IntEnum):
    """Roof form: its shading in the image."""

    FLAT = 0
    GABLE = 1
    CLUTTER = 2
    RIBBED = 3


GROUND_RGB: dict[Surface, Colour] = {
    Surface.ASPHALT: (112, 112, 114),
    Surface.CONCRETE: (160, 156, 148),
    Surface.GRASS: (88, 106, 68),
    Surface.SOIL: (160, 138, 110),
    Surface.CROPS: (104, 122, 76),
    Surface.WATER: (62, 82, 84),
    Surface.PAVING: (134, 128, 119),
    Surface.TRACK: (164, 90, 74),
}


@dataclass(frozen=True)
class OsmDraft:
    """One feature as OpenStreetMap would hold it, in local metres.

    Attributes:
        kind: ``node``, ``way`` (line) or ``area`` (closed way, or multipolygon relation where it has ``holes``).
        ring: Points (k, 2); an area's ring is not closed.
        tags: OSM tags.
        holes: Inner rings.
    """

    kind: str
    ring: Floats
    tags: Tags
    holes: tuple[Floats, ...] = ()


@dataclass(frozen=True)
class Parcel:
    """A piece of a superblock with one land-cover class; ``ring`` (k, 2) in local metres."""

    ring: Floats
    cover: Cover


@dataclass(frozen=True)
class Block:
    """All that one superblock holds, in local metres.

    Attributes:
        ground: Rings painted in this order.
        ground_rgb: Their colours (g, 3).
        ground_surface: Their materials (g,), :class:`Surface`.
        quads: Roof parts (n, 4, 2).
        height_m: Heights of the parts (n,).
        roof_rgb: Colours of the parts (n, 3).
        roof: Roof forms (n,), :class:`Roof`.
        trees: Crowns (t, 4): x, y, radius in metres, tone from -1 to 1.
        cars: Vehicles (c, 4, 2).
        car_rgb: Their colours (c, 3).
        osm: What OpenStreetMap has of it.
        parcels: Land-cover parcels.
        villages: True outlines of urban villages.
        buildings: Number of buildings, mapped or not.
    """

    ground: tuple[Floats, ...]
    ground_rgb: NDArray[np.uint8]
    ground_surface: NDArray[np.uint8]
    quads: Floats
    height_m: Floats
    roof_rgb: NDArray[np.uint8]
    roof: NDArray[np.uint8]
    trees: Floats
    cars: Floats
    car_rgb: NDArray[np.uint8]
    osm: tuple[OsmDraft, ...]
    parcels: tuple[Parcel, ...]
    villages: tuple[shapely.Polygon, ...]
    buildings: int


@dataclass
class Canvas:
    """Collects what the fabrics draw; ``rng`` is the stream of the image, ``osm_rng`` that of the mapping."""

    rng: Rng
    osm_rng: Rng
    completeness: float
    ground: list[Floats] = field(default_factory=list)
    ground_rgb: list[Colour] = field(default_factory=list)
    ground_surface: list[int] = field(default_factory=list)
    quads: list[Floats] = field(default_factory=list)
    height_m: list[Floats] = field(default_factory=list)
    roof_rgb: list[Floats] = field(default_factory=list)
    roof: list[NDArray[np.uint8]] = field(default_factory=list)
    trees: list[Floats] = field(default_factory=list)
    cars: list[Floats] = field(default_factory=list)
    osm: list[OsmDraft] = field(default_factory=list)
    parcels: list[Parcel] = field(default_factory=list)
    villages: list[shapely.Polygon] = field(default_factory=list)
    buildings: int = 0
    parcel_mapped: bool = True
    storeys_added: float = 0.0

    def paint(self, ring: Floats, surface: Surface, *, rgb: Colour | None = None, spread: float = 5.0) -> None:
        """Paint a ring of ground; its colour differs a little from its neighbours' by ``spread``."""
        base = np.array(GROUND_RGB[surface] if rgb is None else rgb, float)
        shift = self.rng.normal(0, spread) + self.rng.normal(0, spread / 3, 3)
        r, g, b = np.clip(base + shift, 0, 255).astype(int).tolist()
        self.ground.append(ring)
        self.ground_rgb.append((r, g, b))
        self.ground_surface.append(int(surface))

    def road(
        self,
        line: Floats,
        *,
        width_m: float,
        tags: Tags | None = None,
        surface: Surface = Surface.ASPHALT,
        cars_per_m: float = 0.0,
        spread: float = 4.0,
    ) -> None:
        """Pave a polyline (k, 2), put vehicles on it, and map it where ``tags`` are given."""
        self.paint(paved(line, width_m), surface, spread=spread)
        if tags is not None:
            self.map(OsmDraft("way", line, tags))
        if cars_per_m > 0:
            step = np.diff(line, axis=0)
            length = float(np.linalg.norm(step, axis=1).sum())
            points = along(line, 1.0)
            n = min(int(self.rng.poisson(length * cars_per_m)), len(points))
            if n:
                at = points[self.rng.integers(0, len(points), n)]
                angle = float(np.arctan2(*(line[-1] - line[0])[::-1]))
                side = np.array([-np.sin(angle), np.cos(angle)])
                offset = self.rng.choice([-1.0, 1.0], n) * self.rng.uniform(0.15, 0.38, n) * width_m
                self.park(at + offset[:, None] * side, angle)

    def park(self, at: Floats, angle: float | Floats) -> None:
        """Put vehicles, 4.6 m by 1.9 m and sometimes longer, at points (n, 2)."""
        n = len(at)
        long = self.rng.random(n) < 0.12
        self.cars.append(boxes(at, np.where(long, 9.0, 4.6), np.where(long, 2.5, 1.9), angle))

    def plant(self, at: Floats, *, radius_m: tuple[float, float] = (1.6, 3.4)) -> None:
        """Plant trees at points (n, 2)."""
        n = len(at)
        if n:
            radius, tone = self.rng.uniform(*radius_m, n), self.rng.normal(0, 0.4, n)
            self.trees.append(np.column_stack([at, radius, np.clip(tone, -1, 1)]))

    def build(
        self,
        quads: Floats,
        *,
        cover: Cover,
        height_m: Floats | float,
        palette: Palette,
        roof: Roof | NDArray[np.uint8] = Roof.FLAT,
        group: NDArray[np.int64] | None = None,
        outlines: Sequence[tuple[Floats, tuple[Floats, ...]]] | None = None,
        spread: float = 9.0,
    ) -> None:
        """Build roof parts (n, 4, 2).

        Args:
            quads: The parts.
            cover: Class of the parcel, which decides the OSM tags.
            height_m: Height of each part.
            palette: Weighted roof colours.
            roof: Roof form, one or per part.
            group: Building that each part belongs to, 0 to b - 1 without gaps; by default each is its own.
            outlines: Footprint of each building as (ring, holes), where it is not its single part.
            spread: Standard deviation of the colours about the palette.
        """
        n = len(quads)
        if not n:
            return
        members = np.arange(n) if group is None else group
        count = int(members.max()) + 1
        heights = np.broadcast_to(np.asarray(height_m, float), (n,))
        colours = pick(self.rng, count, palette, spread=spread)[members] + self.rng.normal(0, 2.5, (n, 1))
        self.quads.append(quads)
        self.height_m.append(heights)
        self.roof_rgb.append(colours)
        self.roof.append(np.broadcast_to(np.asarray(roof, np.uint8), (n,)))
        self.buildings += count
        if not self.parcel_mapped:
            return
        first = np.unique(members, return_index=True)[1]
        drawn = self.osm_rng.random((count, 4))
        for k in np.flatnonzero(drawn[:, 0] < 0.96).tolist():
            ring, holes = (quads[first[k]], ()) if outlines is None else outlines[k]
            tags = building_tags(cover, float(heights[first[k]]), drawn[k, 1:])
            self.osm.append(OsmDraft("area", ring, tags, holes))

    def map(self, draft: OsmDraft, *, share: float = 1.0) -> None:
        """Let OpenStreetMap have a feature, by chance ``share``; never in a district without OpenStreetMap."""
        if self.osm_rng.random() < share and self.completeness > 0:
            self.osm.append(draft)

    def finish(self) -> Block:
        """The finished superblock."""
        cars = _stack(self.cars, (0, 4, 2))
        palette = (
            (3, (225, 225, 222)),
            (2, (60, 62, 66)),
            (2, (150, 152, 155)),
            (1, (150, 50, 45)),
            (1, (60, 80, 130)),
        )
        return Block(
            ground=tuple(self.ground),
            ground_rgb=np.array(self.ground_rgb, np.uint8).reshape(-1, 3),
            ground_surface=np.array(self.ground_surface, np.uint8),
            quads=_stack(self.quads, (0, 4, 2)),
            height_m=_stack(self.height_m, (0,)),
            roof_rgb=np.clip(_stack(self.roof_rgb, (0, 3)), 0, 255).astype(np.uint8),
            roof=_stack(self.roof, (0,)).astype(np.uint8),
            trees=_stack(self.trees, (0, 4)),
            cars=cars,
            car_rgb=np.clip(pick(self.rng, len(cars), palette, spread=10), 0, 255).astype(np.uint8),
            osm=tuple(self.osm),
            parcels=tuple(self.parcels),
            villages=tuple(self.villages),
            buildings=self.buildings,
        )


def _stack(pieces: Sequence[NDArray[np.generic]], empty: tuple[int, ...]) -> Floats:
    return np.concatenate(pieces).astype(float) if pieces else np.zeros(empty)


def paved(line: Floats, width_m: float) -> Floats:
    """Ring (k, 2) of a polyline widened to ``width_m`` with flat ends."""
    polygon = shapely.LineString(line).buffer(width_m / 2, cap_style="flat", join_style="mitre")
    return np.asarray(shapely.get_coordinates(polygon.exterior)[:-1])


def pick(rng: Rng, n: int, palette: Palette, *, spread: float) -> Floats:
    """``n`` colours (n, 3) out of a weighted palette, scattered in brightness by ``spread`` and a little in hue."""
    weight = np.array([w for w, _ in palette], float)
    colours = np.array([c for _, c in palette], float)[rng.choice(len(palette), n, p=weight / weight.sum())]
    return np.asarray(colours + rng.normal(0, spread, (n, 1)) + rng.normal(0, spread / 4, (n, 3)))


_BUILDING: dict[Cover, tuple[tuple[float, str], ...]] = {
    Cover.UV: ((0.62, "yes"), (0.2, "residential"), (0.1, "house"), (0.08, "apartments")),
    Cover.OLD_TOWN: ((0.6, "yes"), (0.25, "house"), (0.15, "residential")),
    Cover.WORKSHOP: ((0.6, "yes"), (0.25, "industrial"), (0.15, "warehouse")),
    Cover.VILLA: ((0.35, "yes"), (0.4, "house"), (0.25, "detached")),
    Cover.SLAB: ((0.4, "yes"), (0.45, "apartments"), (0.15, "residential")),
    Cover.TOWER: ((0.3, "yes"), (0.6, "apartments"), (0.1, "residential")),
    Cover.INDUSTRY: ((0.45, "yes"), (0.4, "industrial"), (0.15, "warehouse")),
    Cover.COMMERCE: ((0.35, "yes"), (0.35, "commercial"), (0.2, "retail"), (0.1, "office")),
}
_LEVELS_SHARE = {Cover.UV: 0.35, Cover.SLAB: 0.55, Cover.TOWER: 0.7, Cover.COMMERCE: 0.5, Cover.VILLA: 0.3}


def building_tags(cover: Cover, height_m: float, drawn: Floats) -> Tags:
    """OSM tags of a building: its kind, and often its number of levels; ``drawn`` are three uniform numbers."""
    kinds = _BUILDING.get(cover, ((1.0, "yes"),))
    k = int(np.searchsorted(np.cumsum([w for w, _ in kinds]), drawn[0], side="right"))
    tags = {"building": kinds[min(k, len(kinds) - 1)][1]}
    if drawn[1] < _LEVELS_SHARE.get(cover, 0.15):
        tags["building:levels"] = str(max(1, round(height_m / 3.1)))
    return tags
