"""A city without villages goes through every stage after the scores."""

import json
from types import SimpleNamespace

import geopandas as gpd
import numpy as np
import pytest
import shapely

from pipeline.attributes import Lineage, add_attributes, measure_form, read_fabric
from pipeline.polygons import ExclusionConfig, PolygonConfig, find_villages
from pipeline.product.density_grid import density_cells
from pipeline.product.identity import assign_ids
from pipeline.product.identity_page import write_diff
from pipeline.refinement import compare_outlines, refine_villages, summarise_refinement
from pipeline.refinement.built_in import AppearanceRefiner
from regions.raster.grid import Grid

GRID = Grid("EPSG:32650", 1.0, 500_000, -3_000_000, 200, 300)


class Dark:
    """Black imagery."""

    def read(self, window):
        shape = (window.height_px, window.width_px)
        return np.zeros((3, *shape), dtype=np.uint8), np.ones(shape, dtype=bool)


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("value", [0, 255])
def test_nothing_found(value, connectivity, tmp_path):
    scores = np.full((200, 300), value, dtype=np.uint8)
    left, _, _, top = GRID.bounds_m
    house = shapely.box(left + 5, top - 60, left + 50, top - 5)
    vectors = gpd.GeoDataFrame({"tags": [json.dumps({"building": "yes"})]}, geometry=[house], crs=GRID.crs)
    config = PolygonConfig(connectivity=connectivity, exclusions=ExclusionConfig())
    found = find_villages(scores, grid=GRID, config=config, vectors=vectors)
    assert found.counts["villages"] == 0 and len(found.removed) == 0
    refined = refine_villages(found.villages, scores=scores, imagery=Dark(), grid=GRID, refiner=AppearanceRefiner())
    assert summarise_refinement(refined) == {"boundaries": {}, "rejected": {}}
    named = assign_ids(refined, assign_ids(refined, adcode="110000"), adcode="110000")
    city = SimpleNamespace(adcode="110000", name_zh="北京", name_en="Beijing", province="Beijing", region="North")
    table = add_attributes(
        named, grid=GRID, city=city, lineage=Lineage(model_version="a", release="b"), scores=scores, vectors=vectors
    )
    assert len(table) == 0 and "floor_area_ratio" in table
    form = measure_form(gpd.GeoSeries(table.geometry), read_fabric(vectors), area=shapely.box(*GRID.bounds_m))
    assert form.summary.loc["villages", "units"] == 0 and form.summary.loc["outside", "units"] == 1
    assert len(density_cells(table)) == 0
    assert compare_outlines(table.geometry, table.geometry, grid=GRID)["iou"] == 1
    one = assign_ids(gpd.GeoDataFrame(geometry=[house], crs=GRID.crs), table, adcode="110000")
    assert write_diff(table, one, tmp_path, title="first village")["new"] == 1
    assert write_diff(one, table, tmp_path, title="last village")["gone"] == 1
