"""Projected zones."""

import numpy as np
import pytest

from regions.crs import CoordinateError, utm_code
from regions.raster.equal_area import CHINA_ALBERS


def test_zones():
    assert utm_code(116.4, 39.9) == "EPSG:32650"
    assert utm_code(114.0, 22.5) == "EPSG:32650"
    assert utm_code(113.99, 22.5) == "EPSG:32649"
    assert utm_code(180.0, 10) == "EPSG:32660"


@pytest.mark.parametrize("point", [(181, 0), (0, 90), (float("nan"), 0)])
def test_impossible_points_are_refused(point):
    with pytest.raises(CoordinateError):
        utm_code(*point)


def test_equal_area():
    crs = CHINA_ALBERS
    assert "Albers" in crs.coordinate_operation.method_name
    assert np.isclose(crs.to_dict()["lon_0"], 105)
