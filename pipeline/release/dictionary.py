"""The data dictionary of a release: columns of all its tables, with the file they stand in, range and licence."""

from __future__ import annotations

import csv
import io

from pipeline.attributes.dictionary import ATTRIBUTES, Attribute
from pipeline.product.identity import EVENTS
from pipeline.release.layout import CITIES, GRID, GRID_RASTER, MAP_ATTRIBUTES, PROVINCES, VILLAGES
from pipeline.release.tables import MAP_COLUMNS

RANGES: dict[str, tuple[float | None, float | None]] = {
    "area_m2": (0, None),
    "perimeter_m": (0, None),
    "score_mean": (0, 1),
    "score_p10": (0, 1),
    "confidence": (0, 1),
    "boundary_agreement": (0, 1),
    "boundary_quality": (0, 1),
    "building_count": (0, None),
    "building_coverage": (0, 1),
    "building_height_mean": (0, 1000),
    "floor_area_ratio": (0, 400),
    "road_density": (0, 2000),
    "uv_share": (0, 1),
    "uv_area_m2": (0, None),
    "not_predicted_share": (0, 1),
}
"""Least and greatest value that a column may have; null is said by the column's own reason."""
VALUES: dict[str, tuple[str, ...]] = {
    "status": tuple(e for e in EVENTS if e != "gone"),
    "boundary": ("model", "sam", "built-in"),
    "region": ("North", "Northeast", "East", "Central", "South", "Southwest", "Northwest"),
}
"""All values that a column may have."""
FLAGS = ("partly_not_predicted", "at_data_edge", "low_score", "no_buildings_mapped", "ok")
"""What ``qc_flag`` may list."""
HEADER = ("file", "name", "dtype", "unit", "minimum", "maximum", "values", "definition", "null_reason", "licence")
GRID_COLUMNS = (
    Attribute("cell_id", "string", "-", "Key of the cell in the national grid.", "never"),
    Attribute("cell_x", "Int64", "100 m", "Column: the cell's western edge by 100 m.", "never"),
    Attribute("cell_y", "Int64", "100 m", "Row: the cell's southern edge by 100 m.", "never"),
    Attribute("uv_area_m2", "Float64", "m2", "Urban village in the cell.", "never"),
    Attribute("uv_share", "Float64", "0-1", "The same as a share of the whole cell.", "never"),
)
KEY_COLUMNS = (
    Attribute("uv_id", "string", "-", "Key of the village, as in urban_villages.parquet.", "never"),
    Attribute("adcode", "string", "-", "Six-digit code of its city (GB/T 2260).", "never"),
)
BOX_COLUMN = Attribute("bbox", "struct", "as geometry", "Bounds of geometry: xmin, ymin, xmax, ymax.", "never")
_NAMES = (
    Attribute("province", "string", "-", "English name of the province.", "never"),
    Attribute("region", "string", "-", "One of China's seven usual regions, the strata of the assessment.", "never"),
)
_SUMS = (
    Attribute("villages", "Int64", "1", "Number of villages.", "never"),
    Attribute("uv_area_m2", "Float64", "m2", "Their area in the national equal-area projection.", "never"),
)
_SHARE = Attribute(
    "not_predicted_share", "Float64", "0-1", "Share of the area asked for without a prediction.", "never"
)
_ARCHIVE = Attribute("archive", "string", "-", "The province's archive in the release.", "never")
_UNSTATED = "no source states it"
CITY_COLUMNS = (
    Attribute("adcode", "string", "-", "Six-digit code of the city (GB/T 2260).", "never"),
    Attribute("name_zh", "string", "-", "Chinese name of the city.", "never"),
    Attribute("name_en", "string", "-", "English name of the city.", "never"),
    *_NAMES,
    *_SUMS,
    Attribute("predicted_px", "Int64", "px", "Pixels of the area asked for with a prediction.", "never"),
    Attribute("not_predicted_px", "Int64", "px", "Pixels of the area asked for without.", "never"),
    Attribute("pixel_m2", "Float64", "m2", "Area of a pixel on the city's grid.", "never"),
    Attribute("crs", "string", "-", "CRS of the city's grid and mask.", "never"),
    Attribute("image_date", "string", "-", "ISO date or period of the imagery.", _UNSTATED),
    Attribute("image_source", "string", "-", "Where the imagery comes from.", _UNSTATED),
    Attribute("imagery_licence", "string", "-", "Terms of the imagery, as its source states them.", _UNSTATED),
    Attribute("osm_date", "string", "-", "ISO date of the map features.", "no map, or no source states it"),
    Attribute("model_version", "string", "-", "Digest of the weights that mapped the city.", "never"),
    Attribute("product_release", "string", "-", "Version of the campaign that the city's product is of.", "never"),
    Attribute("outlines_follow_map", "boolean", "-", "Whether map features may have shaped outlines.", "never"),
    _ARCHIVE,
    Attribute("mask_sha256", "string", "-", "SHA-256 of the map that is assessed: the mask in the archive.", "never"),
    Attribute("scores_sha256", "string", "-", "SHA-256 of the score raster.", "never"),
    Attribute("polygons_sha256", "string", "-", "SHA-256 of the product's GeoParquet.", "never"),
    _SHARE,
    *(
        Attribute(side, "Float64", "degree", f"{side.capitalize()}ern bound of the villages; of the ground without.",
                  "never")
        for side in ("west", "south", "east", "north")
    ),
)  # fmt: skip
PROVINCE_COLUMNS = (
    Attribute("code", "string", "-", "First two digits of the adcodes of its cities.", "never"),
    *_NAMES,
    Attribute("cities", "Int64", "1", "Cities of the release in it.", "never"),
    *_SUMS,
    Attribute("asked_m2", "Float64", "m2", "Ground that was asked for.", "never"),
    _SHARE,
    _ARCHIVE,
)
RASTER_BAND = Attribute(
    "band 1", "uint16", "m2", "Urban village in the 100 m cell; 0: mapped, and none.", "65535: not predicted"
)


def dictionary_csv(outlines: str, mapped: str) -> str:
    """data_dictionary.csv."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(HEADER)
    rows = [(MAP_ATTRIBUTES if a.name in MAP_COLUMNS else VILLAGES, a) for a in ATTRIBUTES]
    rows += [
        (VILLAGES, Attribute("geometry", "geometry", "degree", "Outline of the village, EPSG:4326.", "never")),
        (VILLAGES, BOX_COLUMN),
        *((MAP_ATTRIBUTES, a) for a in KEY_COLUMNS),
        *((GRID, a) for a in GRID_COLUMNS),
        (GRID, Attribute("geometry", "geometry", "m", "The cell in the national Albers projection.", "never")),
        (GRID, BOX_COLUMN),
        (GRID_RASTER, RASTER_BAND),
        *((CITIES, a) for a in CITY_COLUMNS),
        *((PROVINCES, a) for a in PROVINCE_COLUMNS),
    ]
    for file, a in rows:
        low, high = RANGES.get(a.name, (None, None))
        values = "; ".join(FLAGS if a.name == "qc_flag" else VALUES.get(a.name, ()))
        licence = mapped if file == MAP_ATTRIBUTES else outlines
        writer.writerow(
            [file, a.name, a.dtype, a.unit, _number(low), _number(high), values, a.definition, a.null_reason, licence]
        )
    return sink.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
