"""The STAC catalog of a release: a catalog, a collection, an item for the nation, the model and each province.

All lie flat beside the data, so that their links hold in a record of a repository too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.dates import parse_date
from pipeline.files import write_json
from pipeline.release import layout
from pipeline.release.grid import NOT_MAPPED
from pipeline.release.licence import ADDRESS, OWN, licence_of
from pipeline.release.record import CityFact, FileFact, ReleaseRecord
from pipeline.release.texts import WHAT

EXTENSIONS = {
    name: f"https://stac-extensions.github.io/{name}/v{version}/schema.json"
    for name, version in (
        ("file", "2.1.0"), ("projection", "2.0.0"), ("raster", "1.1.0"), ("version", "1.2.0"), ("mlm", "1.4.0"),
        ("scientific", "1.0.0"),
    )
}  # fmt: skip
MEDIA = {
    ".parquet": "application/vnd.apache.parquet",
    ".gpkg": "application/geopackage+sqlite3",
    ".pmtiles": "application/vnd.pmtiles",
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".csv": "text/csv",
    ".zip": "application/zip",
    ".json": "application/json",
    ".html": "text/html",
    ".md": "text/markdown",
}
"""Media types by ending."""
EVER = ("1970-01-01T00:00:00Z", "2099-12-31T23:59:59Z")
ID = "uvmap"


def write_stac(folder: Path, record: ReleaseRecord, *, grid: Mapping[str, Any] | None) -> None:
    """Write catalog, collection and items.

    Args:
        folder: The release; its data files are facts of the record.
        record: The facts.
        grid: ``shape`` and ``transform`` of the 100 m raster.
    """
    provinces = _provinces(record)
    collection = _identifier(record)
    items = [
        _national(record, grid),
        _model(record),
        *(_province(record, code, cities) for code, cities in provinces.items()),
    ]
    for item in items:
        write_json(folder / layout.item_file(_short(item["id"])), item | {"links": [
            *_links(layout.COLLECTION, record), {"rel": "collection", "href": f"./{layout.COLLECTION}",
                                                 "type": MEDIA[".json"], "title": record.metadata.title},
            *item["links"],
        ], "collection": collection})  # fmt: skip
    names = {layout.item_file(_short(item["id"])): item["properties"]["title"] for item in items}
    write_json(folder / layout.COLLECTION, _collection(record, collection, names))
    write_json(
        folder / layout.CATALOG,
        {
            "type": "Catalog",
            "id": ID,
            "stac_version": "1.1.0",
            "title": record.metadata.title,
            "description": record.metadata.description,
            "links": [
                _link("root", layout.CATALOG, record.metadata.title),
                _link("child", layout.COLLECTION, f"{record.metadata.title}, version {record.version}"),
            ],
        },
    )


def time_span(cities: Iterable[CityFact]) -> tuple[str, str]:
    """First and last moment of the imagery of cities, ISO 8601; wide where no source states one."""
    spans = [parse_date(c.image_date, c.adcode) for c in cities if c.image_date]
    if not spans:
        return EVER
    return f"{min(s.first for s in spans)}T00:00:00Z", f"{max(s.last for s in spans)}T23:59:59Z"


def _collection(record: ReleaseRecord, identifier: str, items: Mapping[str, str]) -> dict[str, Any]:
    start, end = time_span(record.cities)
    links = [
        _link("root", layout.CATALOG, record.metadata.title),
        _link("parent", layout.CATALOG, record.metadata.title),
        *(_link("item", name, title, kind="application/geo+json") for name, title in items.items()),
        _link("license", layout.LICENSE, "Licences of the files, and why", kind="text/plain"),
        *(
            {"rel": "license", "href": ADDRESS[name], "title": name}
            for name in sorted({record.outlines_licence, record.map_licence})
        ),
    ]
    extensions = [EXTENSIONS["version"]]
    more: dict[str, Any] = {"version": record.version}
    if record.doi:
        links.append({"rel": "cite-as", "href": f"https://doi.org/{record.doi}", "title": "This version"})
        more |= {"sci:doi": record.doi}
        extensions.append(EXTENSIONS["scientific"])
    if record.previous_doi:
        link = {"rel": "predecessor-version", "href": f"https://doi.org/{record.previous_doi}"}
        links.append(link | {"title": f"Version {record.previous}"})
    people = [{"name": c.name, "roles": ["producer", "licensor"]} for c in record.metadata.creators]
    return {
        "type": "Collection",
        "id": identifier,
        "stac_version": "1.1.0",
        "stac_extensions": extensions,
        "title": f"{record.metadata.title}, version {record.version}",
        "description": record.metadata.description,
        "keywords": list(record.metadata.keywords),
        "license": record.outlines_licence if record.outlines_licence == record.map_licence else "other",
        "providers": people,
        "extent": {
            "spatial": {"bbox": [_box(record.cities)]},
            "temporal": {"interval": [[start, end]]},
        },
        "summaries": {"uvmap:campaign": [f"{record.campaign['name']} {record.campaign['version']}"]},
        **more,
        "links": links,
    }


def _national(record: ReleaseRecord, grid: Mapping[str, Any] | None) -> dict[str, Any]:
    names = [n for n in (*layout.NATIONAL_DATA, *layout.ACCURACY_FILES, layout.VIEWER_ARCHIVE) if n in record.data]
    assets = {_key(n): _asset(record, n) for n in names}
    for name in (layout.VILLAGES, layout.PACKAGE):
        assets[_key(name)]["proj:code"] = "EPSG:4326"
    raster = assets.get(_key(layout.GRID_RASTER))
    if raster is not None and grid is not None:
        raster |= {
            "proj:code": None,
            "proj:wkt2": record.grid_crs,
            "proj:shape": [int(v) for v in grid["shape"]],
            "proj:transform": list(grid["transform"]),
            "raster:bands": [
                {
                    "data_type": "uint16",
                    "nodata": NOT_MAPPED,
                    "unit": "m2",
                    "spatial_resolution": 100,
                    "sampling": "area",
                }
            ],
        }
        assets[_key(layout.GRID_RASTER)] = raster
    return _item(record, "national", record.cities, assets, extensions=("file", "projection", "raster", "version"))


def _province(record: ReleaseRecord, code: str, cities: Sequence[CityFact]) -> dict[str, Any]:
    asset = _asset(record, cities[0].archive)
    item = _item(record, code, cities, {"archive": asset}, extensions=("file", "projection", "version"))
    item["properties"] |= {
        "proj:code": "EPSG:4326",
        "title": f"Urban villages of {cities[0].province}",
        "uvmap:cities": [c.adcode for c in cities],
        "uvmap:villages": sum(c.villages for c in cities),
    }
    return item


def _model(record: ReleaseRecord) -> dict[str, Any]:
    versions = sorted({c.model_version for c in record.cities})
    side = int(record.model.get("tile_px") or 224)
    bands = list(record.model.get("bands") or ["red", "green", "blue"])
    card = {
        "href": f"./{layout.MODEL_CARD}",
        "type": MEDIA[".md"],
        "title": "Model card; the weights, known by their digest, are not part of the release",
        "roles": ["mlm:model", "metadata"],
        "mlm:artifact_type": "card",
        # mlm 1.4 asks where the bands are described: STAC 1.1 knows `bands` of assets alone, which mlm does not look at
        "raster:bands": [{"name": name, "data_type": "uint8"} for name in bands],
    }
    item = _item(record, "model", record.cities, {"model": card}, extensions=("mlm", "raster", "version"))
    item["properties"] |= {
        "title": "The model that mapped the villages",
        "license": OWN,
        "mlm:name": f"uvmap-{versions[0]}",
        "uvmap:model_versions": versions,
        "mlm:architecture": str(record.model.get("architecture") or "GeoLink with UPerNet"),
        "mlm:tasks": ["semantic-segmentation"],
        "mlm:framework": "PyTorch",
        "mlm:input": [
            {
                "name": "imagery",
                "bands": bands,
                "input": {
                    "shape": [-1, len(bands), side, side],
                    "dim_order": ["batch", "bands", "height", "width"],
                    "data_type": "uint8",
                },
            }
        ],
        "mlm:output": [
            {
                "name": "score",
                "tasks": ["semantic-segmentation"],
                "result": {
                    "shape": [-1, side, side],
                    "dim_order": ["batch", "height", "width"],
                    "data_type": "float32",
                },
            }
        ],
    }
    return item


def _item(
    record: ReleaseRecord,
    name: str,
    cities: Sequence[CityFact],
    assets: Mapping[str, dict[str, Any]],
    *,
    extensions: Sequence[str],
) -> dict[str, Any]:
    start, end = time_span(cities)
    west, south, east, north = _box(cities)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    derived = [] if name == "model" else [
        _link("derived_from", layout.item_file("model"), "The model that mapped the villages",
              kind="application/geo+json")
    ]  # fmt: skip
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": sorted(EXTENSIONS[e] for e in extensions),
        "id": f"{_identifier(record)}-{name}",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, south, east, north],
        "properties": {
            "datetime": None,
            "start_datetime": start,
            "end_datetime": end,
            "title": record.metadata.title,
            "version": record.version,
            "license": record.outlines_licence if record.outlines_licence == record.map_licence else "other",
        },
        "links": derived,
        "assets": dict(assets),
    }


def _asset(record: ReleaseRecord, name: str) -> dict[str, Any]:
    fact: FileFact = record.data[name]
    asset = {
        "href": f"./{name}",
        "type": MEDIA[Path(name).suffix],
        "title": WHAT.get(name, "GeoParquet, GeoPackage, map attributes and rasters of the province"),
        "roles": ["data"] if name in layout.NATIONAL_DATA or layout.is_province_archive(name) else ["metadata"],
        "file:size": fact.bytes,
        "file:checksum": f"1220{fact.sha256}",
    }
    licence = licence_of(name, outlines=record.outlines_licence, mapped=record.map_licence)
    return asset | ({"license": licence} if " " not in licence else {"license": "other"})


def _link(rel: str, name: str, title: str, *, kind: str = MEDIA[".json"]) -> dict[str, Any]:
    return {"rel": rel, "href": f"./{name}", "type": kind, "title": title}


def _links(parent: str, record: ReleaseRecord) -> list[dict[str, Any]]:
    return [
        _link("root", layout.CATALOG, record.metadata.title),
        _link("parent", parent, f"{record.metadata.title}, version {record.version}"),
    ]


def _provinces(record: ReleaseRecord) -> dict[str, list[CityFact]]:
    groups: dict[str, list[CityFact]] = defaultdict(list)
    for c in record.cities:
        groups[c.adcode[:2]].append(c)
    return dict(sorted(groups.items()))


def _box(cities: Iterable[CityFact]) -> list[float]:
    cities = list(cities)
    return [
        round(min(c.west for c in cities), 6),
        round(min(c.south for c in cities), 6),
        round(max(c.east for c in cities), 6),
        round(max(c.north for c in cities), 6),
    ]


def _identifier(record: ReleaseRecord) -> str:
    """Id of the collection: letters, digits and hyphens alone, as catalogs that are searched want it."""
    return f"{ID}-{record.version.replace('.', '-')}"


def _short(identifier: str) -> str:
    return identifier.rsplit("-", 1)[1]


def _key(name: str) -> str:
    return name.replace(".", "_")
