"""The published graph builder's own output on its five samples, edge by edge and bit by bit."""

import hashlib
import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from models.geolink.graph import EDGE_TYPES
from pipeline.graph import CityGraph
from pipeline.vectors import read_features

SAMPLES = ("a1085095888_S2_20", "a472140250_FI_21", "a702502933_US_21", "n4503852781_DE_", "w221548378_US_21")
CENTROID = {"polygon": slice(6, 8), "line": slice(0, 6), "point": slice(0, 2)}
pytestmark = pytest.mark.shared


def sample_table(shared: Path, name: str) -> gpd.GeoDataFrame:
    folder = shared / "reference/graph_inputs/osm2graph_example" / name
    table = pd.concat([gpd.read_file(f) for f in sorted(folder.glob("*.geojson"))], ignore_index=True)
    tags = [json.dumps(dict(i.split(":", 1) for i in label.split(";")), sort_keys=True) for label in table["label"]]
    return gpd.GeoDataFrame({"tags": tags}, geometry=table.geometry, crs=table.crs)


def stub_embedding(tags: dict[str, str], counts: dict[str, int]) -> np.ndarray:
    """Weighted mean of the stub encoder's vectors, as the reference was made."""
    vectors, weights = [], []
    for key, value in tags.items():
        seed = int.from_bytes(hashlib.sha256(f"{key}:{value}".encode()).digest()[:8], "little")
        vectors.append(np.random.default_rng(seed).standard_normal(512).astype(np.float32))
        weights.append(np.log(counts[key]))
    weights = np.array(weights) if np.sum(weights) > 0 else np.ones(len(vectors))
    return (np.stack(vectors) * weights[:, None]).sum(axis=0) / weights.sum()


@pytest.mark.parametrize("name", SAMPLES)
def test_sample_equals_the_published_builder(shared: Path, name: str) -> None:
    reference = np.load(shared / f"reference/graph_edges/{name}.npz")
    counts = json.loads((shared / "reference/graph_inputs/tag_key_counts.json").read_text())
    graph = CityGraph.build(sample_table(shared, name), mode="official")
    tiles = graph.tile_graphs(reference["bbox_west_south_east_north"][None])
    tiles.validate()
    assert not tiles.is_rich
    embeddings = np.array([stub_embedding(t, counts) for t in graph.tag_sets])
    to_reference: dict[str, np.ndarray] = {}
    for kind, columns in CENTROID.items():
        wanted, got = reference[f"position_{kind}"], tiles.position[kind][:, columns]
        assert wanted.shape == got.shape
        a, b = np.lexsort(wanted.T), np.lexsort(got.T)
        np.testing.assert_array_equal(got[b], wanted[a])
        assert len(np.unique(wanted, axis=0)) == len(wanted), "nodes must be told apart by their position"
        to_reference[kind] = np.empty(len(b), np.int64)
        to_reference[kind][b] = a
        semantics = embeddings[tiles.semantic_id[kind]].reshape(-1, 512)
        np.testing.assert_allclose(semantics[b], reference[f"semantic_{kind}"][a], atol=1e-6, rtol=0)
    for src, dst in EDGE_TYPES:
        index, attr = reference[f"edge_index_{src}__to__{dst}"], reference[f"edge_attr_{src}__to__{dst}"]
        wanted_edges = sorted((*e, *a) for e, a in zip(index.T.tolist(), attr.tolist(), strict=True))
        mine = np.stack(
            [to_reference[src][tiles.edge_index[src, dst][0]], to_reference[dst][tiles.edge_index[src, dst][1]]]
        )
        got_edges = sorted((*e, *a) for e, a in zip(mine.T.tolist(), tiles.edge_attr[src, dst].tolist(), strict=True))
        assert got_edges == wanted_edges, (src, dst)


def test_all_samples_in_one_batch_equal_each_alone(shared: Path) -> None:
    tables = [sample_table(shared, name) for name in SAMPLES]
    graph = CityGraph.build(pd.concat(tables, ignore_index=True), mode="official")
    boxes = json.loads((shared / "reference/graph_inputs/osm2graph_bboxes.json").read_text())
    bounds = np.array([boxes[name]["bbox_lonlat"] for name in SAMPLES])
    batch = graph.tile_graphs(bounds)
    for k in range(len(SAMPLES)):
        one, alone = batch.select([k]), graph.tile_graphs(bounds[k])
        for pair in EDGE_TYPES:
            np.testing.assert_array_equal(one.edge_index[pair], alone.edge_index[pair])
            np.testing.assert_array_equal(one.edge_attr[pair], alone.edge_attr[pair])


def test_equal_polygons_cover_one_way_and_are_covered_the_other() -> None:
    square = shapely.box(0.2, 0.2, 0.6, 0.6)
    table = gpd.GeoDataFrame({"tags": ['{"a":"1"}', '{"a":"2"}']}, geometry=[square, square], crs=3857)
    tiles = CityGraph.build(table, mode="official").tile_graphs(np.array([0, 0, 1, 1.0]))
    off = tiles.edge_attr["polygon", "polygon"][
        tiles.edge_index["polygon", "polygon"][0] != tiles.edge_index["polygon", "polygon"][1]
    ]
    assert sorted(off.argmax(axis=1).tolist()) == [3, 4]  # covers, covered by; "equals" never fires
    rich = CityGraph.build(table).tile_graphs(np.array([0, 0, 1, 1.0]))
    assert rich.edge_attr["polygon", "polygon"][:, 5].sum() == 2


def test_real_city_with_features_cut_at_tiles_is_valid(shared: Path) -> None:
    features = read_features(shared / "data/osm/shenzhen_longgang.osm.pbf", crs="EPSG:32650", bounds_m=None)
    graph = CityGraph.build(features, mode="official")
    left, bottom, right, top = features.table.total_bounds
    x, y = np.meshgrid(np.arange(left, right, 300), np.arange(bottom, top, 300))
    bounds = np.stack([x.ravel(), y.ravel(), x.ravel() + 224, y.ravel() + 224], axis=1)
    tiles = graph.tile_graphs(bounds)
    tiles.validate()
    for kind in ("point", "line", "polygon"):
        assert tiles.n_nodes(kind)
        assert (np.abs(tiles.position[kind] - 0.5) <= 0.5 + 1e-6).all()
