"""What people say of a release: title, authors, keywords; read from YAML, one model for all that publish it."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from pipeline.release.errors import ReleaseError
from regions.settings import Settings, faults_of


class Creator(Settings):
    """One author.

    Attributes:
        family_names: Family name, or the name of an organisation.
        given_names: Empty for an organisation.
        affiliation: Where the author works.
        orcid: Sixteen digits in four groups, without the address.
    """

    family_names: str = Field(min_length=1)
    given_names: str = ""
    affiliation: str = ""
    orcid: str = Field(default="", pattern=r"^(\d{4}-\d{4}-\d{4}-\d{3}[\dX])?$")

    @property
    def name(self) -> str:
        """``Family, Given``, as repositories want it."""
        return f"{self.family_names}, {self.given_names}" if self.given_names else self.family_names


class ReleaseMetadata(Settings):
    """What people say of a release.

    Attributes:
        title: Of the dataset, without its version.
        description: A paragraph, plain text.
        creators: Authors, in order.
        keywords: Search words.
        communities: Communities of the repository that the record is offered to.
        publisher: Organisation that publishes; the first author where empty.
        publisher_url: Its address on the web.
        contact: Address for questions.
        repository_code: Address of the code; empty where it is not public.
        related: Identifiers (DOI or URL) of works that this one supplements, such as the paper.
        compliance: What was checked of the law on surveying and maps, in a sentence; empty where nobody did.
    """

    title: str = "Urban villages of China: outlines, attributes and accuracy"
    description: str = (
        "Outlines of urban villages (dense, informal settlements inside cities) mapped from optical imagery and map "
        "features, with attributes, a 100 m grid, city and province tables, and an assessment of the accuracy."
    )
    creators: tuple[Creator, ...] = (Creator(family_names="The uvmap authors"),)
    keywords: tuple[str, ...] = ("urban village", "informal settlement", "China", "land use", "remote sensing")
    communities: tuple[str, ...] = ()
    publisher: str = ""
    publisher_url: str = ""
    contact: str = ""
    repository_code: str = ""
    related: tuple[str, ...] = ()
    compliance: str = ""


def read_metadata(path: Path | None) -> ReleaseMetadata:
    """The metadata in a YAML file; without a file the defaults.

    Raises:
        ReleaseError: No such file, not YAML, or a field that does not fit (all are named).
    """
    if path is None:
        return ReleaseMetadata()
    try:
        return ReleaseMetadata.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except OSError as error:
        raise ReleaseError(f"{path}: cannot be read ({error}); give a YAML file with title and creators") from error
    except yaml.YAMLError as error:
        raise ReleaseError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from error
    except ValidationError as error:
        raise ReleaseError(f"{path}: {faults_of(error)}") from error
