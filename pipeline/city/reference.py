"""The reference labels of a city, read with what its notes say of them."""

from __future__ import annotations

from pathlib import Path

from pipeline.city.sources import CitySources
from pipeline.imagery.scene import inspect
from pipeline.reference.masks import Frame
from pipeline.reference.reader import Bounds, Reference, ReferenceHints, frame_of, read_reference


def read_city_reference(sources: CitySources, *, crs: str, bounds_m: Bounds | None = None) -> Reference:
    """Reference villages and unlabelled ground of a city; a mask without georeference may lie on one of its scenes.

    Args:
        sources: The city's files, with reference.
        crs: CRS of the grid.
        bounds_m: The grid, (left, bottom, right, top); None where it does not matter whether they meet.

    Raises:
        AreaError: as `read_reference`.
        ImageryError: a scene cannot be used.
    """
    return read_reference(sources.reference, crs=crs, bounds_m=bounds_m, hints=_hints(sources))


def _hints(sources: CitySources) -> ReferenceHints:
    notes = sources.notes
    return ReferenceHints(notes.reference_layer, notes.reference_positive, notes.imagery_crs, _frames(sources))


def _frames(sources: CitySources) -> tuple[Frame, ...]:
    if all(Path(p).suffix.lower() in {".gpkg", ".geojson", ".parquet", ".shp"} for p in sources.reference):
        return ()  # polygons need none
    return tuple(frame_of(inspect(p, crs=sources.notes.imagery_crs)) for p in sources.imagery)
