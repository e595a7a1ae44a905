"""The tag text encoder that a configuration names."""

from __future__ import annotations

import re
from pathlib import Path

from models.geolink.text import HashedTagEncoder, TagTable, TagTextEncoder, TagTextError


def named_text_encoder(name: str, *, path: str | Path | None = None) -> TagTextEncoder:
    """The text encoder a configuration names.

    Args:
        name: ``hashed``, ``hashed-W`` for width W, ``table`` or ``clip``.
        path: The table's file or the folder of CLIP's weights.

    Raises:
        TagTextError: an unknown name, a missing path, or files that cannot be read.
    """
    if name == "hashed":
        return HashedTagEncoder()
    if match := re.fullmatch(r"hashed-(\d+)", name):
        return HashedTagEncoder(int(match[1]))
    if name not in ("table", "clip"):
        raise TagTextError(f"text encoder {name!r} is unknown: give hashed, hashed-WIDTH, table or clip")
    if path is None:
        raise TagTextError(f"text encoder {name!r} needs a path to local files: give --text-weights")
    if name == "table":
        return TagTable.load(path)
    from models.geolink.clip_text import ClipTagEncoder  # noqa: PLC0415 - torch and transformers only here

    return ClipTagEncoder.load(path)
