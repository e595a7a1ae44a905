"""GCJ-02 and BD-09, the obfuscated datums of Chinese map services.

GCJ-02 is WGS84 shifted by 50 to 700 m with a smooth function; BD-09 (Baidu) turns and stretches GCJ-02 once more.
Neither is published by its makers: the functions are those that public implementations agree on to the last digit
(eviltransform, coordtransform). Their inverses are found by iteration, to well under a millimetre of the functions
themselves; how well the functions meet the services' own is about a metre.

The services do not shift Hong Kong and Macau, nor what lies outside the box that public implementations use.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Points = tuple[NDArray[np.float64], NDArray[np.float64]]

_AXIS_M = 6378245.0  # semi-major axis of the Krasovsky ellipsoid, as GCJ-02 uses it
_ECCENTRICITY_2 = 0.00669342162296594323
_BD_PI = np.pi * 3000.0 / 180.0
_BOX = (72.004, 0.8293, 137.8347, 55.8271)
"""West, south, east, north: outside of it no point is shifted (eviltransform's rule)."""
_CONVERGED_DEG = 1e-10
"""About 0.01 mm."""
_MOST_ITERATIONS = 30

_UNSHIFTED = (
    # Hong Kong: the Shenzhen River and the two bays, then the sea
    ((113.82, 22.13), (114.51, 22.13), (114.51, 22.42), (114.46, 22.45), (114.44, 22.5585),
     (114.32, 22.5585), (114.2485, 22.5565), (114.2275, 22.546), (114.2225, 22.5515), (114.195, 22.557),
     (114.182, 22.5555), (114.1785, 22.561), (114.1685, 22.5622), (114.1565, 22.5515), (114.1485, 22.542),
     (114.132, 22.541), (114.116, 22.5345), (114.111, 22.5305), (114.096, 22.534), (114.0935, 22.5245),
     (114.0795, 22.516), (114.0735, 22.5195), (114.056, 22.5125), (114.0505, 22.5045), (114.03, 22.501),
     (113.985, 22.488), (113.945, 22.458), (113.87, 22.42), (113.82, 22.26)),
    # Macau with Taipa, Coloane and the campus on Hengqin
    ((113.534, 22.2125), (113.5385, 22.212), (113.5485, 22.2168), (113.557, 22.2145), (113.58, 22.2165),
     (113.61, 22.2), (113.61, 22.1), (113.548, 22.1), (113.548, 22.12), (113.543, 22.124), (113.54, 22.134),
     (113.5395, 22.144), (113.5365, 22.152), (113.536, 22.17), (113.5335, 22.195)),
)  # fmt: skip
"""Outlines (lon, lat) of ground inside the box that is not shifted, drawn to a few hundred metres."""


def is_shifted(lon: ArrayLike, lat: ArrayLike) -> NDArray[np.bool_]:
    """Whether the services shift a point: inside the box of China, outside Hong Kong and Macau; degrees."""
    lon, lat = np.broadcast_arrays(np.asarray(lon, np.float64), np.asarray(lat, np.float64))
    west, south, east, north = _BOX
    inside = np.asarray((lon >= west) & (lon <= east) & (lat >= south) & (lat <= north))
    for outline in _UNSHIFTED:
        xs, ys = zip(*outline, strict=True)
        near = inside & (lon >= min(xs)) & (lon <= max(xs)) & (lat >= min(ys)) & (lat <= max(ys))
        if near.any():
            inside = inside.copy()
            inside[near] &= ~_within(lon[near], lat[near], outline)
    return inside


def gcj02_from_wgs84(lon: ArrayLike, lat: ArrayLike) -> _Points:
    """GCJ-02 coordinates of WGS84 points of any shape, degrees; points that are not shifted stay as they are."""
    return _where_shifted(lon, lat, _shifted)


def wgs84_from_gcj02(lon: ArrayLike, lat: ArrayLike) -> _Points:
    """WGS84 coordinates of GCJ-02 points of any shape, degrees, to under a millimetre of `gcj02_from_wgs84`.

    Points that are not shifted stay as they are; right at the edge of the unshifted ground, where the function jumps,
    the given point decides.
    """
    return _where_shifted(lon, lat, lambda x, y: _inverse(_shifted, x, y))


def bd09_from_gcj02(lon: ArrayLike, lat: ArrayLike) -> _Points:
    """BD-09 coordinates of GCJ-02 points of any shape, degrees."""
    return _turned(*_points(lon, lat))


def gcj02_from_bd09(lon: ArrayLike, lat: ArrayLike) -> _Points:
    """GCJ-02 coordinates of BD-09 points of any shape, degrees, to under a millimetre of `bd09_from_gcj02`.

    The closed formula that most implementations use is up to 0.3 m off; it is where the iteration begins.
    """
    return _inverse(_turned, *_points(lon, lat), first=_unturned)


def _points(lon: ArrayLike, lat: ArrayLike) -> _Points:
    x, y = np.broadcast_arrays(np.asarray(lon, np.float64), np.asarray(lat, np.float64))
    return x, y


def _where_shifted(lon: ArrayLike, lat: ArrayLike, function: Callable[..., _Points]) -> _Points:
    x, y = (a.copy() for a in _points(lon, lat))
    there = is_shifted(x, y)
    if there.any():
        x[there], y[there] = function(x[there], y[there])
    return x, y


def _shifted(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> _Points:
    x, y = lon - 105.0, lat - 35.0
    wave = (20 * np.sin(6 * np.pi * x) + 20 * np.sin(2 * np.pi * x)) * 2 / 3
    d_lat = -100 + 2 * x + 3 * y + 0.2 * y**2 + 0.1 * x * y + 0.2 * np.sqrt(np.abs(x)) + wave
    d_lat = d_lat + (20 * np.sin(np.pi * y) + 40 * np.sin(np.pi / 3 * y)) * 2 / 3
    d_lat = d_lat + (160 * np.sin(np.pi / 12 * y) + 320 * np.sin(np.pi / 30 * y)) * 2 / 3
    d_lon = 300 + x + 2 * y + 0.1 * x**2 + 0.1 * x * y + 0.1 * np.sqrt(np.abs(x)) + wave
    d_lon = d_lon + (20 * np.sin(np.pi * x) + 40 * np.sin(np.pi / 3 * x)) * 2 / 3
    d_lon = d_lon + (150 * np.sin(np.pi / 12 * x) + 300 * np.sin(np.pi / 30 * x)) * 2 / 3
    phi = np.radians(lat)
    magic = 1 - _ECCENTRICITY_2 * np.sin(phi) ** 2
    d_lat = np.degrees(d_lat / (_AXIS_M * (1 - _ECCENTRICITY_2) / (magic * np.sqrt(magic))))
    d_lon = np.degrees(d_lon / (_AXIS_M / np.sqrt(magic) * np.cos(phi)))
    return lon + d_lon, lat + d_lat


def _turned(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> _Points:
    radius = np.hypot(lon, lat) + 0.00002 * np.sin(lat * _BD_PI)
    angle = np.arctan2(lat, lon) + 0.000003 * np.cos(lon * _BD_PI)
    return radius * np.cos(angle) + 0.0065, radius * np.sin(angle) + 0.006


def _unturned(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> _Points:
    x, y = lon - 0.0065, lat - 0.006
    radius = np.hypot(x, y) - 0.00002 * np.sin(y * _BD_PI)
    angle = np.arctan2(y, x) - 0.000003 * np.cos(x * _BD_PI)
    return radius * np.cos(angle), radius * np.sin(angle)


def _inverse(
    function: Callable[..., _Points],
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    *,
    first: Callable[..., _Points] | None = None,
) -> _Points:
    """The points that ``function`` takes to (lon, lat): the shift changes by under 2 % over its own length."""
    with np.errstate(invalid="ignore"):  # points that are none stay none
        x, y = (lon, lat) if first is None else first(lon, lat)
        for _ in range(_MOST_ITERATIONS):
            there_x, there_y = function(x, y)
            step_x, step_y = lon - there_x, lat - there_y
            x, y = x + step_x, y + step_y
            if not (np.abs(np.stack([step_x, step_y])) > _CONVERGED_DEG).any():
                break
    return x, y


def _within(
    lon: NDArray[np.float64], lat: NDArray[np.float64], outline: tuple[tuple[float, float], ...]
) -> NDArray[np.bool_]:
    """Points inside a closed outline, by the number of its edges to their east."""
    inside = np.zeros(lon.shape, np.bool_)
    for (x0, y0), (x1, y1) in zip(outline, (*outline[1:], outline[0]), strict=True):
        if y0 == y1:
            continue
        crosses = (y0 > lat) != (y1 > lat)
        inside ^= crosses & (lon < x0 + (lat - y0) * (x1 - x0) / (y1 - y0))
    return inside
