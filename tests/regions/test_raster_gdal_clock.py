"""The same table, written at another time, has the same bytes."""

import time

import geopandas as gpd
import pyogrio
import pytest
import shapely

from regions.raster.gdal_clock import FIXED_TIME, fixed_gdal_clock


def write(path):
    gpd.GeoDataFrame({"a": [1]}, geometry=[shapely.Point(0, 0)], crs="EPSG:4326").to_file(
        path, driver="GPKG", layer="x"
    )
    return path.read_bytes()


def test_bytes_follow_the_given_time_alone(tmp_path):
    with fixed_gdal_clock():
        first = write(tmp_path / "a.gpkg")
        time.sleep(1.1)
        assert write(tmp_path / "b.gpkg") == first
    assert FIXED_TIME.removesuffix("Z").encode() in first
    with fixed_gdal_clock("2023-06-01T00:00:00.000Z"):
        assert write(tmp_path / "c.gpkg") != first


def test_the_clock_goes_on_as_before():
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "1999-01-01T00:00:00Z"})
    try:
        with pytest.raises(ZeroDivisionError), fixed_gdal_clock():
            1 / (pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") != FIXED_TIME)
        assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") == "1999-01-01T00:00:00Z"
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
