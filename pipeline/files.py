"""Files written in one step, and digests of their content."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_COMPANIONS = {
    ".shp": (".dbf", ".shx", ".prj", ".cpg", ".qpj"),
    ".tab": (".dat", ".map", ".id", ".ind"),
    ".mif": (".mid",),
    ".gml": (".gfs", ".xsd"),
    ".gpkg": (".gpkg-wal",),
    ".png": (".pgw", ".pngw", ".wld", ".prj"),
    ".jpg": (".jgw", ".jpgw", ".wld", ".prj"),
    ".jpeg": (".jgw", ".jpegw", ".wld", ".prj"),
    ".tif": (".tfw", ".tifw", ".wld", ".prj", ".tif.msk"),
    ".tiff": (".tfw", ".tiffw", ".wld", ".prj", ".tiff.msk"),
    ".jp2": (".j2w", ".jp2w", ".wld", ".prj"),
}
"""Endings, in place of the file's own, of files that belong to it and change what is read."""
_NAMED_BY_VRT = re.compile(r"<(SourceFilename|SrcDataSource|SourceDataset)\b([^>]*)>([^<]+)<")


def source_files(path: Path) -> tuple[Path, ...]:
    """All files that shape what a source says, its own first, the others sorted.

    A Shapefile has its .dbf, .shx, .prj, .cpg and .qpj; a picture its world file; any file its .aux.xml; a VRT the
    files that it names, and what those name in turn; a folder all files in it that are not hidden. Files that are not
    there are left out.
    """
    if path.is_dir():
        found = (p for p in path.rglob("*") if p.is_file())
        return tuple(sorted(p for p in found if not any(n.startswith(".") for n in p.relative_to(path).parts)))
    files = {path: None}
    _add_companions(path, files)
    return (path, *sorted(p for p in files if p != path))


def source_digest(path: Path) -> str:
    """Hex SHA-256 over all files of a source (`source_files`); of a single file that of its bytes.

    Companions count by their ending and files of a folder by their path in it, so a copy elsewhere has the same digest.
    """
    files = source_files(path)
    if files == (path,):
        return sha256_of(path)
    if path.is_dir():
        return digest_of({file.relative_to(path).as_posix(): sha256_of(file) for file in files})
    named = sorted([_ending(file, path), sha256_of(file)] for file in files[1:])
    return digest_of([sha256_of(path), *named])


def source_record(path: Path) -> dict[str, Any]:
    """Digest and size of a source for lineage, with its files where it has several."""
    files = source_files(path)
    record: dict[str, Any] = {"sha256": source_digest(path), "bytes": sum(p.stat().st_size for p in files)}
    if files != (path,):
        record["files"] = [p.relative_to(path).as_posix() if path.is_dir() else p.name for p in files]
    return record


def distinct_names(paths: Sequence[Path]) -> dict[str, Path]:
    """A name for each source: its file name, with as many folders before it as tell it from the others.

    The same path given twice is one source.
    """
    places = {Path(os.path.abspath(p)): p for p in paths}  # noqa: PTH100 - links stay what they are called
    shown: dict[str, Path] = {}
    for place, path in places.items():
        depth = 1
        while any(o != place and o.parts[-depth:] == place.parts[-depth:] for o in places):
            depth += 1
        shown["/".join(place.parts[-depth:])] = path
    return shown


def _add_companions(path: Path, files: dict[Path, None]) -> None:
    endings = _COMPANIONS.get(path.suffix.lower(), ())
    wanted = {f"{path.stem}{ending}".lower() for ending in endings} | {f"{path.name}.aux.xml".lower()}
    if path.parent.is_dir():
        for other in path.parent.iterdir():
            if other.name.lower() in wanted and other.stem.startswith(path.stem) and other.is_file():
                files[other] = None
    if path.suffix.lower() in {".vrt", ".ovf"} and path.is_file():
        for _, attributes, text in _NAMED_BY_VRT.findall(path.read_text(encoding="utf-8", errors="replace")):
            named = Path(text.strip().replace("&amp;", "&"))
            beside = path.parent / named
            place = beside if re.search(r"relativeToVRT\s*=\s*[\"']1", attributes) or beside.exists() else named
            if place.is_file() and place not in files:
                files[place] = None
                _add_companions(place, files)


def _ending(file: Path, main: Path) -> str:
    """What tells a file of a source from its main file, whatever both are called."""
    return file.name[len(main.stem) :].lower() if file.name.startswith(main.stem) else file.name


def digest_of(value: Any) -> str:
    """Hex SHA-256 of a JSON-able value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: readable, keys in the order given, one trailing newline."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, ensure_ascii=False, indent=1, default=str) + "\n", encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place when the block ends well, and vanishes when not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """An empty folder beside ``folder`` that takes its place when the block ends well, and vanishes when not.

    What stood at ``folder`` stays readable until the very end and is then removed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    retired = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if folder.exists():
            folder.rename(retired)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(retired, ignore_errors=True)
