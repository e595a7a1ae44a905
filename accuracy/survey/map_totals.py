"""Known sizes of a map, read off its products: what estimates are calibrated to and cities are drawn by.

The mask of the published polygons is counted strip by strip; a pixel counts with its area on the ground, so that
cities of different resolution add up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
from rasterio.windows import Window

from accuracy.errors import DrawError
from accuracy.pixels import pixel_area_m2
from accuracy.survey.map_strata import STRIP_PX
from regions.raster.gdal_cache import bounded_gdal_cache
from regions.raster.scores import NOT_PREDICTED

CITY_COLUMNS = ("adcode", "region", "mapped_m2", "unmapped_m2", "not_predicted_m2", "pixel_m2")


def measure_city(mask: Path) -> dict[str, float]:
    """Ground of one product: ``mapped_m2``, ``unmapped_m2``, ``not_predicted_m2``, ``pixel_m2``.

    Raises:
        DrawError: The raster is no mask of published polygons, or has no CRS.
    """
    counts = np.zeros(256, dtype=np.int64)
    with bounded_gdal_cache(), rasterio.open(mask) as dataset:
        if dataset.crs is None or dataset.dtypes[0] != "uint8":
            raise DrawError(
                f"{mask} holds {dataset.dtypes[0]} in the CRS {dataset.crs}: give a product's mask of uint8 with a CRS"
            )
        rows = max(1, STRIP_PX // int(dataset.width))
        for row in range(0, dataset.height, rows):
            window = Window(0, row, dataset.width, min(rows, dataset.height - row))
            counts += np.bincount(dataset.read(1, window=window).ravel(), minlength=256)
        area = pixel_area_m2(dataset)
    strange = np.flatnonzero(counts[2:NOT_PREDICTED])
    if len(strange):
        raise DrawError(
            f"{mask} holds the value {int(strange[0]) + 2}: a mask has 1 (urban village), 0 and {NOT_PREDICTED} (not"
            " predicted); is it the score raster?"
        )
    no, yes, none = (float(counts[k]) * area for k in (0, 1, NOT_PREDICTED))
    return {"mapped_m2": yes, "unmapped_m2": no, "not_predicted_m2": none, "pixel_m2": area}


def measure_cities(masks: Mapping[str, Path], regions: Mapping[str, str]) -> Iterator[dict[str, object]]:
    """Rows of `CITY_COLUMNS`, one per city.

    Args:
        masks: The mask of every city of the frame, by its key.
        regions: Its region, by the same key.

    Raises:
        DrawError: Cities of the frame have no product: totals of fewer cities are not the frame's.
    """
    absent = [adcode for adcode, mask in masks.items() if not mask.exists()]
    if absent:
        raise DrawError(
            f"{len(absent)} of {len(masks)} cities of the frame have no mask (first: {masks[absent[0]]}): map them"
            " first; the totals of fewer cities are not those of the frame. --frame names another frame"
        )
    for adcode, mask in masks.items():
        yield {"adcode": adcode, "region": regions[adcode], **measure_city(mask)}


def sum_map_totals(cities: pd.DataFrame) -> pd.DataFrame:
    """Columns ``region``, ``map`` (1 or 0), ``area_m2``, ``cities``: what `--map-totals` reads."""
    parts: list[tuple[str, int, float, int]] = []
    for region, rows in cities.groupby("region", sort=True):
        for value, column in ((1, "mapped_m2"), (0, "unmapped_m2")):
            parts.append((str(region), value, float(rows[column].sum()), len(rows)))
    return pd.DataFrame(parts, columns=["region", "map", "area_m2", "cities"])


def require_frame_columns(frame: pd.DataFrame, source: str, columns: Sequence[str] = ("adcode", "region")) -> None:
    """Raise unless a frame of cities has these columns and every city once.

    Raises:
        DrawError: A column is missing, a value is empty, or a city repeats.
    """
    for column in columns:
        if column not in frame.columns:
            raise DrawError(f"{source} has no column {column!r} (it has {', '.join(map(str, frame.columns))})")
        if frame[column].isna().any():
            raise DrawError(f"{source}: column {column!r} is empty in {int(frame[column].isna().sum())} rows")
    repeated = frame["adcode"][frame["adcode"].duplicated()]
    if len(repeated):
        raise DrawError(f"{source} has city {repeated.iloc[0]!r} twice: keep one row per city")
