"""The grid that given imagery asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rasterio.crs import CRS
from rasterio.warp import calculate_default_transform

from pipeline.imagery.errors import ImageryError, OffGridError
from pipeline.imagery.scene import Scene, inspect, same_crs, short_crs
from regions.raster.grid import Grid


def grid_of_imagery(paths: Sequence[Path | str], *, resolution_m: float | None = None, crs: str | None = None) -> Grid:
    """The smallest grid that holds all scenes.

    Args:
        paths: Scene files.
        resolution_m: Side of a pixel; that of the first scene where None.
        crs: CRS of the grid, and of files that state none; that of the first scene where None.

    Raises:
        OffGridError: where the CRS is not in metres, or the pixel size cannot be taken over from the scenes.
        ImageryError: as `inspect` raises for each file.
    """
    if not paths:
        raise ImageryError("no imagery given: name at least one raster file")
    return grid_of_scenes([inspect(p, crs=crs) for p in paths], resolution_m=resolution_m, crs=crs)


def grid_of_scenes(scenes: Sequence[Scene], *, resolution_m: float | None = None, crs: str | None = None) -> Grid:
    """The smallest grid that holds all scenes; see `grid_of_imagery`."""
    first = scenes[0]
    target = crs or first.crs
    system = CRS.from_user_input(target)
    if not system.is_projected or abs(system.linear_units_factor[1] - 1.0) > 1e-9:
        raise OffGridError(
            f"{first.path}: its CRS {short_crs(target)} is not in metres: give crs=, a projected one such as the "
            "city's UTM zone, and resolution_m=; the imagery is then resampled once at ingest"
        )
    if resolution_m is None:
        a, _, _, d, _, _ = first.transform
        if not same_crs(first.crs, target):
            about = calculate_default_transform(first.crs, target, first.width_px, first.height_px, *first.bounds)[0].a
            raise OffGridError(
                f"{first.path}: its CRS is {short_crs(first.crs)}, the grid's {short_crs(target)}, so its pixel size "
                f"does not carry over: give resolution_m= (its pixels are about {about:.3g} m)"
            )
        resolution_m = float((a * a + d * d) ** 0.5)
    boxes = [s.bounds_in(target) for s in scenes]
    bounds = (min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes))
    return Grid.covering(bounds, crs=target, resolution_m=resolution_m)
