"""Stamps of whole files: bytes where they are at hand, what the server states where they are not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import httpx

from pipeline.imagery.errors import UnreadableImageryError

TIMEOUT_S = 30.0


def is_remote(path: str) -> bool:
    """Whether a path is an address rather than a local file."""
    return path.startswith(("http://", "https://", "/vsicurl/"))


def file_stamp(path: str, files: Sequence[str]) -> str:
    """The stamp of a scene that is digested as a whole.

    Args:
        path: The scene.
        files: All files it consists of, as GDAL names them (world file, mask, sources of a VRT).

    Raises:
        UnreadableImageryError: where a file or the server cannot be read.
    """
    if is_remote(path):
        return _remote_stamp(path.removeprefix("/vsicurl/"))
    digest = hashlib.sha256()
    for name in sorted(set(files) | {path}):
        try:
            with Path(name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise UnreadableImageryError(f"{name}: part of {path}, cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _remote_stamp(url: str) -> str:
    try:
        answer = httpx.head(url, follow_redirects=True, timeout=TIMEOUT_S)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise UnreadableImageryError(f"{url}: the server does not answer for it: {error}") from error
    facts = [answer.headers.get(h) for h in ("etag", "content-length", "last-modified")]
    if facts[0] is None and facts[2] is None:
        raise UnreadableImageryError(
            f"{url}: the server states neither ETag nor Last-Modified, so a change could not be noticed: download it"
        )
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
