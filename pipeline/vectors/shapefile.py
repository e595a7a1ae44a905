"""The files of a Shapefile: all there, as long as they declare, and of each other."""

from __future__ import annotations

from pathlib import Path

from pipeline.vectors.encodings import fits
from pipeline.vectors.errors import VectorError
from pipeline.vectors.source import Account


def refuse_incomplete(path: Path, account: Account) -> None:
    """Refuse a Shapefile whose files are cut or do not belong together; GDAL reads what is missing as nulls.

    Raises:
        VectorError: the .shp or .dbf is shorter than its header says, the .shx is missing, or the .dbf has another
            number of records than the .shx, or the .prj is no text in UTF-8.
    """
    beside = {p.suffix.lower(): p for p in path.parent.iterdir() if p.stem == path.stem}
    _refuse_short(path, 2 * int.from_bytes(_head(path, 28)[24:28], "big"))
    shx, dbf, prj = beside.get(".shx"), beside.get(".dbf"), beside.get(".prj")
    if prj is not None and not fits(prj.read_bytes(), "utf-8"):
        raise VectorError(
            f"{path}: its {prj.name} is no text in UTF-8; save it so, or remove it and say which CRS it is with"
            " --vectors-crs"
        )
    if shx is None:
        raise VectorError(f"{path}: its .shx is missing; give all files of the Shapefile (.shp, .shx, .dbf, .prj)")
    _refuse_short(shx, 2 * int.from_bytes(_head(shx, 28)[24:28], "big"))
    if dbf is None:
        account.warnings.append(
            "its .dbf is missing, so its features have no attributes; give all files of the Shapefile"
        )
        return
    head = _head(dbf, 12)
    records, header, record = (int.from_bytes(head[a:b], "little") for a, b in ((4, 8), (8, 10), (10, 12)))
    _refuse_short(dbf, header + records * record)
    shapes = (shx.stat().st_size - 100) // 8
    if records != shapes:
        raise VectorError(
            f"{path}: {shapes} shapes, but {records} records in {dbf.name}: the files do not belong together, or one is"
            " damaged; fetch all of them again"
        )


def _head(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        head = file.read(size)
    if len(head) < size:
        raise VectorError(f"{path}: {len(head)} bytes; the file is truncated: fetch it again")
    return head


def _refuse_short(path: Path, declared: int) -> None:
    size = path.stat().st_size
    if declared > size:
        raise VectorError(
            f"{path}: {size} bytes of {declared} that its header declares; the file is truncated: fetch it again"
        )
