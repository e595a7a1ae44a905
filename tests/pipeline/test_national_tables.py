"""Tables of the nation: the same files from one process and from a Dask cluster of two, and what they hold."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from pipeline.files import sha256_of
from pipeline.national.cluster import open_cluster
from pipeline.national.products import NationalProductsError, find_products
from pipeline.national.tables import (
    HILBERT_BOX_M,
    density,
    in_hilbert_order,
    join_areas,
    open_villages,
    province_table,
    summed_cells,
    write_tables,
)
from regions.raster.equal_area import CHINA_ALBERS
from regions.registry import find_city
from regions.settings import ClusterConfig
from tests.support.products import write_products

pytestmark = pytest.mark.xdist_group("dask")
CODES = ("440100", "440300", "110000", "310000")
NAMES = {c: (find_city(c).name_en, find_city(c).name_zh, find_city(c).province) for c in CODES}


def files_of(folder):
    return {str(p.relative_to(folder)): sha256_of(p) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def nation(tmp_path_factory):
    root = tmp_path_factory.mktemp("nation")
    write_products(root / "products", CODES[:3])
    write_products(root / "products", CODES[3:], villages=0)
    products = find_products(root / "products")
    record = write_tables(products, root / "tables", names=NAMES)
    return root, products, record


def test_a_cluster_of_two_writes_the_same_files(nation):
    root, products, record = nation
    with open_cluster(ClusterConfig(workers=2)) as client:
        again = write_tables(products, root / "on-dask", names=NAMES, client=client)
        assert again == record
        assert files_of(root / "on-dask") == files_of(root / "tables")
        villages = open_villages(root / "on-dask")
        assert client.compute(villages["area_m2"].sum()).result() == pytest.approx(
            sum(p.uv_area_m2 for p in products), rel=1e-9
        )


def test_every_village_is_there_once_in_order(nation):
    root, products, record = nation
    cities = [gpd.read_parquet(p.polygons).to_crs(CHINA_ALBERS) for p in products]
    villages = open_villages(root / "tables").compute()
    assert record["villages"] == len(villages) == sum(map(len, cities)) == 36
    assert sorted(villages["uv_id"]) == sorted(pd.concat(cities)["uv_id"])
    assert villages.crs == CHINA_ALBERS
    south = gpd.read_parquet(root / "tables/villages/44.parquet")
    place = south.geometry.hilbert_distance(total_bounds=HILBERT_BOX_M, level=16)
    assert place.is_monotonic_increasing
    shuffled = south.sample(frac=1, random_state=4)
    assert in_hilbert_order(shuffled)["uv_id"].tolist() == south["uv_id"].tolist()


def test_a_box_reads_the_partitions_that_it_touches(nation):
    root, _, _ = nation
    villages = open_villages(root / "tables")
    one = villages.get_partition(2).compute()
    west, south, east, north = one.total_bounds
    near = villages.cx[west:east, south:north]
    assert near.npartitions == 1
    assert sorted(near.compute()["uv_id"]) == sorted(one["uv_id"])


def test_areas_hold_villages_as_a_plain_join_says(nation):
    root, _, _ = nation
    villages = open_villages(root / "tables")
    whole = villages.compute()
    middle = whole.geometry.representative_point()
    west = middle.x.median()
    box = [shapely.box(-4e6, 0, west, 8e6)]
    areas = gpd.GeoDataFrame({"side": ["west"]}, geometry=box, crs=CHINA_ALBERS)
    found = join_areas(villages, areas, ["side"]).compute()
    wanted = np.where(middle.x < west, "west", None)
    assert [s if isinstance(s, str) else None for s in found["side"]] == list(wanted)


def test_cells_add_up_and_borders_are_one_cell(nation):
    root, products, record = nation
    cells = density(root / "tables")
    assert cells["uv_area_m2"].sum() == pytest.approx(sum(p.uv_area_m2 for p in products), rel=1e-6)
    assert cells["cell_id"].is_unique
    assert record["cells"] == len(cells)
    twice = summed_cells(pd.concat([cells, cells.iloc[:5]], ignore_index=True))
    assert len(twice) == len(cells)
    assert twice["uv_area_m2"].sum() == pytest.approx(cells["uv_area_m2"].sum() + cells["uv_area_m2"][:5].sum())
    assert twice["uv_share"].max() <= 1
    west, south, east, north = cells.total_bounds
    assert 0 < len(density(root / "tables", (west, south, (west + east) / 2, north))) < len(cells)


def test_cities_and_provinces(nation):
    root, products, _ = nation
    cities = pd.read_csv(root / "tables/cities.csv", dtype={"adcode": str})
    assert cities["adcode"].tolist() == sorted(CODES)
    assert cities.set_index("adcode").loc["440300", "name_en"] == "Shenzhen"
    assert cities["uv_area_m2"].sum() == pytest.approx(sum(p.uv_area_m2 for p in products))
    provinces = province_table(cities).set_index("province_code")
    assert provinces.loc["44", "cities"] == 2
    assert provinces.loc["44", "province"] == "Guangdong"
    assert provinces.loc["31", "uv_share"] == 0


def test_nothing_to_make_tables_of(tmp_path):
    with pytest.raises(NationalProductsError, match="no products"):
        write_tables((), tmp_path / "tables", names={})
    with pytest.raises(NationalProductsError, match="no tables of villages"):
        open_villages(tmp_path)
