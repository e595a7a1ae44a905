"""Random labelled tiles with graphs, for tests of what carries them."""

import numpy as np

from models.geolink.graph import EDGE_TYPES, GEOMETRY_COLUMNS, NODE_TYPES, POSITION_POINTS, RELATIONS, TileGraphs
from models.tiles.samples import IGNORE, SampleSet
from models.tiles.shards import graph_arrays


def random_graphs(rng: np.random.Generator, n_tiles: int, *, tag_sets: int = 4) -> TileGraphs:
    """Random graphs: 0 to 4 nodes per type and tile, edges within a tile, rich columns from true positions."""
    tiles = {t: np.sort(np.repeat(np.arange(n_tiles), rng.integers(0, 5, n_tiles))) for t in NODE_TYPES}
    position = {t: rng.uniform(0, 1, (len(k), 2 * POSITION_POINTS[t])).astype(np.float32) for t, k in tiles.items()}
    geometry = {t: rng.uniform(0, 1, (len(k), len(GEOMETRY_COLUMNS))).astype(np.float32) for t, k in tiles.items()}
    index, attr = {}, {}
    for src, dst in EDGE_TYPES:
        pairs = [
            (a, b) for b in range(len(tiles[dst])) for a in range(len(tiles[src])) if tiles[src][a] == tiles[dst][b]
        ]
        kept = [p for p in pairs if rng.uniform() < 0.5]
        index[src, dst] = np.array(kept, np.int64).reshape(-1, 2).T
        # bearing between the first points, y downwards in positions, upwards on the map
        step = position[dst][index[src, dst][1], :2] - position[src][index[src, dst][0], :2]
        length = np.maximum(np.hypot(step[:, 0], step[:, 1]), 1e-9)
        one_hot = np.zeros((len(kept), len(RELATIONS[src, dst])), np.float32)
        rich = np.stack([np.zeros(len(kept)), length, step[:, 0] / length, -step[:, 1] / length], 1)
        attr[src, dst] = np.concatenate([one_hot, rich], 1).astype(np.float32)
    ids = {t: rng.integers(0, tag_sets, len(k)) for t, k in tiles.items()}
    graphs = TileGraphs(n_tiles, tiles, ids, position, geometry, index, attr)
    graphs.validate()
    return graphs


def random_samples(seed: int, n: int = 5, side: int = 8) -> SampleSet:
    rng = np.random.default_rng(seed)
    return SampleSet(
        images=rng.integers(0, 256, (n, 3, side, side), np.uint8),
        labels=rng.choice(np.array([0, 1, IGNORE], np.uint8), (n, side, side)),
        graphs=random_graphs(rng, n),
        tag_sets=[{"building": "yes"}, {"highway": "path"}, {}, {"name": "村", "landuse": "residential"}],
        resolution_m=1.0,
        source=f"seed {seed}",
        place=rng.integers(0, 2, n).astype(np.int32),
        places=("common ground", f"ground {seed}"),
    )


def assert_equal_graphs(a: TileGraphs, b: TileGraphs, *, atol: float = 0) -> None:
    assert a.n_tiles == b.n_tiles
    left, right = graph_arrays(a), graph_arrays(b)
    for name, values in left.items():
        assert values.shape == right[name].shape
        np.testing.assert_allclose(values, right[name], atol=atol, rtol=0, err_msg=name)


def rough_and_smooth(seed: int = 0, shift: int = 0) -> SampleSet:
    """Tiles of two kinds of ground: the village half is rough, the other smooth; ``shift`` darkens the look."""
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for k in range(6):
        label = np.zeros((64, 64), np.uint8)
        label[:, : 16 * (k % 4)] = 1
        noise = rng.integers(-60, 60, (3, 64, 64)) * label
        images.append(np.clip(150 - shift + noise + rng.integers(-3, 3, (3, 64, 64)), 1, 255).astype(np.uint8))
        labels.append(label)
    return SampleSet.image_only(np.stack(images), np.stack(labels), resolution_m=1.0, source=f"place {seed}")
