"""How a map's quality falls as OpenStreetMap goes missing: the degradation curve on ground no training saw.

Run ``python benchmarks/missing_map.py --demo out/demo [--checkpoints DIR ...] [--seeds 3] [--cities 1] [--blur-m 4]``.
``--demo`` is the folder of `uvmap demo`: its checkpoint and city are taken, nothing is trained; ``--checkpoints`` adds
those of other training seeds. Of the city's map
features 0, 25, 50 and 75 % are dropped at random, whole features, by seed (a feature dropped at 25 % is dropped at
50 % too); 100 % is a city without a map, the image-only answer. Each thinned city goes through the same stages as
`uvmap map` up to the published polygons, and the mask burnt from them is compared with complete reference, pixel by
pixel, in the districts that were kept for assessment and have a map. ``--cities`` adds demo cities of other seeds,
which the model never saw at all; ``--blur-m`` adds the demo city seen through a Gaussian of so many metres, imagery
worse than any that was trained on, where the map has more to say.
First it is checked that the map read back from the table it was thinned in gives the scores of the original file.
Prints a table and, as its last line, one JSON object. ``smooth``: no step of the curve of means is larger than twice
the mean step, or than 0.02; ``above_image_only``: at no share the mean lies below the image-only answer by more than
the largest range over the seeds (of thinning, and of training where there are several checkpoints).
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
from demo_tiles import blurred, demo_ground

from accuracy.survey.map_strata import MapRasters
from flows.assessment import compare_product
from pipeline.city.ground import CityGround
from pipeline.city.job import CityJob
from pipeline.city.reference import read_city_reference
from pipeline.city.sources import find_sources
from pipeline.city.stages import run_stage
from pipeline.product.mask import write_polygon_mask
from pipeline.reference.areas import read_polygons
from regions.demo import DEMO_ADCODE
from regions.registry import find_city
from regions.settings import GridConfig

DROPPED = (0.0, 0.25, 0.5, 0.75)
GRID = GridConfig(stride_px=160, block_px=512)
STEP_FLOOR = 0.02


class Place:
    """A city whose assessed districts are mapped again and again, with fewer and fewer features."""

    def __init__(self, name: str, data: Path, checkpoint: Path, work: Path, *, blur_m: float = 0.0) -> None:
        """Take a city's data; what is made goes to ``work``."""
        self.name, self.work = name, work
        work.mkdir(parents=True, exist_ok=True)
        sources = find_sources(data, DEMO_ADCODE)
        if blur_m:
            sources = replace(sources, imagery=tuple(blurred(p, work / p.name, blur_m) for p in sources.imagery))
        crs = find_city(DEMO_ADCODE).crs
        districts = read_polygons([sources.districts], crs=crs)
        self.areas = districts[(districts["role"] == "assess") & districts["has_osm"].astype(bool)]
        aoi = work / "aoi.gpkg"
        gpd.GeoDataFrame(geometry=[self.areas.union_all()], crs=crs).to_file(aoi)
        self.ground = CityGround(sources=replace(sources, aoi=aoi), crs=crs, grid=GRID, work=work / "stages")
        graph = run_stage("graph", self._job(self.ground, checkpoint))
        self.features = gpd.read_parquet(Path(graph["folder"]) / "features.parquet")
        self.reference = read_city_reference(sources, crs=crs)

    def _job(self, ground: CityGround, checkpoint: Path) -> CityJob:
        return CityJob(ground=ground, checkpoint=checkpoint, out=self.work / "product")

    def thinned(self, dropped: float, seed: int) -> CityGround:
        """The city with a share of its features dropped; all of them: no map."""
        if dropped == 1.0:
            return self.ground.model_copy(update={"sources": replace(self.ground.sources, vectors=())})
        draw = np.random.default_rng(seed).random(len(self.features))  # one number per feature: drops are nested
        path = self.work / f"features-{dropped:g}-{seed}.parquet"
        self.features[draw >= dropped][["geometry", "tags"]].to_parquet(path, index=False)
        return self.ground.model_copy(update={"sources": replace(self.ground.sources, vectors=(path,))})

    def figures(self, ground: CityGround, checkpoint: Path) -> dict[str, float]:
        """IoU and F1 of the published polygons, and IoU of the scores at 0.5, on the assessed districts."""
        job = self._job(ground, checkpoint)
        villages = gpd.read_parquet(Path(run_stage("polygons", job)["folder"]) / "villages.parquet")
        scores = self.scores(ground, checkpoint)
        mask = write_polygon_mask(scores, villages.to_crs(ground.crs), self.work / "mask.tif")
        compared = compare_product(
            MapRasters(mask=mask, scores=scores), self.reference, areas=self.areas, maps=("polygons", "scores")
        )
        polygons, raw = (compared[m].total.confusion for m in ("polygons", "scores"))
        return {"iou": polygons.iou or 0.0, "f1": polygons.f1 or 0.0, "iou_scores": raw.iou or 0.0}

    def scores(self, ground: CityGround, checkpoint: Path) -> Path:
        """The score raster of a thinned city."""
        return Path(run_stage("scores", self._job(ground, checkpoint))["folder"]) / "scores.tif"


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as raster:
        return raster.read(1)


def curve(place: Place, checkpoints: Sequence[Path], seeds: int) -> list[dict[str, object]]:
    """Figures at every share of dropped features: mean and range over the seeds of thinning and of training."""
    original = read(place.scores(place.ground, checkpoints[0]))
    again = read(place.scores(place.thinned(0.0, 0), checkpoints[0]))
    if not np.array_equal(original, again):
        raise SystemExit(f"{place.name}: the map read back from its table gives other scores")
    rows: list[dict[str, object]] = []
    for dropped in (*DROPPED, 1.0):
        runs = [
            place.figures(place.thinned(dropped, seed), checkpoint)
            for checkpoint in checkpoints
            for seed in range(1 if dropped in {0.0, 1.0} else seeds)
        ]
        row: dict[str, object] = {"city": place.name, "dropped": dropped, "runs": len(runs)}
        for key in runs[0]:
            values = [run[key] for run in runs]
            row |= {key: float(np.mean(values)), f"{key}_min": min(values), f"{key}_max": max(values)}
        rows.append(row)
        print(
            f"{place.name:<12} {dropped:>8.0%} {row['iou']:>8.3f} {row['iou_min']:>8.3f} {row['iou_max']:>8.3f}"
            f" {row['f1']:>8.3f} {row['iou_scores']:>12.3f} {len(runs):>6}",
            flush=True,
        )
    return rows


def verdict(rows: list[dict[str, object]]) -> dict[str, object]:
    """Whether the curve of one city is smooth and never below its image-only end by more than the seeds' range."""
    means = np.array([float(str(r["iou"])) for r in rows])
    spread = np.array([float(str(r["iou_max"])) - float(str(r["iou_min"])) for r in rows])
    steps = np.abs(np.diff(means))
    return {
        "smooth": bool(steps.max() <= max(2 * steps.mean(), STEP_FLOOR)),
        "above_image_only": bool((means[:-1] >= means[-1] - spread.max()).all()),
        "largest_step": float(steps.max()),
        "seeds_range": float(spread.max()),
        "gain_of_full_map": float(means[0] - means[-1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("out/missing_map"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cities", type=int, default=1)
    parser.add_argument("--side-m", type=int, default=3000)
    parser.add_argument("--checkpoints", type=Path, nargs="*", default=[])
    parser.add_argument("--blur-m", type=float, default=4.0)
    args = parser.parse_args()
    checkpoints = [args.demo / "model" / "checkpoint", *args.checkpoints]
    own = args.demo / "data" / DEMO_ADCODE
    places = [Place("demo city", own, checkpoints[0], args.work / "own")]
    if args.blur_m:
        places.append(
            Place(f"blurred {args.blur_m:g} m", own, checkpoints[0], args.work / "blurred", blur_m=args.blur_m)
        )
    for k in range(args.cities):
        ground = demo_ground(args.work, seed=101 + k, side_m=args.side_m)
        data = ground.sources.imagery[0].parents[1]
        places.append(Place(f"other city {k + 1}", data, checkpoints[0], args.work / f"other-{k + 1}"))
    print(f"{'city':<12} {'dropped':>8} {'IoU':>8} {'min':>8} {'max':>8} {'F1':>8} {'IoU scores':>12} {'runs':>6}")
    rows = {place.name: curve(place, checkpoints, args.seeds) for place in places}
    verdicts = {name: verdict(found) for name, found in rows.items()}
    for name, found in verdicts.items():
        print(f"{name}: {found}")
    print(json.dumps({"benchmark": "missing_map", "curves": rows, "verdicts": verdicts}))


if __name__ == "__main__":
    main()
