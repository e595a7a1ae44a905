"""Do the 95 % intervals cover the truth? A demo nation with known truth, sampled, labelled and estimated many times.

Seven regions of demo cities with patchy errors whose rates differ between cities; four cities of each region are drawn,
points are drawn in their maps' strata with the product's own code, labels are the truth, and the estimate is compared
with the census of the nation. A second, quicker way draws only the counts (hypergeometric), which is the same sampling
distribution, for other sample sizes and many repetitions.

    python benchmarks/coverage_study.py --repetitions 200
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
from rasterio.transform import from_origin
from scipy import ndimage

from accuracy.comparison.confusion import Confusion
from accuracy.estimation.estimation import estimate
from accuracy.estimation.options import EstimateOptions
from accuracy.survey.design import SamplingDesign
from accuracy.survey.drawing import draw_cities
from accuracy.survey.map_strata import STRATA, MapRasters, MapStrata
from accuracy.survey.point_draw import draw_points
from accuracy.survey.sample import ReferenceSample
from regions.demo import demo_truth_and_map
from regions.raster.scores import MASK_DESCRIPTION, SCORE_ENCODING, SCORE_TAG

REGIONS = ("Central", "East", "North", "Northeast", "Northwest", "South", "Southwest")
MEASURES = ("UA", "PA", "F1", "IoU", "area")
RECOMMENDED = {"mapped": 30, "candidate": 60, "rest": 120}
STRATA_RULE = MapStrata(buffer_m=40.0)
RESOLUTION_M = 10.0


@dataclass(frozen=True, kw_only=True)
class City:
    """A city of the nation: its truth, and where its mask and scores lie."""

    adcode: str
    region: str
    truth: np.ndarray
    rasters: MapRasters
    counts: np.ndarray
    """int64 (3, 2): pixels of each stratum without and with urban village in the truth."""


def build_city(job: tuple[str, str, int, str, tuple[int, ...], float]) -> City:
    """A demo city amid open country (8 parts of 9): villages are about 1 % of the ground.

    Beside patchy errors at known rates, 10 % of the villages are missed whole; a share of these has no raised score at
    all, the others a middling one. Look-alikes with a middling score cover some 3 % of the country.
    """
    adcode, region, seed, folder, sides_m, silent_share = job
    rng = np.random.default_rng([seed, 77])
    side_m = int(rng.choice(sides_m))
    omission, commission = rng.beta(6, 24), rng.beta(6, 30)
    both = demo_truth_and_map(
        seed, side_m, resolution_m=RESOLUTION_M, omission=float(omission), commission=float(commission)
    )
    n = both.truth.shape[0]
    score = np.full((3 * n, 3 * n), 5, dtype=np.uint8)
    for _ in range(round(0.03 * 9 * n * n / 400)):
        row, col = rng.integers(0, 3 * n - 20, 2)
        score[row : row + 20, col : col + 20] = 60
    score[n : 2 * n, n : 2 * n] = np.where(both.mapped, 200, 5)
    villages, number = ndimage.label(both.truth)
    for k in range(1, number + 1):
        if rng.random() < 0.1:
            village = villages == k
            score[n : 2 * n, n : 2 * n][ndimage.binary_dilation(village, iterations=6)] = 5
            if rng.random() >= silent_share:
                score[n : 2 * n, n : 2 * n][village] = 60
    truth = np.zeros(score.shape, dtype=bool)
    truth[n : 2 * n, n : 2 * n] = both.truth
    rasters = MapRasters(mask=Path(folder) / f"{adcode}_uv_mask.tif", scores=Path(folder) / f"{adcode}_scores.tif")
    profile = {
        "driver": "GTiff",
        "height": score.shape[0],
        "width": score.shape[1],
        "count": 1,
        "dtype": "uint8",
        "crs": "EPSG:32649",
        "transform": from_origin(500_000, 2_500_000, RESOLUTION_M, RESOLUTION_M),
        "nodata": 255,
        "compress": "deflate",
    }
    for file, values in ((rasters.scores, score), (rasters.mask, (score == 200).astype(np.uint8))):
        with rasterio.open(file, "w", **profile) as dst:
            dst.write(values, 1)
            dst.update_tags(**{SCORE_TAG: SCORE_ENCODING})
            dst.set_band_description(1, MASK_DESCRIPTION)
    with STRATA_RULE.open(rasters) as reader:
        code = reader.read(0, reader.mask.height)
    counts = np.array([[int(((code == k) & (truth == t)).sum()) for t in (False, True)] for k in range(3)])
    return City(adcode=adcode, region=region, truth=truth, rasters=rasters, counts=counts)


def build_nation(
    folder: Path,
    *,
    cities_per_region: int,
    seed: int,
    regions: Sequence[str] = REGIONS,
    sides_m: tuple[int, ...] = (1500, 2000, 2500, 3000),
    silent_share: float = 0.1,
    workers: int = 2,
) -> list[City]:
    jobs = [
        (f"99{r}{k:03d}", region, seed + 1000 * r + k, str(folder), sides_m, silent_share)
        for r, region in enumerate(regions)
        for k in range(cities_per_region)
    ]
    if workers == 1:
        return [build_city(job) for job in jobs]
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(build_city, jobs, chunksize=4))


def census(nation: Sequence[City]) -> dict[str, float]:
    counts = sum(c.counts for c in nation)
    whole = Confusion(
        tp=int(counts[0, 1]), fp=int(counts[0, 0]), fn=int(counts[1:, 1].sum()), tn=int(counts[1:, 0].sum())
    )
    return {
        "UA": whole.precision or 0,
        "PA": whole.recall or 0,
        "F1": whole.f1 or 0,
        "IoU": whole.iou or 0,
        "area": (whole.tp + whole.fn) / whole.total,
    }


def map_totals(nation: Sequence[City]) -> dict[tuple[str, str], float]:
    totals: dict[tuple[str, str], float] = {}
    for city in nation:
        for key, value in (("1", city.counts[0].sum()), ("0", city.counts[1:].sum())):
            totals[city.region, key] = totals.get((city.region, key), 0.0) + float(value)
    return totals


def sample_through_rasters(
    nation: Sequence[City], allocation: Mapping[str, int], *, per_region: int, seed: int
) -> pd.DataFrame:
    """Cities, points and labels with the code that `uvmap sample` runs."""
    frame = pd.DataFrame({"adcode": [c.adcode for c in nation], "region": [c.region for c in nation]})
    drawn = draw_cities(frame, per_region=per_region, seed=seed)
    by_code = {c.adcode: c for c in nation}
    parts = []
    for row in drawn.itertuples(index=False):
        city = by_code[row.adcode]
        points = draw_points(
            city.rasters, city=city.adcode, region=city.region, allocation=allocation, seed=seed, strata=STRATA_RULE
        ).design
        table = pd.DataFrame(points.drop(columns="geometry"))
        table["ref"] = city.truth[points["row_px"], points["col_px"]].astype(int)
        parts.append(table.assign(N_city=row.N_city, n_city=row.n_city))
    return pd.concat(parts, ignore_index=True)


def sample_counts(
    nation: Sequence[City], allocation: Mapping[str, int], *, per_region: int, rng: np.random.Generator
) -> pd.DataFrame:
    """The same sampling distribution without places: hypergeometric counts of each stratum."""
    rows = []
    for region in sorted({c.region for c in nation}):
        cities = [c for c in nation if c.region == region]
        for k in rng.choice(len(cities), per_region, replace=False):
            city = cities[k]
            for s, name in enumerate(STRATA):
                no, yes = (int(v) for v in city.counts[s])
                m = min(allocation[name], no + yes)
                if m:
                    hits = int(rng.hypergeometric(yes, no, m))
                    rows.append((region, len(cities), city.adcode, name, int(s == 0), no + yes, m, hits))
    columns = ["region", "N_city", "city", "map_stratum", "map", "M_pix", "m_pts", "hits"]
    table = pd.DataFrame(rows, columns=columns)
    points = table.loc[table.index.repeat(table["m_pts"])].reset_index(drop=True)
    rank = points.groupby(["city", "map_stratum"]).cumcount()
    return points.assign(ref=(rank < points["hits"]).astype(int), n_city=per_region, point_id=points.index)


def measure(table: pd.DataFrame, totals: Mapping[tuple[str, str], float] | None) -> pd.DataFrame:
    sample = ReferenceSample(table=table, design=SamplingDesign(psu_selection="probability"))
    return estimate(sample, EstimateOptions(measures=tuple(MEASURES)), calibrate_to=totals).frame


def summarise(results: pd.DataFrame, truth: Mapping[str, float]) -> pd.DataFrame:
    rows = []
    for name, group in results.groupby("measure"):
        true = truth[str(name)]
        inside = group["ci_low"].le(true) & group["ci_high"].ge(true)
        rows.append(
            {
                "measure": name,
                "true": true,
                "mean": group["estimate"].mean(),
                "sd": group["estimate"].std(),
                "mean_se": group["se"].mean(),
                "coverage": inside.mean(),
                "below": group["ci_high"].lt(true).mean(),
                "above": group["ci_low"].gt(true).mean(),
                "warned": group["flags"].map(lambda f: "few_omissions" in f).mean(),
            }
        )
    return pd.DataFrame(rows).set_index("measure").loc[list(MEASURES)]


def study(
    nation: Sequence[City],
    *,
    allocation: Mapping[str, int],
    repetitions: int,
    per_region: int = 4,
    calibrated: bool = False,
    rasters: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    totals = map_totals(nation) if calibrated else None
    rng = np.random.default_rng(seed)
    parts = []
    for k in range(repetitions):
        if rasters:
            table = sample_through_rasters(nation, allocation, per_region=per_region, seed=seed + k)
        else:
            table = sample_counts(nation, allocation, per_region=per_region, rng=rng)
        parts.append(measure(table, totals))
    return summarise(pd.concat(parts, ignore_index=True), census(nation))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--quick-repetitions", type=int, default=400)
    parser.add_argument("--cities-per-region", type=int, default=20)
    parser.add_argument("--silent-share", type=float, default=0.1, help="missed villages without any raised score")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    out: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        nation = build_nation(Path(folder), cities_per_region=options.cities_per_region, seed=options.seed,
                              silent_share=options.silent_share)  # fmt: skip
        print(f"{len(nation)} cities built in {time.perf_counter() - start:.0f} s; census {census(nation)}")
        if options.repetitions:
            start = time.perf_counter()
            chain = study(nation, allocation=RECOMMENDED, repetitions=options.repetitions, rasters=True)
            seconds = time.perf_counter() - start
            print(f"\nrecommended {RECOMMENDED}, {options.repetitions} repetitions through rasters, {seconds:.0f} s")
            print(chain.round(4))
            out["recommended_rasters"] = chain.to_dict("index")
        for name, allocation, calibrated in (
            ("recommended", RECOMMENDED, False),
            ("recommended, calibrated", RECOMMENDED, True),
            ("much rest", {"mapped": 30, "candidate": 60, "rest": 400}, False),
            ("half", {"mapped": 15, "candidate": 30, "rest": 60}, False),
            ("small", {"mapped": 10, "candidate": 10, "rest": 20}, False),
            ("tiny", {"mapped": 5, "candidate": 5, "rest": 5}, False),
        ):
            table = study(nation, allocation=allocation, repetitions=options.quick_repetitions, calibrated=calibrated)
            print(f"\n{name} {allocation}, {options.quick_repetitions} repetitions of counts\n{table.round(4)}")
            out[name] = table.to_dict("index")
    print(json.dumps(out))


if __name__ == "__main__":
    main()
