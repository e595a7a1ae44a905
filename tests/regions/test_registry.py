"""The registry against what is known of the national list, and its look-ups."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import CRS

from regions.registry import (
    REGIONS,
    AmbiguousCityError,
    UnknownCityError,
    find_city,
    load_registry,
    national_set,
    search_cities,
)


def test_units_and_national_set():
    cities = load_registry()
    assert len(cities) == 372
    assert len({c.adcode for c in cities}) == 372
    assert len(national_set()) == 342
    assert {c.region for c in cities} == set(REGIONS)
    by_level = [c.level for c in national_set()]
    # 4 municipalities, 293 prefecture-level cities, 30 prefectures, 7 + 3 others, and five province-run units
    assert by_level.count("municipality") == 4
    assert by_level.count("prefecture_level_city") == 293
    assert by_level.count("autonomous_prefecture") == 30


def test_every_city_has_a_projected_crs_whose_zone_holds_its_seat():
    for city in load_registry():
        area = CRS(city.crs).area_of_use
        assert area.west - 1e-9 <= city.seat_lon <= area.east + 1e-9, city
        assert CRS(city.crs).axis_info[0].unit_name == "metre"


@pytest.mark.parametrize("key", ["440300", "深圳市", "深圳", "Shenzhen", "shenzhen"])
def test_found_by_code_and_names(key):
    assert find_city(key).adcode == "440300"


def test_shared_names_are_refused_with_the_codes():
    with pytest.raises(AmbiguousCityError, match=r"320500.*341300|341300.*320500"):
        find_city("Suzhou")


def test_unknown_city_suggests_near_matches():
    with pytest.raises(UnknownCityError, match="440300"):
        find_city("Shenzen")


def test_search():
    assert [c.adcode for c in search_cities("4403")] == ["440300"]
    assert {c.province for c in search_cities("guangdong")} == {"Guangdong"}
    assert len(search_cities("")) == 372


@given(st.text(max_size=12))
def test_any_text_gives_a_city_or_a_typed_error(text):
    try:
        find_city(text)
    except (UnknownCityError, AmbiguousCityError) as error:
        assert "\n" not in str(error) or "\n" in text  # noqa: PT017
