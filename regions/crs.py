"""Coordinate reference systems: a city's projected CRS. Imports nothing heavy: the command line starts with it."""

from regions.errors import RegionsError


class CoordinateError(RegionsError):
    """Coordinates that cannot be longitudes and latitudes."""


def utm_code(lon: float, lat: float) -> str:
    """Authority code of the WGS84 / UTM zone that holds a point given in degrees.

    Raises:
        CoordinateError: the point is no longitude and latitude within the range of UTM.
    """
    if not (-180 <= lon <= 180 and -80 <= lat <= 84):
        raise CoordinateError(f"longitude {lon}, latitude {lat} lie outside UTM (-180..180, -80..84 degrees)")
    zone = min(int((lon + 180) // 6) + 1, 60)
    return f"EPSG:{(32600 if lat >= 0 else 32700) + zone}"
