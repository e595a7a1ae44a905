"""What other maps say at the points of a sample: releases, or products of others given as polygons."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import geopandas as gpd
    import numpy as np


MASK = "_uv_mask.tif"


def read_at_points(text: str, points: "gpd.GeoDataFrame") -> tuple[str, "np.ndarray"]:
    """The name of a map and what it says at each point: 1, 0, or NaN where it says nothing.

    Args:
        text: ``NAME=PATH``: a product folder, a folder of such folders, or a file of polygons. A product says nothing
            where it predicted nothing; a file of polygons says "no village" everywhere else.
        points: The points.

    Raises:
        ComparisonError: The text is not of this form, or there is no map.
    """
    from accuracy.errors import ComparisonError

    name, sign, where = text.partition("=")
    if not (sign and name.strip() and where.strip()):
        raise ComparisonError(f"--map {text!r}: write NAME=PATH, such as v1=out/china-v1 or theirs=villages.gpkg")
    path = Path(where.strip())
    if not path.exists():
        raise ComparisonError(f"--map {text!r}: {path} does not exist")
    return name.strip(), _read_products(path, points) if path.is_dir() else _read_polygons(path, points)


def _read_polygons(path: Path, points: "gpd.GeoDataFrame") -> "np.ndarray":
    import numpy as np

    from accuracy.comparison.maps_on_points import lie_inside
    from accuracy.errors import ComparisonError
    from accuracy.tables import read_places

    polygons = read_places(path)
    kinds = set(polygons.geometry.dropna().geom_type)
    if not kinds <= {"Polygon", "MultiPolygon"}:
        raise ComparisonError(f"{path} holds {', '.join(sorted(kinds))}: give the other map's polygons")
    return lie_inside(points.geometry, polygons).astype(np.float64)


def _read_products(folder: Path, points: "gpd.GeoDataFrame") -> "np.ndarray":
    import numpy as np

    from accuracy.comparison.maps_on_points import lie_inside
    from accuracy.errors import ComparisonError
    from accuracy.tables import read_places

    products = list(_products(folder))
    if not products:
        raise ComparisonError(
            f"{folder} holds no product: give the folder that `uvmap map` wrote, or one of such folders"
        )
    city = points["city"].astype(str).to_numpy() if "city" in points.columns else np.full(len(points), "")
    codes = {mask.name.removesuffix(MASK) for mask, _ in products}
    foreign = ~np.isin(city, list(codes))  # grids of neighbouring cities overlap: a point is judged by its own city's
    said = np.full(len(points), np.nan)
    for mask, polygons in products:
        code = mask.name.removesuffix(MASK)
        wanted = city == code if code in city else foreign & np.isnan(said)
        here = wanted & _covered(mask, points)
        if here.any():
            said[here] = lie_inside(points.geometry[here], read_places(polygons))
    return said


def _products(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Mask and polygons of every product in a folder or in its folders."""
    for mask in sorted([*folder.glob(f"*{MASK}"), *folder.glob(f"*/*{MASK}")]):
        polygons = mask.with_name(mask.name.removesuffix(MASK) + "_uv.parquet")
        if polygons.exists():
            yield mask, polygons


def _covered(mask: Path, points: "gpd.GeoDataFrame") -> "np.ndarray":
    """Bool per point: inside the raster, where something was predicted."""
    import numpy as np
    import rasterio

    from regions.raster.scores import NOT_PREDICTED

    with rasterio.open(mask) as dataset:
        places = points.geometry.to_crs(dataset.crs)
        rows, cols = rasterio.transform.rowcol(dataset.transform, places.x.to_numpy(), places.y.to_numpy(), op=np.floor)
        rows, cols = np.asarray(rows, dtype=np.int64), np.asarray(cols, dtype=np.int64)
        inside = (rows >= 0) & (rows < dataset.height) & (cols >= 0) & (cols < dataset.width)
        values: Any = dataset.sample(zip(places.x[inside], places.y[inside], strict=True))
        inside[inside] = np.array([v[0] != NOT_PREDICTED for v in values], dtype=bool)
    return np.asarray(inside)
