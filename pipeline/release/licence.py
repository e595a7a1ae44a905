"""Which licence each file of a release has: the question of what is derived from a map, answered city by city.

Columns that come from map features (`tables.MAP_COLUMNS`) are a derivative database of the map: ODbL 1.0, in files of
their own. Outlines are the model's: CC BY 4.0, as long as no map feature shaped them. Where outlines were cut at roads
or water of a map, where land use of a map was taken out of them, or where the model read the map, they hold or may hold
parts of it: all outlines of the release are then under ODbL 1.0, and what is made of them (grid, tables of areas,
tiles) with them.
"""

from __future__ import annotations

from pipeline.national.products import CityProduct
from pipeline.release.layout import ACCURACY_FILES, DICTIONARY, MAP_ATTRIBUTES
from pipeline.release.record import ReleaseRecord

OWN, MAP = "CC-BY-4.0", "ODbL-1.0"
ADDRESS = {
    OWN: "https://creativecommons.org/licenses/by/4.0/",
    MAP: "https://opendatacommons.org/licenses/odbl/1-0/",
}
SHAPERS = ("barriers", "exclusions", "roads")
"""Settings of `PolygonConfig` that take outlines from map features."""


def outlines_follow_map(product: CityProduct, *, model_reads_map: bool) -> bool:
    """Whether map features shaped, or may have shaped, the outlines of a city."""
    features = int(product.manifest["counts"].get("graph", {}).get("features", 0))
    settings = product.manifest["parameters"].get("polygons", {})
    return features > 0 and (model_reads_map or any(settings.get(name) for name in SHAPERS))


def licence_of(name: str, *, outlines: str, mapped: str = MAP) -> str:
    """Licence (SPDX) of a file of a release."""
    if name == MAP_ATTRIBUTES:
        return mapped
    if name == DICTIONARY or name in ACCURACY_FILES:
        return OWN
    if name.startswith("province_"):
        return outlines if outlines == mapped else f"{outlines} AND {mapped}"
    return outlines


def licence_text(record: ReleaseRecord) -> str:
    """The file LICENSE."""
    shaped = [c for c in record.cities if c.outlines_follow_map]
    unnamed = [c.adcode for c in record.cities if not c.imagery_licence]
    terms = sorted({c.imagery_licence for c in record.cities if c.imagery_licence})
    why = (
        f"In {len(shaped)} of {len(record.cities)} cities map features shaped the outlines, or may have: outlines were "
        "cut at roads or water of the map, land use of the map was taken out of them, or the model read the map. They "
        "hold or may hold parts of the map's database; all outlines are therefore published under ODbL 1.0."
        if shaped
        else "No map feature shaped an outline: nothing was cut at, or removed by, features of a map, and the model "
        "read imagery alone. Outlines are the work of the authors and of the model, published under CC BY 4.0."
    )
    lines = [
        f"{record.metadata.title}, version {record.version}",
        "",
        "Licences of the files",
        "---------------------",
        f"{record.outlines_licence:<11}outlines and what is made of them: urban_villages.*, density_100m.*,",
        f"{'':<11}cities.csv, provinces.csv, masks and scores in the provinces' archives, the viewer",
        f"{record.map_licence:<11}{MAP_ATTRIBUTES}, in the national files and in each archive",
        f"{OWN:<11}data dictionary, accuracy report with its sample, documentation",
        "",
        "release.json names the licence of each file. An archive is a collection of files, each under its own.",
        "",
        *(f"{name}: {address}" for name, address in ADDRESS.items()),
        "",
        "Why: what is derived from a map",
        "-------------------------------",
        why,
        "",
        f"The columns of {MAP_ATTRIBUTES} are counted and measured on map features, and are a derivative database of",
        "them: ODbL 1.0. Whoever publishes a database made of them publishes it under ODbL 1.0 too, and says:",
        "",
        "    Contains information from OpenStreetMap, (c) OpenStreetMap contributors,",
        "    made available under the Open Database License (ODbL) 1.0: https://www.openstreetmap.org/copyright",
        "",
        "Imagery",
        "-------",
        "The release holds no imagery. Terms that the sources' files state: " + ("; ".join(terms) or "none") + ".",
    ]  # fmt: skip
    if unnamed:
        lines.append(f"No terms were stated for: {', '.join(unnamed)}. Ask before you reuse what was derived there.")
    lines += ["", "No warranty: an outline is a model's answer, no statement about anybody's land or rights.", ""]
    return "\n".join(lines)
