"""Samples on disk give what samples in memory give, in memory that does not grow with them."""

import json
import tracemalloc
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.geolink.config import GeoLinkConfig
from models.geolink.packing import PackedGraphs
from models.tiles import sharded
from models.tiles.augmentation import AugmentationConfig
from models.tiles.batches import BatchMaker
from models.tiles.sample_writer import MANIFEST_NAME, SampleWriter
from models.tiles.samples import SampleSet, share_tables
from models.tiles.sharded import SampleStore, ShardedSamples
from models.tiles.shards import SampleError
from models.training import BatchData, TrainingConfig, key_of_run
from tests.support.samples import assert_equal_graphs, random_samples

ENCODER = GeoLinkConfig.tiny()


def _equal_batches(a, b):
    for name in ("images", "labels", "place"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    assert (a.graphs is None) == (b.graphs is None)
    if a.graphs is not None:
        for name in PackedGraphs.__dataclass_fields__:
            one, two = getattr(a.graphs, name), getattr(b.graphs, name)
            assert torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two, name


def _written(folder, parts, *, shard_tiles):
    with SampleWriter(folder, shard_tiles=shard_tiles) as writer:
        for part in parts:
            writer.add(part)
    return ShardedSamples.open(folder)


@given(
    seed=st.integers(0, 10_000),
    sizes=st.tuples(st.integers(1, 7), st.integers(1, 5)),
    epoch=st.integers(0, 3),
    varied=st.booleans(),
)
@settings(max_examples=12, deadline=None)
def test_batches_from_disk_are_those_from_memory(tmp_path_factory, seed, sizes, epoch, varied):
    shard_tiles, size = sizes
    parts = [random_samples(seed, 4), random_samples(seed + 1, 5)]
    memory = SampleSet.concat(parts)
    disk = _written(tmp_path_factory.mktemp("s"), parts, shard_tiles=shard_tiles)
    # as in a training: both point into the tables of a third set, too
    other = random_samples(seed + 2, 2)
    _, memory = share_tables([other, memory])
    _, disk = share_tables([other, disk])
    assert (disk.tag_sets, disk.places) == (memory.tag_sets, memory.places)
    config = TrainingConfig(batch_size=size, accelerator="cpu")
    augmentation = AugmentationConfig() if varied else None
    loaders = []
    for samples in (memory, disk):
        make = BatchMaker(samples, ENCODER, augmentation)
        data = BatchData(size=len(samples), config=config, seed=seed, make=make)
        data.trainer = type("At", (), {"current_epoch": epoch, "global_rank": 0, "world_size": 1})()
        loaders.append(list(data.train_dataloader()))
    for a, b in zip(*loaders, strict=True):
        _equal_batches(a, b)


def test_workers_give_the_same_batches(tmp_path):
    disk = _written(tmp_path, [random_samples(0, 9)], shard_tiles=4)
    found = []
    for workers in (0, 2):
        data = BatchData(
            size=9,
            config=TrainingConfig(batch_size=2, workers=workers, accelerator="cpu"),
            seed=1,
            make=BatchMaker(disk, ENCODER, AugmentationConfig()),
        )
        found.append(list(data.train_dataloader()))
    assert len(found[0]) == 5
    for a, b in zip(*found, strict=True):
        _equal_batches(a, b)


@given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(0, 9), max_size=3), shard_tiles=st.integers(1, 6))
@settings(max_examples=15, deadline=None)
def test_bytes_do_not_depend_on_the_parts(tmp_path_factory, seed, cuts, shard_tiles):
    samples = random_samples(seed, 9)
    edges = [0, *sorted(cuts), 9]
    parts = [samples.select(range(a, b)) for a, b in pairwise(edges)]
    one, two = (tmp_path_factory.mktemp("s") for _ in range(2))
    _written(one, [samples], shard_tiles=shard_tiles)
    _written(two, parts, shard_tiles=shard_tiles)
    names = sorted(p.name for p in one.iterdir())
    assert names == sorted(p.name for p in two.iterdir())
    assert all((one / n).read_bytes() == (two / n).read_bytes() for n in names)
    assert_equal_graphs(SampleSet.load(two).graphs, samples.graphs)


def test_shards_of_numpy_are_read_by_rows(tmp_path):
    """Edges that lie column by column, no table of cuts: as older versions wrote them."""
    samples = random_samples(3, 5)
    _written(tmp_path, [samples], shard_tiles=5)
    shard = tmp_path / "shard-00000.npz"
    arrays = dict(np.load(shard))
    del arrays["cut"]
    np.savez(shard, **{n: np.asfortranarray(a) if n.startswith("edge_index") else a for n, a in arrays.items()})
    disk = ShardedSamples.open(tmp_path)
    for k in range(5):
        image, label, graph = disk.tile(k)
        np.testing.assert_array_equal(image, samples.images[k])
        np.testing.assert_array_equal(label, samples.labels[k])
        assert_equal_graphs(graph, samples.select([k]).graphs)


def test_few_files_are_open_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sharded, "OPEN_SHARDS", 2)
    samples = random_samples(1, 8)
    disk = _written(tmp_path, [samples], shard_tiles=1)
    for k in (0, 7, 3, 3, 0, 5, 7, 1):
        np.testing.assert_array_equal(disk.tile(k)[0], samples.images[k])
        assert len(disk._open) <= 2


def test_memory_does_not_grow_with_the_tiles(tmp_path):
    """Writing, opening and reading twice as many tiles takes no more memory: the slope is less than a tile's label."""
    rng = np.random.default_rng(0)

    def peak(n_parts):
        folder = tmp_path / str(n_parts)
        tracemalloc.start()
        store = SampleStore(folder, limit_bytes=100_000)
        for k in range(n_parts):
            images = rng.integers(1, 256, (32, 3, 64, 64), np.uint8)
            store.add(SampleSet.image_only(images, images[:, 0] % 2, place=f"{k % 2}"))
        samples = store.finish()
        assert isinstance(samples, ShardedSamples)
        make = BatchMaker(samples, ENCODER, None)
        for k in range(0, len(samples), 8):
            make(np.arange(k, k + 8), rng)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found, len(samples)

    peak(2)  # what is imported and cached on the way
    (small, few), (large, many) = peak(32), peak(96)
    assert (large - small) / (many - few) < 400  # bytes per tile; a tile has 16 kB


def test_small_sets_stay_in_memory(tmp_path):
    store = SampleStore(tmp_path / "s", limit_bytes=10_000_000)
    assert store.finish() is None
    store.add(random_samples(0))
    store.add(random_samples(1))
    found = store.finish()
    assert isinstance(found, SampleSet) and len(found) == 10
    assert not (tmp_path / "s").exists()


def test_further_processes_read_what_the_first_one_wrote(tmp_path):
    first, second = (SampleStore(tmp_path / "s", limit_bytes=1000, writes=w) for w in (True, False))
    for part in (random_samples(0), random_samples(1)):
        first.add(part)
    written = first.finish()
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "s").iterdir()}
    for part in (random_samples(0), random_samples(1)):
        second.add(part)
    found = second.finish()
    assert isinstance(found, ShardedSamples) and found.digests == written.digests
    assert before == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "s").iterdir()}
    alone = SampleStore(tmp_path / "t", limit_bytes=1000, writes=False)
    alone.add(random_samples(0))
    with pytest.raises(SampleError, match="is no sample set"):
        alone.finish()


def test_other_content_is_another_run(tmp_path):
    disk = _written(tmp_path / "a", [random_samples(0)], shard_tiles=2)
    same = _written(tmp_path / "b", [random_samples(0)], shard_tiles=2)
    assert key_of_run(*disk.content) == key_of_run(*same.content)
    changed = random_samples(0)
    labels = changed.labels.copy()
    labels[4, 0, 0] ^= 1
    other = _written(tmp_path / "c", [replace(changed, labels=labels)], shard_tiles=2)
    assert other.digests[:2] == disk.digests[:2] and other.digests[2] != disk.digests[2]
    assert key_of_run(*other.content) != key_of_run(*disk.content)
    assert disk.label_values.tolist() == SampleSet.load(tmp_path / "a").label_values.tolist() == [0, 1, 255]


def test_damage_is_named(tmp_path):
    samples = random_samples(0)
    disk = _written(tmp_path, [samples], shard_tiles=2)
    shard = tmp_path / "shard-00001.npz"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:200])
    with pytest.raises(SampleError, match=r"shard-00001\.npz cannot be read"):
        disk.tile(2)
    np.savez_compressed(shard, images=samples.images[2:4])
    with pytest.raises(SampleError, match="is compressed"):
        disk.tile(2)
    shard.write_bytes(whole)
    manifest = json.loads((tmp_path / MANIFEST_NAME).read_text())
    manifest["shard_sizes"][0] = 1
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(manifest))
    with pytest.raises(SampleError, match="holds 2 tiles, not 1"):
        ShardedSamples.open(tmp_path)
    del manifest["digests"]
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(manifest))
    with pytest.raises(SampleError, match="older version"):
        ShardedSamples.open(tmp_path)
    with pytest.raises(SampleError, match="8 px and 16 px"):
        _written(tmp_path / "m", [random_samples(0, side=16), samples], shard_tiles=2)
    assert not (tmp_path / "m" / MANIFEST_NAME).exists()
