"""The record of what is done, keyed by the content of the inputs.

A piece of work has a *name* (where it belongs: "block r3 c4") and a *key* (the digest of all that shapes its
result). It is done if and only if the entry of its name holds its key and the file's checksum fits. Existence of a
file alone means nothing.

On disk: ``entries/{name}.json`` and ``files/{name}-{key}.{suffix}``. Both are written beside their place and moved
there; the entry last. A process that dies leaves at most a temporary file, which the next run removes. Nothing is
flushed to the platter on purpose: a file torn by a power cut fails its checksum and is made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline.disk import writing_to
from pipeline.errors import PipelineError
from pipeline.files import remove_leftovers, replacing, sha256_of


class LedgerError(PipelineError):
    """The ledger cannot be used."""


class LedgerBusyError(LedgerError):
    """Another process works with the same ledger."""


@dataclass(frozen=True)
class Entry:
    """A finished piece of work.

    Attributes:
        name: Where it belongs.
        key: Digest of all that shaped it.
        stamp: Cheaper digest from which the key follows ("" where there is none): equal stamps mean equal keys.
        path: Its file, relative to the ledger's folder, or absolute; "" where the result is that nothing is there.
        sha256: Checksum of the file.
        size: Bytes of the file.
        note: Facts the owner wants back without opening the file.
    """

    name: str
    key: str
    stamp: str
    path: str
    sha256: str
    size: int
    note: dict[str, Any]


class Ledger:
    """The ledger in one folder. A context manager: it holds a lock while it is open.

    Attributes:
        root: The folder.
        damaged: Names whose file did not fit its checksum since the ledger was opened.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.damaged: list[str] = []
        self._lock_file: int | None = None

    def __enter__(self) -> Self:
        with writing_to(self.root):
            for folder in ("entries", "files"):
                (self.root / folder).mkdir(parents=True, exist_ok=True)
            self._lock_file = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._release()
            raise LedgerBusyError(
                f"{self.root}: another process is working here: wait for it to end, or give another work folder"
            ) from error
        for folder in ("entries", "files"):
            remove_leftovers(self.root / folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    def find(self, name: str, *, key: str | None = None, stamp: str | None = None) -> Entry | None:
        """The entry of ``name`` if it holds ``key`` (or ``stamp``) and its file is whole; None otherwise."""
        entry = self._entry(name)
        if entry is None or not ((key is not None and entry.key == key) or (stamp and entry.stamp == stamp)):
            return None
        return self._whole(entry)

    def latest(self, name: str) -> Entry | None:
        """The entry of ``name``, whatever its key, if its file is whole; None otherwise."""
        entry = self._entry(name)
        return None if entry is None else self._whole(entry)

    def path(self, entry: Entry) -> Path:
        """The file of an entry."""
        return self.root / entry.path

    def commit(
        self,
        name: str,
        data: bytes | bytearray | memoryview | None,
        *,
        key: str,
        stamp: str = "",
        suffix: str = "bin",
        note: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Keep the result of a piece of work, and forget the one that it replaces.

        Args:
            name: Where it belongs; a file name's characters only.
            data: Its bytes; None where the result is that nothing is there.
            key: Digest of all that shaped it.
            stamp: Cheaper digest from which the key follows.
            suffix: Ending of the file's name.
            note: Small facts kept in the entry.

        Raises:
            DiskFullError: naming the file, what it needs, and what is free. The ledger is as it was before.
        """
        path, sha256, size = "", "", 0
        if data is not None:
            path, sha256, size = f"files/{name}-{key[:16]}.{suffix}", hashlib.sha256(data).hexdigest(), len(data)
            self._write(self.root / path, data)
        return self._enter(Entry(name, key, stamp, path, sha256, size, dict(note or {})))

    def register(self, name: str, file: Path, *, key: str, note: Mapping[str, Any] | None = None) -> Entry:
        """Keep a result whose file lies somewhere else, such as the finished product."""
        absolute = file.resolve()
        return self._enter(
            Entry(name, key, "", str(absolute), sha256_of(absolute), absolute.stat().st_size, dict(note or {}))
        )

    def restamp(self, entry: Entry, stamp: str) -> Entry:
        """Note that an entry's key follows from another stamp too: the source was packed anew."""
        return self._enter(Entry(**(asdict(entry) | {"stamp": stamp})))

    def _enter(self, entry: Entry) -> Entry:
        old = self._entry(entry.name)
        self._write(self.root / "entries" / f"{entry.name}.json", json.dumps(asdict(entry), sort_keys=True).encode())
        if old is not None and old.path and old.path != entry.path and not Path(old.path).is_absolute():
            (self.root / old.path).unlink(missing_ok=True)
        return entry

    def _entry(self, name: str) -> Entry | None:
        try:
            return Entry(**json.loads((self.root / "entries" / f"{name}.json").read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _whole(self, entry: Entry) -> Entry | None:
        if entry.path and not self._is_whole(entry):
            self.damaged.append(entry.name)
            return None
        return entry

    def _is_whole(self, entry: Entry) -> bool:
        path = self.path(entry)
        try:
            return path.stat().st_size == entry.size and sha256_of(path) == entry.sha256
        except OSError:
            return False

    def _write(self, path: Path, data: bytes | bytearray | memoryview) -> None:
        with replacing(path, size=len(data), sweep=False) as temporary:
            temporary.write_bytes(data)
