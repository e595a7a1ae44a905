"""How far map features lie from where the imagery shows them: the tell-tale of a datum that was not declared.

The edges of buildings and roads are drawn on a coarse raster and compared with the gradient of the image at every
shift within reach, by masked normalised cross-correlation (Padfield 2012, doi:10.1109/TIP.2011.2181402) in many
windows. The mean over all windows has one clear peak where the two fit; each window's own best place near it gives
the spread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import pyproj
import shapely
from affine import Affine
from numpy.typing import NDArray
from scipy import fft, ndimage

from regions.datum import Datum, from_wgs84
from regions.raster.burn import burn_into
from regions.raster.grid import Grid, Window

Read = Callable[[Window], tuple[NDArray[np.uint8], NDArray[np.bool_]]]
CELL_M = 3.0
"""Pixels of the comparison: fine enough for a house, coarse enough for a city. On ground that is narrower than a window
they are finer, down to the imagery's own."""
WINDOW_CELLS = 256
SEARCH_M = 800.0
MOST_WINDOWS = 36
LEAST_OVERLAP = 0.5
"""A shift counts where this share of a window still lies on imagery."""
SURE = 7.0
"""Peaks this many standard deviations above the surface are no chance (`docs/vectors_sources.md`)."""
WARN_M = 25.0
"""Smaller offsets are those of hasty drawing and of leaning houses."""
_LIKE_A_DATUM_M = 60.0
_LEAST_DRAWN = 0.003
_LEAST_KNOWN = 0.05
_LEAST_VARIANCE = 1e-2
_LEAST_DEVIATION = 1e-4
_LEAST_AGREEING = 0.3

Cause = Literal["vectors in gcj02", "imagery in gcj02", "vectors in bd09", "imagery in bd09"]


@dataclass(frozen=True)
class Offset:
    """Where the features of the map lie, seen from the imagery.

    Attributes:
        east_m: How far east of the imagery the features lie, on the grid.
        north_m: How far north.
        spread_m: Median distance of the windows' own offsets from this one; NaN with fewer than 3 windows.
        peak: Height of the peak, in standard deviations of the surface around it.
        windows: Windows compared.
        agreeing: Share of them whose own offset lies within 15 m.
        cause: The datum that explains an offset, and on which side; None where none does.
    """

    east_m: float
    north_m: float
    spread_m: float
    peak: float
    windows: int
    agreeing: float
    cause: Cause | None = None

    @property
    def distance_m(self) -> float:
        """Length of the offset."""
        return float(np.hypot(self.east_m, self.north_m))

    @property
    def is_sure(self) -> bool:
        """Whether the peak is no chance: it is high, and windows agree on it."""
        return self.peak >= SURE and (self.windows < 3 or self.agreeing >= _LEAST_AGREEING)

    @property
    def warning(self) -> str | None:
        """What the user must know; None where the map fits the imagery or nothing sure can be said."""
        if not self.is_sure or self.distance_m < WARN_M:
            return None
        text = (
            f"the map lies {self.distance_m:.0f} m off the imagery ({self.east_m:+.0f} m east, {self.north_m:+.0f} m"
            f" north, {self.windows} windows, spread {self.spread_m:.0f} m)"
        )
        if self.cause is None:
            return f"{text}: check the CRS and the date of both"
        side, _, datum = self.cause.partition(" in ")
        return f"{text}: that is the shift of {datum} at this place; declare `datum: {datum}` for the {side}"

    def record(self) -> dict[str, Any]:
        """For JSON."""
        found = {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in asdict(self).items()}
        return found | {"distance_m": self.distance_m, "is_sure": self.is_sure, "warning": self.warning}


def estimate_offset(
    read: Read, grid: Grid, features: gpd.GeoDataFrame, *, search_m: float = SEARCH_M, most_windows: int = MOST_WINDOWS
) -> Offset | None:
    """The offset between imagery and map features of a city.

    Args:
        read: Reader of the imagery on ``grid``: pixels uint8 (bands, H, W) and valid bool (H, W) of any window.
        grid: The city's grid.
        features: Features in the grid's CRS with canonical `tags`; buildings and roads are used.
        search_m: Offsets up to this many metres along either axis are found.
        most_windows: Windows compared at most: those with most edges, so the cost does not grow with the city.

    Returns:
        The offset, or None where there are too few buildings and roads on the imagery to say anything.
    """
    ground_m = min(grid.height_px, grid.width_px) * grid.resolution_m
    factor = max(1, round(min(CELL_M, ground_m / WINDOW_CELLS) / grid.resolution_m))
    cell_m = factor * grid.resolution_m
    lines = _edges_of(features)
    if not len(lines):
        return None
    tree = shapely.STRtree(lines)
    side_px = min(WINDOW_CELLS, grid.height_px // factor, grid.width_px // factor) * factor
    reach = int(search_m / cell_m)
    surfaces = []
    for window in _windows(grid, side_px, tree, most_windows):
        template = _template(grid, window, lines[tree.query(_box(grid, window))], factor)
        if template is None:
            continue
        edges, there = _gradient(*read(window.padded(reach * factor)), factor)
        if there.mean() >= _LEAST_KNOWN:
            surfaces.append(_masked_correlation(template, edges, there))
    if not surfaces:
        return None
    return _judged(np.stack(surfaces), cell_m, reach, grid)


def _edges_of(features: gpd.GeoDataFrame) -> NDArray[np.object_]:
    """Outlines of buildings and both sides of roads (m,)."""
    tags = features["tags"].astype(str)
    shapes = features.geometry.to_numpy()
    is_area = np.isin(shapely.get_type_id(shapes), (3, 6))
    buildings = shapes[(tags.str.contains('"building":', regex=False) & is_area).to_numpy()]
    roads = shapes[(tags.str.contains('"highway":', regex=False) & ~is_area).to_numpy()]
    roads = roads[shapely.length(roads) > 0]
    sides = shapely.boundary(shapely.buffer(roads, 4.0, quad_segs=2, cap_style="flat"))
    return np.concatenate([shapely.boundary(buildings), sides])


def _box(grid: Grid, window: Window) -> shapely.Geometry:
    return shapely.box(*grid.window_bounds_m(window))


def _windows(grid: Grid, side_px: int, tree: shapely.STRtree, most: int) -> list[Window]:
    """The windows of a regular division with most edges in them, in the order of the division."""
    found: list[tuple[float, Window]] = []
    for row in range(0, grid.height_px - side_px + 1, side_px):
        for col in range(0, grid.width_px - side_px + 1, side_px):
            window = Window(row, col, side_px, side_px)
            found.append((float(len(tree.query(_box(grid, window)))), window))
    found = [f for f in sorted(found, key=lambda f: -f[0])[:most] if f[0] >= 5]
    return [w for _, w in sorted(found, key=lambda f: (f[1].row_px, f[1].col_px))]


def _template(grid: Grid, window: Window, lines: NDArray[np.object_], factor: int) -> NDArray[np.float32] | None:
    """The edges of a window on cells (h, w), broad differences taken away; None where there are too few."""
    shape = (window.height_px // factor, window.width_px // factor)
    transform = grid[window].affine @ Affine.scale(factor)
    drawn = burn_into(lines, transform, shape, all_touched=True)
    if drawn.mean() < _LEAST_DRAWN:
        return None
    template = ndimage.gaussian_filter(drawn.astype(np.float32), 1.0)
    return np.asarray(template - ndimage.gaussian_filter(template, 8.0), np.float32)


def _gradient(
    pixels: NDArray[np.uint8], valid: NDArray[np.bool_], factor: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Strength of edges on cells, evened out over the image, and 1 where it is known (h, w)."""
    bands, height, width = pixels.shape
    rows, cols = height // factor, width // factor
    grey = pixels[:, : rows * factor, : cols * factor].reshape(bands, rows, factor, cols, factor)
    light = grey.mean(axis=(0, 2, 4), dtype=np.float32)
    whole = valid[: rows * factor, : cols * factor].reshape(rows, factor, cols, factor).all(axis=(1, 3))
    light = ndimage.gaussian_filter(light, 0.7)
    edges = np.hypot(ndimage.sobel(light, 0), ndimage.sobel(light, 1))
    there = ndimage.binary_erosion(whole, iterations=3, border_value=0)
    edges = np.where(there, edges, 0.0).astype(np.float32)
    around = ndimage.gaussian_filter(edges, 12.0) / np.maximum(
        ndimage.gaussian_filter(there.astype(np.float32), 12.0), 1e-3
    )
    evened = np.minimum(edges / (around + 1.0), 4.0)  # one bright roof must not outweigh a quarter
    mean = evened[there].mean() if there.any() else 0.0
    return np.where(there, evened - mean, 0.0).astype(np.float32), there.astype(np.float32)


def _masked_correlation(
    template: NDArray[np.float32], edges: NDArray[np.float32], there: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Correlation of the template with the known pixels under it at every place; NaN where too few are known."""
    side = template.shape[0]
    shape = [fft.next_fast_len(n, real=True) for n in edges.shape]
    ones = np.ones_like(template)
    places = (slice(0, edges.shape[0] - side + 1), slice(0, edges.shape[1] - side + 1))

    def sums(weights: NDArray[np.float32], of: NDArray[np.complex64]) -> NDArray[np.float32]:
        spectrum = np.conj(fft.rfft2(weights, shape))
        return np.asarray(fft.irfft2(of * spectrum, shape)[places], np.float32)

    of_edges, of_squares, of_there = (fft.rfft2(a, shape) for a in (edges, edges**2, there))
    count = np.maximum(sums(ones, of_there), 1.0)
    mean_e, mean_t = sums(ones, of_edges) / count, sums(template, of_there) / count
    covariance = sums(template, of_edges) / count - mean_e * mean_t
    var_e = np.maximum(
        sums(ones, of_squares) / count - mean_e**2, _LEAST_VARIANCE
    )  # of blank ground, which fits nothing
    var_t = np.maximum(sums(template**2, of_there) / count - mean_t**2, 1e-9)
    result = covariance / np.sqrt(var_e * var_t)
    return np.where(count >= LEAST_OVERLAP * side**2, result, np.nan).astype(np.float32)


def _judged(surfaces: NDArray[np.float32], cell_m: float, reach: int, grid: Grid) -> Offset | None:
    """The peak of the mean surface, how clear it is, and how the windows agree."""
    known = np.isfinite(surfaces)
    count = known.sum(axis=0)
    total = np.where(known, surfaces, 0.0).sum(axis=0)
    mean = np.where(count > 0, total / np.sqrt(np.maximum(count, 1)), np.nan)  # noise is even where fewer windows count
    if not np.isfinite(mean).any():
        return None
    peak = np.unravel_index(int(np.nanargmax(mean)), mean.shape)
    rows, cols = np.indices(mean.shape)
    far = (np.hypot(rows - peak[0], cols - peak[1]) > 30.0 / cell_m) & np.isfinite(mean)
    if far.sum() < 100 or float(mean[far].std()) < _LEAST_DEVIATION:
        return None
    height = (float(mean[peak]) - float(mean[far].mean())) / float(mean[far].std())
    row, col = _finer(mean, peak)
    own = [_finer(s, at) for s in surfaces if (at := _near(s, peak, 45.0 / cell_m)) is not None]
    apart = np.array([np.hypot(r - row, c - col) * cell_m for r, c in own])
    # the template fits the image moved by (row, col): so the map lies the other way
    east, north = -(col - reach) * cell_m, (row - reach) * cell_m
    spread = float(np.median(apart)) if len(apart) >= 3 else float("nan")
    agreeing = float((apart <= 15.0).mean()) if len(apart) else 0.0
    return Offset(east, north, spread, height, len(surfaces), agreeing, _cause(east, north, grid))


def _near(surface: NDArray[np.float32], peak: tuple[Any, ...], reach: float) -> tuple[Any, ...] | None:
    """The highest place of a surface within reach of a peak."""
    low = [max(int(p - reach), 0) for p in peak]
    part = surface[low[0] : int(peak[0] + reach) + 1, low[1] : int(peak[1] + reach) + 1]
    if not np.isfinite(part).any():
        return None
    found = np.unravel_index(int(np.nanargmax(part)), part.shape)
    return found[0] + low[0], found[1] + low[1]


def _finer(surface: NDArray[np.float32], peak: tuple[Any, ...]) -> tuple[float, float]:
    """A peak to a fraction of a cell: the tops of parabolas through its neighbours."""
    place = []
    for axis in (0, 1):
        line = surface[:, peak[1]] if axis == 0 else surface[peak[0], :]
        at = int(peak[axis])
        shift = 0.0
        if 0 < at < len(line) - 1 and np.isfinite(line[at - 1 : at + 2]).all():
            before, top, after = (float(v) for v in line[at - 1 : at + 2])
            bend = before - 2 * top + after
            shift = 0.5 * (before - after) / bend if bend < 0 else 0.0
        place.append(at + float(np.clip(shift, -0.5, 0.5)))
    return place[0], place[1]


def _cause(east_m: float, north_m: float, grid: Grid) -> Cause | None:
    """The datum whose shift at the middle of the grid is this offset, and which side is in it."""
    left, bottom, right, top = grid.bounds_m
    x, y = (left + right) / 2, (bottom + top) / 2
    to_degrees = pyproj.Transformer.from_crs(grid.crs, "OGC:CRS84", always_xy=True)
    lonlat = to_degrees.transform(x, y)
    datums: tuple[Datum, ...] = ("gcj02", "bd09")
    causes: dict[Cause, float] = {}
    for datum in datums:
        shifted = to_degrees.transform(*from_wgs84(*lonlat, datum), direction="INVERSE")
        by_x, by_y = float(shifted[0]) - x, float(shifted[1]) - y
        if np.hypot(by_x, by_y) > _LIKE_A_DATUM_M:
            causes[f"vectors in {datum}"] = float(np.hypot(east_m - by_x, north_m - by_y))  # type: ignore[index]
            causes[f"imagery in {datum}"] = float(np.hypot(east_m + by_x, north_m + by_y))  # type: ignore[index]
    best = min(causes, key=lambda c: causes[c], default=None)
    return best if best is not None and causes[best] < _LIKE_A_DATUM_M else None
