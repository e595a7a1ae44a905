"""Shifted datums: published points, exact inverses, and the ground that is not shifted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

from regions.datum import DATUMS, Datum, from_wgs84, to_wgs84
from regions.gcj02 import (
    bd09_from_gcj02,
    gcj02_from_bd09,
    gcj02_from_wgs84,
    is_shifted,
    wgs84_from_gcj02,
)

EARTH = Geod(ellps="WGS84")
WGS84_TO_GCJ02 = [
    # the test points of eviltransform: Shanghai, Shenzhen, Beijing; that of coordtransform: Tiananmen
    ((121.5272106, 31.1774276), (121.531541859215, 31.17530398364597)),
    ((113.912316, 22.543847), (113.9171764808363, 22.540796131694766)),
    ((116.377817, 39.911954), (116.38404722455657, 39.91334545536069)),
    ((116.404, 39.915), (116.41024449916938, 39.91640428150164)),
]
GCJ02_TO_BD09 = [((116.404, 39.915), (116.41036949371029, 39.92133699351021))]  # coordtransform
WGS84_TO_BD09 = [((116.404, 39.915), (116.41662724378733, 39.922699552216216))]  # coordtransform
BD09_TO_WGS84 = [
    ((116.404, 39.915), (116.3913836995125, 39.907253214522164))
]  # coordtransform: one step, to a metre or two
UNSHIFTED = {
    "Hong Kong, Central": (114.158, 22.282),
    "Hong Kong, Sheung Shui": (114.128, 22.501),
    "Macau, Senado": (113.5399, 22.1936),
    "Macau, Coloane": (113.5665, 22.1230),
    "Tokyo": (139.767, 35.681),
    "Ulan-Ude": (107.6, 56.0),
}
SHIFTED = {
    "Shenzhen, Luohu": (114.1315, 22.5485),
    "Shenzhen, Futian": (114.055, 22.541),
    "Shenzhen, Shekou": (113.915, 22.482),
    "Zhuhai, Gongbei": (113.5475, 22.2225),
    "Zhuhai, Hengqin": (113.515, 22.125),
}


def metres(a, b) -> np.ndarray:
    return np.asarray(EARTH.inv(*map(np.asarray, (a[0], a[1], b[0], b[1])))[2])


@pytest.mark.parametrize(("wgs84", "gcj02"), WGS84_TO_GCJ02)
def test_published_gcj02(wgs84, gcj02):
    np.testing.assert_allclose(gcj02_from_wgs84(*wgs84), gcj02, rtol=0, atol=1e-12)
    assert metres(wgs84_from_gcj02(*gcj02), wgs84) < 1e-3


@pytest.mark.parametrize(("gcj02", "bd09"), GCJ02_TO_BD09)
def test_published_bd09(gcj02, bd09):
    np.testing.assert_allclose(bd09_from_gcj02(*gcj02), bd09, rtol=0, atol=1e-12)
    assert metres(gcj02_from_bd09(*bd09), gcj02) < 1e-3


@pytest.mark.parametrize(("wgs84", "bd09"), WGS84_TO_BD09)
def test_published_bd09_from_wgs84(wgs84, bd09):
    np.testing.assert_allclose(from_wgs84(*wgs84, "bd09"), bd09, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("bd09", "wgs84"), BD09_TO_WGS84)
def test_published_one_step_inverse_is_met_to_its_own_accuracy(bd09, wgs84):
    assert metres(to_wgs84(*bd09, "bd09"), wgs84) < 2


@given(lon=st.floats(75, 134), lat=st.floats(18, 53), datum=st.sampled_from(DATUMS))
def test_there_and_back(lon: float, lat: float, datum: Datum):
    there = from_wgs84(lon, lat, datum)
    back = to_wgs84(*there, datum)
    if is_shifted(lon, lat) == is_shifted(*from_wgs84(lon, lat, "gcj02")):  # not across the edge of Hong Kong, Macau
        assert metres((lon, lat), back) < 0.1
        assert metres((lon, lat), back) < 1e-3, "far under what is promised"
    if datum == "gcj02" and is_shifted(lon, lat):
        assert 10 < metres((lon, lat), there) < 1500


def test_many_points_at_once_equal_one_by_one():
    random = np.random.default_rng(3)
    lon, lat = random.uniform(73, 136, (40, 5)), random.uniform(3, 54, (40, 5))
    for datum in DATUMS:
        x, y = to_wgs84(lon, lat, datum)
        assert x.shape == y.shape == (40, 5)
        single = [to_wgs84(a, b, datum) for a, b in zip(lon.ravel(), lat.ravel(), strict=True)]
        np.testing.assert_allclose(np.stack([x.ravel(), y.ravel()], axis=1), np.array(single), rtol=0, atol=1e-12)


@pytest.mark.parametrize("point", UNSHIFTED.values(), ids=UNSHIFTED)
def test_ground_that_is_not_shifted(point):
    assert not is_shifted(*point)
    assert tuple(map(float, gcj02_from_wgs84(*point))) == point
    assert tuple(map(float, wgs84_from_gcj02(*point))) == point


@pytest.mark.parametrize("point", SHIFTED.values(), ids=SHIFTED)
def test_ground_beside_it_that_is(point):
    assert is_shifted(*point)
    assert metres(gcj02_from_wgs84(*point), point) > 300


def test_points_that_are_none_stay_none():
    x, y = to_wgs84([np.nan, np.inf, 116.4], [40.0, 40.0, 39.9], "bd09")
    assert not np.isfinite(x[:2]).any()
    assert np.isfinite([x[2], y[2]]).all()
