"""Products of many cities: whole ones are found in order, all others are named."""

import shutil

import geopandas as gpd
import pytest

from pipeline.attributes.dictionary import ATTRIBUTES
from pipeline.national.products import NationalProductsError, find_products, survey_products
from pipeline.product.files import check_product
from tests.support.products import write_product, write_products


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("national") / "products"
    write_products(root, ["440300", "110000", "310000"], villages=6)
    return root


@pytest.fixture
def root(made, tmp_path):
    return shutil.copytree(made, tmp_path / "products")


def test_products_are_found_in_order(made):
    products = find_products(made, verify=True)
    assert [p.adcode for p in products] == ["110000", "310000", "440300"]
    first = products[0]
    villages = gpd.read_parquet(first.polygons)
    assert list(villages.columns[: len(ATTRIBUTES)]) == [a.name for a in ATTRIBUTES]
    assert first.villages == len(villages) == 6
    assert first.uv_area_m2 == pytest.approx(float(villages["area_m2"].sum()))
    assert first.not_predicted_px / (first.predicted_px + first.not_predicted_px) == pytest.approx(0.02, abs=0.01)
    assert not check_product(first.folder)
    assert first.crs == "EPSG:32650" and first.pixel_m2 == 100.0


def test_same_seed_same_bytes_and_ids_survive(tmp_path):
    a = write_product(tmp_path / "a", "440300", villages=20, seed=3)
    b = write_product(tmp_path / "b", "440300", villages=20, seed=3)
    assert (a / "manifest.json").read_bytes() == (b / "manifest.json").read_bytes()
    c = write_product(tmp_path / "c", "440300", seed=4, previous=a, release="1.1.0")
    old, new = (gpd.read_parquet(p / "440300_uv.parquet") for p in (a, c))
    assert len(set(old["uv_id"]) & set(new["uv_id"])) == 18
    assert set(new["status"]) == {"unchanged", "changed", "new"}


def test_every_city_that_is_not_whole_is_named(root):
    (root / "110000" / "110000_uv.gpkg").unlink()
    (root / "310000" / "manifest.json").unlink()
    (root / ".500000.host-1-0.tmp").mkdir()
    shutil.copytree(root / "440300", root / "440100")
    (root / "notes").mkdir()
    survey = survey_products(root)
    assert [p.adcode for p in survey.products] == ["440300"]
    assert list(survey.problems) == ["110000", "310000", "440100", "500000"]
    assert survey.missing({"440300", "110000", "120000"}) == ("120000",)
    with pytest.raises(NationalProductsError, match=r"4 products are not whole: 110000: 110000_uv.gpkg is missing"):
        find_products(root)


def test_other_bytes_of_the_same_size_are_seen_when_asked(root):
    path = root / "440300" / "440300_uv.parquet"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(bytes(data))
    assert len(survey_products(root).products) == 3
    assert "other bytes" in survey_products(root, verify=True).problems["440300"]


def test_nothing_there(tmp_path):
    with pytest.raises(NationalProductsError, match="no product of any city"):
        find_products(tmp_path)
    with pytest.raises(NationalProductsError, match="no such folder"):
        find_products(tmp_path / "none")
