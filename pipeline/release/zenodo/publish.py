"""From a release on disk to a record: draft, DOI in all texts, files, metadata, and, where asked, publication."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.release.record import ReleaseRecord, read_record
from pipeline.release.seal import seal_release
from pipeline.release.zenodo.client import ZenodoClient
from pipeline.release.zenodo.drafts import GONE, open_draft, predecessor
from pipeline.release.zenodo.errors import ApiError, PublishError, UnreachableError
from pipeline.release.zenodo.model import Deposition, deposit_metadata
from pipeline.release.zenodo.retries import TRANSIENT, pause_after
from pipeline.release.zenodo.state import PublishState, alone, read_state, state_path, write_state
from pipeline.release.zenodo.transfer import LocalFile, TransferPlan, differences, local_manifest, transfer_files

ATTEMPTS = 5
Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class PublishRequest:
    """What is asked for.

    Attributes:
        folder: The release.
        target: ``sandbox`` or ``production``.
        publish: Publish the draft; otherwise it stays one, for people to look at.
        new_version_of: See `predecessor`.
    """

    folder: Path
    target: str = "sandbox"
    publish: bool = False
    new_version_of: str | None = None


@dataclass(frozen=True)
class Published:
    """What became of it.

    Attributes:
        state: As it is on disk.
        deposition: As the repository has it.
        sent: Names of the files that this run sent.
        held: Names of those that were there.
        removed: Names of files that were taken out of the draft.
        reconciled: Whether publishing was answered by an error and had happened all the same.
    """

    state: PublishState
    deposition: Deposition
    sent: tuple[str, ...]
    held: tuple[str, ...]
    removed: tuple[str, ...]
    reconciled: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        links = self.deposition.links
        return {
            "repository": self.state.base_url,
            "deposition": self.state.deposition,
            "version": self.state.version,
            "doi": self.state.doi,
            "concept_doi": self.state.concept_doi,
            "published": self.state.phase == "published",
            "date": self.state.date,
            "page": links.get("record_html") or links.get("html") or links.get("latest_html"),
            "sent": list(self.sent),
            "held": list(self.held),
            "removed": list(self.removed),
            "reconciled": self.reconciled,
        }


def publish_release(client: ZenodoClient, request: PublishRequest, *, tell: Tell = lambda _: None) -> Published:
    """Bring a release into a draft and, where asked, publish it; a run that was stopped goes on where it was.

    Args:
        client: The repository.
        request: What is asked for.
        tell: Called with a line per step.

    Raises:
        PublishError: What the repository holds is not the release, or it refuses something; no record is made.
    """
    path = state_path(request.folder, request.target)
    run = _Run(client, request, path, tell)
    with alone(path):
        try:
            return run.finish()
        except ApiError as error:
            if error.status not in GONE or not run.draft_is_gone():
                raise
        tell("the draft is gone (expired, or deleted on the site): begin a new one, with a DOI of its own")
        path.unlink(missing_ok=True)
        return run.finish()


def stamp_release(folder: Path, *, doi: str, concept_doi: str | None, date: str) -> ReleaseRecord:
    """Write a reserved DOI and the day of publication into every text of a release; its checksums are made anew.

    The same release, DOI and day give the same bytes.
    """
    stamp = {"doi": doi, "concept_doi": concept_doi, "date": date}
    stamped = read_record(folder).model_copy(update=stamp)
    seal_release(folder, stamped)
    return stamped


def publication_date(record: ReleaseRecord) -> str:
    """The day that a build was given; today where there is none, or it is that of a publication elsewhere."""
    given = record.date if record.doi is None else None
    return given or datetime.now(UTC).date().isoformat()


class _Run:
    """One run of `publish_release`."""

    def __init__(self, client: ZenodoClient, request: PublishRequest, path: Path, tell: Tell) -> None:
        self._client, self._request, self._path, self._tell = client, request, path, tell

    def finish(self) -> Published:
        """All steps."""
        record = read_record(self._request.folder)
        state, resumed = self._state(record)
        if state.deposition is None:
            metadata = deposit_metadata(record, date=state.date)
            draft = open_draft(self._client, state, self._path, metadata, resumed=resumed, tell=self._tell)
        else:
            draft = self._client.get(state.deposition)
        state = read_state(self._path) or state
        if draft.submitted:
            return self._published(state, draft, self._local(state), None, reconciled=state.phase == "publishing")
        if state.phase == "published":
            raise PublishError(
                f"record {draft.id} was published and is open for changes on the site; finish or discard them there"
            )
        self._tell(f"draft {draft.id} at {state.base_url}, DOI {state.doi}")
        local = self._local(state)
        plan = transfer_files(self._client, draft, local, tell=self._tell)
        record = read_record(self._request.folder)
        self._client.set_metadata(draft.id, deposit_metadata(record, date=state.date))
        self._compare(draft, local)
        self._tell(f"{len(local)} files there, names, bytes and MD5 as here")
        if not self._request.publish:
            return Published(state, draft, tuple(f.path.name for f in plan.send), plan.held, plan.remove, False)
        reconciled = self._publish(state, draft)
        return self._published(state, self._client.get(draft.id), local, plan, reconciled=reconciled)

    def draft_is_gone(self) -> bool:
        """Whether the draft of the state is no more, and was not published."""
        state = read_state(self._path)
        if state is None or state.deposition is None or state.phase == "published":
            return False
        try:
            self._client.get(state.deposition)
        except ApiError as error:
            return error.status in GONE
        return False

    def _state(self, record: ReleaseRecord) -> tuple[PublishState, bool]:
        """The state of an earlier run, or a new one that is on disk before anything is asked for."""
        state = read_state(self._path)
        if state is not None:
            if state.base_url != self._client.base_url:
                raise PublishError(
                    f"{self._path}: this release has draft {state.deposition} at {state.base_url}, not at "
                    f"{self._client.base_url}; go on there, or delete that draft and the file"
                )
            if state.version == record.version:
                return state, True
            if state.phase != "published":
                raise PublishError(
                    f"{self._path}: draft {state.deposition} of version {state.version} is open, the folder holds "
                    f"{record.version}; publish or delete that draft, then remove the file"
                )
        wanted = predecessor(record, self._request.new_version_of, target=self._request.target)
        state = PublishState(
            base_url=self._client.base_url,
            version=record.version,
            mark=f"draft of {record.version}, run {secrets.token_hex(8)}",
            new_version_of=None if wanted is None else int(wanted),
            date=publication_date(record),
        )
        write_state(self._path, state)
        return state, False

    def _local(self, state: PublishState) -> dict[str, LocalFile]:
        if state.doi is None:
            raise PublishError(f"{self._path}: no DOI is known of draft {state.deposition}; look at it on the site")
        stamp_release(self._request.folder, doi=state.doi, concept_doi=state.concept_doi, date=state.date)
        return local_manifest(self._request.folder)

    def _compare(self, deposition: Deposition, local: dict[str, LocalFile]) -> None:
        faults = differences(local, self._client.files(deposition.id))
        if faults:
            raise PublishError(
                f"deposition {deposition.id} does not hold this release: {'; '.join(faults[:5])}"
                + (f" and {len(faults) - 5} more" if len(faults) > 5 else "")
                + ("" if deposition.submitted else "; nothing is published, run the same command again")
            )

    def _publish(self, state: PublishState, draft: Deposition) -> bool:
        """Ask until the repository says that it is a record; returns whether an error had said otherwise."""
        write_state(self._path, state.model_copy(update={"phase": "publishing"}))
        fault: PublishError | None = None
        for attempt in range(ATTEMPTS):
            try:
                self._client.publish(draft.id)
            except (ApiError, UnreachableError) as error:
                fault = error
            else:
                return False
            if self._client.get(draft.id).submitted:
                self._tell(f"publishing was answered by an error, and has happened: {fault}")
                return True
            if isinstance(fault, ApiError) and fault.status not in TRANSIENT:
                break
            asked = fault.pause_s if isinstance(fault, ApiError) else None
            time.sleep(pause_after(attempt, asked))
            if self._client.get(draft.id).submitted:
                return True
        write_state(self._path, state.model_copy(update={"phase": "draft"}))
        raise PublishError(f"draft {draft.id} is not published: {fault}")

    def _published(
        self,
        state: PublishState,
        record: Deposition,
        local: dict[str, LocalFile],
        plan: TransferPlan | None,
        *,
        reconciled: bool,
    ) -> Published:
        """Make sure that the record is this release, and keep that it is published."""
        if not record.submitted:
            raise PublishError(
                f"deposition {record.id}: publishing was answered well, but it is still a draft; run again"
            )
        self._compare(record, local)
        if record.doi is not None and record.doi != state.doi:
            raise PublishError(
                f"record {record.id} has DOI {record.doi}, its files say {state.doi}: ask the site's support"
            )
        state = state.model_copy(update={"phase": "published"})
        write_state(self._path, state)
        self._tell(f"published: {state.doi}")
        if plan is None:
            return Published(state, record, (), tuple(sorted(local)), (), reconciled)
        return Published(state, record, tuple(f.path.name for f in plan.send), plan.held, plan.remove, reconciled)
