"""The gallery page of a product against its reference: what is published, seen beside the imagery."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from accuracy.reporting.gallery import GalleryResult, GallerySubject, ImageReader, write_gallery
from accuracy.reporting.gallery_places import GalleryLimits
from accuracy.survey.map_strata import MapRasters
from pipeline.imagery import ImageSource, open_imagery, prepare_imagery
from pipeline.polygons.scores import grid_of_scores
from pipeline.reference.reader import Reference
from regions.raster.grid import Window


@dataclass(frozen=True, kw_only=True)
class GalleryGround:
    """Where a map is judged.

    Attributes:
        reference: Urban villages, and ground without labels.
        areas: Where they are complete; None for everywhere.
        where: The same in words.
    """

    reference: Reference
    areas: gpd.GeoDataFrame | None = None
    where: str = "all ground with labels"


def write_product_gallery(
    rasters: MapRasters,
    published: Path,
    ground: GalleryGround,
    page: Path,
    *,
    title: str,
    imagery: ImageSource | None = None,
    limits: GalleryLimits | None = None,
) -> GalleryResult:
    """Write the gallery of a product.

    Args:
        rasters: Its mask and scores.
        published: Its polygons, GeoParquet.
        ground: Reference, and where it is complete.
        page: HTML file to write.
        title: Heading.
        imagery: Scenes on the product's grid; None for pictures without.
        limits: How much is shown.

    Raises:
        ComparisonError: Product, reference and areas do not fit each other.
    """
    subject = GallerySubject(
        rasters=rasters,
        published=gpd.read_parquet(published),
        reference=ground.reference.polygons,
        areas=ground.areas,
        unlabelled=ground.reference.unlabelled,
        read_image=None if imagery is None else _reader(imagery),
    )
    return write_gallery(subject, page, title=title, where=ground.where, limits=limits)


@contextmanager
def imagery_of_product(
    rasters: MapRasters, paths: Sequence[Path], *, crs: str | None = None
) -> Iterator[ImageSource | None]:
    """Scenes on the grid of a product, resampled into a temporary file where they lie off it; None without paths.

    Raises:
        ImageryError: A scene cannot be used, or none touches the product.
    """
    if not paths:
        yield None
        return
    grid = grid_of_scores(rasters.mask)
    with tempfile.TemporaryDirectory() as folder:
        on_grid = prepare_imagery(paths, grid=grid, out=Path(folder) / "imagery.tif", crs=crs)
        with open_imagery(on_grid, grid=grid, crs=crs) as imagery:
            yield imagery


def _reader(imagery: ImageSource) -> ImageReader:
    def read(window: Window) -> NDArray[np.uint8]:
        return imagery.read(window)[0][:3]

    return read
