"""The offset between a city's imagery and its map, from its files."""

from __future__ import annotations

from pipeline.city.ground import CityGround
from pipeline.city.offset import SEARCH_M, Offset, estimate_offset
from pipeline.city.vectors import read_city_vectors


def offset_of_city(ground: CityGround) -> Offset | None:
    """The offset of a city's map from its imagery; None without a map, or where too little of it is on the imagery.

    Raises:
        PipelineError: sources that cannot be used.
    """
    with ground.open() as city:
        if not ground.sources.vectors:
            return None
        left, bottom, right, top = city.extent.grid.bounds_m
        reach = (left - SEARCH_M, bottom - SEARCH_M, right + SEARCH_M, top + SEARCH_M)
        features = read_city_vectors(ground.sources, crs=city.extent.grid.crs, bounds_m=reach)
        return estimate_offset(city.imagery.read, city.extent.grid, features.table)
