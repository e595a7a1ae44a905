"""Memory of a training set that is cut, kept and read: in memory and on disk, as a slope over two numbers of tiles.

Run ``python benchmarks/training_memory.py [--tiles 1000 4000]`` (a minute). Tiles of 224 px come in parts of 64, as
`pipeline.learning.ground_tiles` cuts them, go through `SampleStore`, and are read in an epoch of shuffled batches of 8
with the strong augmentation. Each size runs in a process of its own; counted is the most memory that it held
(``VmHWM``). First it is checked that batches from disk and from memory are equal. Prints a table and, as its last
line, one JSON object; ``bytes_per_tile`` is the slope.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from models.geolink.config import GeoLinkConfig
from models.tiles.augmentation import AUGMENTATIONS
from models.tiles.batches import BatchMaker
from models.tiles.samples import SampleSet
from models.tiles.sharded import Samples, SampleStore
from models.training import BatchData, TrainingConfig

PART_TILES, SIDE_PX, BATCH = 64, 224, 8


def kept(folder: Path, tiles: int, *, on_disk: bool) -> Samples:
    """Random tiles through a store that keeps 50 MB, or all, in memory."""
    store = SampleStore(folder, limit_bytes=50_000_000 if on_disk else 10**12)
    for start in range(0, tiles, PART_TILES):
        rng = np.random.default_rng(start)
        images = rng.integers(1, 256, (min(PART_TILES, tiles - start), 3, SIDE_PX, SIDE_PX), np.uint8)
        store.add(SampleSet.image_only(images, images[:, 0] % 2, place=f"place {start % 3}"))
    found = store.finish()
    assert found is not None
    return found


def batches(samples: Samples) -> BatchData:
    """An epoch as a training draws it."""
    make = BatchMaker(samples, GeoLinkConfig.tiny(), AUGMENTATIONS["strong"])
    return BatchData(size=len(samples), config=TrainingConfig(batch_size=BATCH, accelerator="cpu"), seed=0, make=make)


def measure(tiles: int, on_disk: bool, results: multiprocessing.SimpleQueue) -> None:
    """Cut, keep and read once; puts the most memory in bytes and the seconds of the epoch into ``results``."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = batches(kept(Path(folder), tiles, on_disk=on_disk))
        started = time.perf_counter()
        for _ in data.train_dataloader():
            pass
        seconds = time.perf_counter() - started
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak_kb = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    results.put((1024 * int(peak_kb), seconds))


def check_equality() -> None:
    """Batches from disk are those from memory."""
    with tempfile.TemporaryDirectory() as folder:
        pair = [batches(kept(Path(folder), 300, on_disk=on_disk)) for on_disk in (False, True)]
        for one, two in zip(*(p.train_dataloader() for p in pair), strict=True):
            assert torch.equal(one.images, two.images)
            assert torch.equal(one.labels, two.labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, nargs=2, default=[1000, 4000])
    args = parser.parse_args()
    check_equality()
    context = multiprocessing.get_context("spawn")
    rows = {}
    print(f"{'kept':10s} {'tiles':>7s} {'peak MB':>9s} {'epoch s':>9s} {'bytes per tile':>15s}")
    for name, on_disk in (("on disk", True), ("in memory", False)):
        found = []
        for tiles in args.tiles:
            results = context.SimpleQueue()
            process = context.Process(target=measure, args=(tiles, on_disk, results))
            process.start()
            found.append(results.get())
            process.join()
        slope = (found[1][0] - found[0][0]) / (args.tiles[1] - args.tiles[0])
        rows[name] = {"peak_bytes": [f[0] for f in found], "epoch_s": [f[1] for f in found], "bytes_per_tile": slope}
        for tiles, (peak, seconds) in zip(args.tiles, found, strict=True):
            print(f"{name:10s} {tiles:7d} {peak / 1e6:9.0f} {seconds:9.1f} {slope:15.0f}", flush=True)
    print(json.dumps({"tiles": args.tiles, "tile_bytes": 4 * SIDE_PX**2, "kept": rows}))


if __name__ == "__main__":
    main()
