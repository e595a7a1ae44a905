"""The facts of a release as one typed model, `release.json`: every text of the release is written from it alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from pipeline.files import write_json
from pipeline.release.errors import ReleaseError
from pipeline.release.layout import RECORD
from pipeline.release.metadata import ReleaseMetadata
from regions.settings import Settings

SCHEMA_VERSION = "1.0.0"
VERSION_PATTERN = r"^\d+\.\d+\.\d+$"


class FileFact(Settings):
    """One file: bytes, SHA-256, MD5 (hex) and licence (SPDX)."""

    bytes: int
    sha256: str
    md5: str
    licence: str


class CityFact(Settings):
    """One city of the release: its names, its figures, and what its map was made of (columns of `cities.csv`)."""

    adcode: str
    name_zh: str
    name_en: str
    province: str
    region: str
    villages: int
    uv_area_m2: float
    predicted_px: int
    not_predicted_px: int
    pixel_m2: float
    crs: str
    image_date: str | None
    image_source: str | None
    imagery_licence: str | None
    osm_date: str | None
    model_version: str
    product_release: str
    outlines_follow_map: bool
    archive: str
    west: float
    south: float
    east: float
    north: float
    mask_sha256: str
    scores_sha256: str
    polygons_sha256: str

    @property
    def not_predicted_share(self) -> float:
        """Share of the area asked for that has no prediction."""
        asked = self.predicted_px + self.not_predicted_px
        return self.not_predicted_px / asked if asked else 1.0


class Waiver(Settings):
    """A gate that failed and was passed all the same, with the reason that people are told."""

    gate: str
    reason: str = Field(min_length=1)


class Change(Settings):
    """What became of a city since the last release: counts of ids, areas in m2."""

    adcode: str
    kept: int
    new: int
    gone: int
    area_old_m2: float
    area_new_m2: float


class AccuracyFact(Settings):
    """What was assessed: the kind of assessment, its headline, that of regions, and the frozen map's files by city."""

    kind: str
    headline: dict[str, Any]
    leakage_clean: bool | None
    leakage_statement: str
    cities: dict[str, dict[str, str]]
    regions: dict[str, dict[str, Any]] = Field(default_factory=dict)


class ReleaseRecord(Settings):
    """All facts of a release.

    Attributes:
        schema_version: Of this file.
        version: Of the release, X.Y.Z.
        campaign: Name and version of the campaign.
        grid_crs: CRS of the 100 m grid as WKT 2, one line.
        grid_raster: ``shape`` and ``transform`` of the 100 m raster.
        date: Day of the release, ISO; None until it is published.
        doi: Of this version; None until one is reserved.
        concept_doi: Of all versions.
        metadata: What people say of it.
        previous: Version of the last release; None for the first.
        previous_doi: Its DOI.
        changes: City by city against the last release.
        history: The last release's CHANGELOG.
        outlines_licence: Licence (SPDX) of outlines and of what the model says of them.
        map_licence: Licence of the columns that come from map features.
        cities: Cities, in order of adcode.
        missing: Cities of the campaign that are not in the release: adcode to reason.
        definition: Settings that decide what counts as a village, by their digest, to the cities mapped with them.
        settings: The same digests to the settings themselves: ``polygons`` and ``refinement``.
        before: What the last release was made with, where there was one: ``models``, ``definitions``, ``cities``.
        model: What is known of the model: ``card`` (Markdown), ``reads_map``, ``tile_px``, ``bands``, ``architecture``.
        accuracy: None where no assessment was given.
        repaired: Outlines that reprojection had made invalid and that were mended.
        waivers: Gates that were waived.
        data: Facts of the data files (not of those in `layout.TEXTS`).
        software: Versions of what wrote the files.
    """

    schema_version: str = SCHEMA_VERSION
    version: str = Field(pattern=VERSION_PATTERN)
    campaign: dict[str, str]
    grid_crs: str
    grid_raster: dict[str, list[float]] = Field(default_factory=dict)
    date: str | None = None
    doi: str | None = None
    concept_doi: str | None = None
    metadata: ReleaseMetadata = ReleaseMetadata()
    previous: str | None = None
    previous_doi: str | None = None
    changes: tuple[Change, ...] = ()
    history: str = ""
    outlines_licence: str
    map_licence: str
    cities: tuple[CityFact, ...]
    missing: dict[str, str] = Field(default_factory=dict)
    definition: dict[str, list[str]] = Field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    before: dict[str, list[str]] = Field(default_factory=dict)
    model: dict[str, Any] = Field(default_factory=dict)
    accuracy: AccuracyFact | None = None
    repaired: int = 0
    waivers: tuple[Waiver, ...] = ()
    data: dict[str, FileFact] = Field(default_factory=dict)
    software: dict[str, str] = Field(default_factory=dict)

    @property
    def villages(self) -> int:
        """Number of villages."""
        return sum(c.villages for c in self.cities)

    @property
    def uv_area_m2(self) -> float:
        """Area of all villages, m2."""
        return sum(c.uv_area_m2 for c in self.cities)

    def write(self, folder: Path) -> None:
        """Write `release.json`."""
        write_json(folder / RECORD, self.model_dump(mode="json"))


def read_record(folder: Path) -> ReleaseRecord:
    """The record of a release.

    Raises:
        ReleaseError: The folder is no release, or its record does not fit the schema.
    """
    path = folder / RECORD
    try:
        return ReleaseRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReleaseError(f"{folder}: no {RECORD}, so this is no release; `uvmap release build` writes one") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "file"
        raise ReleaseError(f"{path}: {field}: {first['msg']}; build the release again") from error
