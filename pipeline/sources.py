"""What lies in a city's data folder, by the layout that `regions.campaign` documents."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PipelineError

IMAGERY_SUFFIXES = (".tif", ".tiff", ".vrt", ".png", ".jpg", ".jpeg")
VECTOR_SUFFIXES = (".pbf", ".osm", ".gpkg", ".geojson", ".json", ".parquet", ".fgb", ".shp")
AREA_SUFFIXES = (".gpkg", ".geojson", ".parquet", ".shp")


class MissingSourcesError(PipelineError):
    """A city's folder is absent or holds no imagery."""


@dataclass(frozen=True)
class CitySources:
    """The files of one city.

    Attributes:
        adcode: The city.
        imagery: Scenes; the first lies on top.
        vectors: Map features; none is a normal case.
        aoi: Area of interest, or None for the extent of the imagery.
        reference: Reference urban villages, or None.
        districts: Areas with a role (train, validation, assess), or None.
        heights: Building-height rasters in metres.
    """

    adcode: str
    imagery: tuple[Path, ...]
    vectors: tuple[Path, ...]
    aoi: Path | None
    reference: Path | None
    districts: Path | None
    heights: tuple[Path, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        singles = [p for p in (self.aoi, self.reference, self.districts) if p is not None]
        return sum(p.stat().st_size for p in (*self.imagery, *self.vectors, *self.heights, *singles))


def find_sources(folder: Path, adcode: str) -> CitySources:
    """The files of a city under ``folder`` (``{root}/{adcode}``).

    Raises:
        MissingSourcesError: the folder is absent, or has no imagery.
    """
    if not folder.is_dir():
        raise MissingSourcesError(f"{folder}: no data folder for {adcode}; put its scenes into {folder}/imagery/")
    imagery = _files(folder / "imagery", IMAGERY_SUFFIXES)
    if not imagery:
        raise MissingSourcesError(
            f"{folder / 'imagery'}: no scene for {adcode}; expected files ending in {', '.join(IMAGERY_SUFFIXES)}"
        )
    return CitySources(
        adcode=adcode,
        imagery=imagery,
        vectors=_files(folder / "vectors", VECTOR_SUFFIXES),
        aoi=_one(folder, "aoi"),
        reference=_one(folder / "labels", "uv"),
        districts=_one(folder / "labels", "districts"),
        heights=_files(folder / "heights", IMAGERY_SUFFIXES[:3]),
    )


def _files(folder: Path, suffixes: tuple[str, ...]) -> tuple[Path, ...]:
    if not folder.is_dir():
        return ()
    return tuple(sorted(p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in suffixes))


def _one(folder: Path, stem: str) -> Path | None:
    found = [folder / f"{stem}{suffix}" for suffix in AREA_SUFFIXES]
    return next((p for p in found if p.exists()), None)
