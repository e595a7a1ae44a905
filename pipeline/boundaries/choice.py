"""Built-up land as an operator names it: a raster of a known product or with a rule, or polygons."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

from pipeline.boundaries.area import Built
from pipeline.boundaries.built import BuiltPolygons, BuiltRaster, BuiltRule, Product
from pipeline.boundaries.errors import BoundaryError
from pipeline.boundaries.reading import read_polygons
from pipeline.formats import RASTER_SUFFIXES
from regions.datum import Datum


def open_built(
    path: Path,
    *,
    product: str | None = None,
    values: Sequence[int] | None = None,
    at_least: float | None = None,
    datum: Datum = "wgs84",
) -> Built:
    """Built-up land of a raster or of polygons.

    Args:
        path: The file.
        product: What the raster is: its rule is known.
        values: Classes of the raster that are built-up.
        at_least: Amount from which a pixel is built-up.
        datum: Of polygons: what their coordinates are in truth.

    Raises:
        BoundaryError: the file cannot be read, or it is not said which of its pixels are built-up.
    """
    if path.suffix.lower() not in RASTER_SUFFIXES:
        return BuiltPolygons(read_polygons(path, datum=datum))
    given = [g for g in (product, values or None, at_least) if g is not None]
    if len(given) != 1:
        raise BoundaryError(
            f"{path}: say in one way which pixels are built-up: the product ({', '.join(get_args(Product))}), the"
            f" values of built-up classes, or the least amount; given are {len(given)}"
        )
    if product is not None:
        if product not in get_args(Product):
            raise BoundaryError(f"{path}: no product {product} is known, known are {', '.join(get_args(Product))}")
        return BuiltRaster(path, cast("Product", product))
    return BuiltRaster(path, BuiltRule(values=tuple(values) if values else None, at_least=at_least))
