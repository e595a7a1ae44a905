"""The grid view sums to the polygons and is one grid for the nation."""

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.attributes import CHINA_ALBERS, equal_areas_m2
from pipeline.product.density_grid import DensityGridError, density_cells, write_density_raster


def villages(rng, count, crs="EPSG:32650", east=500_000, north=4_400_000):
    """Blobs with holes on a street, 400 m apart."""
    shapes = []
    for k in range(count):
        turn = np.sort(rng.uniform(0, 2 * np.pi, 12))
        radius = rng.uniform(40, 180, 12)
        outline = np.column_stack((np.cos(turn), np.sin(turn))) * radius[:, None]
        shape = shapely.make_valid(shapely.polygons(outline + np.array([east + 400 * k, north])))
        shapes.append(shape.difference(shapely.Point(east + 400 * k + 10, north).buffer(8)))
    return gpd.GeoDataFrame(geometry=shapes, crs=crs)


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 8))
@settings(max_examples=40, deadline=None)
def test_cells_sum_to_the_polygons(seed, count):
    table = villages(np.random.default_rng(seed), count)
    cells = density_cells(table)
    assert cells["uv_area_m2"].sum() == pytest.approx(equal_areas_m2(table.geometry).sum(), rel=1e-9)
    assert ((cells["uv_share"] > 0) & (cells["uv_share"] <= 1)).all()
    assert cells["cell_id"].is_unique
    local = table.geometry.to_crs(CHINA_ALBERS).to_numpy()
    for cell in cells.sample(min(5, len(cells)), random_state=0).itertuples():
        expected = shapely.area(shapely.intersection(shapely.union_all(local), cell.geometry))
        assert cell.uv_area_m2 == pytest.approx(expected, abs=1e-6)


def test_one_grid_for_the_nation():
    rng = np.random.default_rng(1)
    table = villages(rng, 3)
    whole = density_cells(table).set_index("cell_id")["uv_area_m2"]
    parts = [density_cells(table.iloc[[k]].to_crs("EPSG:3857")) for k in range(3)]
    total = np.add.reduce([part.set_index("cell_id")["uv_area_m2"].reindex(whole.index).fillna(0) for part in parts])
    np.testing.assert_allclose(total, whole.to_numpy(), rtol=1e-6, atol=1e-3)
    corner = shapely.bounds(density_cells(table).geometry.to_numpy())
    np.testing.assert_array_equal(corner % 100, 0)


def test_area_gives_empty_cells_too_and_the_raster_holds_them(tmp_path):
    table = villages(np.random.default_rng(2), 2)
    area = gpd.GeoSeries([shapely.box(499_000, 4_399_000, 501_500, 4_401_000)], crs=table.crs)
    cells = density_cells(table, area=area)
    assert (cells["uv_share"] == 0).any()
    write_density_raster(cells, tmp_path / "grid.tif")
    with rasterio.open(tmp_path / "grid.tif") as raster:
        shares = raster.read(1, masked=True)
        assert shares.count() == len(cells)
        assert float(shares.sum()) * 1e4 == pytest.approx(cells["uv_area_m2"].sum(), rel=1e-6)
        some = cells.iloc[len(cells) // 2]
        point = some.geometry.centroid
        assert next(raster.sample([(point.x, point.y)]))[0] == pytest.approx(some["uv_share"], abs=1e-6)


def test_overlapping_villages_are_refused():
    table = gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 500, 500)] * 2, crs=CHINA_ALBERS)
    with pytest.raises(DensityGridError, match="overlap"):
        density_cells(table)
