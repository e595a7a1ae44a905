"""SHA-256 and MD5 of the files of a release, as `sha256sum -c` and `md5sum -c` read them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.release.errors import ReleaseError
from pipeline.release.layout import MD5, SHA256, record_files

_BUFFER = 2**20


def hash_file(path: Path) -> tuple[str, str]:
    """Hex SHA-256 and MD5 of a file, read once."""
    sha, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BUFFER):
            sha.update(block)
            md5.update(block)
    return sha.hexdigest(), md5.hexdigest()


def write_checksums(folder: Path, known: dict[str, tuple[str, str]] | None = None) -> None:
    """Write both lists, of every file of the record but themselves; ``known`` digests by name are not computed anew."""
    known = known or {}
    names = [p.name for p in record_files(folder) if p.name not in {SHA256, MD5}]
    digests = {name: known[name] if name in known else hash_file(folder / name) for name in names}
    for target, which in ((SHA256, 0), (MD5, 1)):
        lines = "".join(f"{digests[name][which]}  {name}\n" for name in names)
        (folder / target).write_text(lines, encoding="utf-8")


def read_checksums(path: Path) -> dict[str, str]:
    """File names to hex digests.

    Raises:
        ReleaseError: No such file, or a line that is no checksum.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ReleaseError(f"{path}: cannot be read ({error}); build the release again") from error
    digests = {}
    for line in lines:
        digest, _, name = line.partition("  ")
        if not name:
            raise ReleaseError(f"{path}: '{line[:80]}' is no checksum; build the release again")
        digests[name] = digest
    return digests
