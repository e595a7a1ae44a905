"""What lies in a city's data folder, by the layout in `docs/campaign.md`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from pipeline.dates import SourceDateError, parse_date
from pipeline.errors import PipelineError
from pipeline.files import source_files
from pipeline.formats import AREA_SUFFIXES, HEIGHT_SUFFIXES, RASTER_SUFFIXES, is_vector_source
from regions.datum import Datum
from regions.registry import DEMO_PREFIX

NOTES_NAME = "sources.yaml"
INVENTED_NOTE = "demo.json"
"""In a city's data that were generated: what from. Nothing in that folder is of real ground."""
DEMO_NAMES = ("labels/blocks.gpkg", INVENTED_NOTE)
"""What a demo city brings along beside its sources: land-cover parcels, and how it was made; not read here."""
_FOLDERS = ("imagery", "vectors", "labels", "heights")
_LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
_SIDECARS = (
    ".ovr", ".msk", ".aux", ".xml", ".rrd", ".ige", ".hdr", ".rpb", ".imd", ".qix", ".sbn", ".sbx", ".qml", ".qmd",
    ".gpkg-shm", ".gpkg-wal", ".prj", ".cpg", "w", ".wld", ".txt",
)  # fmt: skip
"""Endings of files that programs write beside a source of the same name; world files end in w."""


def is_invented(adcode: str, data_root: Path) -> bool:
    """Whether a city's ground was made up: a code of the demo, or data that were generated under a real one."""
    return adcode.startswith(DEMO_PREFIX) or (data_root / adcode / INVENTED_NOTE).is_file()


class MissingSourcesError(PipelineError):
    """A city's folder is absent or holds no imagery."""


class SourceNotesError(PipelineError):
    """A city's `sources.yaml` does not fit the schema."""


class SourceNotes(BaseModel):
    """What the files do not say themselves; read from `sources.yaml` in the city's folder.

    Attributes:
        imagery_crs: CRS of scenes that carry none, such as PNG with a world file.
        image_date: Date or period of the imagery, ISO 8601 (2023-04-03, 2023-04, 2023, 2023-04/2023-09); kept as
            day or first/last day.
        image_source: Provider and product.
        vectors_date: Date of the vector extract, ISO 8601.
        vectors_crs: CRS of vector files that declare none or only a local one.
        vectors_encoding: Encoding of the text of Shapefiles and other tables that is not UTF-8, such as gbk.
        vectors_datum: What the coordinates of the vectors are in truth, whatever CRS they declare.
        vectors_id: Column that identifies features, also in several pieces, of which those that touch are joined.
        default_tags: Tags of features that do not say what they are, such as {building: yes} for bare footprints.
        reference_layer: Layer of the reference file that holds the villages, where it has several.
        reference_positive: Values of villages in a mask whose values are not 0 and 1.
        imagery_licence: Terms of the imagery, as far as derived vectors are concerned.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    imagery_crs: str | None = None
    image_date: str | None = None
    image_source: str | None = None
    vectors_date: str | None = None
    vectors_crs: str | None = None
    vectors_encoding: str | None = None
    vectors_datum: Datum | None = None
    vectors_id: str | None = None
    default_tags: dict[str, str] = {}
    reference_layer: str | None = None
    reference_positive: tuple[int, ...] = ()
    imagery_licence: str | None = None

    @field_validator("image_date", "vectors_date")
    @classmethod
    def _dates_are_iso(cls, text: str | None, info: ValidationInfo) -> str | None:
        if text is None or not text.strip():
            return None
        try:
            return str(parse_date(text, str(info.field_name)))
        except SourceDateError as error:
            raise ValueError(str(error)) from error


NO_NOTES = SourceNotes()


@dataclass(frozen=True)
class CitySources:
    """The files of one city.

    Attributes:
        adcode: The city.
        imagery: Scenes; the first lies on top.
        vectors: Map features; none is a normal case.
        aoi: Area of interest, or None for the extent of the imagery.
        reference: Reference urban villages: polygons or mask rasters; none is a normal case.
        districts: Areas with a role (train, validation, assess), or None.
        heights: Building-height rasters in metres.
        notes: Dates, source and CRS that the files do not carry.
        passed_over: Files of the city's folder that are not read.
    """

    adcode: str
    imagery: tuple[Path, ...]
    vectors: tuple[Path, ...]
    aoi: Path | None
    reference: tuple[Path, ...]
    districts: Path | None
    heights: tuple[Path, ...]
    notes: SourceNotes = NO_NOTES
    passed_over: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All sources."""
        singles = [p for p in (self.aoi, self.districts) if p is not None]
        return (*self.imagery, *self.vectors, *self.reference, *self.heights, *singles)

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(p.stat().st_size for file in self.files for p in source_files(file))


def find_sources(folder: Path, adcode: str) -> CitySources:
    """The files of a city under ``folder`` (``{root}/{adcode}``).

    Hidden files, also those that macOS leaves on foreign disks (``._name``), are as if they were not there.

    Raises:
        MissingSourcesError: the folder is absent, or has no imagery.
        SourceNotesError: its `sources.yaml` has unknown or wrong fields.
    """
    if not folder.is_dir():
        raise MissingSourcesError(f"{folder}: no data folder for {adcode}; put its scenes into {folder}/imagery/")
    imagery = _files(folder / "imagery", RASTER_SUFFIXES)
    if not imagery:
        found = ", ".join(p.name for p in visible_files(folder / "imagery")[:5]) or "nothing"
        raise MissingSourcesError(
            f"{folder / 'imagery'}: no scene for {adcode} ({found} is there); expected files ending in "
            f"{', '.join(RASTER_SUFFIXES)}"
        )
    reference = _one(folder / "labels", "uv", (*AREA_SUFFIXES, *RASTER_SUFFIXES))
    sources = CitySources(
        adcode=adcode,
        imagery=imagery,
        vectors=tuple(p for p in visible_files(folder / "vectors") if is_vector_source(p)),
        aoi=_one(folder, "aoi", AREA_SUFFIXES),
        reference=() if reference is None else (reference,),
        districts=_one(folder / "labels", "districts", AREA_SUFFIXES),
        heights=_files(folder / "heights", HEIGHT_SUFFIXES),
        notes=_notes(folder / NOTES_NAME),
    )
    return replace(sources, passed_over=_passed_over(folder, sources))


def find_scenes(folder: Path, adcode: str) -> CitySources:
    """The scenes of a folder: those of a city's layout where it has ``imagery/``, else all rasters that lie in it.

    Raises:
        MissingSourcesError: there is no scene.
        SourceNotesError: as `find_sources` raises.
    """
    if (folder / "imagery").is_dir():
        return find_sources(folder, adcode)
    imagery = _files(folder, RASTER_SUFFIXES)
    if not imagery:
        raise MissingSourcesError(
            f"{folder}: neither a folder imagery/ nor a scene; expected files ending in {', '.join(RASTER_SUFFIXES)}"
        )
    return CitySources(adcode=adcode, imagery=imagery, vectors=(), aoi=None, reference=(), districts=None, heights=())


def visible_files(folder: Path) -> list[Path]:
    """What lies in a folder, sorted, without what operating systems leave there; nothing where it is no folder."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.name.lower() not in _LITTER)


def _files(folder: Path, suffixes: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(p for p in visible_files(folder) if p.is_file() and p.suffix.lower() in suffixes)


def _one(folder: Path, stem: str, suffixes: tuple[str, ...]) -> Path | None:
    """The file of a name; of several, the one whose ending comes first."""
    found = {p.name.lower(): p for p in visible_files(folder)}
    return next((found[name] for suffix in suffixes if (name := f"{stem}{suffix}") in found), None)


def _passed_over(folder: Path, sources: CitySources) -> tuple[Path, ...]:
    """Files and folders of a city's folder that are neither a source nor a part of one."""
    used = {folder / NOTES_NAME, *(folder / name for name in DEMO_NAMES)}
    for path in sources.files:
        used |= {path, *source_files(path)}
    places = [folder, *(folder / name for name in _FOLDERS)]
    there = [p for place in places for p in visible_files(place) if p not in places]
    return tuple(p for p in there if p not in used and not _belongs_to(p, sources.files))


def _belongs_to(path: Path, sources: Sequence[Path]) -> bool:
    """Whether a file is one that programs write beside a source: pyramids, statistics, indexes, styles."""
    name = path.name.lower()
    stems = {source.stem.lower() for source in sources if source.parent == path.parent}
    return name in stems or (name.endswith(_SIDECARS) and any(name.startswith(f"{stem}.") for stem in stems))


def _notes(path: Path) -> SourceNotes:
    if not path.exists():
        return SourceNotes()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceNotesError(
            f"{path}: is not UTF-8 (byte {error.start} cannot be read): save it as UTF-8{_as_gbk(path)}"
        ) from error
    try:
        data = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - builds strings only: dates stay text
    except yaml.YAMLError as error:
        raise SourceNotesError(f"{path}: no YAML: {' '.join(str(error).split())}") from error
    if data and not isinstance(data, dict):
        raise SourceNotesError(
            f"{path}: holds a {type(data).__name__}, fields such as `image_date: 2023-04-03` are needed"
        )
    try:
        return SourceNotes.model_validate(data or {})
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise SourceNotesError(f"{path}: {'; '.join(problems)}") from error


def _as_gbk(path: Path) -> str:
    try:
        path.read_bytes().decode("gb18030")
    except UnicodeDecodeError:
        return ""
    return "; it reads as GBK: `iconv -f GB18030 -t UTF-8`"
