"""How many features a GeoJSON file holds by its own text: GDAL passes over what it cannot make sense of."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pipeline.vectors.errors import VectorError

WHOLE_BYTES = 64 << 20
"""Larger files are not parsed here; their features are counted by a mark of the format."""

_FEATURE = re.compile(rb"\"type\"\s*:\s*\"Feature\"")
_LINES = frozenset({".geojsonl", ".geojsons"})


def refuse_features_passed_over(path: Path, content: Path | bytes, read: int) -> None:
    """Refuse a file of which GDAL read fewer features than it holds.

    Args:
        path: For the suffix and the message.
        content: The file, or its text as UTF-8.
        read: Features that GDAL read, wherever they lie.

    Raises:
        VectorError: fewer were read, or the text is no JSON.
    """
    if path.suffix.lower() in _LINES:
        held, trouble = _lines_of(path), "a line of it is no feature"
    else:
        held, trouble = _features_of(content)
    if held > read:
        raise VectorError(
            f"{path}: holds {held} features, of which {read} can be read ({trouble}): write the file anew from its"
            " source, or fetch it again"
        )


def _lines_of(path: Path) -> int:
    with path.open("rb") as file:
        return sum(bool(line.strip(b" \t\r\n\x1e")) for line in file)


def _features_of(content: Path | bytes) -> tuple[int, str]:
    trouble = "some are no features by their `type`, or have no geometry that is known"
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    if size <= WHOLE_BYTES:
        text = content if isinstance(content, bytes) else content.read_bytes()
        try:
            held = json.loads(text.decode("utf-8-sig", "replace"), strict=False)
        except (json.JSONDecodeError, RecursionError) as error:
            raise VectorError(
                f"its text is no JSON ({error}), of which GDAL would read a part: write the file anew from its source,"
                " or fetch it again"
            ) from error
        features = held.get("features") if isinstance(held, dict) else None
        return (len(features) if isinstance(features, list) else 1), trouble
    if isinstance(content, bytes):
        return len(_FEATURE.findall(content)), trouble
    count, rest = 0, b""
    with content.open("rb") as file:
        while piece := file.read(1 << 24):
            text = rest + piece
            found = list(_FEATURE.finditer(text))
            count += len(found)
            rest = text[max(found[-1].end() if found else 0, len(text) - 64) :]
    return count, trouble
