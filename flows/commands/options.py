"""Options that several commands share: which city, which files, which grid."""

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from pipeline.city.job import CityJob
from pipeline.city.sources import CitySources, SourceNotes, find_sources
from pipeline.errors import PipelineError
from regions.campaign import GridSettings, PolygonSettings
from regions.crs import utm_code
from regions.registry import find_city

UNREGISTERED = "990000"
"""Adcode of an area that is no city of the registry."""

CityArg = Annotated[str | None, typer.Argument(help="Adcode, Chinese or English name; none with --imagery.")]
DataRoot = Annotated[Path, typer.Option(help="Folder with one folder per adcode.")]
Imagery = Annotated[list[Path] | None, typer.Option("--imagery", help="A scene; repeat for several, topmost first.")]
Vectors = Annotated[list[Path] | None, typer.Option("--vectors", help="OSM or other map features; may be repeated.")]
Aoi = Annotated[Path | None, typer.Option(help="Area of interest; the imagery's extent where not given.")]
Reference = Annotated[list[Path] | None, typer.Option("--reference", help="Reference polygons, or a mask raster.")]
Districts = Annotated[Path | None, typer.Option(help="Areas with a column `role`: train, validation or assess.")]
ImageryCrs = Annotated[str | None, typer.Option(help="CRS of scenes that carry none, such as EPSG:3857.")]
ResolutionM = Annotated[float | None, typer.Option(help="Pixel size in metres; the imagery's own where not given.")]
DefaultTag = Annotated[list[str] | None, typer.Option(help="Tag of untagged features, such as building=yes.")]
StridePx = Annotated[int, typer.Option(help="Distance between tiles; below 224 they overlap.")]
BlockPx = Annotated[int, typer.Option(help="Unit of reading and resuming.")]
Checkpoint = Annotated[Path, typer.Option(help="Folder of a trained model.")]


class OptionError(PipelineError):
    """Options that do not fit each other."""


def sources_from(
    city: str | None,
    *,
    data_root: Path,
    imagery: list[Path] | None,
    vectors: list[Path] | None,
    aoi: Path | None = None,
    reference: list[Path] | None = None,
    districts: Path | None = None,
    imagery_crs: str | None = None,
    default_tag: list[str] | None = None,
) -> CitySources:
    """The files named on the command line, or those of a city under the data root.

    Raises:
        OptionError: neither a city nor imagery is given, or a tag is not `key=value`.
        MissingSourcesError: the city has no data.
        UnknownCityError: no such city.
    """
    tags = dict(_tag(text) for text in default_tag or [])
    if not imagery:
        if city is None:
            raise OptionError("name a city with data under --data-root, or give --imagery")
        adcode = find_city(city).adcode
        return find_sources(data_root / adcode, adcode)
    return CitySources(
        adcode=find_city(city).adcode if city else UNREGISTERED,
        imagery=tuple(imagery),
        vectors=tuple(vectors or ()),
        aoi=aoi,
        reference=tuple(reference or ()),
        districts=districts,
        heights=(),
        notes=SourceNotes(imagery_crs=imagery_crs, default_tags=tags),
    )


def _tag(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not (key and sign and value):
        raise OptionError(f"--default-tag {text}: write key=value, such as building=yes")
    return key, value


def crs_of(sources: CitySources) -> str:
    """CRS of the grid: the registered city's, or the UTM zone of the imagery's centre."""
    if sources.adcode != UNREGISTERED:
        return find_city(sources.adcode).crs
    from pipeline.imagery.scene import inspect

    left, bottom, right, top = inspect(sources.imagery[0], crs=sources.notes.imagery_crs).bounds_in("EPSG:4326")
    return utm_code((left + right) / 2, (bottom + top) / 2)


def job_from(
    sources: CitySources,
    *,
    out: Path,
    checkpoint: Path,
    resolution_m: float | None,
    stride_px: int,
    block_px: int,
    polygons: PolygonSettings | None = None,
    batch_size: int = 8,
    symmetries: int = 1,
) -> CityJob:
    """The job of files named on the command line."""
    return CityJob(
        adcode=sources.adcode,
        sources=sources,
        crs=crs_of(sources),
        out=out / sources.adcode,
        work=out / ".work" / sources.adcode,
        checkpoint=checkpoint,
        grid=GridSettings(resolution_m=resolution_m, stride_px=stride_px, block_px=block_px, symmetries=symmetries),
        polygons=polygons or PolygonSettings(),
        batch_size=batch_size,
    )


def polygon_settings(**values: Any) -> PolygonSettings:
    """Polygon settings from options.

    Raises:
        OptionError: values that do not fit each other.
    """
    try:
        return PolygonSettings(**values)
    except ValidationError as error:
        raise OptionError("; ".join(f"{'.'.join(map(str, e['loc']))} {e['msg']}" for e in error.errors())) from error
