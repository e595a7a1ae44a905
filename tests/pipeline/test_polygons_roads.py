"""Outlines go onto the streets that run along them, and nowhere else."""

import json

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.polygons.roads import select_roads, snap_to_roads
from regions.settings import RoadConfig

CONFIG = RoadConfig()


def lines(*points):
    return np.array([shapely.LineString(p) for p in points], dtype=object)


def objects(*shapes):
    return np.array(shapes, dtype=object)


@pytest.mark.parametrize("offset", [3.0, -3.0])
def test_a_street_along_one_side_becomes_the_outline(offset):
    village = shapely.box(0, 0, 200, 150)
    (found,) = snap_to_roads(objects(village), lines([(-50, 150 + offset), (250, 150 + offset)]), config=CONFIG)
    # the street goes on past the corners; the outline ends within the reach of them
    assert found.is_valid and found.geom_type == "Polygon"
    middle = shapely.box(10, -10, 190, 200)
    assert found.intersection(middle).symmetric_difference(shapely.box(10, 0, 190, 150 + offset)).area < 1e-6
    assert abs(found.area - (village.area + 200 * offset)) < 5 * abs(offset)
    assert found.hausdorff_distance(village) <= 5 + 1e-6


def test_streets_that_cross_are_short_or_far_move_nothing():
    village = shapely.box(0, 0, 200, 150)
    roads = lines([(100, -50), (100, 300)], [(0, 160), (200, 160)], [(20, 152), (50, 152)], [(-30, 120), (30, 170)])
    (found,) = snap_to_roads(objects(village), roads, config=CONFIG)
    assert found.equals(village)
    assert snap_to_roads(objects(village), lines(), config=CONFIG)[0].equals(village)


def test_neighbours_and_forbidden_ground_stay_free():
    one, two = shapely.box(0, 0, 200, 100), shapely.box(0, 102, 200, 200)
    street = lines([(0, 104), (200, 104)])  # within the second, near the first
    found = snap_to_roads(objects(one, two), street, config=CONFIG)
    assert shapely.area(shapely.intersection(*found)) == pytest.approx(0, abs=1e-9)
    (free,) = snap_to_roads(
        objects(one), lines([(0, 104), (200, 104)]), config=CONFIG, forbidden=objects(shapely.box(0, 101, 200, 110))
    )
    assert free.bounds[3] == pytest.approx(101)


def test_a_village_no_wider_than_the_reach_stays():
    lane = shapely.box(0, 0, 200, 6)
    assert snap_to_roads(objects(lane), lines([(0, 2), (200, 2)]), config=CONFIG)[0].equals(lane)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_valid_near_and_without_overlap_whatever_the_streets(seed):
    rng = np.random.default_rng(seed)
    villages = []
    for k in range(4):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 24))
        reach = rng.uniform(40, 60, 24)
        ring = np.column_stack((130 * (k % 2) + reach * np.cos(angle), 130 * (k // 2) + reach * np.sin(angle)))
        villages.append(shapely.Polygon(ring).buffer(0))
    villages = objects(*[max(shapely.get_parts(v), key=lambda p: p.area) for v in villages])
    roads = lines(*[rng.uniform(-60, 200, (6, 2)) for _ in range(12)])
    found = snap_to_roads(villages, roads, config=CONFIG)
    assert shapely.is_valid(found).all() and {g.geom_type for g in found} == {"Polygon"}
    for k in range(4):
        moved = shapely.symmetric_difference(found[k], villages[k])
        assert moved.difference(villages[k].boundary.buffer(2 * CONFIG.reach_m + 0.1)).area < 1e-6
        assert abs(found[k].area / villages[k].area - 1) <= 0.1
        for other in range(k):
            overlap = shapely.area(shapely.intersection(found[k], found[other]))
            assert overlap <= shapely.area(shapely.intersection(villages[k], villages[other])) + 1e-6


def test_which_streets():
    tags = [{"highway": "residential"}, {"highway": "footway"}, {"highway": "tertiary", "tunnel": "yes"}, {"a": "b"}]
    shapes = [shapely.LineString([(0, k), (9, k)]) for k in range(4)]
    area = shapely.box(0, 0, 1, 1)
    vectors = gpd.GeoDataFrame(
        {"tags": [json.dumps(t) for t in [*tags, tags[0]]]}, geometry=[*shapes, area], crs="EPSG:32650"
    )
    assert select_roads(vectors, CONFIG).tolist() == [shapes[0]]
    with pytest.raises(ValidationError, match="min_run_m 10"):
        RoadConfig(min_run_m=10)
