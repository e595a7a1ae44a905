"""What OpenStreetMap adds to `uvmap train --encoder`: at which stride, how much of it missing, against a wrong map.

Run ``python benchmarks/pyramid_map.py [--work out/pyramid_map] [--strides 16 8 32] [--seeds 1] [--wrong-map 1.0 0.0]
[--blur-m 4]``. Demo cities are made once; ``--blur-m`` sees them all through a Gaussian, so that the image alone is not
that easy. A model learns from the training districts of ``--learn`` cities (their seeds) and is judged on the districts
for assessment of all cities, those with a map: IoU of pixels at 0.5 with 0, 25, 50 and 75 % of the map's objects
dropped at random, without a map (the image alone), and with the map of another tile of the same city, which must not
help: what it adds is no map but a second classifier of the image. ``--wrong-map`` is the weight of the penalty on that;
0 learns from labels alone. Prints a table and, as its last line, one JSON object.

It is checked first that the tiles without a map get the same answer from the model with the map.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from demo_tiles import demo_ground
from torch.nn import functional

from models.calibration import Calibration
from models.checkpoints import CheckpointConfig
from models.encoders.pyramid import pyramid_config
from models.encoders.weights import IMAGENET
from models.geolink.graph import TileGraphs
from models.geolink.text import HashedTagEncoder
from models.segmentation.calibration import CalibrationSampler, calibrate
from models.segmentation.config import SegmentationConfig
from models.segmentation.head_data import place_features
from models.segmentation.head_training import HeadTraining, fit_head
from models.segmentation.map_training import MapGain, MappedPlace, MapTraining, fit_map, map_gain, mapped_places
from models.segmentation.pyramid_model import PyramidSegmenter
from models.segmentation.trainer import KIND
from models.tiles.batches import packed_or_none
from models.tiles.graphs import thinned_graphs
from models.tiles.samples import IGNORE, SampleSet
from pipeline.learning.samples import cut_samples
from pipeline.reference.areas import read_polygons
from regions.raster.grid import Tiling

TILE_PX, STRIDE_PX = 224, 112
SMOOTH_M = 40.0
DROPPED = (0.0, 0.25, 0.5, 0.75)
TAGS = HashedTagEncoder(width=512)


@dataclass(frozen=True)
class City:
    """Tiles of a demo city: to learn from, for validation, and to judge on (with a map)."""

    name: int
    train: SampleSet
    validation: SampleSet
    judged: SampleSet


@dataclass(frozen=True)
class Seen:
    """The three as features of one stride; tiles without map objects are left out of the mapped ones."""

    city: City
    train: MappedPlace
    validation: MappedPlace
    judged: MappedPlace


def city_of(work: Path, seed: int, side_m: int, blur_m: float = 0.0) -> City:
    """A demo city and its tiles."""
    ground = demo_ground(work, seed=seed, side_m=side_m, blur_m=blur_m)
    with ground.open() as opened:
        crs = opened.extent.grid.crs
        reference = read_polygons(ground.sources.reference, crs=crs)
        districts = read_polygons([ground.sources.districts], crs=crs)

        def cut(role: str, stride_px: int) -> SampleSet:
            rows = (districts["role"] == role) & ((role != "assess") | districts["has_osm"].astype(bool))
            return cut_samples(
                opened.imagery,
                reference,
                grid=opened.extent.grid,
                tiling=Tiling(TILE_PX, stride_px),
                area=districts[rows].union_all(),
                city_map=opened.city_map,
                source=f"city {seed}",
            )

        return City(seed, cut("train", STRIDE_PX), cut("validation", TILE_PX), cut("assess", TILE_PX))


def seen_by(model: PyramidSegmenter, city: City) -> Seen:
    """Features of a city, standardised by its training tiles."""
    checkpoint = CheckpointConfig(kind=KIND, model={})
    places = [place_features(s, model, checkpoint, seed=0) for s in (city.train, city.validation, city.judged)]
    bank = {f"city {city.name}": places[0][0].moments.pooled()}
    found = [
        mapped_places(p, s, bank, TAGS)[0]
        for p, s in zip(places, (city.train, city.validation, city.judged), strict=True)
    ]
    return Seen(city, *found)


@torch.inference_mode()
def pixel_logits(model: PyramidSegmenter, place: MappedPlace, graphs: Sequence[TileGraphs] | None) -> torch.Tensor:
    """Logits (n, 2, T, T) of a place's tiles with these graphs."""
    parts = []
    for rows in np.array_split(np.arange(len(place.tiles)), -(-len(place.tiles) // 8)):
        cells = place.standardised(rows)
        logits = model.image_logits(cells)
        shown = None if graphs is None else packed_or_none(TileGraphs.concat([graphs[k] for k in rows]), model.pyramid)
        added = model.map_logits(cells, shown, place.semantics)
        logits = logits if added is None else logits + added
        parts.append(functional.interpolate(logits, size=(TILE_PX, TILE_PX), mode="bilinear", align_corners=False))
    return torch.cat(parts)


def iou(logits: torch.Tensor, labels: np.ndarray, calibration: Calibration) -> float:
    """IoU of pixels at a probability of 0.5."""
    mapped = (calibration.calibrated(logits).softmax(1)[:, 1] >= 0.5).numpy()
    known, truth = labels != IGNORE, labels == 1
    return float((mapped & truth & known).sum() / ((mapped | truth) & known).sum())


def classified(model: PyramidSegmenter, cities: Sequence[Seen], seed: int) -> Calibration:
    """Train the classifier of the image as `uvmap train` does, and calibrate it on the validation tiles."""
    head = fit_head([s.train.cells for s in cities], model.config, HeadTraining(), seed)
    with torch.no_grad():
        model.classifier.weight.copy_(head.weight[:, :, None, None])
        model.classifier.bias.copy_(head.bias)  # type: ignore[union-attr]
    sampler = CalibrationSampler(sum(len(s.validation.tiles) for s in cities), TILE_PX)
    for s in cities:
        labels = s.city.validation.labels[s.validation.cells.tiles[s.validation.tiles]]
        sampler.add(pixel_logits(model, s.validation, None), torch.from_numpy(labels))
    return calibrate(sampler.sample(), trained_on={0}).calibration


def learnt(model: PyramidSegmenter, cities: Sequence[Seen], seed: int, wrong_map: float) -> tuple[Calibration, MapGain]:
    """Train classifier, calibration and map as `uvmap train` does."""
    calibration = classified(model, cities, seed)
    training = MapTraining(wrong_map=wrong_map)
    fit_map(model, [s.train for s in cities], calibration, training=training, seed=seed)
    return calibration, map_gain(model, [s.validation for s in cities], calibration)


def judged(model: PyramidSegmenter, seen: Seen, calibration: Calibration) -> dict[str, float]:
    """IoU without a map, with the own map (whole and thinned) and with that of another tile."""
    place = seen.judged
    labels = seen.city.judged.labels[place.cells.tiles[place.tiles]]
    none = pixel_logits(model, place, None)
    blank = [TileGraphs.empty(1, rich=g.is_rich) for g in place.graphs]
    if not torch.equal(none, pixel_logits(model, place, blank)):
        raise SystemExit("tiles without objects do not get the answer of the image alone")
    row = {"image alone": iou(none, labels, calibration)}
    for share in DROPPED:
        rng = np.random.default_rng(0)
        graphs = [thinned_graphs(g, share, rng) for g in place.graphs]
        row[f"{share:.0%} dropped"] = iou(pixel_logits(model, place, graphs), labels, calibration)
    other = [*place.graphs[len(place.graphs) // 2 :], *place.graphs[: len(place.graphs) // 2]]
    row["map of another tile"] = iou(pixel_logits(model, place, other), labels, calibration)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("out/pyramid_map"))
    parser.add_argument("--strides", type=int, nargs="*", default=[16, 8, 32])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--wrong-map", type=float, nargs="*", default=[1.0, 0.0])
    parser.add_argument("--cities", type=int, nargs="*", default=[1, 101, 102], help="Seeds of the demo cities.")
    parser.add_argument("--learn", type=int, nargs="*", default=[101, 102], help="Those that are learnt from.")
    parser.add_argument("--side-m", type=int, default=2500)
    parser.add_argument("--blur-m", type=float, default=0.0)
    args = parser.parse_args()
    cities = [city_of(args.work, seed, args.side_m, args.blur_m) for seed in args.cities]
    rows = []
    for stride in args.strides:
        encoder = pyramid_config("efficientnet_lite0").model_copy(update={"grid_stride_px": stride})
        config = SegmentationConfig(encoder=encoder, dropout=0.3, smooth_cells=SMOOTH_M / stride, feature_noise=1.0)
        model = PyramidSegmenter(config).eval()
        model.encoder.load_weights(IMAGENET)
        seen = [seen_by(model, city) for city in cities]
        for weight in args.wrong_map:
            for seed in range(args.seeds):
                begun = time.process_time()
                torch.manual_seed(seed)
                model = PyramidSegmenter(config).eval()
                calibration, gain = learnt(model, [s for s in seen if s.city.name in args.learn], seed, weight)
                spent = time.process_time() - begun
                head = f"stride {stride:>2}, penalty {weight:g}, seed {seed}"
                print(f"{head}: kept {gain.pays}, {gain.describe()} {spent:.0f} CPU-s")
                told = {"stride": stride, "wrong_map": weight, "seed": seed, "cpu_s": spent, **gain.figures}
                for s in seen:
                    found = judged(model, s, calibration)
                    rows.append({**told, "city": s.city.name, **found})
                    print(f"  city {s.city.name:>4} " + ", ".join(f"{k} {v:.3f}" for k, v in found.items()), flush=True)
    print(json.dumps({"benchmark": "pyramid_map", "learnt_from": args.learn, "rows": rows}))


if __name__ == "__main__":
    main()
