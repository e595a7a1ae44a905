"""`uvmap analyze` on made products."""

import re
import shutil

import geopandas as gpd
import pandas as pd
import pytest
import shapely

from pipeline.analysis.errors import AnalysisError
from pipeline.national.products import find_products
from regions.registry import city_of, national_set
from tests.support.command_line import json_of
from tests.support.products import write_campaign, write_products

CODES = [c.adcode for c in national_set()][::36]
VILLAGES = (8, 24, 40)


@pytest.fixture(scope="module")
def nation(tmp_path_factory):
    root = tmp_path_factory.mktemp("nation")
    for k, code in enumerate(CODES):
        write_products(root / "out", [code], villages=VILLAGES[k % 3])
        write_products(root / "next", [code], previous=root / "out" / code, release="1.1.0", seed=7)
    return root


def test_the_whole_analysis_is_the_same_bytes_twice_and_says_what_it_lacks(nation, tmp_path):
    campaign = write_campaign(tmp_path / "made.yaml", nation / "next", [*CODES, "440300"], version="1.1.0")
    borders = gpd.GeoDataFrame(
        {"adcode": CODES},
        geometry=[shapely.Point(c.seat_lon, c.seat_lat).buffer(12) for c in map(city_of, CODES)],
        crs="EPSG:4326",
    )
    borders.to_file(tmp_path / "borders.gpkg")
    argument = ["analyze", "--campaign", campaign, "--previous", nation / "out", "--permutations", "199"]
    argument += ["--boundaries", tmp_path / "borders.gpkg", "--json"]
    first = json_of(*argument, "--out", tmp_path / "a")
    second = json_of(*argument, "--out", tmp_path / "b")
    assert first["files"] == second["files"]
    assert first["headline"]["cities"] == len(CODES)
    villages = sum(p.villages for p in find_products(nation / "next"))
    assert first["headline"]["villages"] == villages
    assert any("440300" in n for n in first["notes"])
    assert any("map features" in n for n in first["notes"])
    table = pd.read_csv(tmp_path / "a" / "tables" / "shares.csv", dtype={"adcode": str})
    sums = [p.uv_area_m2 for p in find_products(nation / "next")]
    assert table.loc[0, "uv_km2"] == pytest.approx(sum(sums) / 1e6, rel=1e-5)
    persistence = pd.read_csv(tmp_path / "a" / "tables" / "persistence.csv")
    nation_rows = persistence[persistence["name"] == "nation"].set_index("event")["villages"]
    assert nation_rows.drop("gone").sum() == villages
    assert nation_rows["gone"] > 0
    weights = pd.read_csv(tmp_path / "a" / "tables" / "clustering.csv")["weights"]
    assert list(weights) == ["6 nearest cities", "cities that share a border"]
    assert any(n.startswith("cities within 250 km: ") and "no statistics" in n for n in first["notes"])
    page = (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://creativecommons.org", "").replace(
        "http://purl.org", ""
    )
    columns = pd.read_csv(tmp_path / "a" / "tables" / "columns.csv")
    assert columns["meaning"].notna().all(), columns[columns["meaning"].isna()]
    for tex in (tmp_path / "a" / "tables").glob("*.tex"):
        text = tex.read_text(encoding="utf-8")
        for environment in ("table", "tabular", "longtable"):
            assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}")
        spec = re.search(r"\\begin\{(?:tabular|longtable)\}\{([lr]+)\}", text)[1]
        rows = [line for line in text.splitlines() if " & " in line]
        assert rows
        assert {len(re.split(r"(?<!\\)&", line)) for line in rows} == {len(spec)}
        assert not re.search(r"(?<!\\)[%#_](?! \\usepackage)", re.sub(r"\\label\{.*?\}", "", text))
        assert text.isascii() or set(text) - set(map(chr, range(128))) <= set("·’")


def test_a_first_release_says_nothing_of_persistence_and_a_claim_of_no_region_is_refused(nation, tmp_path):
    campaign = write_campaign(tmp_path / "made.yaml", nation / "out", CODES[:3])
    argument = ["analyze", "--campaign", campaign, "--out", tmp_path / "a", "--permutations", "99", "--json"]
    told = json_of(*argument)
    assert not (tmp_path / "a" / "tables" / "persistence.csv").exists()
    assert any("persistence" in n for n in told["notes"])
    page = (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    assert "Too few cities" in page
    with pytest.raises(AssertionError, match="Middle is none of North, Northeast"):
        json_of(*argument, "--claim", "Middle")


def test_a_broken_product_is_named_and_left_out_only_when_asked(nation, tmp_path):
    shutil.copytree(nation / "out", tmp_path / "out")
    (tmp_path / "out" / CODES[0] / "manifest.json").unlink()
    campaign = write_campaign(tmp_path / "made.yaml", tmp_path / "out", CODES)
    argument = ["analyze", "--campaign", campaign, "--out", tmp_path / "a", "--permutations", "99", "--json"]
    with pytest.raises(AnalysisError, match=rf"first {CODES[0]}.*--skip-broken"):
        json_of(*argument)
    assert not (tmp_path / "a").exists()
    told = json_of(*argument, "--skip-broken")
    assert any(n.startswith(f"{CODES[0]} was left out") for n in told["notes"])
