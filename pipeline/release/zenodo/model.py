"""What is sent to the repository and what it answers, as typed models."""

from __future__ import annotations

import html
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.release.record import ReleaseRecord
from regions.settings import Settings


class Author(Settings):
    """One creator: ``name`` as ``Family, Given``."""

    name: str
    affiliation: str | None = None
    orcid: str | None = None


class Community(Settings):
    """A community that the record is offered to."""

    identifier: str


class Related(Settings):
    """A work that this one supplements."""

    identifier: str
    relation: Literal["isSupplementTo", "isSupplementedBy", "cites"] = "isSupplementTo"


class DepositMetadata(Settings):
    """Metadata of a deposition, as the deposit interface takes them.

    Attributes:
        title: Of the dataset.
        upload_type: Always a dataset.
        description: HTML.
        creators: At least one.
        access_right: Open.
        license: SPDX identifier in lower case.
        publication_date: ISO date.
        version: X.Y.Z.
        keywords: Search words.
        communities: Communities.
        related_identifiers: Works.
        notes: More; while a draft has no content yet, the mark by which a later run finds it again.
        language: ISO 639-3.
        prereserve_doi: The DOI is asked for before there is a record.
    """

    title: str = Field(min_length=1)
    upload_type: Literal["dataset"] = "dataset"
    description: str = Field(min_length=1)
    creators: tuple[Author, ...] = Field(min_length=1)
    access_right: Literal["open"] = "open"
    license: str
    publication_date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    version: str
    keywords: tuple[str, ...] = ()
    communities: tuple[Community, ...] = ()
    related_identifiers: tuple[Related, ...] = ()
    notes: str | None = None
    language: str = "eng"
    prereserve_doi: bool = True

    def body(self) -> dict[str, Any]:
        """The JSON body of a request."""
        return {"metadata": self.model_dump(mode="json", exclude_none=True)}


def deposit_metadata(record: ReleaseRecord, *, date: str) -> DepositMetadata:
    """The metadata of a release.

    Args:
        record: Its facts.
        date: Day of publication, ISO.
    """
    said = record.metadata
    waived = "".join(f"<li>{html.escape(w.gate)}: {html.escape(w.reason)}</li>" for w in record.waivers)
    description = (
        f"<p>{html.escape(said.description)}</p>"
        f"<p>{record.villages} villages in {len(record.cities)} cities, {record.uv_area_m2 / 1e6:.2f} km2. "
        f"Outlines: {html.escape(record.outlines_licence)}; attributes from map features: "
        f"{html.escape(record.map_licence)} (LICENSE says why). README.md says what each file is.</p>"
        + (f"<p>Checks that this release does not pass:</p><ul>{waived}</ul>" if waived else "")
    )
    return DepositMetadata(
        title=said.title,
        description=description,
        creators=tuple(
            Author(name=c.name, affiliation=c.affiliation or None, orcid=c.orcid or None) for c in said.creators
        ),
        license=record.outlines_licence.lower(),
        publication_date=date,
        version=record.version,
        keywords=said.keywords,
        communities=tuple(Community(identifier=c) for c in said.communities),
        related_identifiers=tuple(Related(identifier=r) for r in said.related),
    )


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class RemoteFile(_Answer):
    """A file that the repository holds: ``checksum`` is the MD5, with or without ``md5:`` before it."""

    id: str = ""
    filename: str
    filesize: int
    checksum: str

    @property
    def md5(self) -> str:
        """Hex MD5."""
        return self.checksum.removeprefix("md5:")


class ReservedDoi(_Answer):
    """The DOI that a draft will have."""

    doi: str
    recid: int | str


class DraftMetadata(_Answer):
    """What the repository says of a deposition."""

    title: str | None = None
    notes: str | None = None
    version: str | None = None
    prereserve_doi: ReservedDoi | None = None


class Deposition(_Answer):
    """A draft or published deposition."""

    id: int
    conceptrecid: str | int | None = None
    state: str = ""
    submitted: bool = False
    doi: str | None = None
    conceptdoi: str | None = None
    metadata: DraftMetadata = DraftMetadata()
    links: dict[str, Any] = Field(default_factory=dict)

    @property
    def reserved_doi(self) -> str | None:
        """The DOI that it has or will have."""
        reserved = self.metadata.prereserve_doi
        return self.doi or (None if reserved is None else reserved.doi)

    @property
    def concept_doi(self) -> str | None:
        """The DOI of all versions; of a first draft it is made of the concept's number, as the repository will."""
        if self.conceptdoi:
            return self.conceptdoi
        doi = self.reserved_doi
        if doi is None or self.conceptrecid is None or "zenodo." not in doi:
            return None
        return f"{doi.rpartition('zenodo.')[0]}zenodo.{self.conceptrecid}"
