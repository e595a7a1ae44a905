"""Makes a demo city: imagery, OpenStreetMap data, truth and districts in the layout of any other city's data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import geopandas as gpd
import shapely

from regions.demo.frame import DEFAULT_CENTER_LONLAT, Frame, make_frame
from regions.demo.layout import DemoError, District, Layout, VillagePlan, make_layout
from regions.demo.osm_table import PBF_NAME, Vectors, collect_vectors, to_geodataframe, write_pbf
from regions.demo.scenes import plan_scenes, write_scene
from regions.raster.gdal_clock import fixed_gdal_clock

DEMO_ADCODE = "990001"
DEMO_SIDE_M = 4000
DEMO_SEED = 1
Progress = Callable[[str, int, int], None]
Part = Literal["vectors", "imagery"]


@dataclass(frozen=True)
class DemoCity:
    """The files of a demo city.

    Attributes:
        folder: The city's folder.
        adcode: Its code.
        seed: Its seed.
        crs: Projected CRS of all rasters and labels.
        bounds_m: Left, bottom, right, top in that CRS.
        imagery: The two scenes.
        osm_pbf: OpenStreetMap extract, in longitude and latitude.
        aoi: Area of interest (GeoPackage, one polygon).
        uv: True urban villages (GeoPackage; columns uv_id, district, area_m2).
        districts_gpkg: Districts (GeoPackage; columns name, role, has_osm, completeness).
        blocks: Land-cover parcels (GeoPackage; columns block_id, cover, district, role).
        districts: The districts with geometry in ``crs``.
    """

    folder: Path
    adcode: str
    seed: int
    crs: str
    bounds_m: tuple[float, float, float, float]
    imagery: tuple[Path, ...]
    osm_pbf: Path
    aoi: Path
    uv: Path
    districts_gpkg: Path
    blocks: Path
    districts: tuple[District, ...]


def generate_demo_city(
    folder: Path,
    *,
    seed: int = DEMO_SEED,
    side_m: int = DEMO_SIDE_M,
    adcode: str = DEMO_ADCODE,
    center_lonlat: tuple[float, float] = DEFAULT_CENTER_LONLAT,
    crs: str | None = None,
    parts: tuple[Part, ...] = ("vectors", "imagery"),
    progress: Progress | None = None,
) -> DemoCity:
    """Make a demo city; the same arguments give the same bytes.

    Args:
        folder: Where to write; made if absent, files of the same names are replaced.
        seed: Any non-negative integer.
        side_m: Side of the square city, 1,000 to 50,000 m.
        adcode: The city's code, used in names only.
        center_lonlat: Longitude and latitude of the middle.
        crs: Projected CRS in metres; by default the UTM zone of the middle.
        parts: ``vectors`` (PBF, labels, area of interest), ``imagery`` (the scenes), or both.
        progress: Called with (what, done, of how many).

    Raises:
        DemoError: The side, the seed, the CRS or a part is not possible.
    """
    unknown = set(parts) - {"vectors", "imagery"}
    if unknown or not parts:
        raise DemoError(f"demo city parts {parts}: choose 'vectors', 'imagery' or both")
    layout = make_layout(seed=seed, side_m=side_m)
    frame = make_frame(side_m=side_m, center_lonlat=center_lonlat, crs=crs)
    for name in ("imagery", "vectors", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    city = describe(folder, layout, frame, adcode)
    if "vectors" in parts:
        vectors = collect_vectors(layout, frame, progress=_named(progress, "vectors"))
        write_pbf(vectors.osm, city.osm_pbf, progress=_named(progress, city.osm_pbf.name))
        _write_labels(city, vectors, frame)
    if "imagery" in parts:
        for scene in plan_scenes(layout):
            write_scene(layout, frame, scene, folder / "imagery", progress=_named(progress, scene.name))
    return city


def describe(folder: Path, layout: Layout, frame: Frame, adcode: str) -> DemoCity:
    """The files that a city has or will have; touches no disk."""
    moved = tuple(
        District(d.index, d.name, d.role, d.has_osm, d.completeness, to_frame(d.geometry, frame))
        for d in layout.districts
    )
    return DemoCity(
        folder=folder,
        adcode=adcode,
        seed=layout.seed,
        crs=frame.crs,
        bounds_m=frame.bounds_m,
        imagery=tuple(folder / "imagery" / scene.name for scene in plan_scenes(layout)),
        osm_pbf=folder / "vectors" / PBF_NAME,
        aoi=folder / "aoi.gpkg",
        uv=folder / "labels" / "uv.gpkg",
        districts_gpkg=folder / "labels" / "districts.gpkg",
        blocks=folder / "labels" / "blocks.gpkg",
        districts=moved,
    )


def demo_features(
    seed: int,
    side_m: int,
    *,
    center_lonlat: tuple[float, float] = DEFAULT_CENTER_LONLAT,
    crs: str | None = None,
    villages: VillagePlan | None = None,
    progress: Progress | None = None,
) -> gpd.GeoDataFrame:
    """The features of a demo city's PBF as the vector reader gives them, without any file.

    Returns:
        Columns geometry (in the city's CRS), tags (canonical JSON), source_id, source, source_date; nodes, then
        ways, then relations.
    """
    layout = make_layout(seed=seed, side_m=side_m, villages=villages)
    frame = make_frame(side_m=side_m, center_lonlat=center_lonlat, crs=crs)
    return to_geodataframe(collect_vectors(layout, frame, progress=_named(progress, "vectors")).osm, frame)


def to_frame(geometry: shapely.Geometry, frame: Frame) -> shapely.Geometry:
    """A geometry of local metres in the city's CRS."""
    return shapely.transform(geometry, lambda xy: xy + frame.origin)


def _named(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(what, done, total)


def _write_labels(city: DemoCity, vectors: Vectors, frame: Frame) -> None:
    uv, parcels = vectors.villages, vectors.parcels
    truth = [to_frame(polygon, frame) for _, polygon in uv]
    write_gpkg(
        gpd.GeoDataFrame(
            {
                "uv_id": [f"demo-{k + 1}" for k in range(len(uv))],
                "district": [d.name for d, _ in uv],
                "area_m2": [round(g.area, 1) for g in truth],
            },
            geometry=truth,
            crs=frame.crs,
        ),
        city.uv,
    )
    write_gpkg(
        gpd.GeoDataFrame(
            {
                "name": [d.name for d in city.districts],
                "role": [d.role for d in city.districts],
                "has_osm": [d.has_osm for d in city.districts],
                "completeness": [d.completeness for d in city.districts],
            },
            geometry=[d.geometry for d in city.districts],
            crs=frame.crs,
        ),
        city.districts_gpkg,
    )
    write_gpkg(
        gpd.GeoDataFrame(
            {
                "block_id": [k + 1 for k in range(len(parcels))],
                "cover": [p.cover.label for _, p in parcels],
                "district": [d.name for d, _ in parcels],
                "role": [d.role for d, _ in parcels],
            },
            geometry=[to_frame(shapely.Polygon(p.ring), frame) for _, p in parcels],
            crs=frame.crs,
        ),
        city.blocks,
    )
    write_gpkg(
        gpd.GeoDataFrame({"adcode": [city.adcode]}, geometry=[shapely.box(*frame.bounds_m)], crs=frame.crs), city.aoi
    )


def write_gpkg(frame: gpd.GeoDataFrame, path: Path) -> None:
    """Write a GeoPackage whose bytes do not depend on the day."""
    path.unlink(missing_ok=True)
    with fixed_gdal_clock("2023-06-01T00:00:00.000Z"):
        frame.to_file(path, driver="GPKG", layer=path.stem)
