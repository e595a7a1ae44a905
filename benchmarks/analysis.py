"""Speed and memory of `uvmap analyze`: a nation of made products, and building form of one large city.

    .venv/bin/python benchmarks/analysis.py [--cities 342] [--villages 5000] [--buildings 200000]

One made product is written by the real functions and given to every city (links), so that reading costs what it costs.
First the same cities are read in this process and on the Dask cluster, and compared; then the whole nation is timed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import psutil
import shapely

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.analysis.city_tables import CityTask, read_city_tables
from pipeline.analysis.form import measure_city_form
from pipeline.analysis.options import AnalysisOptions
from pipeline.analysis.run import analyse, gather, write_analysis
from pipeline.attributes.buildings import Fabric
from pipeline.files import sha256_of
from pipeline.national.cluster import open_cluster
from pipeline.national.products import find_products
from regions.registry import city_of, national_set


def cpu_s() -> float:
    """CPU seconds of this process and of its ended children."""
    return sum(
        getattr(resource.getrusage(who), f)
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        for f in ("ru_utime", "ru_stime")
    )


class PeakMemory(threading.Thread):
    """Largest memory of this process and all its children, sampled: resident, and with shared pages divided (PSS)."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_bytes, self.peak_pss, self.ended = 0, 0, threading.Event()

    def run(self) -> None:
        """Sample until ended."""
        me = psutil.Process()
        while not self.ended.wait(0.5):
            total = shared = 0
            for p in [me, *me.children(recursive=True)]:
                try:
                    info = p.memory_full_info()
                except psutil.Error:
                    continue
                total, shared = total + info.rss, shared + info.pss
            self.peak_bytes, self.peak_pss = max(self.peak_bytes, total), max(self.peak_pss, shared)


def make_nation(root: Path, cities: int, villages: int) -> None:
    """One product of so many villages, under the adcode of every city."""
    # it brings torch, which workers would import with this module
    from tests.support.products import write_product  # noqa: PLC0415

    codes = [c.adcode for c in national_set()][:cities]
    first = write_product(root, codes[0], villages=villages)
    for code in codes[1:]:
        folder = root / code
        folder.mkdir()
        names = {}
        for path in first.iterdir():
            new = folder / path.name.replace(codes[0], code)
            if path.name != "manifest.json":
                os.link(path, new)
                names[path.name] = new.name
        text = (first / "manifest.json").read_text(encoding="utf-8")
        manifest = json.loads(text)
        manifest["adcode"] = code
        manifest["files"] = {names[n]: known for n, known in manifest["files"].items()}
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def large_city(buildings: int) -> tuple[gpd.GeoSeries, Fabric, shapely.Geometry]:
    """Villages among so many buildings, on a lattice of 20 m."""
    side = int(np.ceil(np.sqrt(buildings)))
    k = np.arange(buildings)
    x, y = (k % side) * 20.0, (k // side) * 20.0
    rng = np.random.default_rng(1)
    size = rng.uniform(8, 16, buildings)
    shapes = shapely.box(x, y, x + size, y + size)
    height = np.where(rng.random(buildings) < 0.5, rng.uniform(3, 60, buildings), np.nan)
    frame = gpd.GeoDataFrame(
        {
            "height_m": pd.array(height, dtype="Float64"),
            "floors": pd.array(np.maximum(height / 3, 1), dtype="Float64"),
            "height_source": pd.array(["tag"] * buildings, dtype="string"),
        },
        geometry=shapes,
        crs="EPSG:32649",
    )
    reach = side * 20.0
    corners = rng.uniform(0, reach - 300, (500, 2))
    villages = gpd.GeoSeries(
        shapely.box(corners[:, 0], corners[:, 1], corners[:, 0] + 200, corners[:, 1] + 200), crs=frame.crs
    )
    apart = gpd.GeoSeries([shapely.union_all(villages.to_numpy())], crs=frame.crs).explode(ignore_index=True)
    return apart, Fabric(frame, gpd.GeoDataFrame(geometry=[], crs=frame.crs)), shapely.box(0, 0, reach, reach)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cities", type=int, default=342)
    parser.add_argument("--villages", type=int, default=5000)
    parser.add_argument("--buildings", type=int, default=200_000)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="uvmap-analysis-"))
    rows = []
    memory = PeakMemory()
    try:
        making = multiprocessing.get_context("spawn").Process(
            target=make_nation, args=(folder / "out", given.cities, given.villages)
        )  # a process of its own: what it holds is not the analysis's
        making.start()
        making.join()
        memory.start()
        options = AnalysisOptions()
        tasks = [CityTask(p, city_of(p.adcode), options) for p in find_products(folder / "out")]
        started, cpu = time.perf_counter(), cpu_s()
        with open_cluster() as client:
            few = list(gather(tasks[:3], client=client))
            here = [read_city_tables(t) for t in tasks[:3]]
            for a, b in zip(few, here, strict=True):
                assert json.dumps(a.totals) == json.dumps(b.totals)
                assert a.pattern == b.pattern
                pd.testing.assert_frame_equal(a.villages, b.villages)
            rows.append(("start of the cluster, equality of three cities", time.perf_counter() - started))
            started = time.perf_counter()
            read = list(gather(tasks, client=client))
            rows.append((f"read {given.cities} cities of {given.villages} villages", time.perf_counter() - started))
        started = time.perf_counter()
        found = analyse(read, options, title="benchmark")
        rows.append(("statistics over all cities", time.perf_counter() - started))
        started = time.perf_counter()
        write_analysis(found, folder / "analysis")
        rows.append(("tables, figures, report", time.perf_counter() - started))
        total_cpu, peak, peak_pss = cpu_s() - cpu, memory.peak_bytes, memory.peak_pss
        digest = sha256_of(folder / "analysis" / "analysis.json")
        started, cpu = time.perf_counter(), cpu_s()
        villages, fabric, area = large_city(given.buildings)
        measure_city_form(villages, fabric, area=area, surroundings_m=1000.0)
        form_cpu = cpu_s() - cpu
        rows.append((f"building form of one city of {given.buildings} buildings", time.perf_counter() - started))
    finally:
        memory.ended.set()
        shutil.rmtree(folder, ignore_errors=True)
    for what, seconds in rows:
        print(f"{what:60s} {seconds:8.1f} s")
    print(
        json.dumps(
            {
                "cities": given.cities,
                "villages": given.villages,
                "seconds": round(sum(s for _, s in rows[1:-1]), 1),
                "cpu_s": round(total_cpu, 1),
                "peak_rss_mb": round(peak / 1e6),
                "peak_pss_mb": round(peak_pss / 1e6),
                "form_cpu_s_per_city": round(form_cpu, 1),
                "form_hours_342_cities_2_cores": round(form_cpu * 342 / 2 / 3600, 2),
                "digest": digest[:16],
            }
        )
    )


if __name__ == "__main__":
    main()
