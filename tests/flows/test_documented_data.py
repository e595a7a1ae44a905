"""The documents of campaigns, city folders and products say what the program reads and writes."""

import json
import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from pipeline.attributes.dictionary import ATTRIBUTES
from pipeline.city.sources import SourceNotes, find_sources
from pipeline.formats import AREA_SUFFIXES, HEIGHT_SUFFIXES, RASTER_FORMATS, RASTER_SUFFIXES
from regions.campaign import Campaign, load_campaign
from regions.settings import (
    AcceptanceRule,
    BarrierConfig,
    ClusterConfig,
    ExclusionConfig,
    GridConfig,
    PolygonConfig,
    RefinementConfig,
    TextConfig,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"
CAMPAIGN = (DOCS / "campaign.md").read_text(encoding="utf-8")
INPUTS = (DOCS / "inputs.md").read_text(encoding="utf-8")
PRODUCT = (DOCS / "product.md").read_text(encoding="utf-8")
MODELS = (
    Campaign, GridConfig, PolygonConfig, BarrierConfig, ExclusionConfig, RefinementConfig, AcceptanceRule, SourceNotes,
    TextConfig, ClusterConfig,
)  # fmt: skip
ABOVE_THE_TABLE = {"name", "version", "description", "grid", "polygons", "refinement", "text", "cluster"}
"""Fields of a campaign that its example and the headings explain."""


def as_yaml(value):
    if isinstance(value, BaseModel):
        return "see below"
    return value if isinstance(value, str) else json.dumps(value)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_every_field_stands_there_with_its_default(model):
    for name, field in model.model_fields.items():
        if model is Campaign and name in ABOVE_THE_TABLE:
            assert re.search(rf"^({name}:|### `{name}`)", CAMPAIGN, flags=re.MULTILINE), name
            continue
        default = "required" if field.is_required() else f"`{as_yaml(field.get_default(call_default_factory=True))}`"
        assert f"| `{name}` | {default} |" in CAMPAIGN, f"docs/campaign.md: {model.__name__}.{name}, default {default}"


def examples():
    return re.findall(r"```yaml\n(.*?)```", CAMPAIGN, flags=re.DOTALL)


def test_the_examples_are_read(tmp_path):
    campaign, notes = examples()
    (tmp_path / "c.yaml").write_text(campaign, encoding="utf-8")
    loaded = load_campaign(tmp_path / "c.yaml")
    assert loaded.polygons.barriers.highways == (("motorway", 24.0), ("trunk", 20.0))
    assert loaded.polygons.exclusions == ExclusionConfig()
    assert loaded.refinement.rule == AcceptanceRule(min_agreement=0.8)
    folder = tmp_path / "440300"
    (folder / "imagery").mkdir(parents=True)
    (folder / "imagery" / "a.tif").touch()
    (folder / "sources.yaml").write_text(notes, encoding="utf-8")
    assert set(SourceNotes.model_fields) == set(yaml.safe_load(notes))
    assert find_sources(folder, "440300").notes.image_date == "2023-05-14"


def row_of(name):
    return next(line for line in CAMPAIGN.splitlines() if line.startswith(f"| `{name}` |"))


def test_the_folder_of_a_city():
    for suffix in RASTER_SUFFIXES:
        assert f"`{suffix}`" in row_of("imagery/"), suffix
    for suffix in HEIGHT_SUFFIXES:
        assert f"`{suffix}`" in row_of("heights/"), suffix
    for suffix in AREA_SUFFIXES:
        assert f"`{suffix}`" in row_of("aoi.gpkg") or f"`aoi{suffix}`" in row_of("aoi.gpkg"), suffix
    for item in RASTER_FORMATS:
        suffixes = ", ".join(f"`{suffix}`" for suffix in item.suffixes)
        assert f"| {item.name} | {suffixes} | {item.driver} |" in INPUTS
    for name in ("imagery/", "vectors/", "aoi.gpkg", "labels/uv.gpkg", "labels/districts.gpkg", "heights/"):
        assert f"| `{name}` |" in CAMPAIGN


@pytest.mark.parametrize("column", ATTRIBUTES, ids=lambda a: a.name)
def test_every_column_of_a_product(column):
    row = f"| `{column.name}` | {column.dtype} | {column.unit} | {column.definition} | {column.null_reason} |"
    assert row in PRODUCT, f"docs/product.md lacks this row: {row}"
