"""The columns of the polygons: type, unit, definition and why a value may be missing.

The data dictionary that is published and the columns that are written come from this one list.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd

from pipeline.errors import PipelineError

TEXT, REAL, WHOLE = "string", "Float64", "Int64"


class AttributeDataError(PipelineError):
    """Attributes cannot be computed from what was given."""


@dataclass(frozen=True)
class Attribute:
    """One column.

    Attributes:
        name: Column name.
        dtype: pandas' nullable type.
        unit: Unit, or "-".
        definition: What the value is, in one sentence.
        null_reason: Why it may be missing; "never" where it may not.
    """

    name: str
    dtype: str
    unit: str
    definition: str
    null_reason: str


_NO_VECTORS = "no vector data were given, or they hold no feature of this kind"
_NO_HEIGHT = "fewer than half of the footprint area inside has a known height, or no building is mapped inside"

ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("uv_id", TEXT, "-", "Identifier that the village keeps from release to release.", "never"),
    Attribute(
        "status",
        TEXT,
        "-",
        "What became of the village since the last release: unchanged, changed, split, merge, reorganised or new.",
        "ids were not matched with a release",
    ),
    Attribute("adcode", TEXT, "-", "Six-digit code of the city (GB/T 2260).", "the ground is no city of the registry"),
    Attribute("name_zh", TEXT, "-", "Chinese name of the city.", "as adcode"),
    Attribute("name_en", TEXT, "-", "English name of the city; five of them occur twice.", "as adcode"),
    Attribute("province", TEXT, "-", "Province.", "as adcode"),
    Attribute("region", TEXT, "-", "One of China's seven usual regions.", "as adcode"),
    Attribute("area_m2", REAL, "m2", "Area in the national equal-area CRS (Albers, 25 N, 47 N, 105 E).", "never"),
    Attribute("perimeter_m", REAL, "m", "Length of all outlines, holes included, on the WGS 84 ellipsoid.", "never"),
    Attribute("score_mean", REAL, "0-1", "Mean score of the predicted pixels inside.", "no predicted pixel inside"),
    Attribute(
        "score_p10", REAL, "0-1", "Score that 10 % of the predicted pixels inside do not exceed.", "as score_mean"
    ),
    Attribute(
        "confidence",
        REAL,
        "0-1",
        "Mean calibrated probability of the predicted pixels inside.",
        "no calibration has been fitted for the model, or as score_mean",
    ),
    Attribute("boundary", TEXT, "-", "Where the outline comes from: model, sam or built-in.", "never"),
    Attribute(
        "boundary_reason",
        TEXT,
        "-",
        "Why the outline is that one: the acceptance rule's answer.",
        "no refinement was asked for",
    ),
    Attribute(
        "boundary_agreement",
        REAL,
        "0-1",
        "Intersection over union of the refined outline and the one of the scores.",
        "no refinement was asked for, or nothing was found",
    ),
    Attribute(
        "boundary_quality",
        REAL,
        "0-1",
        "The refiner's own quality: SAM's estimate of its IoU; built-in: village told from surroundings.",
        "no refinement, or the refiner gives none",
    ),
    Attribute(
        "building_count",
        WHOLE,
        "1",
        "Mapped buildings that stand and whose inner point lies inside; parts of buildings do not count.",
        _NO_VECTORS,
    ),
    Attribute(
        "building_coverage",
        REAL,
        "0-1",
        "Area of mapped building footprints inside (overlaps counted once) by the village's area.",
        _NO_VECTORS,
    ),
    Attribute(
        "building_height_mean",
        REAL,
        "m",
        "Mean height of the buildings inside, weighted by footprint area inside.",
        _NO_HEIGHT,
    ),
    Attribute(
        "height_source",
        TEXT,
        "-",
        "Where heights come from, with shares of the known footprint area: tag (height, building:height or "
        "est_height), levels (building:levels x 3 m), raster.",
        _NO_HEIGHT,
    ),
    Attribute(
        "floor_area_ratio",
        REAL,
        "1",
        "Floor area by the village's area: coverage x mean number of floors (height / 3 m, at least 1; "
        "building:levels where tagged); buildings without a height count with the mean of the others.",
        _NO_HEIGHT,
    ),
    Attribute(
        "road_density",
        REAL,
        "km/km2",
        "Length of roads and lanes (highway=*) inside by area.",
        _NO_VECTORS,
    ),
    Attribute("image_date", TEXT, "ISO 8601", "Date of the imagery.", "the source states none"),
    Attribute("image_source", TEXT, "-", "Name of the imagery.", "the source states none"),
    Attribute("osm_date", TEXT, "ISO 8601", "Date of the vector data.", "no vector data, or the source states none"),
    Attribute("model_version", TEXT, "-", "Digest or version of the model's weights.", "never"),
    Attribute("release", TEXT, "-", "Version of the release.", "never"),
    Attribute(
        "excluded",
        TEXT,
        "-",
        "Shares of the village as found that were removed as land that cannot be village, by kind.",
        "nothing was removed",
    ),
    Attribute(
        "qc_flag",
        TEXT,
        "-",
        "What to look at, separated by semicolons: partly_not_predicted, at_data_edge, low_score, no_buildings_mapped; "
        "ok where nothing is.",
        "never",
    ),
)
"""All columns besides the geometry, in the order in which they are written."""


def describe_columns() -> pd.DataFrame:
    """The dictionary as a table, one row per column, the geometry last."""
    rows = [vars(attribute) for attribute in ATTRIBUTES]
    geometry = Attribute("geometry", "geometry", "m", "Outline of the village in the CRS of the file.", "never")
    return pd.DataFrame([*rows, vars(geometry)])


def write_data_dictionary(path: Path) -> None:
    """Write the dictionary as CSV (``.csv``) or as a Markdown table (any other suffix)."""
    table = describe_columns()
    if path.suffix == ".csv":
        table.to_csv(path, index=False, lineterminator="\n")
        return
    lines = ["| " + " | ".join(table.columns) + " |", "|" + " --- |" * len(table.columns)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in table.itertuples(index=False)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def typed(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The table with all columns of the dictionary, in its order and types; other columns follow.

    Raises:
        AttributeDataError: A column that may never be missing is.
    """
    result = table.copy()
    for attribute in ATTRIBUTES:
        values = result[attribute.name] if attribute.name in result.columns else [None] * len(result)
        cells = [None if pd.isna(value) or value == "" else value for value in values]
        dtype: Any = attribute.dtype
        result[attribute.name] = pd.array(cells, dtype=dtype)
        missing = int(result[attribute.name].isna().sum())
        place = f"{missing} of {len(result)} villages"
        if missing and attribute.null_reason == "never":
            raise AttributeDataError(f"{attribute.name} is missing for {place}; it may never be")
    known = [attribute.name for attribute in ATTRIBUTES]
    others = [name for name in result.columns if name not in known and name != result.geometry.name]
    return result[[*known, *others, result.geometry.name]]
