"""A release of many cities: CPU, wall time and peak memory of build and check, and tiles by two programs.

    python benchmarks/release.py [--cities 342] [--villages 5000] [--work DIR]

Products are made (`tests.support.products`), a city of its own each, at real places.
Peak memory is that of the process and its children, sampled every 0.2 s. Last line: one JSON object.
"""

# each step brings what it needs into a process of its own
# ruff: noqa: ANN002, ANN201, ANN202, ANN204, ANN205, D102, PLC0415
from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


class Peak:
    """Largest memory (unshared, MB) of this process and its children while a block runs, and its CPU seconds."""

    def __enter__(self):
        self._stop, self.peak_mb, self.child_mb = threading.Event(), 0.0, 0.0
        self._cpu, self._wall = self._seconds(), time.perf_counter()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self):
        me = psutil.Process()
        while not self._stop.wait(0.2):
            own = children = 0.0
            for process in (me, *me.children(recursive=True)):
                try:
                    used = process.memory_info().rss / 1e6
                except psutil.Error:
                    continue
                own, children = (used, children) if process == me else (own, children + used)
            self.peak_mb, self.child_mb = max(self.peak_mb, own), max(self.child_mb, children)

    @staticmethod
    def _seconds():
        return sum(
            resource.getrusage(who).ru_utime + resource.getrusage(who).ru_stime
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self.cpu_s, self.wall_s = self._seconds() - self._cpu, time.perf_counter() - self._wall

    def figures(self):
        return {
            "cpu_s": round(self.cpu_s, 1),
            "wall_s": round(self.wall_s, 1),
            "peak_mb": round(self.peak_mb),
            "peak_children_mb": round(self.child_mb),
        }


def make_products(root: Path, cities: int, villages: int) -> list[str]:
    from regions.registry import national_set
    from tests.support.products import write_product

    step = len(national_set()) / cities
    codes = [national_set()[int(k * step)].adcode for k in range(cities)]
    for k, code in enumerate(codes):
        if not (root / code / "manifest.json").exists():
            write_product(root, code, villages=villages, seed=k, density_raster=False)
            print(f"product {k + 1} of {cities}", file=sys.stderr, end="\r")
    return codes


def tiles_by_gdal(release: Path, work: Path) -> dict:
    import geopandas as gpd
    import pyogrio

    from pipeline.release import layout
    from pipeline.release.vector_files import TILE_COLUMNS, ZOOMS

    table = gpd.read_parquet(release / layout.VILLAGES)
    table = table[[*(n for n in TILE_COLUMNS if n in table), "geometry"]]
    out = work / "gdal.pmtiles"
    out.unlink(missing_ok=True)
    with Peak() as peak:
        pyogrio.write_dataframe(table, out, driver="PMTiles", layer=layout.LAYER, MINZOOM=ZOOMS[0], MAXZOOM=ZOOMS[1])
    return peak.figures() | {"mb": round(out.stat().st_size / 1e6, 2)}


def tiles_by_tippecanoe(release: Path, work: Path) -> dict:
    import pyarrow as pa

    from pipeline.release import layout
    from pipeline.release.merging import read_own
    from pipeline.release.tables import OWN_COLUMNS, SCHEMA
    from pipeline.release.vector_files import write_tiles

    schema = pa.schema([SCHEMA.field(n) for n in (*OWN_COLUMNS, "geometry")])
    out = work / "tippecanoe.pmtiles"
    with Peak() as peak:
        write_tiles(read_own([release / layout.VILLAGES]), schema, out, work=work)
    return peak.figures() | {"mb": round(out.stat().st_size / 1e6, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cities", type=int, default=342)
    parser.add_argument("--villages", type=int, default=5000)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "release-benchmark")
    parser.add_argument("--with-gdal-tiles", action="store_true")
    parser.add_argument("--step", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    if options.step is not None:
        _step(options.step, work)
        return
    from tests.support.products import write_campaign

    codes = make_products(work / f"products-{options.villages}", options.cities, options.villages)
    write_campaign(work / "campaign.yaml", work / f"products-{options.villages}", codes, name="made")
    steps = ["build", "check", "tippecanoe", *(["gdal"] if options.with_gdal_tiles else [])]
    result: dict = {"cities": options.cities, "villages_per_city": options.villages}
    for step in steps:  # each in a process of its own, so that peaks do not mix
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, __file__, "--work", str(work), "--step", step]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
        result[step] = json.loads(done.stdout.splitlines()[-1])
        print(f"{step:<12} {result[step]}")
    print(json.dumps(result))


def _step(step: str, work: Path) -> None:
    from pipeline.release.build import ReleaseRequest, build_release, describe_release
    from pipeline.release.check import check_release
    from regions.campaign import load_campaign

    release = work / "release"
    if step == "build":
        campaign = load_campaign(work / "campaign.yaml")
        started = time.perf_counter()

        def tell(text: str) -> None:
            print(f"{time.perf_counter() - started:7.0f} s  {text}", file=sys.stderr)

        with Peak() as peak:
            record = build_release(ReleaseRequest(campaign=campaign, version="1.0.0", out=release), tell=tell)
        about = describe_release(release, record)
        print(json.dumps(peak.figures() | {k: about[k] for k in ("files", "bytes", "villages")}))
    elif step == "check":
        with Peak() as peak:
            report = check_release(release)
        print(json.dumps(peak.figures() | {"blocking": list(report.blocking)}))
    elif step == "tippecanoe":
        print(json.dumps(tiles_by_tippecanoe(release, work)))
    else:
        print(json.dumps(tiles_by_gdal(release, work)))


if __name__ == "__main__":
    main()
