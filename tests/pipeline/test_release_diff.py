"""A comparison of releases: every village in one event, mirrored where the sides change places, nothing unsaid."""

import json

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.release.diff.comparability import NotComparableError
from pipeline.release.diff.events import EVENTS, city_events, city_figures
from pipeline.release.diff.run import DiffRequest, diff_releases
from pipeline.release.errors import ReleaseError
from pipeline.release.record import read_record
from regions.raster.equal_area import CHINA_ALBERS
from tests.support.command_line import json_of
from tests.support.products import write_products
from tests.support.releases import build, make_campaign

ADCODES = ("440300", "330300", "990002")
MIRROR = {"grown": "shrunk", "shrunk": "grown", "split": "merged", "merged": "split", "new": "gone", "gone": "new"}
"""What an event is called when old and new change places; others keep their name."""


def frame(boxes, start=0):
    """Villages of boxes (left, bottom, width, height) in tens of metres."""
    shapes = [shapely.box(10 * x, 10 * y, 10 * (x + w), 10 * (y + h)) for x, y, w, h in boxes]
    ids = [f"v-{start + k}" for k in range(len(shapes))]
    return gpd.GeoDataFrame({"uv_id": ids}, geometry=shapes, crs=CHINA_ALBERS)


def apart(boxes):
    """The boxes that overlap none before them."""
    kept = []
    for x, y, w, h in boxes:
        if all(x >= a + c or a >= x + w or y >= b + d or b >= y + h for a, b, c, d in kept):
            kept.append((x, y, w, h))
    return kept


villages = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 8), st.integers(1, 8)), max_size=12
).map(lambda boxes: frame(apart(boxes)))


def named(events):
    return {(r.event, r.ids_old, r.ids_new) for r in events.itertuples()}


@settings(max_examples=40, deadline=None)
@given(villages)
def test_nothing_changes_between_a_city_and_itself(one):
    events = city_events(one, one)
    assert set(events["event"]) <= {"unchanged"}
    assert len(events) == len(one)
    figures = city_figures(one, one, events)
    assert figures["change_m2"] == 0
    assert figures["area_gained_m2"] == pytest.approx(0, abs=1e-6)
    assert figures["area_lost_m2"] == pytest.approx(0, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(villages, villages)
def test_the_other_way_round_is_the_mirror(one, other):
    there, back = city_events(one, other), city_events(other, one)
    assert {(MIRROR.get(e, e), new, old) for e, old, new in named(there)} == named(back)
    a, b = city_figures(one, other, there), city_figures(other, one, back)
    assert a["change_m2"] == -b["change_m2"]
    assert a["area_gained_m2"] == pytest.approx(b["area_lost_m2"])
    for event in EVENTS:
        assert a[event] == b[MIRROR.get(event, event)]
        assert a[f"change_{event}_m2"] == pytest.approx(-b[f"change_{MIRROR.get(event, event)}_m2"])


@settings(max_examples=60, deadline=None)
@given(villages, villages)
def test_every_village_stands_in_one_event_and_areas_add_up(one, other):
    events = city_events(one, other)
    for column, side in (("ids_old", one), ("ids_new", other)):
        assert sorted(i for ids in events[column] for i in ids.split()) == sorted(side["uv_id"])
    figures = city_figures(one, other, events)
    assert events["area_old_m2"].sum() == pytest.approx(figures["area_old_m2"])
    assert events["area_new_m2"].sum() == pytest.approx(figures["area_new_m2"])
    assert sum(figures[f"change_{e}_m2"] for e in EVENTS) == pytest.approx(figures["change_m2"], abs=1e-6)
    assert sum(figures[e] for e in EVENTS) == len(events)
    # by hand, on the 10 m pixels that all boxes are made of
    a, b = (shapely.union_all(side.geometry.to_numpy()) for side in (one, other))
    assert figures["area_gained_m2"] == pytest.approx(shapely.area(shapely.difference(b, a)), abs=1e-6)
    assert figures["area_lost_m2"] == pytest.approx(shapely.area(shapely.difference(a, b)), abs=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "event"),
    [
        ([(0, 0, 4, 4)], [(0, 0, 5, 4)], "grown"),
        ([(0, 0, 5, 4)], [(0, 0, 4, 4)], "shrunk"),
        ([(0, 0, 4, 4)], [(1, 0, 4, 4)], "reshaped"),
        ([(0, 0, 8, 4)], [(0, 0, 3, 4), (4, 0, 4, 4)], "split"),
        ([(0, 0, 3, 4), (4, 0, 4, 4)], [(0, 0, 8, 4)], "merged"),
        ([(0, 0, 4, 4), (4, 0, 4, 4)], [(0, 0, 8, 2), (0, 2, 8, 2)], "reorganised"),
        ([], [(0, 0, 4, 4)], "new"),
        ([(0, 0, 4, 4)], [(9, 9, 4, 4)], "gone"),
    ],
)
def test_names_of_events(old, new, event):
    assert event in set(city_events(frame(old), frame(new))["event"])


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    root = tmp_path_factory.mktemp("releases")
    write_products(root / "products", ADCODES)
    for adcode in ADCODES:
        from tests.support.products import write_product

        write_product(root / "later", adcode, previous=root / "products" / adcode, release="1.1.0")
    first = build(make_campaign(root, ADCODES), root / "r1")
    second = build(make_campaign(root, ADCODES, products="later"), root / "r2", version="1.1.0", previous=first)
    return root, first, second


def test_a_release_against_the_last(releases, tmp_path):
    _, first, second = releases
    out = tmp_path / "diff"
    result = json_of("release", "diff", first, second, "--out", out, "--json")
    total = result["total"]
    assert result["same_thing_measured"]
    assert total["grown"] >= 3
    assert total["new"] >= 3
    assert total["gone"] >= 3
    assert total["villages_new"] == read_record(second).villages
    events = gpd.read_parquet(out / "events.parquet")
    assert events.crs == "EPSG:4326"
    assert set(events["event"]) <= set(EVENTS)
    new_ids = {i for ids in events["ids_new"] for i in ids.split()}
    assert len(new_ids) == total["villages_new"]
    assert {p["province"] for p in result["provinces"]} == {c.province for c in read_record(first).cities}
    assert sum(p["change_m2"] for p in result["provinces"]) == pytest.approx(total["change_m2"])
    assert json.loads((out / "diff.json").read_text())["total"] == total
    page = (out / "diff.html").read_text()
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    # the same bytes again, and in place of the old
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    diff_releases(DiffRequest(old=first, new=second, out=out))
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_a_release_against_itself_and_the_other_way_round(releases, tmp_path):
    _, first, second = releases
    same = diff_releases(DiffRequest(old=first, new=first, out=tmp_path / "same"))["total"]
    assert same["unchanged"] == same["villages_old"] == same["villages_new"]
    assert same["iou"] == pytest.approx(1)
    there = diff_releases(DiffRequest(old=first, new=second, out=tmp_path / "there"))["total"]
    back = diff_releases(DiffRequest(old=second, new=first, out=tmp_path / "back"))["total"]
    for event in EVENTS:
        assert there[event] == back[MIRROR.get(event, event)]
    assert there["change_m2"] == pytest.approx(-back["change_m2"])


@pytest.mark.parametrize("what", ["grid", "definition", "outlines"])
def test_other_grids_and_definitions_are_refused_until_it_is_said(releases, tmp_path, what):
    _, first, second = releases
    record = read_record(second)
    cities = record.cities
    if what == "grid":
        cities = (cities[0].model_copy(update={"pixel_m2": 4.0}), *cities[1:])
    elif what == "outlines":
        cities = (cities[0].model_copy(update={"outlines_follow_map": not cities[0].outlines_follow_map}), *cities[1:])
    definition = {"feed": list(ADCODES)} if what == "definition" else record.definition
    other = tmp_path / "other"
    other.mkdir()
    (other / "urban_villages.parquet").symlink_to(second / "urban_villages.parquet")
    record.model_copy(update={"cities": cities, "definition": definition}).write(other)
    with pytest.raises(NotComparableError, match=rf"{what}: .*--across {what}"):
        diff_releases(DiffRequest(old=first, new=other, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    result = diff_releases(DiffRequest(old=first, new=other, out=tmp_path / "out", across=(what,)))
    assert not result["same_thing_measured"]
    assert what in {d["kind"] for d in result["differences"]}
    assert f"<b>{what}</b>" in (tmp_path / "out" / "diff.html").read_text()


@pytest.mark.parametrize("ending", ["gpkg", "parquet", "geojson", "shp"])
def test_a_map_that_is_not_ours(releases, tmp_path, ending):
    _, first, _ = releases
    villages = gpd.read_parquet(first / "urban_villages.parquet")
    shapes = list(villages.geometry[2:])
    shapes.append(shapely.buffer(shapes[0], 1e-4))  # overlaps the first: joined with it
    shapes.append(shapely.box(100.0, 20.0, 100.01, 20.01))  # far from every city
    foreign = gpd.GeoDataFrame({"label": range(len(shapes))}, geometry=shapes, crs="EPSG:4326").to_crs("EPSG:3857")
    foreign = foreign.iloc[np.random.default_rng(0).permutation(len(foreign))]
    path = tmp_path / f"theirs.{ending}"
    if ending == "parquet":
        foreign.to_parquet(path)
    else:
        (foreign.to_crs("EPSG:4326") if ending == "geojson" else foreign).to_file(path)
    result = diff_releases(DiffRequest(old=path, new=first, out=tmp_path / "diff"))
    assert result["old"]["outside_all_cities"] == 1
    assert result["old"]["joined_overlaps"] >= 1
    assert result["total"]["new"] == 2
    assert result["total"]["gone"] == 0
    assert result["total"]["unchanged"] >= len(villages) - 4
    assert not result["same_thing_measured"]
    assert "not ours" in (tmp_path / "diff" / "diff.html").read_text()


def test_a_map_that_covers_one_city_is_said_to(releases, tmp_path):
    _, first, _ = releases
    villages = gpd.read_parquet(first / "urban_villages.parquet")
    codes = sorted(villages["adcode"].unique())
    villages[villages["adcode"] == codes[0]][["geometry"]].to_file(tmp_path / "one.gpkg")
    result = diff_releases(DiffRequest(old=tmp_path / "one.gpkg", new=first, out=tmp_path / "diff"))
    said = {d["kind"]: d for d in result["differences"]}
    assert len(codes) > 1 and said["coverage"]["cities"] == codes[1:]
    assert "may not cover them" in (tmp_path / "diff" / "diff.html").read_text()


def test_what_cannot_be_compared_is_told(releases, tmp_path):
    _, first, second = releases
    with pytest.raises(ReleaseError, match="neither is a release"):
        diff_releases(DiffRequest(old=tmp_path, new=tmp_path, out=tmp_path / "out"))
    with pytest.raises(ReleaseError, match="no such file"):
        diff_releases(DiffRequest(old=tmp_path / "no.gpkg", new=first, out=tmp_path / "out"))
    with pytest.raises(ReleaseError, match="holds other things"):
        diff_releases(DiffRequest(old=first, new=second, out=first))
    assert (first / "release.json").exists()
    with pytest.raises(ReleaseError, match="--across weather"):
        diff_releases(DiffRequest(old=first, new=second, out=tmp_path / "out", across=("weather",)))
