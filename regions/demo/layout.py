"""The plan of a demo city: arterial roads, districts with their roles, and what each superblock holds.

The arterials are the lines of a jittered lattice; a superblock is a cell between them. Everything inside a
superblock is drawn from its own random stream, so that any part of a city can be made without the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import shapely
from numpy.typing import NDArray

from regions.demo.shapes import Floats, Rng
from regions.errors import RegionsError

MIN_SIDE_M, MAX_SIDE_M = 1_000, 50_000
SUPERBLOCK_M = 500
PRIMARY_HALF_M, SECONDARY_HALF_M = 20.0, 14.0


class DemoError(RegionsError):
    """A demo city was asked for that cannot be made."""


class Cover(IntEnum):
    """Land-cover class of a parcel, the scene class of the demo's labels."""

    UV = 0
    SLAB = 1
    TOWER = 2
    VILLA = 3
    INDUSTRY = 4
    COMMERCE = 5
    PARK = 6
    WATER = 7
    BARE = 8
    FARMLAND = 9
    OLD_TOWN = 10
    WORKSHOP = 11

    @property
    def label(self) -> str:
        """The class name as the files write it."""
        return self.name.lower()


class Plan(IntEnum):
    """What a superblock is mostly made of."""

    VILLAGE = 0
    VILLAGE_SMALL = 1
    OLD = 2
    HOUSING = 3
    INDUSTRY = 4
    GREEN = 5
    CENTRE = 6
    FRINGE = 7


# Order in which a district takes its superblocks' plans: the first ones are in every district, so that each has
# urban villages and each has the look-alikes. The second figure is how far from the centre a plan likes to be.
_DECK: tuple[tuple[Plan, float], ...] = (
    (Plan.VILLAGE_SMALL, 0.5),
    (Plan.OLD, 0.1),
    (Plan.INDUSTRY, 0.8),
    (Plan.GREEN, 0.6),
    (Plan.VILLAGE, 0.6),
    (Plan.HOUSING, 0.3),
    (Plan.CENTRE, 0.0),
    (Plan.FRINGE, 1.0),
    (Plan.HOUSING, 0.4),
)

_NAMES = (
    "东湖", "西岭", "南埔", "北桥", "中兴", "河口", "石牌", "龙岗",
    "新田", "沙湾", "白云", "黄村", "荔枝", "大塘", "小洲", "凤凰",
)  # fmt: skip


@dataclass(frozen=True)
class VillagePlan:
    """What is planted of a city's urban villages; the defaults plant nothing.

    Attributes:
        superblocks: Share of the superblocks that hold a village; None as the deck deals them.
        clusters: Places that the villages' superblocks crowd around; 0 spreads them evenly at random.
        storeys_added: Storeys that every house of a village has more, or less where negative; one is left.
    """

    superblocks: float | None = None
    clusters: int = 0
    storeys_added: float = 0.0


@dataclass(frozen=True)
class District:
    """A district of a demo city.

    Attributes:
        index: Number of the district, row by row from the south-west.
        name: Chinese name.
        role: ``train``, ``validation`` or ``assess``.
        has_osm: Whether OpenStreetMap has anything here.
        completeness: Share of the parcels' buildings that OpenStreetMap has.
        geometry: Outline in local metres.
    """

    index: int
    name: str
    role: str
    has_osm: bool
    completeness: float
    geometry: shapely.Polygon


@dataclass(frozen=True)
class Layout:
    """The plan of a city.

    Attributes:
        seed: Seed of everything in it.
        side_m: Side of the square city in metres.
        nodes: Corners of the superblocks (n + 1, n + 1, 2), index [row, column], row 0 in the south.
        plans: Plan of each superblock (n, n).
        district_of: District of each superblock (n, n).
        districts: The districts by index.
        villages: What is planted of its urban villages.
    """

    seed: int
    side_m: int
    nodes: Floats
    plans: NDArray[np.int8]
    district_of: NDArray[np.int16]
    districts: tuple[District, ...]
    villages: VillagePlan = VillagePlan()

    @property
    def n(self) -> int:
        """Superblocks along a side."""
        return int(self.plans.shape[0])

    def quad(self, row: int, col: int) -> Floats:
        """Corners (4, 2) of a superblock on its arterials' centre lines, counter-clockwise from the south-west."""
        p = self.nodes
        return np.array([p[row, col], p[row, col + 1], p[row + 1, col + 1], p[row + 1, col]])

    def half_width_m(self, line: int) -> float:
        """Half the width of the arterial on lattice line ``line``: every third one is primary."""
        return PRIMARY_HALF_M if line % 3 == 1 else SECONDARY_HALF_M

    def stream(self, row: int, col: int, salt: int = 0) -> Rng:
        """The random stream of one superblock."""
        return np.random.default_rng([self.seed, row, col, salt])

    def touching(self, left: float, bottom: float, right: float, top: float) -> list[tuple[int, int]]:
        """Row and column of the superblocks whose bounding box meets a rectangle in local metres."""
        step = self.side_m / self.n
        reach = 0.2 * step
        rows = range(max(0, int((bottom - reach) // step)), min(self.n, int((top + reach) // step) + 1))
        cols = range(max(0, int((left - reach) // step)), min(self.n, int((right + reach) // step) + 1))
        out = []
        for row in rows:
            for col in cols:
                quad = self.quad(row, col)
                (x0, y0), (x1, y1) = quad.min(axis=0), quad.max(axis=0)
                if x0 < right and x1 > left and y0 < top and y1 > bottom:
                    out.append((row, col))
        return out


def make_layout(*, seed: int, side_m: int, villages: VillagePlan | None = None) -> Layout:
    """Draw the plan of a city.

    Args:
        seed: Any non-negative integer.
        side_m: Side in metres, 1,000 to 50,000.
        villages: What is planted of its urban villages; nothing where None.

    Raises:
        DemoError: The side, the seed or the share of superblocks is out of range.
    """
    planted = villages or VillagePlan()
    if not MIN_SIDE_M <= side_m <= MAX_SIDE_M:
        raise DemoError(f"demo city of {side_m} m on a side: choose {MIN_SIDE_M} to {MAX_SIDE_M} m")
    if seed < 0:
        raise DemoError(f"demo city with seed {seed}: choose 0 or more")
    rng = np.random.default_rng([seed, 77])
    n = max(4, round(side_m / SUPERBLOCK_M))
    step = side_m / n
    row, col = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    jitter = rng.uniform(-0.13, 0.13, (n + 1, n + 1, 2)) * step
    jitter[:, [0, n], 0] = 0
    jitter[[0, n], :, 1] = 0
    nodes = np.round(np.stack([col, row], axis=-1) * step + jitter, 2)
    across, up = (2, 3) if n < 6 else (3, 3) if n < 16 else (4, 4)
    band = np.arange(n)
    district_of = ((band * up // n)[:, None] * across + (band * across // n)[None, :]).astype(np.int16)
    plans = _plans(rng, district_of, n)
    if planted.superblocks is not None:
        plans = _replant(plans, planted, seed)
    draft = Layout(seed, side_m, nodes, plans, district_of, (), planted)
    return replace(draft, districts=_districts(rng, draft, across * up))


def _replant(plans: NDArray[np.int8], planted: VillagePlan, seed: int) -> NDArray[np.int8]:
    """Give villages to the planted share of the superblocks, and housing to those that lose theirs."""
    if planted.superblocks is None or not 0 <= planted.superblocks <= 1:
        raise DemoError(f"demo city with villages in {planted.superblocks} of its superblocks: choose 0 to 1")
    rng = np.random.default_rng([seed, 78])
    n = plans.shape[0]
    liking = rng.random(plans.size)
    if planted.clusters:
        row, col = (np.indices(plans.shape).reshape(2, -1) + 0.5).astype(float)
        middles = rng.uniform(0, n, (planted.clusters, 2))
        liking = np.hypot(row[:, None] - middles[:, 0], col[:, None] - middles[:, 1]).min(axis=1) + 0.5 * liking
    chosen = np.argsort(liking, kind="stable")[: round(planted.superblocks * plans.size)]
    out = np.where(np.isin(plans, (int(Plan.VILLAGE), int(Plan.VILLAGE_SMALL))), int(Plan.HOUSING), plans).ravel()
    out[chosen] = rng.choice([int(Plan.VILLAGE), int(Plan.VILLAGE_SMALL)], len(chosen))
    return np.asarray(out.reshape(plans.shape), dtype=np.int8)


def _plans(rng: Rng, district_of: NDArray[np.int16], n: int) -> NDArray[np.int8]:
    """Deal the deck out in each district, central plans towards the city's centre."""
    middle = (n - 1) / 2
    row, col = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    far = np.hypot(row - middle, col - middle) / max(middle, 1) + rng.normal(0, 0.35, (n, n))
    plans = np.zeros((n, n), np.int8)
    for district in range(int(district_of.max()) + 1):
        cells = np.flatnonzero(district_of == district)
        deck = [_DECK[k % len(_DECK)] for k in range(len(cells))]
        outward = sorted(deck, key=lambda card: card[1] + rng.normal(0, 0.25))
        order = cells[np.argsort(far.ravel()[cells], kind="stable")]
        plans.ravel()[order] = [int(card[0]) for card in outward]
    return plans


def _districts(rng: Rng, layout: Layout, count: int) -> tuple[District, ...]:
    train, validation = count // 2, 1 if count < 12 else 2
    roles = np.array(["train"] * train + ["validation"] * validation + ["assess"] * (count - train - validation))
    roles = rng.permutation(roles)
    bare = int(rng.choice(np.flatnonzero(roles == "assess")))
    completeness = rng.permutation(np.linspace(0.62, 0.98, count))
    names = rng.permutation(np.array(_NAMES))
    out = []
    for k in range(count):
        cells = [layout.quad(r, c) for r, c in np.argwhere(layout.district_of == k)]
        outline = shapely.union_all(shapely.polygons(np.array(cells)))
        share = 0.0 if k == bare else round(float(completeness[k]), 3)
        out.append(District(k, f"{names[k % len(names)]}区", str(roles[k]), k != bare, share, outline))
    return tuple(out)
