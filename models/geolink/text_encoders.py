"""The tag text encoder that a configuration names."""

from __future__ import annotations

import re
from pathlib import Path

from models.geolink.tag_vectors import KeptTagEncoder
from models.geolink.text import HashedTagEncoder, TagTable, TagTextEncoder, TagTextError

NAMES = "hashed, hashed-WIDTH, minilm, clip or table"


def named_text_encoder(name: str, *, path: str | Path | None = None, keep: Path | None = None) -> TagTextEncoder:
    """The text encoder a configuration names.

    Args:
        name: ``hashed``, ``hashed-W`` for width W, ``minilm``, ``table`` or ``clip``.
        path: The table's file, the folder of CLIP's weights, or the folder or zip of MiniLM's; None takes those of
            the installed package.
        keep: Folder that keeps the vectors of a text model, see `KeptTagEncoder`. Hashed vectors are made faster than
            they are read (0.06 ms a tag; MiniLM takes 2.5 ms on one core).

    Raises:
        TagTextError: an unknown name, a missing path or package, or files that cannot be read.
    """
    if match := re.fullmatch(r"hashed(-\d+)?", name):
        if path is not None:
            raise TagTextError(f"text encoder {name!r} has no weights, {path} is given: leave --text-weights out")
        return HashedTagEncoder(int(match[1][1:])) if match[1] else HashedTagEncoder()
    if name == "minilm":
        from models.geolink.sentence_text import SentenceTagEncoder  # noqa: PLC0415 - torch and transformers only here

        return _kept(SentenceTagEncoder.load(path), keep)
    if name not in ("table", "clip"):
        raise TagTextError(f"text encoder {name!r} is unknown: give {NAMES}")
    if path is None:
        raise TagTextError(f"text encoder {name!r} needs a path to local files: give --text-weights")
    if name == "table":
        return TagTable.load(path)
    from models.geolink.clip_text import ClipTagEncoder  # noqa: PLC0415 - torch and transformers only here

    return _kept(ClipTagEncoder.load(path), keep)


def text_encoder_for(
    trained_with: str | None, name: str | None, *, path: str | Path | None = None, keep: Path | None = None
) -> TagTextEncoder | None:
    """The text encoder for weights: the one that is named, else the one that they were trained with.

    Args:
        trained_with: Name in their configuration; None where their model never saw a map.
        name: What the user gives; None takes that of the training, where it needs no file or the file is given.
        path: As for `named_text_encoder`.
        keep: Idem.

    Returns:
        The encoder; None for hashed vectors, which take the width of the model, and where no map was seen.

    Raises:
        TagTextError: the encoder of the training needs files that are not given, or as `named_text_encoder`.
    """
    wanted = name or _family(trained_with)
    if wanted is None or (wanted == "hashed" and path is None):
        return None
    if name is None and path is None and wanted in ("clip", "table"):
        raise TagTextError(
            f"the weights were trained with tag text encoder {trained_with!r}: give --text-encoder clip with"
            " --text-weights, the folder it was trained with (or --text-encoder table and a table of its vectors)"
        )
    return named_text_encoder(wanted, path=path, keep=keep)


def _family(name: str | None) -> str | None:
    """What `named_text_encoder` takes, of a name that a checkpoint records."""
    if name is None or name.startswith("hashed"):
        return name and "hashed"
    return "minilm" if name == "minilm" else "clip"


def _kept(encoder: TagTextEncoder, folder: Path | None) -> TagTextEncoder:
    return encoder if folder is None else KeptTagEncoder(encoder, folder)
