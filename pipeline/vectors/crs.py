"""The CRS of a source: usable for places on the earth, or a refusal that says why."""

from __future__ import annotations

import re
from pathlib import Path

from pyproj import CRS
from pyproj.exceptions import ProjError

from pipeline.vectors.errors import VectorError

LONLAT = CRS.from_user_input("OGC:CRS84")
_WRITE = "write the right one into the file (for a Shapefile its .prj)"
_NO_PLACE = frozenset({"undefined geographic srs", "undefined cartesian srs", "undefined geographic crs"})


def source_crs(
    declared: object, assumed: str | None, path: Path, layer: str, *, option: str | None = "--vectors-crs"
) -> CRS:
    """The two-dimensional CRS of a layer.

    Args:
        declared: What the file says: a code, WKT, PROJJSON, or None.
        assumed: What the user says of sources that declare none, or only a local one.
        path: For messages.
        layer: For messages.
        option: Option of the command line that says what a file does not; None where there is none.

    Raises:
        VectorError: none, an unusable or a local (engineering) CRS is declared and the user does not say which it is.
    """
    where = f"{path}: layer {layer}"
    say = _WRITE if option is None else f"{_WRITE}, or say which it is with {option}"
    trouble: str | None = "has no CRS"
    if declared is not None:
        try:
            crs = CRS.from_user_input(_with_datum_shift(declared, path))
        except ProjError as error:
            raise VectorError(f"{where}: unusable CRS {str(declared)[:80]!r} ({_first(error)}); {say}") from error
        trouble = _trouble(crs)
        if trouble is None:
            return crs.to_2d()
    if assumed is None:
        raise VectorError(f"{where} {trouble}; {say}")
    return given_crs(assumed)


def given_crs(text: str) -> CRS:
    """The CRS that the user names.

    Raises:
        VectorError: it is unknown, or says nothing of places on the earth.
    """
    try:
        crs = CRS.from_user_input(text)
    except ProjError as error:
        raise VectorError(
            f"--vectors-crs {text}: unusable CRS ({_first(error)}); give one such as EPSG:4547"
        ) from error
    trouble = _trouble(crs)
    if trouble is not None:
        raise VectorError(f"--vectors-crs {text}: {trouble}; give a geographic or projected one such as EPSG:4547")
    return crs.to_2d()


def _trouble(crs: CRS) -> str | None:
    if crs.name.lower() in _NO_PLACE:
        return "has no CRS"
    base = crs.source_crs if crs.is_bound and crs.source_crs is not None else crs
    if base.is_engineering:
        return f"is in the local CRS {base.name!r}, which does not say where on the earth it lies"
    if base.is_geographic or base.is_projected:
        return None
    return f"is in the CRS {base.name!r} ({base.type_name}), which has no coordinates on a map"


def _with_datum_shift(declared: object, path: Path) -> object:
    """The .prj itself where it holds a datum shift: the code that GDAL finds for it would lose the shift."""
    prj = next((p for p in path.parent.glob("*") if p.suffix.lower() == ".prj" and p.stem == path.stem), None)
    if path.suffix.lower() == ".shp" and prj is not None:
        text = prj.read_text(encoding="latin-1")
        if re.search(r"TOWGS84\s*\[", text, re.IGNORECASE):
            return text
    return declared


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
