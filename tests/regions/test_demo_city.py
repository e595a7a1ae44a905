"""The demo city: its files, its determinism, what its districts promise, and that colour alone does not solve it."""

import hashlib
import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import osmium
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize

from regions.demo import Cover, DemoCity, DemoError, demo_features, generate_demo_city
from regions.demo.__main__ import main
from regions.demo.block import make_block
from regions.demo.frame import make_frame
from regions.demo.layout import Layout, Plan, VillagePlan, make_layout
from regions.demo.osm_table import collect_vectors
from regions.demo.render import Renderer
from regions.demo.scenes import plan_scenes, tiles, valid_mask
from regions.demo.view import TILE_PX

SEED, SIDE_M = 3, 1500


@pytest.fixture(scope="module")
def city(tmp_path_factory) -> DemoCity:
    return generate_demo_city(tmp_path_factory.mktemp("demo"), seed=SEED, side_m=SIDE_M)


@pytest.fixture(scope="module")
def layout() -> Layout:
    return make_layout(seed=SEED, side_m=SIDE_M)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): digest(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_same_seed_same_bytes_in_every_file(city, tmp_path):
    generate_demo_city(tmp_path, seed=SEED, side_m=SIDE_M)
    assert files(tmp_path) == files(city.folder)
    assert len(files(tmp_path)) == 7


def test_parts_write_the_same_bytes_as_the_whole(city, tmp_path):
    generate_demo_city(tmp_path, seed=SEED, side_m=SIDE_M, parts=("vectors",))
    assert not list((tmp_path / "imagery").iterdir())
    generate_demo_city(tmp_path, seed=SEED, side_m=SIDE_M, parts=("imagery",))
    assert files(tmp_path) == files(city.folder)


def test_other_seed_other_city(city):
    other = demo_features(SEED + 1, SIDE_M)
    same = demo_features(SEED, SIDE_M)
    assert len(other) != len(same) or not other.geometry.equals(same.geometry)


def test_scenes_are_tiled_rgb_at_one_metre_with_a_mask(city):
    assert len(city.imagery) == 2
    for path in city.imagery:
        with rasterio.open(path) as scene:
            assert scene.count == 3
            assert set(scene.dtypes) == {"uint8"}
            assert scene.block_shapes == [(512, 512)] * 3
            assert scene.res == (1.0, 1.0)
            assert scene.crs.is_projected
            assert scene.crs.to_string() == city.crs
            assert scene.compression.name == "deflate"
            assert all("PER_DATASET" in [f.name.upper() for f in flags] for flags in scene.mask_flag_enums)
            assert scene.transform.c % 1 == 0
            assert scene.transform.f % 1 == 0
            assert scene.tags()["TIFFTAG_DATETIME"].startswith("2023:")
            assert not list(path.parent.glob("*.msk"))


def test_scenes_cover_the_city_but_for_the_corner_and_overlap_by_the_seam(city):
    left, _, right, top = city.bounds_m
    seen = np.zeros((SIDE_M, SIDE_M), np.uint8)
    means = []
    for path in city.imagery:
        with rasterio.open(path) as scene:
            col = round(scene.bounds.left - left)
            assert scene.bounds.top == top
            mask = scene.dataset_mask() > 0
            seen[:, col : col + scene.width] += mask
            pixels = scene.read()
            assert (pixels[:, ~mask] == 0).all()
            assert (pixels[:, mask] > 0).all()
            means.append(pixels[:, mask].mean(axis=1))
    missing = seen == 0
    assert missing[0, 0]
    assert 0.001 < missing.mean() < 0.002  # half of a twentieth squared
    assert missing.sum() == missing[: SIDE_M // 20 + 1, : SIDE_M // 20 + 1].sum()
    assert 0.01 < (seen == 2).mean() < 0.06
    assert not np.allclose(means[0], means[1], atol=2)
    assert right - left == SIDE_M


def test_a_tile_is_the_same_alone_or_in_any_order(layout):
    scene = plan_scenes(layout)[0]
    whole = {(row, col): pixels for row, col, pixels, _ in tiles(layout, scene)}
    fresh = Renderer(layout, scene.look)
    for row, col in sorted(whole, reverse=True):
        pixels = whole[row, col]
        valid = valid_mask(
            scene, layout, left_px=scene.col_px + col, top_px=row, height=pixels.shape[1], width=pixels.shape[2]
        )
        again = fresh.tile(scene.col_px + col, row)[:, : pixels.shape[1], : pixels.shape[2]] * valid
        assert np.array_equal(again, pixels)
    assert len(whole) == -(-SIDE_M // TILE_PX) * -(-scene.width_px // TILE_PX)


def test_neighbouring_tiles_meet_without_an_edge(layout):
    renderer = Renderer(layout, plan_scenes(layout)[0].look)
    left, right = renderer.tile(0, 512).astype(int), renderer.tile(512, 512).astype(int)
    across = np.abs(left[:, :, -1] - right[:, :, 0]).mean()
    within = np.abs(np.diff(np.concatenate([left[:, :, -60:], right[:, :, :60]], axis=2), axis=2)).mean()
    assert across < 1.6 * within


def test_a_superblock_is_the_same_whatever_is_drawn_before(layout):
    alone = make_block(layout, 2, 1)
    make_block(layout, 0, 0)
    again = make_block(make_layout(seed=SEED, side_m=SIDE_M), 2, 1)
    assert np.array_equal(alone.quads, again.quads)
    assert np.array_equal(alone.trees, again.trees)
    assert [d.tags for d in alone.osm] == [d.tags for d in again.osm]


def test_pbf_holds_the_features_of_demo_features(city):
    """Independent reading by osmium: every tagged object, its geometry, its tags, its identifier."""
    want = demo_features(SEED, SIDE_M).set_index("source_id")
    assert want.index.is_unique
    got: dict[str, tuple[str, shapely.Geometry]] = {}
    wkb = osmium.geom.WKBFactory()
    for thing in osmium.FileProcessor(str(city.osm_pbf)).with_locations().with_areas():
        tags = {t.k: t.v for t in thing.tags}
        tags.pop("type", None)
        text = json.dumps(tags, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        if thing.is_area():
            name = f"{'w' if thing.from_way() else 'r'}{thing.orig_id()}"
            got[name] = text, shapely.from_wkb(wkb.create_multipolygon(thing))
        elif tags and thing.is_node():
            got[f"n{thing.id}"] = text, shapely.from_wkb(wkb.create_point(thing))
        elif tags and thing.is_way() and not thing.is_closed():
            got[f"w{thing.id}"] = text, shapely.from_wkb(wkb.create_linestring(thing))
    missing = want.loc[~want.index.isin(got)]
    assert (~missing.geometry.is_valid).all()  # osmium builds no area from a ring that crosses itself
    assert set(got) <= set(want.index)
    read = gpd.GeoSeries({k: g for k, (_, g) in got.items()}, crs="EPSG:4326").to_crs(city.crs)
    ours = want.geometry.loc[read.index]
    assert [t for t, _ in got.values()] == want["tags"].loc[read.index].tolist()
    assert (read.symmetric_difference(ours, align=False).area < 0.02).all()
    assert (read.hausdorff_distance(ours, align=False) < 0.02).all()


def test_pbf_has_what_a_city_has(city):
    features = demo_features(SEED, SIDE_M)
    tags = features["tags"].map(json.loads)
    kinds = {f"{k}={v}" for t in tags for k, v in t.items()}
    for wanted in ("highway=secondary", "highway=residential", "highway=service", "building=yes",
                   "building=apartments", "landuse=residential", "landuse=industrial", "leisure=park",
                   "natural=water", "shop=convenience"):  # fmt: skip
        assert wanted in kinds
    assert any(any("一" <= c <= "鿿" for c in t.get("name", "")) for t in tags)
    levels = [t for t in tags if "building:levels" in t]
    buildings = [t for t in tags if "building" in t]
    assert 0.1 < len(levels) / len(buildings) < 0.9
    assert features["source_id"].str.startswith("r").any()
    assert features.geometry.is_valid.mean() > 0.99


def test_roads_share_nodes_where_they_meet(city):
    used: dict[int, int] = {}
    for way in osmium.FileProcessor(str(city.osm_pbf), osmium.osm.WAY):
        if "highway" in way.tags and way.tags["highway"] in ("primary", "secondary"):
            for node in (way.nodes[0].ref, way.nodes[-1].ref):
                used[node] = used.get(node, 0) + 1
    assert max(used.values()) >= 3


def test_district_without_osm_is_assessed_has_villages_and_truly_has_nothing(city):
    districts, uv = gpd.read_file(city.districts_gpkg), gpd.read_file(city.uv)
    empty = districts[~districts["has_osm"]]
    assert len(empty) == 1
    assert empty["role"].item() == "assess"
    features = demo_features(SEED, SIDE_M)
    outline = empty.geometry.item()
    assert not features.intersects(outline.buffer(-0.1)).any()
    assert uv.intersection(outline).area.sum() > 10_000


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**31), side_m=st.sampled_from([1000, 1501, 2000, 3000, 4000, 9000]))
def test_districts_of_any_city(seed, side_m):
    layout = make_layout(seed=seed, side_m=side_m)
    districts = layout.districts
    total = sum(d.geometry.area for d in districts)
    assert total == pytest.approx(side_m**2, rel=1e-9)
    assert shapely.union_all([d.geometry for d in districts]).equals_exact(shapely.box(0, 0, side_m, side_m), 1e-6) or (
        shapely.union_all([d.geometry for d in districts]).area == pytest.approx(side_m**2)
    )
    roles = [d.role for d in districts]
    assert 0.4 <= roles.count("train") / len(roles) <= 0.5
    assert 1 <= roles.count("validation") <= 2
    assert roles.count("assess") >= 2
    assert [d.role for d in districts if not d.has_osm] == ["assess"]
    assert len({d.name for d in districts}) == len(districts)
    for row, col in np.argwhere(layout.plans >= 0):
        assert shapely.Polygon(layout.quad(row, col)).is_valid
    for d in districts:  # every district holds a superblock with an urban village and one of a look-alike
        plans = set(layout.plans[layout.district_of == d.index].tolist())
        assert {0, 1} & plans
        assert len(plans) >= 2


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000), side_m=st.sampled_from([1000, 1700, 2500]))
def test_villages_of_any_city(seed, side_m):
    layout = make_layout(seed=seed, side_m=side_m)
    share = {}
    for row, col in np.ndindex(layout.n, layout.n):
        block = make_block(layout, row, col)
        cell = shapely.Polygon(layout.quad(row, col))
        role = layout.districts[layout.district_of[row, col]].role
        for village in block.villages:
            assert village.is_valid
            assert cell.buffer(-10).contains(village)  # never across an arterial road
            width, height = np.ptp(np.array(village.exterior.coords), axis=0)
            assert 50 < max(width, height) < 620
            share[role] = share.get(role, 0) + village.area
    assert set(share) == {"train", "validation", "assess"}
    assert 0.05 < sum(share.values()) / side_m**2 < 0.3


def test_village_houses_are_small_dense_and_lie_in_the_truth(layout):
    found = 0
    for row, col in np.ndindex(layout.n, layout.n):
        block = make_block(layout, row, col)
        for village in block.villages:
            houses = shapely.polygons(block.quads)
            middle = shapely.centroid(houses)
            inside = houses[shapely.contains(village, middle)]
            sizes = np.sqrt(shapely.area(inside))
            assert 8 < np.median(sizes) < 14
            covered = shapely.union_all(inside).area / village.area
            assert 0.5 < covered < 0.9
            found += 1
    assert found >= 2


def test_labels_agree_with_each_other(city):
    uv, blocks = gpd.read_file(city.uv), gpd.read_file(city.blocks)
    districts, aoi = gpd.read_file(city.districts_gpkg), gpd.read_file(city.aoi)
    assert {uv.crs, blocks.crs, districts.crs, aoi.crs} == {uv.crs}
    assert aoi.total_bounds.tolist() == list(city.bounds_m)
    assert set(blocks["cover"]) <= {c.label for c in Cover}
    ours = blocks[blocks["cover"] == "uv"]
    assert ours.geometry.union_all().symmetric_difference(uv.geometry.union_all()).area < 1
    others = blocks[blocks["cover"] != "uv"].geometry.union_all()
    assert others.intersection(uv.geometry.union_all()).area < 1
    joined = dict(zip(districts["name"], districts.geometry, strict=True))
    for name, village in zip(uv["district"], uv.geometry, strict=True):
        assert joined[name].buffer(0.1).contains(village)
    assert [d.name for d in city.districts] == districts["name"].tolist()
    assert [d.geometry.area for d in city.districts] == pytest.approx(districts.area.tolist())


def best_threshold_iou(values: np.ndarray, truth: np.ndarray) -> float:
    """Greatest IoU of any rule ``low <= value <= high`` on one band, found exhaustively over 64 levels."""
    level = np.clip((values / 4).astype(int), 0, 63)
    true = np.bincount(level[truth], minlength=64).astype(float)
    every = np.bincount(level, minlength=64).astype(float)
    best = 0.0
    for low in range(64):
        hits, seen = np.cumsum(true[low:]), np.cumsum(every[low:])
        best = max(best, float((hits / (true.sum() + seen - hits)).max()))
    return best


def test_colour_alone_does_not_find_the_villages(city):
    """No threshold on a band, nor the best rule per colour cell fitted to the answer itself, reaches IoU 0.5."""
    uv = gpd.read_file(city.uv)
    colours, answers = [], []
    for path in city.imagery:
        with rasterio.open(path) as scene:
            mask = scene.dataset_mask() > 0
            truth = rasterize(uv.geometry, scene.shape, transform=scene.transform) > 0
            colours.append(scene.read()[:, mask])
            answers.append(truth[mask])
    rgb, truth = np.concatenate(colours, axis=1), np.concatenate(answers)
    for band in rgb:
        assert best_threshold_iou(band, truth) < 0.5
    cell = (rgb // 8).astype(int)
    key = (cell[0] * 32 + cell[1]) * 32 + cell[2]
    true, every = np.bincount(key[truth], minlength=2**15), np.bincount(key, minlength=2**15)
    order = np.argsort(-true / np.maximum(every, 1))
    hits, seen = np.cumsum(true[order]), np.cumsum(every[order])
    assert (hits / (true.sum() + seen - hits)).max() < 0.5


def test_scenes_differ_in_sun_and_haze(layout):
    west, east = plan_scenes(layout)
    assert west.look.date != east.look.date
    assert west.look.haze < east.look.haze
    assert np.linalg.norm(west.look.shift_per_m - east.look.shift_per_m) > 0.02
    # a shadow falls away from the sun: 45 degrees high in the south-east, 1 m to the north-west
    look = type(west.look)(1, "2023-01-01", 135.0, 45.0, 0.1, (0, 0, 0), (1, 1, 1))
    assert look.shift_per_m == pytest.approx([-np.sqrt(0.5), np.sqrt(0.5)])


def test_progress_reaches_its_end(tmp_path):
    seen: dict[str, list[tuple[int, int]]] = {}
    generate_demo_city(
        tmp_path, seed=1, side_m=1000, progress=lambda what, done, of: seen.setdefault(what, []).append((done, of))
    )
    assert {"vectors", "scene_west.tif", "scene_east.tif"} <= set(seen)
    for steps in seen.values():
        assert steps[-1][0] == steps[-1][1]
        assert [a for a, _ in steps] == sorted(a for a, _ in steps)


def test_frame_and_features_in_a_given_crs():
    frame = make_frame(side_m=1000, center_lonlat=(116.4, 39.9), crs="EPSG:4547")
    assert frame.crs == "EPSG:4547"
    assert make_frame(side_m=1000, center_lonlat=(116.4, 39.9)).crs == "EPSG:32650"
    units = frame.to_osm_units(np.array([[0.0, 0.0], [1000.0, 1000.0]]))
    assert np.abs(frame.from_osm_units(units) - frame.origin - [[0, 0], [1000, 1000]]).max() < 0.02
    assert units.mean(axis=0) / 1e7 == pytest.approx([116.4, 39.9], abs=1e-4)


def test_far_west_and_south_keep_their_nodes():
    layout = make_layout(seed=1, side_m=1000)
    for lonlat in ((-179.0, -60.0), (179.0, 60.0)):
        frame = make_frame(side_m=1000, center_lonlat=lonlat)
        table = collect_vectors(layout, frame).osm
        assert (np.abs(table.units / 1e7 - lonlat) < 0.05).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"side_m": 900}, "900"),
        ({"side_m": 50_001}, "50001"),
        ({"seed": -1}, "-1"),
        ({"crs": "EPSG:4326"}, "not projected"),
        ({"crs": "nonsense"}, "unknown CRS"),
        ({"parts": ("roads",)}, "choose"),
    ],
)
def test_impossible_cities_are_refused_in_words(tmp_path, change, message):
    with pytest.raises(DemoError, match=message):
        generate_demo_city(tmp_path / "out", **{"seed": 1, "side_m": 1000, **change})
    assert not (tmp_path / "out").exists()


def test_command_line(tmp_path, capsys):
    assert main([str(tmp_path / "a"), "--side-m", "1000", "--only", "vectors"]) == 0
    assert (tmp_path / "a" / "vectors" / "demo.osm.pbf").exists()
    assert capsys.readouterr().out.strip() == str(tmp_path / "a")
    assert main([str(tmp_path / "b"), "--side-m", "10"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


def test_villages_are_planted_as_told_and_nothing_else_changes():
    plain = make_layout(seed=5, side_m=2000)
    planted = make_layout(seed=5, side_m=2000, villages=VillagePlan(superblocks=0.5, clusters=1, storeys_added=-2.0))
    holds = np.isin(planted.plans, (int(Plan.VILLAGE), int(Plan.VILLAGE_SMALL)))
    assert holds.sum() == round(0.5 * planted.plans.size)
    assert np.array_equal(plain.nodes, planted.nodes)
    assert [d.completeness for d in plain.districts] == [d.completeness for d in planted.districts]
    row, col = (int(v[0]) for v in np.nonzero(holds & (plain.plans == planted.plans)))
    tall, low = (make_block(layout, row, col) for layout in (plain, planted))
    assert shapely.equals(tall.villages[0], low.villages[0])
    inside = shapely.within(shapely.centroid(shapely.polygons(low.quads)), low.villages[0])
    lower = (tall.height_m - low.height_m)[inside]
    assert lower.max() == pytest.approx(2 * 3.1, abs=0.01)  # two storeys, but one is left
    assert lower.min() >= 0
    assert np.array_equal(tall.height_m[~inside], low.height_m[~inside])
    with pytest.raises(DemoError, match="superblocks"):
        make_layout(seed=5, side_m=2000, villages=VillagePlan(superblocks=1.5))
