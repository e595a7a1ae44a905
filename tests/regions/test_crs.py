"""Projected zones and the GCJ-02 datum."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

from regions.crs import CoordinateError, utm_code
from regions.gcj02 import gcj02_from_wgs84, wgs84_from_gcj02
from regions.raster.equal_area import CHINA_ALBERS

inside_china = {"lon": st.floats(75, 134), "lat": st.floats(18, 53)}


def test_zones():
    assert utm_code(116.4, 39.9) == "EPSG:32650"
    assert utm_code(114.0, 22.5) == "EPSG:32650"
    assert utm_code(113.99, 22.5) == "EPSG:32649"
    assert utm_code(180.0, 10) == "EPSG:32660"


@pytest.mark.parametrize("point", [(181, 0), (0, 90), (float("nan"), 0)])
def test_impossible_points_are_refused(point):
    with pytest.raises(CoordinateError):
        utm_code(*point)


def test_known_gcj02_point():
    # Tiananmen, WGS84 116.3912, 39.9074: public converters give 116.3974, 39.9088 (4 decimals)
    lon, lat = gcj02_from_wgs84(116.3912, 39.9074)
    assert round(float(lon), 4) == pytest.approx(116.3974, abs=1e-4)
    assert round(float(lat), 4) == pytest.approx(39.9088, abs=1e-4)


@given(**inside_china)
def test_gcj02_there_and_back(lon, lat):
    there = gcj02_from_wgs84(lon, lat)
    back = wgs84_from_gcj02(*there)
    _, _, error_m = Geod(ellps="WGS84").inv(lon, lat, float(back[0]), float(back[1]))
    _, _, shift_m = Geod(ellps="WGS84").inv(lon, lat, float(there[0]), float(there[1]))
    assert error_m < 0.01
    assert 10 < shift_m < 1500


def test_equal_area():
    crs = CHINA_ALBERS
    assert "Albers" in crs.coordinate_operation.method_name
    assert np.isclose(crs.to_dict()["lon_0"], 105)
