"""What is wrong with a file that cannot be read: cut short, or damaged, or of another format."""

from __future__ import annotations

import bz2
import struct
import zlib
from pathlib import Path

import osmium
import pyarrow as pa
import shapely
from pyproj.exceptions import ProjError

FAULTS = (
    OSError, ValueError, RuntimeError, TypeError, KeyError, IndexError, OverflowError, MemoryError, EOFError,
    struct.error, NameError,  # pyogrio: a variable that is not set where the CRS is no UTF-8
    osmium.InvalidLocationError, pa.ArrowException, shapely.errors.ShapelyError, ProjError,
)  # fmt: skip
"""What the libraries that open files raise on files that are damaged."""

_XML_CUT = ("no element found", "unclosed token", "unexpected end", "premature end")
_CUT = ("truncated", "end of file", "eof", "ended before", "unexpectedly ended", "parquet magic bytes not found")


def what_is_wrong(path: Path, error: Exception) -> str:
    """Why a file cannot be read, and what to do; ``truncated`` is said only where the file shows that it is."""
    reason = (str(error).splitlines() or [""])[0].strip() or type(error).__name__
    cut = _cut(path, reason.lower())
    if cut is not None:
        return f"the file is truncated ({cut}): fetch it again and compare its size or checksum with the source's"
    if "Unknown element in <way>: center" in reason or _is_overpass_json(path):
        return (
            "it is an answer of Overpass without outlines that can be read: ask for `[out:xml]` and"
            " `out body; >; out skel qt;`"
        )
    reason = reason.partition("; It might help")[0]
    return f"{reason}; it is damaged or of another format: look at it with `ogrinfo -al -so`, or fetch it again"


def _cut(path: Path, reason: str) -> str | None:  # noqa: PLR0911 -- one answer for each format
    if not path.is_file():
        return None
    size = path.stat().st_size
    if size == 0:
        return "it has no bytes"
    with path.open("rb") as file:
        head = file.read(100)
        file.seek(max(0, size - 4096))
        tail = file.read()
    if head.startswith(b"SQLite format 3\0"):
        page = int.from_bytes(head[16:18], "big")
        declared = (65536 if page == 1 else page) * int.from_bytes(head[28:32], "big")
        return f"{size} bytes of {declared} that its header declares" if declared > size else None
    if head.startswith(b"PAR1"):
        return None if tail.endswith(b"PAR1") else "its last part is missing"
    if head.startswith((b"\x1f\x8b", b"BZh")):
        return "its compressed data ends too early" if _stops_early(path, gz=head[0] == 0x1F) else None
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        return None if tail.rstrip(b" \t\r\n\0\x1e")[-1:] in {b"}", b"]"} else "its last bracket is missing"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "its last element is not closed" if any(mark in reason for mark in _XML_CUT) else None
    if path.name.lower().endswith((".pbf", ".fgb")):
        return reason if any(mark in reason for mark in _CUT) else None
    return None


def _is_overpass_json(path: Path) -> bool:
    if path.suffix.lower() not in {".json", ".geojson"}:
        return False
    with path.open("rb") as file:
        head = file.read(4096)
    return b'"elements"' in head and (b'"generator"' in head or b'"version"' in head)


def _stops_early(path: Path, *, gz: bool) -> bool:
    """Whether a gzip or bzip2 file has no end to its last stream."""
    machine = zlib.decompressobj(31) if gz else bz2.BZ2Decompressor()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                machine.decompress(piece)
                if machine.eof:
                    return False
    except (OSError, zlib.error, EOFError):
        return False
    return True
