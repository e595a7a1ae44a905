"""Finished parts of a build: what a killed one had done is found again, and nothing stale is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.files import write_json


def make_part(folder: Path, name: str, key: str, files: Sequence[Path], write: Callable[[], None]) -> bool:
    """Call ``write`` unless the files are there from an earlier call with the same key.

    Args:
        folder: Where notes of finished parts lie.
        name: Of the part.
        key: Digest of all that decides the files' content.
        files: What ``write`` writes.
        write: Writes them.

    Returns:
        Whether they were written now.
    """
    note = folder / f"{name}.done.json"
    if note.exists():
        try:
            known = json.loads(note.read_text(encoding="utf-8"))
        except ValueError:
            known = {}
        sizes = {f.name: f.stat().st_size if f.exists() else None for f in files}
        if known == {"key": key, "sizes": sizes}:
            return False
    write()
    write_json(note, {"key": key, "sizes": {f.name: f.stat().st_size for f in files}})
    return True
