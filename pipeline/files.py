"""Files written in one step, and digests of their content."""

import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from pipeline.disk import exchange, writing_to


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
    ".webp": (".wld", ".prj"),
    ".img": (".hdr", ".ige", ".rrd"),
    ".dat": (".hdr", ".dat.hdr"),
    ".bil": (".hdr", ".blw", ".prj"),
    ".bip": (".hdr", ".bpw", ".prj"),
    ".bsq": (".hdr", ".bqw", ".prj"),
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
    """Hex SHA-256 of a JSON value in canonical form: keys sorted, no blanks.

    Raises:
        TypeError: Something in it is no JSON value. A path or a date must be given as the text that is meant: its own
            text could hold more (such as the folder) than what the digest should tell apart.
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: readable, keys in the order given, one trailing newline."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, ensure_ascii=False, indent=1, default=str) + "\n", encoding="utf-8")


@contextmanager
def replacing(path: Path, *, size: int = 0, sweep: bool = True) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place when the block ends well, and vanishes when not.

    Others see the old file or the new one, never a part. A process that is killed leaves at most the temporary file,
    hidden and named after it, which the next call on the same host removes. Nothing is flushed to the platter: a power
    cut can tear a file, which is why results are found again by their checksum.

    Args:
        path: The file; its folder is made.
        size: Bytes that will be needed, for the error message.
        sweep: Look for what killed processes left. Without it nothing is listed, for folders of very many files whose
            owner calls `remove_leftovers` once.

    Raises:
        DiskFullError: No space is left.
    """
    temporary = path.with_name(f".{path.stem}.{_writer()}{_TEMPORARY}{path.suffix}")
    try:
        with writing_to(path, size=size):
            path.parent.mkdir(parents=True, exist_ok=True)
            for left in _left_by_the_dead(path.parent, path.stem) if sweep else ():
                left.unlink(missing_ok=True)
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """An empty folder beside ``folder`` that takes its place when the block ends well, and vanishes when not.

    On Linux's own file systems the two change places in one step, and what stood at ``folder`` is then removed: others
    see the old folder or the new one, whole, at every moment. Where the file system cannot do that (NFS, for example),
    there is a moment between two renames at which nothing stands at ``folder``; what a process killed just then left is
    put back by the next call on the same host (`recover_folder`). A link to a folder stays, and its target is replaced.

    Raises:
        DiskFullError: No space is left.
    """
    folder = folder.resolve() if folder.is_symlink() else folder
    with writing_to(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    recover_folder(folder)
    temporary = folder.with_name(f".{folder.name}.{_writer()}{_TEMPORARY}")
    retired = folder.with_name(temporary.name.removesuffix(_TEMPORARY) + _RETIRED)
    try:
        with writing_to(folder):
            temporary.mkdir()
            yield temporary
            if not folder.exists():
                temporary.rename(folder)
            elif not exchange(temporary, folder):
                folder.rename(retired)
                temporary.rename(folder)
    finally:
        if retired.exists() and not folder.exists():
            retired.rename(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(retired, ignore_errors=True)


def recover_folder(folder: Path) -> None:
    """Put back the folder that a killed `replacing_folder` had moved away, and remove what such processes left."""
    for path in _left_by_the_dead(folder.parent, folder.name):
        if path.name.endswith(_RETIRED) and not folder.exists():
            path.rename(folder)
        else:
            shutil.rmtree(path, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files in a folder that killed `replacing` left. Nobody else may be writing there."""
    for path in folder.glob(f".*{_TEMPORARY}*"):
        path.unlink(missing_ok=True)


_TEMPORARY, _RETIRED = ".tmp", ".old"
_numbers = count()


def _writer() -> str:
    """Who writes, for names of temporary files: host, process, and a number, as one process may write from threads."""
    return f"{socket.gethostname()}-{os.getpid()}-{next(_numbers)}"


def _left_by_the_dead(parent: Path, name: str) -> list[Path]:
    """Temporary and retired files or folders of ``name`` that a process of this host left which is no more, sorted."""
    pattern = re.compile(rf"\.{re.escape(name)}\.{re.escape(socket.gethostname())}-(\d+)-\d+(\.tmp|\.old)")
    found = ((path, pattern.match(path.name)) for path in (parent.iterdir() if parent.is_dir() else ()))
    return sorted(path for path, match in found if match and not _is_alive(int(match[1])))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is there, but another user's
    return True
