"""GCJ-02, the obfuscated datum of Chinese map services: WGS84 shifted by 50 to 700 m with a smooth function.

The function is the one that public implementations agree on (for instance eviltransform); its inverse is found
by fixed-point iteration, good to well under a centimetre of the function itself, about a metre of the truth.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

_AXIS_M = 6378245.0  # semi-major axis of the Krasovsky ellipsoid, as GCJ-02 uses it
_ECCENTRICITY_2 = 0.00669342162296594323


def gcj02_from_wgs84(lon: ArrayLike, lat: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """GCJ-02 coordinates of WGS84 points, degrees; inside mainland China only."""
    lon, lat = np.asarray(lon, np.float64), np.asarray(lat, np.float64)
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


def wgs84_from_gcj02(lon: ArrayLike, lat: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """WGS84 coordinates of GCJ-02 points, degrees, by fixed-point iteration."""
    lon, lat = np.asarray(lon, np.float64), np.asarray(lat, np.float64)
    guess_lon, guess_lat = lon, lat
    for _ in range(12):  # the shift changes by under 1 % over its own length: two digits an iteration
        shifted_lon, shifted_lat = gcj02_from_wgs84(guess_lon, guess_lat)
        guess_lon, guess_lat = guess_lon + lon - shifted_lon, guess_lat + lat - shifted_lat
    return guess_lon, guess_lat
