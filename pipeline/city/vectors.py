"""The map features of one city, read as its notes say."""

from __future__ import annotations

from pipeline.city.sources import CitySources
from pipeline.vectors import Features, read_features


def read_city_vectors(sources: CitySources, *, crs: str, bounds_m: tuple[float, float, float, float]) -> Features:
    """Features of all vector sources of a city that meet ``bounds_m`` (left, bottom, right, top in ``crs``).

    Raises:
        VectorError: a source is missing, cannot be read, has no usable CRS, or nothing is left of it.
    """
    notes = sources.notes
    return read_features(
        sources.vectors,
        crs=crs,
        bounds_m=bounds_m,
        assumed_crs=notes.vectors_crs,
        default_tags=notes.default_tags or None,
        encoding=notes.vectors_encoding,
        id_column=notes.vectors_id,
        datum=notes.vectors_datum or "wgs84",
    )
