"""Small vectorised geometry for drawing a city: quads, insets, wobbly outlines, smooth noise.

All coordinates are metres in the city's local frame: x to the east, y to the north, origin at the city's lower
left corner. A quad is a float64 array (4, 2), counter-clockwise; many quads are (n, 4, 2); a ring is (k, 2), not
closed.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rng = np.random.Generator

_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def bilinear(quad: Floats, u: Floats | float, v: Floats | float) -> Floats:
    """Points (..., 2) of a quad at the unit-square coordinates ``u`` (along side 0-1) and ``v`` (along 0-3)."""
    u_, v_ = np.asarray(u, float)[..., None], np.asarray(v, float)[..., None]
    lower = quad[0] * (1 - u_) + quad[1] * u_
    upper = quad[3] * (1 - u_) + quad[2] * u_
    return np.asarray(lower * (1 - v_) + upper * v_)


def sub_quad(quad: Floats, u0: float, u1: float, v0: float, v1: float) -> Floats:
    """The part of a quad between two pairs of unit-square coordinates; its sides stay straight lines."""
    return bilinear(quad, np.array([u0, u1, u1, u0]), np.array([v0, v0, v1, v1]))


def inset_quad(quad: Floats, margins_m: Floats | list[float] | float) -> Floats:
    """Move each side k (from corner k to k + 1) of a convex quad inwards by ``margins_m[k]``.

    Returns:
        The smaller quad; where the margins leave nothing, its corners come out in the wrong order, which
        :func:`area` shows by a value that is not positive.
    """
    d = np.broadcast_to(np.asarray(margins_m, float), (4,))
    along = np.roll(quad, -1, axis=0) - quad
    along = along / np.linalg.norm(along, axis=1, keepdims=True)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
    base = quad + normal * d[:, None]
    out = np.empty((4, 2))
    for k in range(4):
        p, r = base[k - 1], along[k - 1]
        q, s = base[k], along[k]
        cross = r[0] * s[1] - r[1] * s[0]
        t = ((q[0] - p[0]) * s[1] - (q[1] - p[1]) * s[0]) / cross
        out[k] = p + r * t
    return out


def area(ring: Floats) -> float:
    """Signed area in square metres of a ring, positive when counter-clockwise."""
    x, y = ring[:, 0], ring[:, 1]
    return float(0.5 * np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def sides(quad: Floats) -> tuple[float, float]:
    """Mean lengths in metres of a quad's two directions: along side 0, along side 3."""
    return (
        float(np.linalg.norm(quad[1] - quad[0]) + np.linalg.norm(quad[2] - quad[3])) / 2,
        float(np.linalg.norm(quad[3] - quad[0]) + np.linalg.norm(quad[2] - quad[1])) / 2,
    )


def direction(quad: Floats) -> float:
    """Angle in radians of a quad's side 0 from the x axis."""
    d = (quad[1] - quad[0]) + (quad[2] - quad[3])
    return float(np.arctan2(d[1], d[0]))


def rotate(points: Floats, angle: float | Floats, centre: Floats) -> Floats:
    """Points (..., 2) turned by ``angle`` radians about the origin, then moved by ``centre``."""
    c, s = np.cos(angle), np.sin(angle)
    x, y = points[..., 0], points[..., 1]
    return np.stack([x * c - y * s, x * s + y * c], axis=-1) + centre


def boxes(centres: Floats, widths_m: Floats | float, depths_m: Floats | float, angles: Floats | float) -> Floats:
    """Rectangles (n, 4, 2) about ``centres`` (n, 2)."""
    n = len(centres)
    w, d, a = (np.broadcast_to(np.asarray(v, float), (n,)) for v in (widths_m, depths_m, angles))
    x = np.stack([-w, w, w, -w], axis=1) / 2
    y = np.stack([-d, -d, d, d], axis=1) / 2
    return rotate(np.stack([x, y], axis=-1), a[:, None], centres[:, None, :])


def lattice_in(
    quad: Floats,
    pitch_u_m: float,
    pitch_v_m: float,
    *,
    angle: float | None = None,
    fit_m: tuple[float, float] | None = None,
) -> Floats:
    """Centres (rows, columns, 2) of a regular lattice over a quad, in its own direction or at ``angle``.

    It reaches past the quad on all sides: the caller drops what is outside. With ``fit_m``, width and depth of a
    box, the lattice is shifted so that most boxes lie within the quad.
    """
    angle = direction(quad) if angle is None else angle
    centre = quad.mean(axis=0)
    local = rotate(quad - centre, -angle, np.zeros(2))
    (x0, y0), (x1, y1) = local.min(axis=0), local.max(axis=0)
    nu, nv = int(np.ceil((x1 - x0) / pitch_u_m)) + 1, int(np.ceil((y1 - y0) / pitch_v_m)) + 1
    u = (np.arange(nu) - (nu - 1) / 2) * pitch_u_m + (x0 + x1) / 2
    v = (np.arange(nv) - (nv - 1) / 2) * pitch_v_m + (y0 + y1) / 2
    grid = np.stack(np.meshgrid(u, v), axis=-1)
    if fit_m is not None:
        grid = grid + _best_shift(local, grid, np.array([pitch_u_m, pitch_v_m]), fit_m)
    return rotate(grid, angle, centre)


def _best_shift(region: Floats, grid: Floats, pitch: Floats, fit_m: tuple[float, float]) -> Floats:
    """Of 5 x 5 shifts within one pitch, the one (2,) that puts most boxes inside a convex quad (4, 2)."""
    steps = (np.arange(5) - 2) / 5
    shifts = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2) * pitch
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2 * np.array(fit_m)
    points = (grid.reshape(1, -1, 1, 2) + shifts[:, None, None, :]) + corners
    inside = np.ones(points.shape[:-1], bool)
    for k in range(4):
        a, b = region[k], region[(k + 1) % 4]
        inside &= (b[0] - a[0]) * (points[..., 1] - a[1]) - (b[1] - a[1]) * (points[..., 0] - a[0]) >= 0
    return np.asarray(shifts[inside.all(axis=-1).sum(axis=1).argmax()])


def all_inside(ring: Floats | shapely.Polygon, quads: Floats) -> NDArray[np.bool_]:
    """Which quads (n, 4, 2) have all corners within a polygon."""
    polygon = ring if isinstance(ring, shapely.Polygon) else shapely.Polygon(ring)
    shapely.prepare(polygon)
    hit = shapely.contains_xy(polygon, quads[..., 0].ravel(), quads[..., 1].ravel())
    return np.asarray(hit.reshape(quads.shape[:-1]).all(axis=-1))


def points_inside(ring: Floats | shapely.Polygon, points: Floats) -> NDArray[np.bool_]:
    """Which points (n, 2) lie within a polygon."""
    polygon = ring if isinstance(ring, shapely.Polygon) else shapely.Polygon(ring)
    shapely.prepare(polygon)
    return np.asarray(shapely.contains_xy(polygon, points[:, 0], points[:, 1]))


def wobbly_ring(quad: Floats, rng: Rng, *, depth_m: float, step_m: float = 8.0) -> Floats:
    """A closed outline inside a quad: its boundary pushed inwards by a smooth random depth, 0 to ``depth_m``."""
    closed = np.vstack([quad, quad[:1]])
    lengths = np.linalg.norm(np.diff(closed, axis=0), axis=1)
    n = max(16, int(lengths.sum() / step_m))
    s = np.linspace(0, lengths.sum(), n, endpoint=False)
    at = np.concatenate([[0.0], np.cumsum(lengths)])
    ring = np.stack([np.interp(s, at, closed[:, k]) for k in (0, 1)], axis=1)
    phase = s / lengths.sum() * 2 * np.pi
    waves = np.arange(2, 12)
    amplitude = rng.normal(size=len(waves)) / np.sqrt(waves)
    noise = (amplitude[:, None] * np.sin(waves[:, None] * phase + rng.uniform(0, 2 * np.pi, (len(waves), 1)))).sum(0)
    noise = (noise - noise.min()) / (np.ptp(noise) + 1e-9)
    inward = quad.mean(axis=0) - ring
    distance = np.linalg.norm(inward, axis=1, keepdims=True)
    return np.asarray(ring + inward / distance * (noise * depth_m)[:, None])


def scatter(quad: Floats, rng: Rng, *, per_m2: float) -> Floats:
    """Uniform random points (n, 2) in a quad, ``per_m2`` of them to the square metre."""
    n = rng.poisson(max(0.0, area(quad)) * per_m2)
    return bilinear(quad, rng.random(n), rng.random(n))


def along(line: Floats, pitch_m: float) -> Floats:
    """Points (n, 2) every ``pitch_m`` along a polyline (k, 2)."""
    lengths = np.linalg.norm(np.diff(line, axis=0), axis=1)
    at = np.concatenate([[0.0], np.cumsum(lengths)])
    s = np.arange(pitch_m / 2, at[-1], pitch_m)
    return np.stack([np.interp(s, at, line[:, k]) for k in (0, 1)], axis=1)


def hashed(seed: int, x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.float32]:
    """Uniform numbers in [0, 1) that depend on ``seed`` and two integers only (splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = x.astype(np.uint64) * _MIX[1] + y.astype(np.uint64) * _MIX[2] + np.uint64(seed % 2**63) * _MIX[0]
        for shift, factor in ((30, _MIX[1]), (27, _MIX[2])):
            z = (z ^ (z >> np.uint64(shift))) * factor
        z ^= z >> np.uint64(31)
    return ((z >> np.uint64(40)).astype(np.float32)) / np.float32(2**24)


def smooth_noise(seed: int, *, col: int, row: int, width: int, height: int, cell_px: int) -> NDArray[np.float32]:
    """A smooth random field (height, width), values 0 to 1, of a window that starts at ``row``, ``col``.

    Value noise with features of ``cell_px``: two windows agree where they overlap.
    """
    first_c, first_r = col // cell_px, row // cell_px
    nc, nr = (col + width - 1) // cell_px - first_c + 2, (row + height - 1) // cell_px - first_r + 2
    c, r = np.meshgrid(np.arange(first_c, first_c + nc), np.arange(first_r, first_r + nr))
    values = hashed(seed, c, r)
    k, t = _knots(row, height, cell_px, first_r)
    by_row = values[k] + (values[k + 1] - values[k]) * t[:, None]
    k, t = _knots(col, width, cell_px, first_c)
    return by_row[:, k] + (by_row[:, k + 1] - by_row[:, k]) * t


def _knots(start: int, n: int, cell_px: int, first: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Knot before each of ``n`` pixels and the smoothstep 3t² - 2t³ towards the next one."""
    position = (np.arange(start, start + n) + 0.5) / cell_px - first
    k = np.floor(position).astype(np.int64)
    t = position - k
    return k, (t * t * (3 - 2 * t)).astype(np.float32)


def clipped(line: Floats, region: Floats | shapely.Polygon, *, longer_than_m: float = 30.0) -> list[Floats]:
    """The pieces (k, 2) of a polyline within a polygon that are longer than ``longer_than_m``."""
    if len(line) < 2:
        return []
    polygon = region if isinstance(region, shapely.Polygon) else shapely.Polygon(region)
    inner = shapely.LineString(line).intersection(polygon)
    pieces = getattr(inner, "geoms", [inner])
    return [np.asarray(shapely.get_coordinates(p)) for p in pieces if p.length > longer_than_m]
