"""City graphs on disk and in several processes, large outlines, semantics, and errors."""

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from models.geolink.graph import GEOMETRY_COLUMNS, TileGraphs
from pipeline.graph import CityGraph, CityGraphError, graph_key
from pipeline.graph.chunks import LARGE
from pipeline.graph.measure import measure_shapes
from pipeline.graph.semantics import read_semantics
from pipeline.graph.tree import BoxTree

UTM = "EPSG:32650"
WINDOWS = np.array([[0, 0, 224, 224], [300, 200, 524, 424], [5000, 5000, 5224, 5224.0]])


@pytest.fixture(scope="module")
def town() -> gpd.GeoDataFrame:
    """Irregular houses on a crooked lattice, a few roads and a residential area around them."""
    random = np.random.default_rng(3)
    x, y = (v.ravel() * 18 + random.uniform(-3, 3, v.size) for v in np.mgrid[0:40, 0:40])
    width, depth = random.uniform(6, 16, (2, x.size))
    houses = shapely.box(x, y, x + width, y + depth)
    roads = [shapely.LineString(random.uniform(0, 720, (6, 2))) for _ in range(12)]
    shops = shapely.points(random.uniform(0, 720, (60, 2)))
    geometry = [*houses, *roads, shapely.box(-10, -10, 400, 730), *shops]
    tags = [{"building": "yes", "height": str(k % 30)} for k in range(len(houses))]
    tags += [{"highway": "residential"}] * 12 + [{"landuse": "residential"}]
    tags += [{"shop": "convenience", "name": f"店{k}"} for k in range(60)]
    return gpd.GeoDataFrame({"tags": [json.dumps(t) for t in tags]}, geometry=geometry, crs=UTM)


def assert_equal(a: CityGraph, b: CityGraph) -> None:
    assert a.texts == b.texts
    assert a.mode == b.mode
    for group in ("nodes", "pairs"):
        for name, value in vars(getattr(a, group)).items():
            np.testing.assert_array_equal(value, getattr(getattr(b, group), name), err_msg=name)


def assert_same_tiles(a: TileGraphs, b: TileGraphs) -> None:
    for field in ("node_tile", "semantic_id", "position", "geometry", "edge_index", "edge_attr"):
        for key, value in getattr(a, field).items():
            np.testing.assert_array_equal(value, getattr(b, field)[key])


def test_saved_graph_is_mapped_and_gives_the_same_tiles(town, tmp_path):
    graph = CityGraph.build(town)
    graph.save(tmp_path / "graph")
    loaded = CityGraph.load(tmp_path / "graph")
    assert isinstance(loaded.nodes.xy, np.memmap)
    assert_equal(graph, loaded)
    assert loaded.tag_sets == graph.tag_sets
    assert loaded.meta["crs"] == UTM
    assert loaded.digest(WINDOWS) == graph.digest(WINDOWS)
    assert_same_tiles(loaded.tile_graphs(WINDOWS), graph.tile_graphs(WINDOWS))
    assert [p.name for p in tmp_path.iterdir()] == ["graph"]


def test_tiles_are_the_same_in_any_batch(town):
    graph = CityGraph.build(town)
    batch = graph.tile_graphs(WINDOWS)
    batch.validate()
    assert_same_tiles(batch, TileGraphs.concat([graph.tile_graphs(w) for w in WINDOWS]))
    assert batch.n_nodes("polygon") > 200
    assert (batch.node_tile["polygon"] < 2).all()  # nothing is seen far outside


@pytest.mark.parametrize("mode", ["rich", "official"])
def test_build_from_parquet_in_two_processes_equals_build_in_memory(town, tmp_path, mode):
    path = tmp_path / "features.parquet"
    town.sample(frac=1, random_state=1).to_parquet(path, row_group_size=200)
    graph = CityGraph.build(path, mode=mode, folder=tmp_path / "graph", workers=2, part_size=300, range_size=350)
    assert_equal(CityGraph.build(town, mode=mode), graph)
    assert graph.meta["crs"] == UTM
    assert not list((tmp_path / "graph").glob("part-*"))


def test_any_executor_will_do(town, tmp_path):
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        graph = CityGraph.build(town, folder=tmp_path / "graph", executor=executor, part_size=700)
    assert_equal(CityGraph.build(town), graph)


def test_empty_city(tmp_path):
    nothing = gpd.GeoDataFrame({"tags": []}, geometry=[], crs=UTM)
    for mode in ("rich", "official"):
        graph = CityGraph.build(nothing, mode=mode)
        graph.save(tmp_path / mode)
        for g in (graph, CityGraph.load(tmp_path / mode)):
            tiles = g.tile_graphs(WINDOWS)
            tiles.validate()
            assert tiles.n_tiles == 3
            assert tiles.is_rich == (mode == "rich")
            assert g.digest(WINDOWS)
            assert g.tag_sets == []


def test_key_and_digest_tell_modes_apart(town):
    assert graph_key("a") != graph_key("b")
    assert graph_key("a") != graph_key("a", mode="official")
    assert CityGraph.build(town).digest(WINDOWS) != CityGraph.build(town, mode="official").digest(WINDOWS)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(LARGE, 400), st.floats(0.1, 0.9), st.floats(0, 2 * np.pi))
def test_large_outlines_are_thinned_without_changing_what_a_tile_sees(seed, n, hole, angle):
    random = np.random.default_rng(seed)
    a = np.linspace(0, 2 * np.pi, n, endpoint=False)
    radius = 1000 * random.uniform(0.8, 1.2, n)
    ring = np.stack([radius * np.cos(a), radius * np.sin(a)], axis=1)
    polygon, line = shapely.Polygon(ring, [ring[::-1] * hole]), shapely.LineString(ring * 1.1)
    table = gpd.GeoDataFrame({"tags": ['{"a":"1"}', '{"a":"2"}']}, geometry=[polygon, line], crs=UTM)
    center = random.uniform(0.7, 1.2) * 1000 * np.array([np.cos(angle), np.sin(angle)])
    window = np.concatenate([center - 112, center + 112])
    tiles = CityGraph.build(table).tile_graphs(window)
    box = shapely.box(*window)
    for kind, seen, column in (("polygon", polygon.intersection(box), 6), ("line", line.intersection(box), 0)):
        assert tiles.n_nodes(kind) == (max(seen.area, seen.length) > 1e-6)
        if tiles.n_nodes(kind):
            got = tiles.position[kind][0, column : column + 2] * [224, -224] + [window[0], window[3]]
            np.testing.assert_allclose(got, [seen.centroid.x, seen.centroid.y], atol=0.01)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 300), st.integers(0, 5), st.integers(0, 1000))
def test_tree_finds_what_a_plain_comparison_finds(n, m, seed):
    random = np.random.default_rng(seed)
    low = random.integers(0, 40, (n, 2)).astype(float)
    boxes = np.concatenate([low, low + random.integers(0, 8, (n, 2))], axis=1)
    corner = random.integers(0, 40, (m, 2)).astype(float)
    windows = np.concatenate([corner, corner + random.integers(0, 12, (m, 2))], axis=1)
    a, b = windows[:, None], boxes[None]
    wanted = np.argwhere(
        (a[..., 0] <= b[..., 2]) & (a[..., 2] >= b[..., 0]) & (a[..., 1] <= b[..., 3]) & (a[..., 3] >= b[..., 1])
    )
    np.testing.assert_array_equal(np.stack(BoxTree.over(boxes).query(windows), axis=1), wanted.reshape(-1, 2))


def test_shape_columns_of_known_shapes():
    tilted = shapely.affinity.rotate(shapely.box(0, 0, 40, 10), 30, origin=(0, 0))
    shapes = np.array([tilted, shapely.LineString([(0, 0), (0, 50)]), shapely.Point(3, 3)])
    columns = measure_shapes(shapes, np.array([2, 1, 0], np.uint8), np.array([25, np.nan, np.nan], np.float32))
    named = dict(zip(GEOMETRY_COLUMNS, columns.T, strict=False))
    np.testing.assert_allclose(named["log_area"], [np.log1p(400) / 10, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(named["log_length"], [np.log1p(100) / 10, np.log1p(50) / 10, 0], rtol=1e-6)
    np.testing.assert_allclose(named["elongation"], [0.75, 1, 0], atol=1e-6)
    np.testing.assert_allclose(named["cos_2_orientation"], [0.5, -1, 0], atol=1e-6)
    np.testing.assert_allclose(named["sin_2_orientation"], [np.sqrt(0.75), 0, 0], atol=1e-6)
    np.testing.assert_allclose(named["height"], [0.5, 0, 0])
    np.testing.assert_allclose(named["height_known"], [1, 0, 0])


def test_keys_that_name_rather_than_say_what_a_thing_is_are_left_out_of_tag_sets():
    tags = np.array(
        [
            '{"amenity":"bank","name":"甲"}',
            '{"amenity":"bank","name:en":"B","addr:street":"x"}',
            '{"amenity":"bank","namely":"kept"}',
        ],
        object,
    )
    assert read_semantics(tags, all_keys=False).texts == ('{"amenity":"bank","namely":"kept"}', '{"amenity":"bank"}')
    assert len(read_semantics(tags, all_keys=True).texts) == 3


class TestErrors:
    def test_unfinished_folder(self, town, tmp_path):
        CityGraph.build(town).save(tmp_path / "graph")
        (tmp_path / "graph" / "meta.json").unlink()
        with pytest.raises(CityGraphError, match=r"meta\.json: no complete city graph there.*build it again"):
            CityGraph.load(tmp_path / "graph")

    def test_missing_array(self, town, tmp_path):
        CityGraph.build(town).save(tmp_path / "graph")
        (tmp_path / "graph" / "xy.npy").unlink()
        with pytest.raises(CityGraphError, match=r"xy\.npy: cannot be read.*build again"):
            CityGraph.load(tmp_path / "graph")

    def test_other_format(self, town, tmp_path):
        CityGraph.build(town).save(tmp_path / "graph")
        meta = json.loads((tmp_path / "graph" / "meta.json").read_text())
        (tmp_path / "graph" / "meta.json").write_text(json.dumps({**meta, "format": 0}))
        with pytest.raises(CityGraphError, match="format 0, this version reads"):
            CityGraph.load(tmp_path / "graph")

    def test_multi_part_feature(self):
        table = gpd.GeoDataFrame({"tags": ["{}"]}, geometry=[shapely.MultiPoint([(0, 0), (1, 1)])], crs=UTM)
        with pytest.raises(CityGraphError, match=r"feature 0 of 1 is MultiPoint.*read_features"):
            CityGraph.build(table)

    def test_workers_without_a_folder(self, town):
        with pytest.raises(CityGraphError, match="2 workers need a folder"):
            CityGraph.build(town, workers=2)

    def test_unknown_mode(self, town):
        with pytest.raises(CityGraphError, match="unknown graph mode 'best'; choose rich or official"):
            CityGraph.build(town, mode="best")

    def test_foreign_parquet(self, tmp_path):
        import pandas as pd

        path = tmp_path / "other.parquet"
        pd.DataFrame({"a": [1]}).to_parquet(path)
        with pytest.raises(CityGraphError, match=r"other\.parquet: cannot be read as a feature table"):
            CityGraph.build(path)
        path.write_bytes(b"PAR1")
        with pytest.raises(CityGraphError, match=r"other\.parquet: no readable GeoParquet"):
            CityGraph.build(path)

    def test_bounds_of_wrong_shape(self, town):
        with pytest.raises(CityGraphError, match=r"bounds of shape \(1, 3\)"):
            CityGraph.build(town).tile_graphs(np.zeros(3))
