"""What a run has asked of the repository, written before it asks, so that the next one goes on and repeats nothing."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from pipeline.files import write_json
from pipeline.release.zenodo.errors import PublishError
from regions.settings import Settings

Phase = Literal["creating", "draft", "publishing", "published"]


class PublishState(Settings):
    """Where publishing of one version at one repository stands.

    Attributes:
        base_url: The repository.
        version: Of the release.
        mark: Stands in the notes of a draft that has just been made, so that it is found where no answer came.
        new_version_of: Number of the record that this is a new version of; None for a first version.
        date: Day of publication, ISO: a later run writes the same.
        phase: What was asked for last: it may or may not have happened.
        deposition: Number of the draft, once it is known.
        doi: Reserved.
        concept_doi: Of all versions.
    """

    base_url: str
    version: str
    mark: str
    new_version_of: int | None = None
    date: str
    phase: Phase = "creating"
    deposition: int | None = None
    doi: str | None = None
    concept_doi: str | None = None


def state_path(folder: Path, target: str) -> Path:
    """Where the state lies: beside the release, as a release that is built again keeps its draft."""
    folder = folder.resolve()
    return folder.with_name(f".{folder.name}.{target}.json")


def read_state(path: Path) -> PublishState | None:
    """The state of an earlier run; None where there was none.

    Raises:
        PublishError: The file is no state.
    """
    if not path.exists():
        return None
    try:
        return PublishState.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise PublishError(
            f"{path}: does not say where publishing stands ({error.errors()[0]['msg']}); look at your drafts there, "
            "then remove the file"
        ) from error


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Only one process at a time works with a state; the system frees the lock on any death.

    Raises:
        PublishError: Another process does.
    """
    with path.with_suffix(".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise PublishError(f"{path}: another process publishes this release; wait for it") from error
        yield


def write_state(path: Path, state: PublishState) -> None:
    """Keep a state."""
    write_json(path, state.model_dump(mode="json"))
