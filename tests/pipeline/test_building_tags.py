"""Heights and buildings as people tag them, and that the graph and the attributes read them alike."""

import json
import math

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from pipeline.attributes.buildings import read_fabric
from pipeline.graph.building_tags import height_m, is_building, is_building_part, levels_of, tagged_height_m
from pipeline.graph.semantics import read_semantics

NAN = math.nan
HEIGHTS = [
    ({"height": "12"}, 12),
    ({"height": " 12.5 m "}, 12.5),
    ({"height": "12,5m"}, 12.5),
    ({"height": "12 M"}, 12),
    ({"height": "12 metres"}, 12),
    ({"height": "12 meter"}, 12),
    ({"height": "12米"}, 12),
    ({"height": "40 ft"}, 40 * 0.3048),
    ({"height": "40 Feet"}, 40 * 0.3048),
    ({"height": "1 foot"}, 0.3048),
    ({"height": "30'"}, 30 * 0.3048),
    ({"height": "40'6\""}, 40.5 * 0.3048),
    ({"height": "40' 6\""}, 40.5 * 0.3048),
    ({"height": "40'6.5\""}, (40 + 6.5 / 12) * 0.3048),
    ({"height": "40 ft 6 in"}, 40.5 * 0.3048),
    ({"height": "40'6''"}, 40.5 * 0.3048),
    ({"height": '12 m 6"'}, NAN),
    ({"height": '6"'}, NAN),
    ({"height": "tall"}, NAN),
    ({"height": "10-12"}, NAN),
    ({"height": "-3"}, NAN),
    ({"height": "0"}, NAN),
    ({"height": "1000"}, NAN),
    ({"height": "inf"}, NAN),
    ({"height": ""}, NAN),
    ({"building:height": "9"}, 9),
    ({"est_height": "7"}, 7),
    ({"height": "11", "building:height": "9", "est_height": "7"}, 11),
    ({"height": "0", "building:height": "??", "est_height": "7"}, 7),
    ({"building:levels": "6"}, 18),
    ({"building:levels": "2.5"}, 7.5),
    ({"building:levels": "3;4"}, 9),
    ({"building:levels": "6 m"}, NAN),
    ({"building:levels": "inf"}, NAN),
    ({"building:levels": "1e3"}, NAN),
    ({"building:levels": "400"}, NAN),
    ({"building:levels": "-1"}, NAN),
    ({"height": "??", "building:levels": "2"}, 6),
    ({"height": "5", "building:levels": "2"}, 5),
    ({}, NAN),
]
BUILDINGS = [
    ({"building": "yes"}, True, False),
    ({"building": "apartments"}, True, False),
    ({"building": "abandoned"}, True, False),
    ({"building": "no"}, False, False),
    ({"building": "ruins"}, False, False),
    ({"building": "construction"}, False, False),
    ({"building": "proposed"}, False, False),
    ({"building": "demolished"}, False, False),
    ({"building:part": "yes"}, False, True),
    ({"building:part": "no"}, False, False),
    ({"building:part": "ruins"}, False, False),
    ({"building": "yes", "building:part": "yes"}, True, True),
    ({"kind": "building"}, True, False),
    ({"kind": "building_part"}, False, True),
    ({"kind": "school"}, False, False),
    ({"highway": "residential"}, False, False),
    ({}, False, False),
]


@pytest.mark.parametrize(("tags", "metres"), HEIGHTS)
def test_heights_as_people_write_them(tags, metres):
    assert height_m(tags) == pytest.approx(metres, nan_ok=True)


@pytest.mark.parametrize(("tags", "whole", "part"), BUILDINGS)
def test_what_counts_as_a_building(tags, whole, part):
    assert is_building(tags) == whole
    assert is_building_part(tags) == part


@given(st.dictionaries(st.sampled_from(["height", "est_height", "building:levels"]), st.text(max_size=12)))
def test_any_text_gives_a_sensible_height_or_none(tags):
    for value in (tagged_height_m(tags), levels_of(tags), height_m(tags)):
        assert math.isnan(value) or 0 < value < 1000


def test_graph_and_attributes_read_the_same():
    tags = [{"building": "yes", **t} for t, _ in HEIGHTS] + [t for t, _, _ in BUILDINGS]
    shapes = [shapely.box(20 * k, 0, 20 * k + 10, 10) for k in range(len(tags))]
    texts = [json.dumps(t, ensure_ascii=False) for t in tags]
    table = gpd.GeoDataFrame({"tags": texts}, geometry=shapes, crs="EPSG:32650")
    fabric = read_fabric(table).buildings
    graph = read_semantics(np.array(texts, object), all_keys=False)
    counted = np.flatnonzero([is_building(t) for t in tags])
    np.testing.assert_array_equal([shapes.index(g) for g in fabric.geometry], counted)
    heights = fabric["height_m"].to_numpy(dtype=np.float64, na_value=np.nan)
    np.testing.assert_allclose(heights, graph.height_m[counted], rtol=1e-6)
    assert set(counted) <= set(np.flatnonzero(graph.building))
    parts = [is_building_part(t) for t in tags]
    np.testing.assert_array_equal(graph.building, [is_building(t) or p for t, p in zip(tags, parts, strict=True)])
    source = fabric["height_source"].fillna("").tolist()
    for k, row in enumerate(counted):
        tagged, levels = tagged_height_m(tags[row]), levels_of(tags[row])
        assert source[k] == ("tag" if tagged > 0 else "levels" if levels > 0 else "")
