"""Where a campaign's data come from: typed sources of imagery, map features, boundaries and built-up land.

In text, ``{adcode}`` stands for the city. Secrets are never written here: ``*_env`` names the environment variable that
holds one.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from regions.datum import Datum
from regions.settings import Settings

EnvName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]


class Licence(Settings):
    """Terms of a source; they are carried into every product.

    Attributes:
        name: Its usual name or identifier, such as CC-BY-4.0.
        attribution: What must stand beside whatever is derived.
        url: Where the terms stand.
        derivatives: Whether maps may be derived; without it the source is refused.
    """

    name: str = Field(min_length=1)
    attribution: str | None = None
    url: str | None = None
    derivatives: bool

    @model_validator(mode="after")
    def _allows_maps(self) -> Self:
        if not self.derivatives:
            raise ValueError(f"licence {self.name!r} does not allow derived maps: take another source")
        return self

    def __str__(self) -> str:
        """In one line."""
        return "; ".join(t for t in (self.name, self.attribution, self.url) if t)


class LocalImagery(Settings):
    """Scenes that lie on a disk.

    Attributes:
        kind: local.
        path: A file, or a pattern such as scenes/{adcode}/*.tif.
        order: Which scene lies on top: the last name, the newest date (of its tags), or the first name.
        crs: CRS of scenes that declare none.
        datum: What their coordinates are in truth.
        date: Date or period where the scenes carry none, ISO 8601.
        licence: Terms.
    """

    kind: Literal["local"]
    path: str
    order: Literal["first", "last", "newest"] = "first"
    crs: str | None = None
    datum: Datum = "wgs84"
    date: str | None = None
    licence: Licence


class StacImagery(Settings):
    """Items of a STAC API or of a static catalog.

    Attributes:
        kind: stac.
        url: Root of the API, or a catalog or collection file; http(s) or a path.
        collections: Collections to search; all where empty.
        assets: Names of the assets that hold red, green and blue; one name where a single asset holds all three.
        bands: 1-based bands of a single asset.
        start: First day, ISO 8601.
        end: Last day.
        max_cloud: Items with more cloud (eo:cloud_cover, %) are left out.
        order: Which item lies on top: the newest or the least cloudy; what it does not cover the next one gives.
        most_items: Items that are read at most, from the top.
        composite: What a pixel shows that several items cover: the one on top, or band by band the median of all that
            see ground there (not masked, not without data).
        mask_asset: Asset whose classes say what is no ground, such as scl.
        mask_values: Its values that are left out: cloud, shadow, no data.
        token_env: Environment variable of a bearer token.
        s3_endpoint: Host of an S3-compatible storage, for assets with s3:// addresses; keys come from the environment
            (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY).
        licence: Terms.
    """

    kind: Literal["stac"]
    url: str
    collections: tuple[str, ...] = ()
    assets: tuple[str, ...] = ("red", "green", "blue")
    bands: tuple[int, ...] = (1, 2, 3)
    start: str | None = None
    end: str | None = None
    max_cloud: float = Field(default=20.0, ge=0, le=100)
    order: Literal["newest", "least_cloudy"] = "least_cloudy"
    most_items: int = Field(default=12, gt=0)
    composite: Literal["top", "median"] = "top"
    mask_asset: str | None = None
    mask_values: tuple[int, ...] = ()
    token_env: EnvName | None = None
    s3_endpoint: str | None = None
    licence: Licence

    @field_validator("assets")
    @classmethod
    def _one_or_three(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) not in {1, 3}:
            raise ValueError(f"{len(value)} assets: name the three of red, green and blue, or one that holds all")
        return value


class XyzImagery(Settings):
    """Map tiles of a server, in web mercator.

    Attributes:
        kind: xyz.
        url: Template with {z}, {x} and {y} ({-y} counts from the south, {TileMatrix}, {TileCol}, {TileRow} as in WMTS)
            and {key} where ``key_env`` is given.
        zoom: Zoom level; where None, the coarsest whose pixels are at most 0.6 of the campaign's ``grid.resolution_m``.
        tile_px: Side of a tile.
        datum: What the tiles' coordinates are in truth.
        date: Date or period of the imagery, ISO 8601: tiles do not tell.
        per_second: Requests a second at most.
        in_flight: Requests at the same time at most.
        key_env: Environment variable of the key.
        licence: Terms.
    """

    kind: Literal["xyz"]
    url: str
    zoom: int | None = Field(default=None, ge=0, le=23)
    tile_px: Literal[256, 512] = 256
    datum: Datum = "wgs84"
    date: str | None = None
    per_second: float = Field(default=50.0, gt=0)
    in_flight: int = Field(default=16, gt=0, le=64)
    key_env: EnvName | None = None
    licence: Licence

    @model_validator(mode="after")
    def _has_places(self) -> Self:
        for names in (("{z}", "{TileMatrix}"), ("{x}", "{TileCol}"), ("{y}", "{-y}", "{TileRow}")):
            if not any(n in self.url for n in names):
                raise ValueError(f"url has none of {', '.join(names)}")
        if ("{key}" in self.url) != (self.key_env is not None):
            raise ValueError("url and key_env belong together: {key} in the one, the variable's name in the other")
        return self


ImagerySource = Annotated[LocalImagery | StacImagery | XyzImagery, Field(discriminator="kind")]


class PbfVectors(Settings):
    """OpenStreetMap as PBF: a folder of extracts ({adcode}.osm.pbf, see `uvmap extracts`) or one file to cut from.

    Attributes:
        kind: pbf.
        path: Folder or file, or the http(s) address of a file.
        date: Date of the extract, ISO 8601.
        licence: Terms.
        token_env: Environment variable of a bearer token.
    """

    kind: Literal["pbf"]
    path: str
    date: str | None = None
    licence: Licence = Licence(name="ODbL-1.0", attribution="© OpenStreetMap contributors", derivatives=True)
    token_env: EnvName | None = None


class ParquetVectors(Settings):
    """GeoParquet with a covering bbox column, of which only what lies in the area is read.

    Attributes:
        kind: parquet.
        path: A file or folder, an http(s) or an s3:// address.
        overture: Overture's type (building, segment, place, ...), where the columns are Overture's.
        tags: Tags of features that have none of their own for the key, such as {building: yes}.
        rename: Columns that are tags under another key, such as {Height: height}; others are then left out.
        datum: What the coordinates are in truth.
        date: Date of the data, ISO 8601.
        licence: Terms.
        s3_endpoint: Host of an S3-compatible storage.
        s3_region: Its region.
        s3_anonymous: Without keys; else they come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY).
    """

    kind: Literal["parquet"]
    path: str
    overture: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    rename: dict[str, str] = Field(default_factory=dict)
    datum: Datum = "wgs84"
    date: str | None = None
    licence: Licence = Licence(name="ODbL-1.0", attribution="© OpenStreetMap contributors", derivatives=True)
    s3_endpoint: str | None = None
    s3_region: str | None = None
    s3_anonymous: bool = True


class FileVectors(Settings):
    """Any vector file that `uvmap map` reads, taken as it is.

    Attributes:
        kind: file.
        path: A file or pattern.
        crs: CRS of files that declare none.
        datum: What their coordinates are in truth.
        date: Date of the data, ISO 8601.
        licence: Terms.
    """

    kind: Literal["file"]
    path: str
    crs: str | None = None
    datum: Datum = "wgs84"
    date: str | None = None
    licence: Licence


VectorSource = Annotated[PbfVectors | ParquetVectors | FileVectors, Field(discriminator="kind")]


class Boundaries(Settings):
    """Boundaries of the cities.

    Attributes:
        path: A vector file.
        datum: What its coordinates are in truth: files of prefectures are often GCJ-02 and declare WGS84.
        code: Column of the codes, where it is not found by its name.
        name: Column of the names.
    """

    path: str
    datum: Datum = "wgs84"
    code: str | None = None
    name: str | None = None


class BuiltUpLand(Settings):
    """Built-up land, which with a fringe is the area of interest.

    Attributes:
        path: A raster or polygons.
        product: ghs-built-s or worldcover, whose pixels are known.
        values: Classes of another raster that are built-up.
        at_least: Amount from which a pixel of another raster is built-up.
        fringe_m: Ground this near to built-up land belongs to the area.
    """

    path: str
    product: Literal["ghs-built-s", "worldcover"] | None = None
    values: tuple[int, ...] | None = None
    at_least: float | None = None
    fringe_m: float = Field(default=1000.0, ge=0)


class Sources(Settings):
    """All sources of a city.

    Attributes:
        imagery: The first lies on top.
        vectors: Map features; none is a normal case.
        boundaries: Where cities end.
        built_up: Built-up land in them.
        areas: Areas of interest that are there already: folder of `uvmap areas`, or polygons with a column adcode.
        bounds_lonlat: West, south, east, north in degrees: the area of interest as a box, for a single city.
    """

    imagery: tuple[ImagerySource, ...] = Field(min_length=1)
    vectors: tuple[VectorSource, ...] = ()
    boundaries: Boundaries | None = None
    built_up: BuiltUpLand | None = None
    areas: str | None = None
    bounds_lonlat: tuple[float, float, float, float] | None = None

    @model_validator(mode="after")
    def _one_area(self) -> Self:
        given = [n for n in ("boundaries", "areas", "bounds_lonlat") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(
                "the area of a city comes from one of boundaries, areas and bounds_lonlat; given are"
                f" {' and '.join(given) or 'none'}"
            )
        if self.built_up is not None and self.boundaries is None:
            raise ValueError("built_up land is looked for within boundaries: give them too")
        if self.bounds_lonlat is not None:
            west, south, east, north = self.bounds_lonlat
            if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
                raise ValueError(f"bounds_lonlat {self.bounds_lonlat}: west, south, east, north in degrees")
        return self


class CitySourcesOverride(Settings):
    """What is different for one city: a list given here replaces the campaign's list.

    Attributes:
        imagery: In place of the campaign's.
        vectors: In place of the campaign's; an empty list for a city without a map.
        areas: In place of the campaign's area.
        bounds_lonlat: Likewise.
    """

    imagery: tuple[ImagerySource, ...] | None = Field(default=None, min_length=1)
    vectors: tuple[VectorSource, ...] | None = None
    areas: str | None = None
    bounds_lonlat: tuple[float, float, float, float] | None = None

    def applied(self, common: Sources) -> Sources:
        """The campaign's sources with this city's in their place."""
        values = {name: getattr(common, name) for name in Sources.model_fields}
        if self.areas is not None or self.bounds_lonlat is not None:
            values |= {"boundaries": None, "built_up": None, "areas": None, "bounds_lonlat": None}
        values |= {n: v for n in type(self).model_fields if (v := getattr(self, n)) is not None}
        return Sources(**values)
