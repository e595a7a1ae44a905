"""The areas of interest of all cities of a campaign: a table, a record of what is missing, and a picture."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd

from pipeline.boundaries.area import AreaRule, Built, area_of_interest
from pipeline.boundaries.errors import BoundaryError
from pipeline.boundaries.matching import Matches, match
from pipeline.boundaries.reading import Boundaries
from pipeline.files import replacing, write_json
from regions.registry import City

TABLE_NAME, RECORD_NAME, PICTURE_NAME = "areas.parquet", "areas.json", "areas.png"


@dataclass(frozen=True)
class Areas:
    """Areas of interest.

    Attributes:
        table: One row per city with an area, by adcode, WGS84 degrees: `adcode`, `name`, `boundary_by` (code, name or
            place), `area_km2`, `built_km2`, `boundary_km2`, `geometry`.
        missing: Cities without one, by adcode: adcode, name, why.
        matches: How boundaries and cities were matched.
        record: Everything that a report says: counts, what was mended, what is missing.
    """

    table: gpd.GeoDataFrame
    missing: tuple[dict[str, str], ...]
    matches: Matches
    record: dict[str, Any]


def boxes_of(table: gpd.GeoDataFrame, margin_m: float = 1000.0) -> dict[str, tuple[float, float, float, float]]:
    """West, south, east, north of each row by `adcode`, WGS84 degrees, with a margin: what to cut out of a nation."""
    boxes = {}
    for code, (west, south, east, north) in zip(
        table["adcode"], table.geometry.bounds.to_numpy().tolist(), strict=True
    ):
        up = margin_m / 111_000
        aside = up / math.cos(math.radians(max(abs(south), abs(north))))
        box = (west - aside, south - up, east + aside, north + up)
        boxes[str(code)] = (round(box[0], 7), round(box[1], 7), round(box[2], 7), round(box[3], 7))
    return boxes


def make_areas(
    cities: Sequence[City],
    boundaries: Boundaries,
    built: Built | None,
    rule: AreaRule,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> Areas:
    """The area of interest of every city: built-up land and its fringe, or the whole boundary without ``built``.

    A city without one is named with the reason; none is left out in silence.

    Args:
        cities: The campaign's.
        boundaries: Of one file.
        built: Where built-up land is; None takes the boundaries as they are.
        rule: What belongs to an area.
        progress: Called with the adcode, how many cities are done and of how many.
    """
    matches = match(boundaries.table, cities)
    crs_of = {c.adcode: c.crs for c in cities}
    rows: list[dict[str, Any]] = []
    missing = list(matches.missing)
    for k, (code, name, by, outline) in enumerate(
        zip(matches.table["adcode"], matches.table["name"], matches.table["by"], matches.table.geometry, strict=True)
    ):
        found = area_of_interest(outline, crs_of[code], built, rule)
        if found.area is None:
            missing.append({"adcode": code, "name": name, "why": found.why})
        else:
            sizes = {"area_km2": found.area_km2, "built_km2": found.built_km2, "boundary_km2": found.boundary_km2}
            rows.append({"adcode": code, "name": name, "boundary_by": by} | sizes | {"geometry": found.area})
        if progress is not None:
            progress(code, k + 1, len(matches.table))
    missing.sort(key=lambda m: m["adcode"])
    columns = ["adcode", "name", "boundary_by", "area_km2", "built_km2", "boundary_km2", "geometry"]
    table = gpd.GeoDataFrame(rows, columns=columns, geometry="geometry", crs="EPSG:4326")
    record = {
        "cities": len(cities),
        "with_area": len(table),
        "missing": missing,
        "matched_by": dict(sorted(Counter(matches.table["by"]).items())),
        "matched_by_name_or_place": [
            {"adcode": code, "name": name, "by": by}
            for code, name, by in zip(*(matches.table[c] for c in ("adcode", "name", "by")), strict=True)
            if by != "code"
        ],
        "units_not_used": list(matches.unused),
        "boundaries": boundaries.counts,
        "rule": asdict(rule),
        "area_km2": round(float(table["area_km2"].sum()), 1),
    }
    return Areas(table, tuple(missing), matches, record)


def write_areas(areas: Areas, folder: Path) -> None:
    """Write the table as GeoParquet, the record as JSON and the picture as PNG; the same areas give the same bytes."""
    with replacing(folder / TABLE_NAME) as part:
        areas.table.to_parquet(part, compression="zstd", index=False, write_covering_bbox=True)
    write_json(folder / RECORD_NAME, areas.record)
    from pipeline.boundaries.picture import draw_areas  # noqa: PLC0415 - matplotlib: for this alone

    draw_areas(areas, folder / PICTURE_NAME)


def read_areas(path: Path) -> gpd.GeoDataFrame:
    """The table of `write_areas` (the file or its folder), or any polygons with a column `adcode`; in WGS84 degrees.

    Raises:
        BoundaryError: the file is missing, unreadable, or has no column of codes or no CRS.
    """
    file = path / TABLE_NAME if path.is_dir() else path
    if not file.exists():
        raise BoundaryError(f"{file}: no such table of areas; `uvmap areas` writes it")
    try:
        table = gpd.read_parquet(file) if file.suffix.lower() == ".parquet" else gpd.read_file(file)
    except (ValueError, OSError) as error:
        raise BoundaryError(f"{file}: cannot be read as areas ({str(error).splitlines()[0]})") from error
    if "adcode" not in table.columns:
        raise BoundaryError(f"{file}: has no column adcode, so nobody knows whose areas these are")
    if table.crs is None:
        raise BoundaryError(f"{file}: has no CRS, so nobody knows where these areas are")
    return table.to_crs("EPSG:4326")
