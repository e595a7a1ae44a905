"""Files of a release into a draft: each once, checked by MD5, found again by the next run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.release.checksums import hash_file, read_checksums
from pipeline.release.errors import ReleaseTooLargeError
from pipeline.release.layout import MAX_BYTES, MAX_FILES, MD5, SHA256, record_files, size_text
from pipeline.release.zenodo.client import ZenodoClient
from pipeline.release.zenodo.errors import ApiError, PublishError, UnreachableError
from pipeline.release.zenodo.model import Deposition, RemoteFile
from pipeline.release.zenodo.retries import TRANSIENT, pause_after

ATTEMPTS = 5
TOLD_S = 10.0
"""Between two lines on how much of a large file is on its way."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class LocalFile:
    """A file of the record: where it is, bytes, hex MD5."""

    path: Path
    bytes: int
    md5: str

    def is_held(self, remote: RemoteFile | None) -> bool:
        """Whether the repository has it, whole."""
        return remote is not None and remote.filesize == self.bytes and remote.md5 == self.md5


@dataclass(frozen=True)
class TransferPlan:
    """What has to be done so that a draft holds the files of a release.

    Attributes:
        send: To be sent, the smallest first.
        held: Names of those that are there already.
        remove: Names that the draft has and the release has not.
    """

    send: tuple[LocalFile, ...]
    held: tuple[str, ...]
    remove: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Bytes to be sent."""
        return sum(f.bytes for f in self.send)


def local_manifest(folder: Path) -> dict[str, LocalFile]:
    """Files of a release by name, with the MD5 that its list states.

    Raises:
        PublishError: A file is in the list and not in the folder, or the other way round.
        ReleaseTooLargeError: More files or bytes than a record takes.
    """
    listed = read_checksums(folder / MD5)
    files = record_files(folder)
    own = {SHA256, MD5}
    differ = sorted({p.name for p in files} - own ^ set(listed))
    if differ:
        raise PublishError(
            f"{folder}: {', '.join(differ[:5])}: in the folder or in {MD5}, not in both; build the release again"
        )
    size = sum(p.stat().st_size for p in files)
    if len(files) > MAX_FILES or size > MAX_BYTES:
        raise ReleaseTooLargeError(
            f"{folder}: {len(files)} files, {size / 1e9:.1f} GB; a record takes {MAX_FILES} files and "
            f"{MAX_BYTES / 1e9:.0f} GB"
        )
    return {p.name: LocalFile(p, p.stat().st_size, hash_file(p)[1] if p.name in own else listed[p.name]) for p in files}


def plan_transfer(local: Mapping[str, LocalFile], remote: Mapping[str, RemoteFile]) -> TransferPlan:
    """What is to be sent and removed."""
    held = tuple(sorted(n for n, f in local.items() if f.is_held(remote.get(n))))
    send = sorted((f for n, f in local.items() if n not in held), key=lambda f: (f.bytes, f.path.name))
    return TransferPlan(tuple(send), held, tuple(sorted(set(remote) - set(local))))


def transfer_files(
    client: ZenodoClient, draft: Deposition, local: Mapping[str, LocalFile], *, tell: Tell = lambda _: None
) -> TransferPlan:
    """Make a draft hold exactly these files.

    Returns:
        What had to be done.

    Raises:
        PublishError: A file cannot be sent, or arrives changed every time.
    """
    plan = plan_transfer(local, client.files(draft.id))
    if plan.held:
        tell(f"{len(plan.held)} of {len(local)} files are there already")
    for name in plan.remove:
        tell(f"remove {name}: not of this release")
        client.delete_file(draft, name)
    for number, file in enumerate(plan.send, 1):
        tell(f"send {number} of {len(plan.send)}: {file.path.name}, {size_text(file.bytes)}")
        send_file(client, draft, file, tell=tell)
    return plan


def send_file(client: ZenodoClient, draft: Deposition, file: LocalFile, *, tell: Tell = lambda _: None) -> None:
    """Send one file until it is there, whole; after every fault the draft is asked whether it had arrived.

    Raises:
        PublishError: It did not arrive in `ATTEMPTS` attempts, or was refused.
    """
    last: PublishError | None = None
    for attempt in range(ATTEMPTS):
        try:
            client.upload(draft, file.path, md5=file.md5, tell=_shares(file, tell))
        except (ApiError, UnreachableError) as error:
            status = error.status if isinstance(error, ApiError) else None
            if status is not None and status not in {200, *TRANSIENT}:
                raise
            last = error
        else:
            return
        if attempt + 1 == ATTEMPTS:
            break
        asked = last.pause_s if isinstance(last, ApiError) else None
        pause_s = pause_after(attempt, asked)
        tell(f"{file.path.name}: {last}; again in {pause_s:.1f} s")
        time.sleep(pause_s)
        if file.is_held(client.files(draft.id).get(file.path.name)):
            return
    raise PublishError(f"{file.path.name}: {ATTEMPTS} attempts, the last: {last}")


def _shares(file: LocalFile, tell: Tell) -> Callable[[int], None]:
    """Says every `TOLD_S` seconds how much of a file is on its way."""
    last = time.monotonic()

    def sent(count: int) -> None:
        nonlocal last
        if time.monotonic() - last >= TOLD_S:
            last = time.monotonic()
            tell(f"{file.path.name}: {count / 1e6:.0f} of {file.bytes / 1e6:.0f} MB")

    return sent


def differences(local: Mapping[str, LocalFile], remote: Mapping[str, RemoteFile]) -> list[str]:
    """Where the files that the repository lists are not those of the release: names, bytes, MD5."""
    faults = [f"{n}: not of this release" for n in sorted(set(remote) - set(local))]
    for name, file in sorted(local.items()):
        other = remote.get(name)
        if other is None:
            faults.append(f"{name}: not there")
        elif other.filesize != file.bytes:
            faults.append(f"{name}: {other.filesize} bytes there, {file.bytes} here")
        elif other.md5 != file.md5:
            faults.append(f"{name}: MD5 {other.md5} there, {file.md5} here")
    return faults
