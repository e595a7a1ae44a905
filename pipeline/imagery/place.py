"""Where a scene lies: its CRS and the transform of its pixels, from what the file says; never guessed.

A geotransform goes first; without one, ground control points whose places an affine transform meets to half a pixel.
A local (engineering) CRS says nothing about the earth, so it counts as none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyproj
from affine import Affine
from pyproj.exceptions import CRSError as PyprojCrsError
from pyproj.exceptions import ProjError
from pyproj.transformer import TransformerGroup
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.io import DatasetReader
from rasterio.transform import from_gcps

from pipeline.imagery.errors import MissingCrsError, UnusableCrsError

GCP_TOLERANCE_PX = 0.5
"""Ground control points that no affine transform meets this closely need a warp that only the user can choose."""
GCP_MIN = 3
PIXEL_M = (1e-3, 1e4)
"""Smallest and largest side of a pixel; others come from wrong units."""
NEAR_WGS84 = ("China 2000", "World Geodetic System 1984", "International Terrestrial", "European Terrestrial")
"""Datums within about a metre of WGS 84, between which PROJ knows no published shift and needs none."""


@dataclass(frozen=True)
class ScenePlace:
    """The place of a scene.

    Attributes:
        crs: Authority code, or WKT where there is none or where it carries a datum shift of its own.
        transform: From column and row to x and y in ``crs``.
        from_gcps: Whether the transform was fitted to ground control points.
        warnings: What the user must know, without the name of the file.
    """

    crs: str
    transform: Affine
    from_gcps: bool = False
    warnings: tuple[str, ...] = ()


def scene_place(dataset: DatasetReader, *, assumed_crs: str | None) -> ScenePlace:
    """The place of an open raster.

    Args:
        dataset: The raster.
        assumed_crs: CRS of files that state none, or only a local one.

    Raises:
        MissingCrsError: no CRS and none assumed, no georeference at all, or one that must be resolved first (RPCs,
            ground control points that no affine transform meets).
        UnusableCrsError: a local CRS and none assumed, a code that PROJ does not know, or coordinates that do not lie
            on earth in it.
    """
    transform, declared, warnings = dataset.transform, dataset.crs, []
    is_from_gcps = False
    if transform == Affine.identity():
        points, gcp_crs = dataset.gcps
        if not points:
            raise MissingCrsError(f"{dataset.name}: {_how_to_place(dataset)}")
        transform, text = _fitted(points, dataset.name)
        declared, is_from_gcps = gcp_crs or declared, True
        warnings.append(text)
    if declared is not None and is_local(_wkt(declared)):
        if assumed_crs is None:
            raise UnusableCrsError(
                f"{dataset.name}: its CRS is a local one ({_name(declared)}), which says nothing about the place on "
                "earth; say with --imagery-crs which CRS its coordinates are of, or write that into the file with "
                "`gdal_edit.py -a_srs EPSG:...`"
            )
        warnings.append(f"its local CRS ({_name(declared)}) is taken to be {assumed_crs}, as --imagery-crs says")
        declared = None
    if declared is None and assumed_crs is None:
        raise MissingCrsError(
            f"{dataset.name}: the raster has no CRS; say which it is in with --imagery-crs (EPSG:3857 for web map "
            "tiles), or write it into the file with `rio edit-info --crs`"
        )
    crs = checked_crs(assumed_crs, "--imagery-crs") if declared is None else crs_string(declared)
    if declared is not None and pyproj.CRS.from_wkt(_wkt(declared)).is_bound:
        warnings.append("its CRS carries a datum shift of its own (TOWGS84), which is used in place of PROJ's")
    _check_on_earth(dataset, transform, crs)
    return ScenePlace(crs, transform, is_from_gcps, tuple(warnings))


def crs_string(crs: CRS) -> str:
    """The authority code where it says all, WKT otherwise: a datum shift written into the file stands in no code."""
    wkt = _wkt(crs)
    if pyproj.CRS.from_wkt(wkt).is_bound:
        return wkt
    epsg = crs.to_epsg()
    return f"EPSG:{epsg}" if epsg is not None else wkt


def checked_crs(crs: str | None, whose: str) -> str:
    """A CRS that a user names, if PROJ knows it and it lies on earth.

    Args:
        crs: As given.
        whose: Option or file that names it, for the message.

    Raises:
        UnusableCrsError: an unknown code, or a local CRS.
    """
    try:
        wkt = pyproj.CRS.from_user_input(crs).to_wkt()
        CRS.from_user_input(crs)
    except (PyprojCrsError, CRSError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise UnusableCrsError(
            f"{whose} {crs}: no CRS that can be used ({reason}); give one such as EPSG:4547 or EPSG:32650"
        ) from error
    if is_local(wkt):
        raise UnusableCrsError(f"{whose} {crs}: a local CRS; give one that lies on earth, such as EPSG:4547")
    return str(crs)


def is_local(wkt: str) -> bool:
    """Whether a CRS says nothing about the place on earth (engineering CRS, or one that PROJ cannot read)."""
    try:
        crs = pyproj.CRS.from_wkt(wkt)
    except PyprojCrsError:
        return True
    return not (crs.is_projected or crs.is_geographic or crs.is_geocentric)


def transform_warning(source: str, target: str) -> str | None:
    """What is uncertain about coordinates that go from one CRS to another; None where nothing is.

    Raises:
        UnusableCrsError: PROJ knows no way from one to the other.
    """
    try:
        ways = TransformerGroup(source, target, always_xy=True)
        best = ways.transformers[0] if ways.transformers else None
    except (ProjError, PyprojCrsError) as error:
        raise UnusableCrsError(f"no way from {source} to {target}: {error}") from error
    if best is None:
        raise UnusableCrsError(f"no way from {source} to {target}: give the imagery in another CRS")
    if "ballpark" in (best.description or "").lower() and not (_is_near_wgs84(source) and _is_near_wgs84(target)):
        return (
            f"coordinates go from {pyproj.CRS(source).name} to {pyproj.CRS(target).name} by a ballpark transformation, "
            "which ignores the datum: places may be off by tens to hundreds of metres; reproject the file with the "
            "right datum shift first"
        )
    return None


def _is_near_wgs84(crs: str) -> bool:
    geodetic = pyproj.CRS.from_user_input(crs).geodetic_crs
    return geodetic is not None and geodetic.datum is not None and geodetic.datum.name.startswith(NEAR_WGS84)


def _check_on_earth(dataset: DatasetReader, transform: Affine, crs: str) -> None:
    """Whether the pixels have an area, and the corners lie on earth.

    Raises:
        MissingCrsError: the transform turns pixels into a line, or has values that are no numbers.
        UnusableCrsError: the coordinates do not fit the CRS.
    """
    numbers = tuple(transform)[:6]
    if not np.isfinite(numbers).all() or transform.determinant == 0:
        raise MissingCrsError(
            f"{dataset.name}: its geotransform or world file ({', '.join(f'{v:g}' for v in numbers)}) gives pixels no"
            " place: write the right one"
        )
    corners = [transform @ (c, r) for c in (0, dataset.width) for r in (0, dataset.height)]
    x, y = zip(*corners, strict=True)
    try:
        lon, lat = pyproj.Transformer.from_crs(crs, "OGC:CRS84", always_xy=True).transform(x, y)
    except (ProjError, PyprojCrsError) as error:
        raise UnusableCrsError(f"{dataset.name}: no way from {crs[:40]} to longitude and latitude: {error}") from error
    if not np.isfinite([lon, lat]).all() or max(map(abs, lat)) > 90 or max(map(abs, lon)) > 360:
        raise UnusableCrsError(
            f"{dataset.name}: its coordinates ({min(x):.8g} to {max(x):.8g}, {min(y):.8g} to {max(y):.8g}) do not lie"
            f" on earth in {crs[:40]}: its CRS is another one, or x and y are exchanged"
        )
    _check_pixel_size(dataset, lon, lat)


def _check_pixel_size(dataset: DatasetReader, lon: Sequence[float], lat: Sequence[float]) -> None:
    """Whether pixels are as large as those of a picture of ground, by corners: upper left, lower left, upper right.

    Raises:
        MissingCrsError: they are not.
    """
    earth = pyproj.Geod(ellps="WGS84")
    for corner, count in ((1, dataset.height), (2, dataset.width)):
        side_m = float(earth.inv(lon[0], lat[0], lon[corner], lat[corner])[2]) / count
        if not PIXEL_M[0] <= side_m <= PIXEL_M[1]:
            raise MissingCrsError(
                f"{dataset.name}: its pixels are {side_m:.3g} m large, expected {PIXEL_M[0]:g} to {PIXEL_M[1]:g} m: the"
                " geotransform or world file, or the CRS, is another one"
            )


def _fitted(points: list[GroundControlPoint], name: str) -> tuple[Affine, str]:
    if len(points) < GCP_MIN:
        raise MissingCrsError(f"{name}: {len(points)} ground control points, {GCP_MIN} are needed to place it")
    transform = from_gcps(points)
    if transform.determinant == 0:
        raise MissingCrsError(f"{name}: its ground control points lie on a line: warp the file with right ones first")
    back = ~transform
    off = [np.hypot(*(np.subtract(back @ (p.x, p.y), (p.col, p.row)))) for p in points]
    if max(off) > GCP_TOLERANCE_PX:
        raise MissingCrsError(
            f"{name}: no affine transform meets its {len(points)} ground control points (off by up to {max(off):.1f} "
            f"px, allowed {GCP_TOLERANCE_PX}): warp it first, for instance with `gdalwarp -tps -t_srs EPSG:...`"
        )
    return transform, f"placed by its {len(points)} ground control points (off by up to {max(off):.2f} px)"


def _how_to_place(dataset: DatasetReader) -> str:
    if dataset.rpcs is not None:
        return "placed by rational polynomial coefficients alone: orthorectify it first with `gdalwarp -rpc`"
    return "neither georeference nor world file: add a world file or write the raster as GeoTIFF"


def _wkt(crs: CRS) -> str:
    return str(crs.to_wkt(version="WKT2_2019"))


def _name(crs: CRS) -> str:
    try:
        return pyproj.CRS.from_wkt(_wkt(crs)).name
    except PyprojCrsError:
        return _wkt(crs)[:60]
