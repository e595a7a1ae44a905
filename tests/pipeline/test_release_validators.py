"""What programs of others say of a release; each is asked where it is installed (docs/release.md names versions)."""

import json
import shutil
import subprocess

import pytest

from pipeline.release import layout
from pipeline.release.record import read_record
from tests.support.products import write_products
from tests.support.releases import build, make_campaign

CODES = ("440300", "310000")


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    root = tmp_path_factory.mktemp("validators")
    write_products(root / "products", CODES, villages=6)
    return build(make_campaign(root, CODES), root / "release", with_accuracy=True, date="2026-01-02")


def test_duckdb_reads_every_table_alike(release):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed: `uv pip install duckdb`")
    record, base = read_record(release), duckdb.connect()
    for name in (layout.VILLAGES, layout.MAP_ATTRIBUTES):
        table = base.read_parquet(str(release / name))
        assert table.aggregate("count(*), count(DISTINCT uv_id)").fetchall() == [(record.villages, record.villages)]
    [(cells,)] = base.read_parquet(str(release / layout.GRID)).aggregate("sum(uv_area_m2)").fetchall()
    [(cities,)] = base.read_csv(str(release / layout.CITIES)).aggregate("sum(uv_area_m2)").fetchall()
    assert cells == pytest.approx(cities, rel=1e-9) and cities == pytest.approx(record.uv_area_m2, rel=1e-9)


def test_cffconvert_takes_the_citation(release):
    cffconvert = pytest.importorskip("cffconvert", reason="cffconvert is not installed: `uv pip install cffconvert`")
    text = (release / layout.CITATION).read_text(encoding="utf-8")
    cffconvert.Citation(text).validate()
    with pytest.raises(Exception, match="authors"):
        cffconvert.Citation(text.replace("authors:", "writers:")).validate()


def test_stac_model_takes_the_description_of_the_model(release):
    schema = pytest.importorskip("stac_model.schema", reason="stac-model is not installed: `uv pip install stac-model`")
    properties = json.loads((release / layout.item_file("model")).read_text())["properties"]
    own = {k: v for k, v in properties.items() if k.startswith("mlm:")}
    assert schema.MLModelProperties.model_validate(own).name == own["mlm:name"]


def test_gdal_of_the_system_reads_the_package(release):
    program = shutil.which("ogrinfo")
    if program is None:
        pytest.skip("ogrinfo is not installed: the package gdal-bin of your system has it")
    package = release / layout.PACKAGE
    said = subprocess.run(
        [program, "-ro", "-so", str(package), layout.LAYER], capture_output=True, text=True, check=True
    )
    assert "Geometry: Multi Polygon" in said.stdout
    assert f"Feature Count: {read_record(release).villages}" in said.stdout
