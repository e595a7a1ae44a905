"""The record of a draw (`survey.json`), from the products it was drawn in, and what they say of each point."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import geopandas as gpd

    from accuracy.survey.map_strata import MapStrata
    from accuracy.survey.point_draw import DrawnPoints
    from accuracy.survey.record import CityRecord, SurveyRecord


def record_city(place: Mapping[str, Any], drawn: "DrawnPoints") -> "CityRecord":
    """What is kept of one drawn city; the product's manifest says its date and release, where there is one."""
    from accuracy.survey.record import CityRecord
    from pipeline.files import sha256_of

    rasters = place["rasters"]
    lineage = _lineage(rasters.mask.parent)
    polygons = _polygons(place)
    files = [rasters.mask, rasters.scores, *([polygons] if polygons else [])]
    counts = drawn.design["map_stratum"].value_counts().sort_index()
    draw = place["draw"]
    return CityRecord(
        city=place["city"],
        name=name_city(place["city"]),
        region=place["region"],
        map_date=str(lineage.get("image_date") or ""),
        release=str(lineage.get("release") or ""),
        pi_city=float(draw.get("pi_city", draw["n_city"] / draw["N_city"])),
        pixel_m2=float(drawn.design["pixel_m2"].iloc[0]),
        stratum_px={str(k): int(v) for k, v in drawn.stratum_px.items()},
        points={str(k): int(v) for k, v in counts.items()},
        not_predicted_px=int(drawn.not_predicted_px),
        files={path.name: sha256_of(path) for path in files},
    )


def record_survey(
    cities: list["CityRecord"], places: list[dict[str, Any]], strata: "MapStrata", *, seed: int
) -> "SurveyRecord":
    """The whole draw."""
    from importlib.metadata import version

    from accuracy.survey.record import SurveyRecord

    sizes = {p["region"]: p["draw"]["N_city"] for p in places}
    return SurveyRecord(
        seed=seed,
        frame=name_frame(sum(sizes.values()), len(sizes)),
        candidate_threshold=strata.candidate_threshold,
        buffer_m=strata.buffer_m,
        software=version("uvmap"),
        cities=tuple(cities),
    )


def add_villages(design: "gpd.GeoDataFrame", place: Mapping[str, Any], city: "CityRecord") -> "gpd.GeoDataFrame":
    """The points of one city with ``city_name``, ``map_date``, ``uv_id`` and ``village_m2`` of the village they lie in.

    The last two are missing off the map, and where the product's polygons do not lie beside its mask.
    """
    import geopandas as gpd
    import numpy as np

    from regions.raster.equal_area import equal_areas_m2

    out = design.assign(city_name=city.name or None, map_date=city.map_date or None, uv_id=None, village_m2=np.nan)
    polygons = _polygons(place)
    if polygons is None:
        return out
    villages = gpd.read_parquet(polygons).to_crs(design.crs)
    found = gpd.sjoin(design[["geometry"]], villages[["geometry"]], predicate="intersects")
    inside = found[~found.index.duplicated()]["index_right"]
    inside = inside[design.loc[inside.index, "map"].eq(1)]
    hit = villages.loc[inside.to_numpy()]
    if "uv_id" in hit.columns:
        out.loc[inside.index, "uv_id"] = hit["uv_id"].to_numpy()
    out.loc[inside.index, "village_m2"] = equal_areas_m2(hit.geometry)
    return out


def name_city(key: str) -> str:
    """English and Chinese name of a city of the registry; empty for other keys."""
    from regions.registry import UnknownCityError, city_of

    if not (key.isdecimal() and len(key) == 6):
        return ""
    try:
        city = city_of(key)
    except UnknownCityError:
        return ""
    return "" if city is None else f"{city.name_en} {city.name_zh}"


def name_frame(cities: int, regions: int) -> str:
    """The frame in words."""
    from regions.registry import national_set

    if cities == len(national_set()):
        return f"the national set of {cities} cities in {regions} regions"
    return f"{cities} cities in {regions} regions" if cities > 1 else "one city"


def _lineage(folder: Path) -> dict[str, Any]:
    from pipeline.errors import PipelineError
    from pipeline.product.files import read_manifest

    try:
        manifest = read_manifest(folder)
    except PipelineError:
        return {}
    return dict(manifest.get("inputs", {}).get("lineage", {}))


def _polygons(place: Mapping[str, Any]) -> Path | None:
    """The published polygons beside a mask named {adcode}_uv_mask.tif, or None."""
    mask: Path = place["rasters"].mask
    path = mask.with_name(mask.name.replace("_uv_mask.tif", "_uv.parquet"))
    return path if path != mask and path.exists() else None
