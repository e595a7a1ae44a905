"""Speed of the estimates and the draw, after checking that the numbers are right.

28 cities with 90 points each: all measures, the whole, regions, cities and a size class; linearised, and with 1,000
bootstrap replicates; and 5,000 points from a raster of 30,000 x 30,000 px. Plain loops over domains and replicates are
timed beside them.

    python benchmarks/accuracy_speed.py [--side-px 30000]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

from accuracy.estimation.estimation import estimate
from accuracy.estimation.options import EstimateOptions
from accuracy.estimation.replication import draw_rao_wu_multipliers
from accuracy.estimation.table_estimates import estimate_replicated
from accuracy.estimation.variance import VARIANCE_KINDS
from accuracy.measures import confusion_indicators
from accuracy.survey.design import SamplingDesign
from accuracy.survey.sample import ReferenceSample
from regions.raster.scores import MASK_DESCRIPTION, SCORE_ENCODING, SCORE_TAG

REGIONS = {"North": (42, 6), "East": (60, 8), "South": (55, 7), "Central": (31, 5), "West": (2, 2)}
DOMAINS = (None, "region", "city", "size")


def make_points(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for region, (frame, cities) in REGIONS.items():
        for c in range(cities):
            for name, mapped, m, rate in (("uv", 1, 30, 0.85), ("near", 0, 20, 0.1), ("other", 0, 40, 0.004)):
                size = int(rng.integers(3, 30)) * {"uv": 1000, "near": 3000, "other": 80000}[name]
                ref = rng.random(m) < rate
                rows += [(region, f"{region}{c}", name, mapped, int(r), frame, cities, size, m) for r in ref]
    columns = ["region", "city", "map_stratum", "map", "ref", "N_city", "n_city", "M_pix", "m_pts"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(point_id=range(len(table)), size=np.where(table["M_pix"] % 2000 == 0, "large", "small"))


def sample_of(table: pd.DataFrame) -> ReferenceSample:
    return ReferenceSample(table=table, design=SamplingDesign(psu_selection="probability"))


def linearised(table: pd.DataFrame) -> list[pd.DataFrame]:
    sample = sample_of(table)
    return [
        estimate(sample, EstimateOptions(variance=kind, lonely_psu="certainty"), domain=domain).frame
        for kind in VARIANCE_KINDS
        for domain in DOMAINS
    ]


def bootstrap(table: pd.DataFrame) -> pd.DataFrame:
    return estimate_replicated(sample_of(table), by=("city", "size"), replicates=1000, seed=1)


def loop_bootstrap(table: pd.DataFrame, replicates: int) -> np.ndarray:
    """F1 of every city and region by point weights, replicate by replicate: the plain way."""
    sample = sample_of(table)
    arrays, cells = sample.arrays, confusion_indicators(sample.mapped, sample.reference)
    multipliers = draw_rao_wu_multipliers(arrays, replicates=1000, seed=1)[:replicates]
    masks = [np.ones(len(table), bool)]
    masks += [(table[c] == v).to_numpy() for c in ("region", "city", "size") for v in sorted(table[c].unique())]
    out = np.empty((replicates, len(masks)))
    for b in range(replicates):
        w = arrays.weight * multipliers[b][arrays.psu]
        for g, mask in enumerate(masks):
            tp, fp, fn, _ = (w * mask) @ cells
            out[b, g] = 2 * tp / (2 * tp + fp + fn) if 2 * tp + fp + fn else np.nan
    return out


def check(table: pd.DataFrame) -> None:
    first = linearised(table)[0].set_index("measure")
    shuffled = linearised(table.sample(frac=1, random_state=1))[0].set_index("measure")
    np.testing.assert_allclose(first["se"], shuffled["se"], rtol=1e-9)
    iou = first.loc["IoU"]
    np.testing.assert_allclose(first.loc["F1", "se"], 2 / (1 + iou["estimate"]) ** 2 * iou["se"], rtol=1e-9)
    fast = bootstrap(table).query("variance == 'bootstrap' and measure == 'F1'")
    slow = np.nanstd(loop_bootstrap(table, 1000)[:, 0])
    np.testing.assert_allclose(fast["se"].iloc[0], slow, rtol=0.02)


def best(run: Callable[[], Any], repeats: int = 3) -> tuple[float, float]:
    """Least wall and CPU seconds."""
    times = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return min(t[0] for t in times), min(t[1] for t in times)


def make_raster(path: Path, side_px: int, *, value: int) -> None:
    rng = np.random.default_rng(0)
    profile = {
        "driver": "GTiff", "height": side_px, "width": side_px, "count": 1, "dtype": "uint8", "crs": "EPSG:32649",
        "nodata": 255, "transform": from_origin(500_000, 2_500_000, 1, 1), "tiled": True, "blockxsize": 512,
        "blockysize": 512, "compress": "deflate",
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as dst:
        dst.update_tags(**{SCORE_TAG: SCORE_ENCODING})
        dst.set_band_description(1, MASK_DESCRIPTION)
        strip = np.zeros((512, side_px), np.uint8)
        for row in range(0, side_px, 512):
            strip[:] = 0
            for col in rng.integers(0, max(1, side_px - 300), 5):
                strip[50:300, col : col + 300] = value
            height = min(512, side_px - row)
            dst.write(strip[:height], 1, window=Window(0, row, side_px, height))


def draw(mask: Path, scores: Path) -> tuple[float, int]:
    """Seconds and peak MiB of a draw of 5,000 points in a process of its own."""
    code = (
        "import sys, time; from accuracy.survey.map_strata import MapRasters\n"
        "from accuracy.survey.point_draw import draw_points; t = time.perf_counter();"
        "d = draw_points(MapRasters(mask=sys.argv[1], scores=sys.argv[2]), city='c', region='r', seed=1,"
        " allocation={'mapped': 1500, 'candidate': 1000, 'rest': 2500}); assert len(d.design) == 5000;"
        # ru_maxrss would begin with that of the process that starts this one
        "peak = int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) // 1024\n"
        "print(time.perf_counter() - t, peak)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(mask), str(scores)], check=True, capture_output=True, text=True
    )
    seconds, peak = done.stdout.split()
    return float(seconds), int(peak)


def assess_many(n: int) -> tuple[float, int]:
    """CPU seconds and peak MiB of `uvmap assess sample` of n points in 28 cities, in a process of its own."""
    rng, parts = np.random.default_rng(0), []
    for city in range(28):
        for name, mapped, part, rate in (
            ("mapped", 1, 0.15, 0.85),
            ("candidate", 0, 0.3, 0.1),
            ("rest", 0, 0.55, 0.003),
        ):
            m = int(n * part / 28)
            columns = {"city": str(110000 + city), "region": f"R{city // 4}", "map_stratum": name, "map": mapped,
                       "M_pix": 50 * m, "m_pts": m, "N_city": 49, "n_city": 4, "pixel_m2": 4.0}  # fmt: skip
            parts.append(pd.DataFrame({"ref": (rng.random(m) < rate).astype(int)}).assign(**columns))
    table = pd.concat(parts, ignore_index=True)
    with tempfile.TemporaryDirectory() as folder:
        table.assign(point_id=[f"p{k}" for k in range(len(table))]).to_parquet(f"{folder}/p.parquet")
        code = "from flows.cli import main; main()"
        arguments = ["assess", "sample", f"{folder}/p.parquet", "--psu-selection", "probability", "--out", folder]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, after.ru_maxrss // 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side-px", type=int, default=30_000)
    parser.add_argument("--assess-points", type=int, default=0, help="only assess so many points, then end")
    options = parser.parse_args()
    if options.assess_points:
        seconds, peak = assess_many(options.assess_points)
        print(f"assess of {options.assess_points} points: {seconds:.1f} s CPU, {peak} MiB")
        return
    table = make_points()
    check(table)
    print("equal: order of rows, F1-IoU identity, bootstrap against a plain loop")
    one = best(lambda: linearised(table))
    boot = best(lambda: bootstrap(table))
    loop = tuple(10 * t for t in best(lambda: loop_bootstrap(table, 100), 1))
    with tempfile.TemporaryDirectory() as folder:
        mask, scores = Path(folder) / "mask.tif", Path(folder) / "scores.tif"
        make_raster(mask, options.side_px, value=1)
        make_raster(scores, options.side_px, value=200)
        seconds, peak = draw(mask, scores)
    rows = {
        f"{len(table)} points, 9 measures, 3 variances, 36 domains, linearised": f"{one[0]:.2f} s ({one[1]:.2f} s CPU)",
        "the same, 1,000 bootstrap replicates and the jackknife": f"{boot[0]:.2f} s ({boot[1]:.2f} s CPU)",
        "plain loop, 1,000 replicates of F1 alone": f"{loop[0]:.1f} s ({loop[1]:.1f} s CPU)",
        f"5,000 points of {options.side_px} x {options.side_px} px": f"{seconds:.1f} s, {peak} MiB",
    }
    for name, value in rows.items():
        print(f"{name:<75} {value}")
    figures = {
        "linearised_s": round(one[0], 3),
        "linearised_cpu_s": round(one[1], 3),
        "bootstrap_s": round(boot[0], 3),
        "bootstrap_cpu_s": round(boot[1], 3),
        "loop_cpu_s": round(loop[1], 2),
        "loop_over_bootstrap_cpu_ratio": round(loop[1] / boot[1], 1),
        "draw_s": round(seconds, 1),
        "draw_peak_mib": peak,
        "own_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
