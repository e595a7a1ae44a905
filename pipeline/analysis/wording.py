"""Words and numbers as people read them: names of measures, counts, digits, p values."""

from __future__ import annotations

import numpy as np

MISSING = "–"

MEASURES = {
    "area_ha": "area, ha",
    "compactness": "compactness (4π area / perimeter²)",
    "elongation": "elongation (short by long side)",
    "road_density": "roads, km/km²",
    "centre_km": "distance to the seat, km",
    "coverage": "coverage (footprint by ground)",
    "height_mean_m": "height, m",
    "floor_area_ratio": "floor-area ratio",
    "low_rise_share": "low-rise share (up to 10 m)",
    "footprint_mean_m2": "footprint of a building, m²",
    "spacing_m": "spacing of buildings, m",
    "orientation_entropy": "orientation entropy (0 parallel, 1 no common direction)",
}
"""Names of measures for people."""


def short_measure(measure: str) -> str:
    """Name of a measure with its unit, without what explains it in brackets."""
    return MEASURES[measure].split(" (")[0]


def p_value(value: float) -> str:
    """Four digits, never 0."""
    return f"{value:.4f}" if value >= 1e-4 else "< 0.0001"


def counted(number: int, one: str, many: str) -> str:
    """1 city, 2 cities."""
    return f"{number:,} {one if number == 1 else many}"


def significant(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, without exponent: 1,235; 12.3; 0.00123."""
    if value == 0 or not np.isfinite(value):
        return "0" if value == 0 else MISSING
    places = max(0, digits - 1 - int(np.floor(np.log10(abs(value)))))
    return f"{value:,.{min(places, 8)}f}"
