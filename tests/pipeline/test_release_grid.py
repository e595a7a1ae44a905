"""The 100 m grid of a release where outlines reach beyond the ground that was predicted."""

import pyarrow as pa
import pyarrow.parquet as pq
import rasterio

from pipeline.national.products import read_product
from pipeline.release.grid import write_grid_part, write_grid_raster
from tests.support.products import write_product


def test_a_cell_beyond_the_predicted_ground_is_kept(tmp_path):
    product = read_product(write_product(tmp_path / "products", "440300"))
    cells = pq.read_table(product.density, columns=["cell_x", "cell_y", "uv_area_m2"])
    east, north = max(cells["cell_x"].to_pylist()) + 60, max(cells["cell_y"].to_pylist()) + 60
    beyond = pa.table({"cell_x": [east], "cell_y": [north], "uv_area_m2": [1234.0]}).cast(cells.schema)
    pq.write_table(pa.concat_tables([cells, beyond]), product.density)
    write_grid_raster([write_grid_part(product, tmp_path)], tmp_path / "grid.tif", work=tmp_path)
    with rasterio.open(tmp_path / "grid.tif") as raster:
        (value,) = next(raster.sample([((east + 0.5) * 100, (north + 0.5) * 100)]))
    assert value == 1234
