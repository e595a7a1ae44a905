"""Whether imagery lies where the city that was named is."""

from __future__ import annotations

import pyproj

from pipeline.errors import PipelineError
from regions.registry import DEMO_PREFIX, City, find_city, load_registry

FAR_KM = 300.0
"""Imagery further than this from both the centroid and the seat of the named city is refused: of the 372 units only a
few in the far west and north reach that far."""
DOUBTFUL_KM = 60.0
"""Further than this, with another city's seat or centroid nearer, imagery is doubtful: a warning."""
_EARTH = pyproj.Geod(ellps="WGS84")


class WrongPlaceError(PipelineError):
    """Imagery lies far from the city that was named."""


def check_place(adcode: str, lon: float, lat: float, *, source: str) -> tuple[str, ...]:
    """Compare the centre of a city's imagery with the registry.

    Args:
        adcode: The city that was named; codes that start with 99 stand for no real place and are not checked.
        lon: Longitude of the centre of the imagery, WGS84 degrees.
        lat: Its latitude.
        source: The imagery, for the message.

    Returns:
        A warning where another city is nearer and the named one is not near.

    Raises:
        WrongPlaceError: further than `FAR_KM`, with the distance and the city that would fit.
    """
    if adcode.startswith(DEMO_PREFIX):
        return ()
    city = find_city(adcode)
    far_km = distance_km(city, lon, lat)
    nearest = min(load_registry(), key=lambda c: distance_km(c, lon, lat))
    near_km = distance_km(nearest, lon, lat)
    where = f"{source}: its centre ({lon:.4f} E, {lat:.4f} N) lies {far_km:.0f} km from {_label(city)}"
    fitting = f"nearest is {_label(nearest)}, {near_km:.0f} km away"
    if far_km > FAR_KM:
        raise WrongPlaceError(
            f"{where}; {fitting}: name the right city, leave the city out, or check the CRS of the imagery"
        )
    if far_km > DOUBTFUL_KM and nearest.adcode != adcode:
        return (f"{where}; {fitting}: is it the right city?",)
    return ()


def distance_km(city: City, lon: float, lat: float) -> float:
    """Kilometres from a place to a city's seat or centroid, whichever is nearer."""
    points = ((city.centroid_lon, city.centroid_lat), (city.seat_lon, city.seat_lat))
    return min(float(_EARTH.inv(lon, lat, *point)[2]) for point in points) / 1000


def _label(city: City) -> str:
    return f"{city.adcode} {city.name_zh} {city.name_en}"
