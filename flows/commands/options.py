"""Options that several commands share: which city, which files, which grid."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypedDict, TypeVar, Unpack

import typer
from pydantic import BaseModel, ValidationError

from pipeline.city.ground import CityGround
from pipeline.city.sources import CitySources, SourceNotes, find_scenes, find_sources
from pipeline.errors import PipelineError
from regions.crs import utm_code
from regions.registry import UNREGISTERED, find_city
from regions.settings import GridConfig, PolygonConfig, RefinementConfig

GRID = GridConfig()
POLYGONS = PolygonConfig()
REFINEMENT = RefinementConfig()
"""The defaults that the options show."""

ModelT = TypeVar("ModelT", bound=BaseModel)

CityArg = Annotated[str | None, typer.Argument(help="Adcode, Chinese or English name; none with --imagery.")]
DataRoot = Annotated[Path, typer.Option(help="Folder with one folder per adcode.")]
Imagery = Annotated[list[Path] | None, typer.Option("--imagery", help="A scene; repeat for several, topmost first.")]
Vectors = Annotated[list[Path] | None, typer.Option("--vectors", help="OSM or other map features; may be repeated.")]
Aoi = Annotated[Path | None, typer.Option(help="Area of interest; the imagery's extent where not given.")]
Reference = Annotated[list[Path] | None, typer.Option("--reference", help="Reference polygons, or a mask raster.")]
ReferenceRasterCrs = Annotated[
    str | None, typer.Option("--imagery-crs", help="CRS of a mask that carries none, such as EPSG:3857.")
]
Layer = Annotated[str | None, typer.Option("--layer", help="Layer of a reference file that has several.")]
Positive = Annotated[list[int] | None, typer.Option("--positive", help="Value of villages in a mask that is not 0/1.")]
Districts = Annotated[Path | None, typer.Option(help="Areas with a column `role`: train, validation or assess.")]
ImageryCrs = Annotated[str | None, typer.Option(help="CRS of scenes that carry none, such as EPSG:3857.")]
ResolutionM = Annotated[float | None, typer.Option(help="Pixel size in metres; the imagery's own where not given.")]
DefaultTag = Annotated[list[str] | None, typer.Option(help="Tag of untagged features, such as building=yes.")]
VectorsCrs = Annotated[str | None, typer.Option(help="CRS of vectors that carry none, such as EPSG:4547.")]
VectorsEncoding = Annotated[str | None, typer.Option(help="Encoding of vectors whose text is not UTF-8: gbk, big5.")]
VectorsId = Annotated[str | None, typer.Option(help="Column that identifies features that were cut into pieces.")]
StridePx = Annotated[int, typer.Option(help="Distance between tiles; below 224 they overlap.")]
BlockPx = Annotated[int, typer.Option(help="Unit of reading and resuming.")]
TextEncoder = Annotated[
    str | None, typer.Option(help="Text model of tags: hashed, minilm, clip or table; that of the checkpoint if none.")
]
TextWeights = Annotated[
    Path | None, typer.Option(help="Folder or zip of MiniLM (else its package), folder of CLIP, or file of a table.")
]
Checkpoint = Annotated[Path, typer.Option(help="Folder of a trained model.")]


Gallery = Annotated[
    bool, typer.Option("--gallery/--no-gallery", help="Write gallery.html: map and reference side by side.")
]
MinAreaM2 = Annotated[float, typer.Option(help="Minimum mapping unit.")]
CloseGapM = Annotated[float, typer.Option(help="Gaps up to this width are closed.")]


class OptionError(PipelineError):
    """Options that do not fit each other."""


class NoteOptions(TypedDict, total=False):
    """Options that say of the files what they do not say themselves, as `sources.yaml` does."""

    imagery_crs: str | None
    default_tag: list[str] | None
    vectors_crs: str | None
    vectors_encoding: str | None
    vectors_id: str | None
    reference_layer: str | None
    reference_positive: list[int] | None


def refuse_unused(context: typer.Context, *, used: Collection[str], what: str) -> None:
    """Refuse what stands on the command line and would have no effect.

    Args:
        context: The command's, as typer gives it.
        used: Names of the parameters that have an effect.
        what: What the command is about to do, for the error.

    Raises:
        OptionError: names the options.
    """
    unused = []
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name not in used and source is not None and source.name == "COMMANDLINE":
            unused.append(max(parameter.opts, key=len) if parameter.param_type_name == "option" else "CITIES")
    if unused:
        raise OptionError(f"{what} does not use {', '.join(unused)}: leave them out")


def sources_from(
    city: str | None,
    *,
    data_root: Path,
    imagery: list[Path] | None,
    vectors: list[Path] | None,
    aoi: Path | None = None,
    reference: list[Path] | None = None,
    districts: Path | None = None,
    **notes: Unpack[NoteOptions],
) -> CitySources:
    """The files named on the command line, or those of a city under the data root.

    What an option says of the files goes before what the city's `sources.yaml` says.

    Raises:
        OptionError: neither a city nor imagery is given, or a tag is not `key=value`.
        MissingSourcesError: the city has no data.
        UnknownCityError: no such city.
    """
    said: dict[str, Any] = {name: value for name, value in notes.items() if value}
    if tags := said.pop("default_tag", None):
        said["default_tags"] = dict(_split_tag(text) for text in tags)
    if not imagery:
        if city is None:
            raise OptionError("name a city with data under --data-root, or give --imagery")
        adcode = find_city(city).adcode
        found = find_sources(data_root / adcode, adcode)
        return replace(found, notes=SourceNotes.model_validate(found.notes.model_dump() | said))
    return CitySources(
        adcode=find_city(city).adcode if city else UNREGISTERED,
        imagery=tuple(imagery),
        vectors=tuple(vectors or ()),
        aoi=aoi,
        reference=tuple(reference or ()),
        districts=districts,
        heights=(),
        notes=SourceNotes.model_validate(said),
    )


def scenes_of(name: str, *, data_root: Path, imagery_crs: str | None = None) -> CitySources:
    """The scenes of a folder, or of a city under the data root.

    Raises:
        MissingSourcesError: there is no scene.
        UnknownCityError: neither a folder nor a city.
    """
    folder = Path(name)
    if not folder.is_dir():
        return sources_from(name, data_root=data_root, imagery=None, vectors=None, imagery_crs=imagery_crs)
    found = find_scenes(folder, UNREGISTERED)
    said = {"imagery_crs": imagery_crs} if imagery_crs else {}
    return replace(found, notes=SourceNotes.model_validate(found.notes.model_dump() | said))


def _split_tag(text: str) -> tuple[str, str]:
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


def ground_from(sources: CitySources, *, work: Path, grid: GridConfig = GRID) -> CityGround:
    """The ground of files named on the command line; intermediate results go to ``work/{adcode}``."""
    return CityGround(sources=sources, crs=crs_of(sources), grid=grid, work=work / sources.adcode)


def polygons_of(*, min_area_m2: float, **values: Any) -> PolygonConfig:
    """Polygon settings from options; holes are filled up to the default size, or the unit's where that is smaller.

    Raises:
        OptionError: values that do not fit each other.
    """
    hole = min(POLYGONS.min_hole_m2, min_area_m2)
    return checked(PolygonConfig, min_area_m2=min_area_m2, min_hole_m2=hole, **values)


def grid_of(**values: Any) -> GridConfig:
    """Grid settings from options.

    Raises:
        OptionError: values that do not fit.
    """
    return checked(GridConfig, **values)


def refinement_of(**values: Any) -> RefinementConfig:
    """Refinement settings from options.

    Raises:
        OptionError: values that do not fit each other.
    """
    return checked(RefinementConfig, **values)


def checked(model: type[ModelT], **values: Any) -> ModelT:
    """Settings of any kind from options; what does not fit is said in one line.

    Raises:
        OptionError: values that do not fit.
    """
    try:
        return model(**values)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc']))} {e['msg']}".strip() for e in error.errors()]
        raise OptionError("; ".join(faults)) from error
