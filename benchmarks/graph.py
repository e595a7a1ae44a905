"""What city graphs cost, against the published graph builder: CPU seconds of one thread, and processes side by side.

    python benchmarks/graph.py [--side-m 4000] [--features FILE.parquet] [--shared DIR]

1. The five reference samples (needs the shared data): positions and edges are compared with the published builder's
   first; then file tables to graphs to tag embeddings, tag vectors already known. The published builder takes 4.13
   CPU-seconds for them (0.15 without its text model).
2. Mixed objects in one tile (half polygons, a quarter lines, a quarter points), geometry only, from 50 to 6,400, sizes
   shrinking so that an object meets equally many others at any number. The published builder takes 525 ms at 400.
3. Tiles from a built city graph, in batches of 64 overlapping tiles, and digests of blocks.
4. The graph of a demo city, in a process of its own: seconds, peak memory, features per second, with one process and
   with two that are already running (as in a run over many cities).

The last line is one JSON object. ``--side-m 20000`` makes a city of some 350,000 features (minutes to draw).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import shapely

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from models.geolink.graph import EDGE_TYPES
from models.geolink.text import HashedTagEncoder, TagTable, tag_set_embeddings
from pipeline.graph import CityGraph
from regions.demo.city import demo_features

OFFICIAL_SAMPLES_S, OFFICIAL_400_MS = 4.13, 525.0
TILE_M, STRIDE_M, BATCH = 224.0, 112.0, 64


def cpu_seconds(work: Callable[[], Any], repeats: int) -> float:
    """The least CPU time of several runs: on a shared machine the one least disturbed."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def samples(shared: Path) -> dict[str, Any]:

    root = shared / "reference"
    boxes = json.loads((root / "graph_inputs/osm2graph_bboxes.json").read_text())
    counts = json.loads((root / "graph_inputs/tag_key_counts.json").read_text())
    tables, bounds, edges = {}, {}, 0
    for name in boxes:
        files = sorted((root / "graph_inputs/osm2graph_example" / name).glob("*.geojson"))
        table = pd.concat([gpd.read_file(f) for f in files], ignore_index=True)
        tags = [json.dumps(dict(i.split(":", 1) for i in label.split(";")), sort_keys=True) for label in table["label"]]
        tables[name] = gpd.GeoDataFrame({"tags": tags}, geometry=table.geometry, crs=table.crs)
        bounds[name] = np.load(root / f"graph_edges/{name}.npz")["bbox_west_south_east_north"][None]
        reference = np.load(root / f"graph_edges/{name}.npz")
        tiles = CityGraph.build(tables[name], mode="official").tile_graphs(bounds[name])
        for kind, columns in (("polygon", slice(6, 8)), ("line", slice(None)), ("point", slice(None))):
            got, wanted = tiles.position[kind][:, columns], reference[f"position_{kind}"]
            assert np.array_equal(got[np.lexsort(got.T)], wanted[np.lexsort(wanted.T)]), (name, kind)
        for src, dst in EDGE_TYPES:
            wanted_attr = reference[f"edge_attr_{src}__to__{dst}"]
            assert np.array_equal(tiles.edge_attr[src, dst].sum(axis=0), wanted_attr.sum(axis=0)), (name, src, dst)
            edges += len(wanted_attr)
    known = sorted({item for t in tables.values() for text in t["tags"] for item in json.loads(text).items()})
    warm = TagTable.build(known, HashedTagEncoder())

    def all_samples() -> None:
        for name, table in tables.items():
            graph = CityGraph.build(table, mode="official")
            tiles = graph.tile_graphs(bounds[name])
            vectors = tag_set_embeddings(graph.tag_sets, warm, counts)
            for kind in ("point", "line", "polygon"):
                vectors[tiles.semantic_id[kind]]

    seconds = cpu_seconds(all_samples, 10)
    print(f"\n1. five reference samples: {edges} edges equal in number by relation, positions equal to the last bit")
    times = OFFICIAL_SAMPLES_S / seconds
    print(f"   {seconds * 1e3:.1f} ms for all five; the published builder takes {times:.0f} times as long")
    return {"samples_ms": round(seconds * 1e3, 1), "samples_times_official": round(times, 1)}


def mixed(n: int) -> Any:
    """``n`` objects on one tile; at 400 boxes have sides of 6 to 24 m and lines of about 50 m."""
    random = np.random.default_rng(0)
    scale = (400 / n) ** 0.5
    polygons, lines = n // 2, n // 4
    center, half = random.uniform(0, TILE_M, (polygons, 2)), random.uniform(3, 12, (polygons, 2)) * scale
    boxes = shapely.box(*(center - half).T, *(center + half).T)
    start = random.uniform(0, TILE_M, (lines, 1, 2))
    bends = np.concatenate([start, start + random.normal(0, 25, (lines, 2, 2)) * scale], axis=1)
    points = shapely.points(random.uniform(0, TILE_M, (n - polygons - lines, 2)))
    tags = ['{"building":"yes"}'] * polygons + ['{"highway":"path"}'] * lines + ['{"shop":"yes"}'] * len(points)
    geometry = np.concatenate([boxes, shapely.linestrings(bends), points])
    return gpd.GeoDataFrame({"tags": tags}, geometry=geometry, crs="EPSG:32650")


def one_tile(table: Any, mode: Any, window: Any) -> Any:
    return CityGraph.build(table, mode=mode).tile_graphs(window)


def curve() -> dict[str, Any]:

    window = np.array([[0, 0, TILE_M, TILE_M]])
    sizes = [50 * 2**k for k in range(8)]
    out: dict[str, Any] = {}
    print(f"\n2. mixed objects in one tile, geometry only, ms (published at 400: {OFFICIAL_400_MS:.0f})")
    print("   objects" + "".join(f"{n:>9}" for n in sizes))
    for mode in ("official", "rich"):
        times, edges = [], []
        for n in sizes:
            table = mixed(n)
            times.append(cpu_seconds(partial(one_tile, table, mode, window), 5) * 1e3)
            tiles = one_tile(table, mode, window)
            edges.append(sum(e.shape[1] for e in tiles.edge_index.values()))
        growth = times[-1] / times[0] / (sizes[-1] * np.log(sizes[-1]) / (sizes[0] * np.log(sizes[0])))
        print(f"   {mode:<8}" + "".join(f"{t:9.1f}" for t in times) + f"   growth {growth:.2f} of n log n")
        print(f"   {'edges':<8}" + "".join(f"{e:9d}" for e in edges))
        out[f"{mode}_400_ms"], out[f"{mode}_growth_of_nlogn"] = round(times[3], 1), round(float(growth), 2)
    return out


def tile_rate(features: Path) -> dict[str, Any]:

    with tempfile.TemporaryDirectory() as folder:
        graph = CityGraph.build(features, folder=Path(folder) / "graph")
        box = graph.nodes.bounds
        left, bottom = box[:, :2].min(axis=0)
        right, top = box[:, 2:].max(axis=0)
        x, y = np.meshgrid(np.arange(left, right, STRIDE_M), np.arange(bottom, top, STRIDE_M))
        bounds = np.stack([x.ravel(), y.ravel(), x.ravel() + TILE_M, y.ravel() + TILE_M], axis=1)
        bounds = bounds[: 64 * BATCH] if len(bounds) < 256 * BATCH else bounds[len(bounds) // 2 :][: 64 * BATCH]
        batches = [bounds[k : k + BATCH] for k in range(0, len(bounds), BATCH)]
        nodes = sum(graph.tile_graphs(b).n_nodes(t) for b in batches for t in ("point", "line", "polygon"))
        seconds = cpu_seconds(lambda: [graph.tile_graphs(b) for b in batches], 3)
        block = np.array([bounds[:, 0].min(), bounds[:, 1].min(), bounds[:, 0].min() + 2048, bounds[:, 1].min() + 2048])
        digest = cpu_seconds(lambda: graph.digest(block), 3)
    per_tile, rate = nodes / len(bounds), len(bounds) / seconds
    print(f"\n3. {len(bounds)} tiles, {per_tile:.0f} nodes each, of {pq.read_metadata(features).num_rows} features:")
    print(f"   {rate:.0f} tiles/s of one core; {rate * per_tile / 50:.0f} tiles/s scaled to 50 nodes per tile")
    print(f"   digest of a block of 2,048 m: {digest * 1e3:.1f} ms")
    return {
        "tiles_per_s": round(rate),
        "nodes_per_tile": round(per_tile, 1),
        "tiles_per_s_at_50": round(rate * per_tile / 50),
        "block_digest_ms": round(digest * 1e3, 1),
    }


def state(_: int) -> tuple[int, float, float]:
    """Process id, CPU seconds and peak memory in MB of a worker; slow enough that every worker gets one."""
    time.sleep(0.5)
    return os.getpid(), time.process_time(), peak_mb()


def peak_mb() -> float:
    """Peak memory of this process; unlike `ru_maxrss` it does not begin with that of the parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def city_run(features: Path, workers: int) -> None:
    """Build in this process; prints one JSON object."""
    imports_mb = peak_mb()
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        before = {pid: cpu for pid, cpu, _ in pool.map(state, range(4 * workers))} if workers > 1 else {}
        wall, cpu = time.perf_counter(), time.process_time()
        graph = CityGraph.build(features, folder=Path(folder) / "graph", executor=pool if workers > 1 else None)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        after = {pid: (end, peak) for pid, end, peak in pool.map(state, range(4 * workers))} if workers > 1 else {}
        print(
            json.dumps(
                {
                    "wall_s": wall,
                    "cpu_s": cpu,
                    "worker_cpu_s": [after[pid][0] - start for pid, start in before.items()],
                    "worker_peak_mb": max((peak for _, peak in after.values()), default=0),
                    "peak_mb": peak_mb(),
                    "imports_mb": imports_mb,
                    "features": len(graph.nodes),
                    "pairs": len(graph.pairs.other),
                    "digest": graph.digest(graph.nodes.bounds[:64]),
                }
            )
        )


def city(features: Path) -> dict[str, Any]:
    runs = {}
    for workers in (1, 2):
        command = [sys.executable, __file__, "--city-run", str(workers), "--features", str(features)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        runs[workers] = json.loads(done.stdout.strip().splitlines()[-1])
    one, two = runs[1], runs[2]
    assert one["digest"] == two["digest"], "the graph must not depend on the number of processes"
    rate = one["features"] / one["cpu_s"]
    longest = two["cpu_s"] + max(two["worker_cpu_s"])
    shares = " and ".join(f"{c:.1f}" for c in two["worker_cpu_s"])
    print(f"\n4. city of {one['features']} features, {one['pairs']} pairs (the same with one process and two)")
    print(f"   one process: {one['wall_s']:.1f} s, {one['cpu_s']:.1f} CPU-s, {rate:.0f} features per CPU-s")
    print(f"   peak memory {one['peak_mb']:.0f} MB, of which {one['imports_mb']:.0f} MB are imports")
    print(f"   two processes, started before: {two['wall_s']:.1f} s, load of the machine {os.getloadavg()[0]:.1f}:")
    print(f"   {one['wall_s'] / two['wall_s']:.2f} times as fast by the clock; {two['cpu_s']:.1f} CPU-s in the parent,")
    print(f"   {shares} in the workers: {one['cpu_s'] / longest:.2f} times as fast where each has a core to itself")
    print(f"   peak memory of a worker {two['worker_peak_mb']:.0f} MB")
    return {
        "city_features": one["features"],
        "city_cpu_s": round(one["cpu_s"], 2),
        "city_features_per_s": round(one["features"] / one["cpu_s"]),
        "city_peak_mb": round(one["peak_mb"]),
        "two_process_ratio_clock": round(one["wall_s"] / two["wall_s"], 2),
        "two_process_ratio_cpu": round(one["cpu_s"] / longest, 2),
        "worker_peak_mb": round(two["worker_peak_mb"]),
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side-m", type=int, default=4000)
    parser.add_argument("--features", type=Path, help="a GeoParquet feature table instead of a demo city")
    parser.add_argument(
        "--shared", type=Path, default=Path(os.environ.get("UVMAP_SHARED", Path(__file__).parents[2] / "shared"))
    )
    parser.add_argument("--city-run", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.city_run:
        city_run(options.features, options.city_run)
        return
    results: dict[str, Any] = {}
    if (options.shared / "reference/graph_edges").exists():
        results |= samples(options.shared)
    else:
        print(f"1. left out: no reference samples under {options.shared}")
    results |= curve()
    with tempfile.TemporaryDirectory() as folder:
        features = options.features
        if features is None:
            features = Path(folder) / "features.parquet"
            demo_features(1, options.side_m).to_parquet(features, row_group_size=25_000)
        results |= tile_rate(features) | city(features)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
