"""Several demo cities at once: a small nation of files, and a cheap one of truth and map rasters only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from regions.demo.block import make_block
from regions.demo.city import DemoCity, Part, Progress, generate_demo_city
from regions.demo.frame import DEFAULT_CENTER_LONLAT, LOCAL_CRS
from regions.demo.layout import DemoError, Layout, Plan, make_layout
from regions.demo.shapes import smooth_noise
from regions.raster.burn import burn, burn_values
from regions.raster.grid import Grid

_LOOKALIKE = {int(Plan.OLD): 0.35, int(Plan.INDUSTRY): 0.25, int(Plan.VILLAGE): 0.3, int(Plan.VILLAGE_SMALL): 0.3}


def generate_demo_nation(
    root: Path,
    *,
    adcodes: Sequence[str] = ("990001", "990002", "990003"),
    centers_lonlat: Mapping[str, tuple[float, float]] | None = None,
    crs: Mapping[str, str] | None = None,
    side_m: int = 1500,
    seed: int = 1,
    parts: tuple[Part, ...] = ("vectors", "imagery"),
    progress: Progress | None = None,
) -> tuple[DemoCity, ...]:
    """Make small demo cities, each in ``root/adcode`` with a seed of its own.

    Args:
        root: Data root.
        adcodes: The cities' codes; by default three that belong to no real place.
        centers_lonlat: Middle of each city by adcode; by default they stand half a degree apart from west to east.
        crs: Projected CRS of each city by adcode; by default the UTM zone.
        side_m: Side of every city in metres.
        seed: Seed of the first city; the next ones count up from it.
        parts: What to write of each, as in :func:`generate_demo_city`.
        progress: Called with (adcode and what, done, of how many).

    Raises:
        DemoError: No city was asked for, or an adcode twice, or a city cannot be made.
    """
    codes = list(adcodes)
    if not codes or len(set(codes)) != len(codes):
        raise DemoError(f"demo nation of the cities {codes}: give at least one adcode, each once")
    lon, lat = DEFAULT_CENTER_LONLAT
    return tuple(
        generate_demo_city(
            root / code,
            seed=seed + k,
            side_m=side_m,
            adcode=code,
            center_lonlat=(centers_lonlat or {}).get(code, (lon + 0.5 * k, lat)),
            crs=(crs or {}).get(code),
            parts=parts,
            progress=_prefix(progress, code),
        )
        for k, code in enumerate(codes)
    )


def _prefix(progress: Progress | None, code: str) -> Progress | None:
    return None if progress is None else lambda what, done, total: progress(f"{code} {what}", done, total)


@dataclass(frozen=True)
class TruthAndMap:
    """A city's truth and an imperfect map of it, without any image.

    Attributes:
        truth: True urban village (H, W) bool, north up.
        mapped: Mapped urban village (H, W) bool.
        district: District number of each pixel (H, W) int16.
        resolution_m: Side of a pixel.
        tp: Pixels in both.
        fp: Pixels mapped but not true.
        fn: Pixels true but not mapped.
        tn: Pixels in neither.
    """

    truth: NDArray[np.bool_]
    mapped: NDArray[np.bool_]
    district: NDArray[np.int16]
    resolution_m: float
    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def iou(self) -> float:
        """Intersection over union of the whole city, by census."""
        return self.tp / max(1, self.tp + self.fp + self.fn)


def demo_truth_and_map(
    seed: int,
    side_m: int,
    *,
    resolution_m: float = 10.0,
    omission: float = 0.15,
    commission: float = 0.2,
) -> TruthAndMap:
    """Truth and an imperfect map with known error rates, in a second or so.

    Errors come in patches: what is missed lies together and along edges, what is invented lies by preference about
    villages and in the superblocks of their look-alikes.

    Args:
        seed: Seed of the city.
        side_m: Side of the city, 1,000 to 50,000 m; a multiple of the resolution.
        resolution_m: Side of a pixel.
        omission: Share of the true pixels that the map misses, 0 to 1 (1 - recall), met to the pixel.
        commission: Share of the mapped pixels that are not true, 0 to less than 1 (1 - precision), met to the pixel
            as long as the city has that many other pixels.

    Raises:
        DemoError: The rates or the resolution are not possible.
    """
    if not (0 <= omission <= 1 and 0 <= commission < 1):
        raise DemoError(f"demo map: omission {omission} must lie in [0, 1] and commission {commission} in [0, 1)")
    n = round(side_m / resolution_m)
    if n < 1 or abs(n * resolution_m - side_m) > 1e-6 * side_m:
        raise DemoError(f"demo map: a side of {side_m} m is no multiple of {resolution_m} m; choose a divisor")
    layout = make_layout(seed=seed, side_m=side_m)
    truth, district, bonus = _burn_layers(layout, n, resolution_m)
    noise = np.zeros((n, n), np.float32)
    for salt, patch_m, weight in ((101, 220, 1.2), (102, 60, 0.8), (103, 2 * resolution_m, 0.2)):
        cell = max(2, round(patch_m / resolution_m))
        noise += weight * smooth_noise(seed + salt, col=0, row=0, width=n, height=n, cell_px=cell)
    edge = _near(truth, max(1, round(20 / resolution_m)))
    mapped = truth.copy()
    missed = round(omission * int(truth.sum()))
    _flip(mapped, truth, noise + 0.4 * _near(~truth, max(1, round(20 / resolution_m))), missed)
    tp = int(mapped.sum())
    invented = min(round(commission / (1 - commission) * tp), int((~truth).sum()))
    _flip(mapped, ~truth, 1.3 - noise + bonus + 0.5 * edge, invented)
    fp = int((mapped & ~truth).sum())
    fn = int((truth & ~mapped).sum())
    return TruthAndMap(truth, mapped, district, resolution_m, tp, fp, fn, n * n - tp - fp - fn)


def _burn_layers(
    layout: Layout, n: int, resolution_m: float
) -> tuple[NDArray[np.bool_], NDArray[np.int16], NDArray[np.float32]]:
    """Truth, district and look-alike bonus of every pixel; draws only the superblocks that hold villages."""
    grid = Grid(LOCAL_CRS, resolution_m, 0, -n, n, n)
    villages = [
        polygon
        for row, col in np.argwhere(np.isin(layout.plans, (int(Plan.VILLAGE), int(Plan.VILLAGE_SMALL))))
        for polygon in make_block(layout, int(row), int(col)).villages
    ]
    districts = layout.districts
    district = burn_values([d.geometry for d in districts], [d.index for d in districts], grid, dtype="int16", fill=-1)
    alike = [(row, col) for (row, col), plan in np.ndenumerate(layout.plans) if int(plan) in _LOOKALIKE]
    quads = [shapely.Polygon(layout.quad(row, col)) for row, col in alike]
    bonus = burn_values(quads, [_LOOKALIKE[int(layout.plans[at])] for at in alike], grid, dtype="float32")
    return burn(villages, grid), district, bonus


def _near(mask: NDArray[np.bool_], reach_px: int) -> NDArray[np.bool_]:
    """Pixels within ``reach_px`` rows and columns of a mask."""
    out = mask.copy()
    for axis in (0, 1):
        grown = out.copy()
        for k in range(1, reach_px + 1):
            ahead, behind = np.roll(out, k, axis), np.roll(out, -k, axis)
            np.moveaxis(ahead, axis, 0)[:k] = False
            np.moveaxis(behind, axis, 0)[-k:] = False
            grown |= ahead | behind
        out = grown
    return out


def _flip(mapped: NDArray[np.bool_], among: NDArray[np.bool_], liking: NDArray[np.float32], count: int) -> None:
    """Flip the ``count`` pixels of ``among`` with the highest liking; ties go by position."""
    at = np.flatnonzero(among)
    order = np.argsort(-liking.ravel()[at], kind="stable")[:count]
    mapped.ravel()[at[order]] ^= True
