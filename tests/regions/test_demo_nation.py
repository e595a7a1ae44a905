"""Several demo cities, and truth with a map whose error rates are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regions.demo import DemoError, demo_truth_and_map, generate_demo_nation
from regions.demo.layout import make_layout


def test_cities_stand_in_folders_of_their_adcodes(tmp_path):
    cities = generate_demo_nation(
        tmp_path, adcodes=["440300", "110000"], side_m=1000, seed=5, parts=("vectors",),
        centers_lonlat={"110000": (116.4, 39.9)}, crs={"440300": "EPSG:4547"},
    )  # fmt: skip
    assert [c.folder for c in cities] == [tmp_path / "440300", tmp_path / "110000"]
    assert [c.crs for c in cities] == ["EPSG:4547", "EPSG:32650"]
    assert cities[0].osm_pbf.read_bytes() != cities[1].osm_pbf.read_bytes()
    assert all(c.osm_pbf.exists() and c.uv.exists() and c.aoi.exists() for c in cities)


@pytest.mark.parametrize("codes", [[], ["440300", "440300"]])
def test_no_city_or_one_twice_is_refused(tmp_path, codes):
    with pytest.raises(DemoError, match="each once"):
        generate_demo_nation(tmp_path, adcodes=codes)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 500), omission=st.floats(0, 0.6), commission=st.floats(0, 0.6))
def test_error_rates_are_met_to_the_pixel(seed, omission, commission):
    pair = demo_truth_and_map(seed, 1000, resolution_m=10, omission=omission, commission=commission)
    assert pair.truth.shape == pair.mapped.shape == pair.district.shape == (100, 100)
    assert pair.tp == int((pair.truth & pair.mapped).sum())
    assert pair.fp == int((~pair.truth & pair.mapped).sum())
    assert pair.fn == int((pair.truth & ~pair.mapped).sum())
    assert pair.tn == int((~pair.truth & ~pair.mapped).sum())
    true = pair.tp + pair.fn
    assert true > 0
    assert pair.fn == round(omission * true)
    assert pair.fp == round(commission / (1 - commission) * pair.tp)
    assert pair.iou == pytest.approx(pair.tp / (pair.tp + pair.fp + pair.fn))


def test_truth_and_map_are_the_city_of_that_seed():
    pair = demo_truth_and_map(7, 2000, resolution_m=20)
    again = demo_truth_and_map(7, 2000, resolution_m=20)
    assert np.array_equal(pair.mapped, again.mapped)
    layout = make_layout(seed=7, side_m=2000)
    assert pair.district.min() == 0
    assert pair.district.max() == len(layout.districts) - 1
    assert pair.district[-1, 0] == layout.district_of[0, 0]  # north up: the last row is the southern edge
    assert pair.district[0, -1] == layout.district_of[-1, -1]


def test_errors_lie_in_patches():
    """A missed pixel has a missed neighbour far oftener than one missed at random would have."""
    pair = demo_truth_and_map(2, 3000)
    missed = pair.truth & ~pair.mapped
    beside = missed[:, 1:][missed[:, :-1]].mean()
    assert beside > 2 * missed.sum() / pair.truth.sum()


@pytest.mark.parametrize("change", [{"omission": 1.1}, {"commission": 1.0}, {"resolution_m": 7.0}, {"omission": -0.1}])
def test_impossible_maps_are_refused(change):
    with pytest.raises(DemoError):
        demo_truth_and_map(1, 1000, **change)
