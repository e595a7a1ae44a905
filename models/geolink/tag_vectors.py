"""Vectors of tags kept in a file, so that a text model reads each tag once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.geolink.text import Tag, TagTable, TagTextEncoder, TagTextError


@dataclass(frozen=True)
class KeptTagEncoder:
    """A text encoder whose vectors are kept in ``folder``, in one table per digest of the encoder.

    Name, width, digest and vectors are those of the encoder. A table that cannot be read is made anew.

    Attributes:
        encoder: What encodes tags that the table lacks.
        folder: Made if needed.
    """

    encoder: TagTextEncoder
    folder: Path

    @property
    def name(self) -> str:
        """That of the encoder."""
        return self.encoder.name

    @property
    def width(self) -> int:
        """That of the encoder."""
        return self.encoder.width

    @property
    def digest(self) -> str:
        """That of the encoder."""
        return self.encoder.digest

    @property
    def path(self) -> Path:
        """File of the table."""
        return self.folder / f"tags-{self.encoder.digest[:16]}.safetensors"

    def encode(self, tags: Sequence[Tag]) -> NDArray[np.float32]:
        """Vectors float32 (n, width); tags that are new go through the encoder and into the table."""
        kept = self._read()
        missing = sorted({tag for tag in tags if tag not in kept.rows})
        if missing:
            kept = _joined(kept, TagTable.build(missing, self.encoder))
            self._write(kept)
        return kept.encode(tags)

    def _read(self) -> TagTable:
        try:
            table = TagTable.load(self.path)
        except TagTextError:
            table = None
        if table is None or table.digest != self.digest or table.width != self.width:
            return TagTable(self.name, self.digest, np.zeros((0, self.width), np.float32), {})
        return table

    def _write(self, table: TagTable) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.folder, prefix=f".{self.path.stem}.", suffix=".tmp")
        os.close(handle)
        try:
            table.save(name)
            Path(name).replace(self.path)
        finally:
            Path(name).unlink(missing_ok=True)


def _joined(first: TagTable, second: TagTable) -> TagTable:
    """Both tables, rows in the order of the tags: the same tags give the same bytes, whenever they came."""
    vectors = np.concatenate([first.vectors, second.vectors])
    place = {tag: k for k, tag in enumerate([*first.rows, *second.rows])}
    tags = sorted(place)
    return TagTable(
        second.encoder_name,
        second.encoder_digest,
        np.ascontiguousarray(vectors[[place[tag] for tag in tags]]),
        {tag: k for k, tag in enumerate(tags)},
    )
