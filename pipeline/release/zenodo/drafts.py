"""The draft of a release: made once, whatever becomes of the answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from pipeline.release.record import ReleaseRecord
from pipeline.release.zenodo.client import ZenodoClient, draft_id
from pipeline.release.zenodo.errors import ApiError, PublishError, UnreachableError
from pipeline.release.zenodo.model import Deposition, DepositMetadata
from pipeline.release.zenodo.retries import TRANSIENT
from pipeline.release.zenodo.state import PublishState, write_state

GONE = frozenset({404, 410})
LOOKS = 3
"""How often a draft is looked for that may have been made: lists of depositions run behind."""
LOOK_PAUSE_S = 1.0
PREFIXES = {"sandbox": "10.5072/", "production": "10.5281/"}
"""DOI prefixes of the two sites."""
Tell = Callable[[str], None]


def predecessor(record: ReleaseRecord, wanted: str | None, *, target: str) -> str | None:
    """Number of the record that this release is a new version of, as text; None for a first version.

    Args:
        record: A release that follows another is a new version of what that one was published as.
        wanted: What the user says: a number or a DOI, ``none`` for a first version; None where nothing was said.
        target: ``sandbox`` or ``production``.

    Raises:
        PublishError: No number, or the last release's DOI is of the other site.
    """
    if wanted == "none":
        return None
    text = None if wanted is None else wanted.strip().rstrip("/")
    if text is None:
        if record.previous is None:
            return None
        text = record.concept_doi
        if text is None or not text.startswith(PREFIXES[target]):
            raise PublishError(
                f"version {record.version} follows {record.previous}, "
                + (f"whose DOI {text} is not of the {target} site" if text else "which has no DOI")
                + ": say --new-version-of RECORD, or --new-version-of none for a first version there"
            )
    number = text.rpartition("/")[2].rpartition("zenodo.")[2]
    if not number.isdigit():
        raise PublishError(f"--new-version-of {text}: is no record; give its number or its DOI")
    return number


def open_draft(
    client: ZenodoClient, state: PublishState, path: Path, metadata: DepositMetadata, *, resumed: bool, tell: Tell
) -> Deposition:
    """The draft of a state whose phase is ``creating``: one that was made already, or a new one.

    Args:
        client: The repository.
        state: Is on disk already.
        path: Of the state; kept again with the draft's number.
        metadata: First metadata of a new draft.
        resumed: Whether an earlier run may have asked for the draft.
        tell: Called with a line per step.

    Raises:
        PublishError: There is an open draft of the record that this release did not make.
    """
    if state.new_version_of is not None:
        draft = _next_version(client, state.new_version_of, path, resumed=resumed, tell=tell)
    else:
        draft = _first_version(client, metadata.model_copy(update={"notes": state.mark}), resumed=resumed, tell=tell)
    if draft.reserved_doi is None:  # a draft of a new version gets its DOI by asking
        draft = client.set_metadata(draft.id, metadata)
    if draft.reserved_doi is None:
        raise PublishError(f"draft {draft.id}: the repository reserves no DOI for it; reserve one on the site")
    update = {"phase": "draft", "deposition": draft.id, "doi": draft.reserved_doi, "concept_doi": draft.concept_doi}
    write_state(path, state.model_copy(update=update))
    return draft


def _first_version(client: ZenodoClient, metadata: DepositMetadata, *, resumed: bool, tell: Tell) -> Deposition:
    doubt = resumed
    fault: PublishError | None = None
    for _ in range(LOOKS):
        found = _look(client, str(metadata.notes)) if doubt else []
        if len(found) > 1:
            raise PublishError(
                f"drafts {', '.join(str(d.id) for d in found)} are all of this release; delete all but one on the site"
            )
        if found:
            tell(f"draft {found[0].id} had been made; go on with it")
            return found[0]
        try:
            return client.create(metadata)
        except UnreachableError as error:
            fault = error
        except ApiError as error:
            if error.status not in TRANSIENT:
                raise
            fault = error
            time.sleep(min(30.0, error.pause_s or 0.0))
        doubt = True
    raise PublishError(f"no draft could be made: {fault}")


def _look(client: ZenodoClient, mark: str) -> list[Deposition]:
    for look in range(LOOKS):
        if look:
            time.sleep(LOOK_PAUSE_S)
        if found := client.find_drafts(mark):
            return found
    return []


def _next_version(client: ZenodoClient, record: int, path: Path, *, resumed: bool, tell: Tell) -> Deposition:
    latest = client.get(client.latest(str(record)))
    open_now = draft_id(latest)
    if open_now != latest.id and not resumed:
        draft = client.get(open_now)
        if not draft.submitted:
            path.unlink(missing_ok=True)
            raise PublishError(
                f"record {latest.id} has an open draft {draft.id} that this release did not make; publish or delete it "
                "on the site, then run the same command again"
            )
    draft = client.new_version(latest.id)
    if draft.submitted:
        raise PublishError(
            f"record {latest.id}: the repository opened no draft of a new version; look at it on the site"
        )
    tell(f"draft {draft.id}: new version of record {latest.id}")
    return draft
