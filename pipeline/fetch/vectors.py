"""Map features of an area, brought here as files that the pipeline reads."""

from __future__ import annotations

import glob
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.extracts import cut_extracts
from pipeline.fetch.area import FetchArea
from pipeline.fetch.confidential import public_text, public_url, secret
from pipeline.fetch.errors import FetchError
from pipeline.fetch.web import session_for
from pipeline.files import replacing, source_files
from pipeline.vectors.errors import VectorError
from pipeline.vectors.fetch import ParquetSource, fetch_parquet
from pipeline.vectors.pushdown import Storage
from regions.sources import FileVectors, ParquetVectors, PbfVectors, VectorSource

MARGIN_DEG = 0.01
"""Features are brought from about a kilometre around the area: tiles at its edge see them."""
Progress = Callable[[int], None]


@dataclass(frozen=True)
class VectorFile:
    """A file that was brought here.

    Attributes:
        path: Where it lies.
        record: Where it came from, without secrets.
    """

    path: Path
    record: dict[str, Any]


def identity_of(source: VectorSource, adcode: str) -> dict[str, Any]:
    """What decides whether a source has changed: of files their size and time, of addresses what the server says."""
    where = source.path.replace("{adcode}", adcode)
    if where.startswith(("http://", "https://")):
        token = _token(source)
        with session_for(token) as session:
            return {"address": public_url(where), "bytes": session.size(where)}
    if where.startswith("s3://"):
        return {"address": public_url(where)}
    return {"files": [_facts(p) for p in _local(source, adcode)]}


def bring_vectors(
    source: VectorSource, adcode: str, area: FetchArea, out: Path, cache: Path, *, progress: Progress | None = None
) -> VectorFile:
    """One source of map features as one file in ``out`` (its folder), named by ``out``'s stem.

    Args:
        source: Where from.
        adcode: The city.
        area: Ground that is wanted.
        out: File without its ending.
        cache: Folder for downloads that several cities share.
        progress: Called with bytes that came.

    Raises:
        FetchError: the source cannot be read, or nothing of it lies in the area (a city without a map names no source).
    """
    if isinstance(source, PbfVectors):
        return _pbf(source, adcode, area, out, cache=cache, progress=progress)
    if isinstance(source, ParquetVectors):
        return _parquet(source, adcode, area, out)
    return _file(source, adcode, out)


def _pbf(
    source: PbfVectors, adcode: str, area: FetchArea, out: Path, *, cache: Path, progress: Progress | None
) -> VectorFile:
    target = out.with_name(f"{out.name}.osm.pbf")
    where = source.path.replace("{adcode}", adcode)
    record: dict[str, Any] = {"kind": "pbf", "from": public_url(where)}
    if where.startswith(("http://", "https://")):
        nation = cache / "pbf" / Path(where.split("?")[0]).name
        if not nation.exists():
            with session_for(_token(source)) as session:
                session.download(where, nation, progress=progress)
        path = nation
    else:
        path = Path(where)
    if path.is_dir():
        extract = path / f"{adcode}.osm.pbf"
        if not extract.exists():
            raise FetchError(f"{path}: no extract {extract.name}; `uvmap extracts` cuts them from a national file")
        _copy(extract, target)
        return VectorFile(target, record)
    if not path.exists():
        raise FetchError(f"{path}: no such file; `{source.kind}` takes a PBF, a folder of extracts, or an address")
    west, south, east, north = area.bounds_lonlat
    box = (west - MARGIN_DEG, south - MARGIN_DEG, east + MARGIN_DEG, north + MARGIN_DEG)
    found = cut_extracts(path, {adcode: box}, cache / "extracts" / adcode)[0]
    if found.is_empty:
        raise FetchError(f"{path}: nothing of it lies in the area of {adcode} {_rounded(box)}: is it of this place?")
    _copy(cache / "extracts" / adcode / found.file, target)
    return VectorFile(target, record | {"nodes": found.nodes, "ways": found.ways})


def _parquet(source: ParquetVectors, adcode: str, area: FetchArea, out: Path) -> VectorFile:
    target = out.with_name(f"{out.name}.parquet")
    where = source.path.replace("{adcode}", adcode)
    west, south, east, north = area.bounds_lonlat
    box = (west - MARGIN_DEG, south - MARGIN_DEG, east + MARGIN_DEG, north + MARGIN_DEG)
    endpoint = urlsplit(source.s3_endpoint) if source.s3_endpoint and "://" in source.s3_endpoint else None
    read = ParquetSource(
        where,
        overture=source.overture,
        tags=source.tags,
        rename=source.rename,
        datum=source.datum,
        storage=Storage(
            endpoint=source.s3_endpoint if endpoint is None else endpoint.netloc,
            tls=endpoint is None or endpoint.scheme == "https",
            region=source.s3_region,
            anonymous=source.s3_anonymous,
        ),
    )
    try:
        record = fetch_parquet(read, box, target)
    except VectorError as error:
        raise FetchError(public_text(str(error))) from None  # an address may be signed
    if not record["features"]:
        target.unlink()
        raise FetchError(f"{public_url(where)}: nothing of it lies in the area of {adcode} {_rounded(box)}")
    return VectorFile(target, {"kind": "parquet", "from": public_url(where), **record})


def _file(source: FileVectors, adcode: str, out: Path) -> VectorFile:
    files = _local(source, adcode)
    if len(files) > 1:
        raise FetchError(f"{source.path}: {len(files)} files fit; name one source for each")
    first = files[0]
    for part in source_files(first):
        _copy(part, out.with_name(out.name + part.name[len(first.stem) :]))
    return VectorFile(out.with_name(out.name + first.name[len(first.stem) :]), {"kind": "file", "from": first.name})


def _local(source: VectorSource, adcode: str) -> list[Path]:
    where = source.path.replace("{adcode}", adcode)
    found = [Path(p) for p in sorted(glob.glob(where))]  # noqa: PTH207 - patterns may be absolute
    if not found:
        raise FetchError(f"{public_url(where)}: no such file")
    return found


def _facts(path: Path) -> dict[str, Any]:
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file())
    return {"path": path.name, "files": [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in files]}


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as part:
        shutil.copyfile(source, part)


def _token(source: VectorSource) -> str | None:
    name = getattr(source, "token_env", None)
    return None if name is None else secret(name, wanted_by=public_url(source.path))


def _rounded(box: tuple[float, float, float, float]) -> tuple[float, ...]:
    return tuple(round(v, 4) for v in box)
