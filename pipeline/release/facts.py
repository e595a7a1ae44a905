"""Facts of a release that its inputs state: of cities, settings, the model and the grid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rasterio

from pipeline.files import digest_of
from pipeline.national.products import CityProduct
from pipeline.release.record import CityFact, ReleaseRecord
from pipeline.release.tables import CityPart
from regions.registry import City


def city_fact(product: CityProduct, city: City, part: CityPart, archive: str, *, follows: bool) -> CityFact:
    """A row of `cities.csv`."""
    west, south, east, north = part.bounds
    lineage = product.lineage
    return CityFact(
        adcode=product.adcode,
        name_zh=city.name_zh,
        name_en=city.name_en,
        province=city.province,
        region=city.region,
        villages=part.rows,
        uv_area_m2=product.uv_area_m2,
        predicted_px=product.predicted_px,
        not_predicted_px=product.not_predicted_px,
        pixel_m2=product.pixel_m2,
        crs=product.crs,
        image_date=lineage.get("image_date"),
        image_source=lineage.get("image_source"),
        imagery_licence=product.manifest["inputs"].get("imagery_licence"),
        osm_date=lineage.get("osm_date"),
        model_version=product.model_version,
        product_release=product.release,
        outlines_follow_map=follows,
        archive=archive,
        west=west,
        south=south,
        east=east,
        north=north,
        mask_sha256=str(product.files[product.mask.name]["sha256"]),
        scores_sha256=str(product.files[product.scores.name]["sha256"]),
        polygons_sha256=str(product.files[product.polygons.name]["sha256"]),
    )


def definitions(products: Sequence[CityProduct]) -> dict[str, list[str]]:
    """Digest of the settings that decide what is a village, to the cities that were mapped with them."""
    found: dict[str, list[str]] = {}
    for product in products:
        found.setdefault(_definition(product)[0], []).append(product.adcode)
    return found


def definition_settings(products: Sequence[CityProduct]) -> dict[str, dict[str, Any]]:
    """The settings behind the digests of `definitions`."""
    return dict(_definition(product) for product in products)


def _definition(product: CityProduct) -> tuple[str, dict[str, Any]]:
    settings = {k: product.manifest["parameters"].get(k) for k in ("polygons", "refinement")}
    return digest_of(settings)[:16], settings


def made_with(record: ReleaseRecord) -> dict[str, list[str]]:
    """What a release was made with, for the next one to say what differs: weights, digests of settings, cities."""
    return {
        "models": sorted({c.model_version for c in record.cities}),
        "definitions": sorted(record.definition),
        "cities": [c.adcode for c in record.cities],
    }


def model_facts(checkpoint: Path) -> dict[str, Any]:
    """What the checkpoint says of itself, without loading its weights (or what could).

    Returns:
        ``reads_map``: whether the model takes map features as input; yes where the checkpoint is not there to say.
        Where it is: ``tile_px``, ``bands``, ``architecture``, ``card`` (Markdown).
    """
    try:
        config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
        facts = {
            "reads_map": config.get("tag_encoder") is not None,
            "tile_px": int(config["tile_px"]),
            "bands": list(config["bands"]),
            "architecture": str(config["kind"]),
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {"reads_map": True}
    card = checkpoint / "card.md"
    return facts | ({"card": card.read_text(encoding="utf-8")} if card.exists() else {})


def raster_place(path: Path) -> dict[str, list[float]]:
    """Shape (rows, columns) and affine coefficients of a raster."""
    with rasterio.open(path) as raster:
        return {"shape": [raster.height, raster.width], "transform": list(raster.transform)[:6]}
