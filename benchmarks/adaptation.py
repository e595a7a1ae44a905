"""Does a model travel? Every place left out in turn: what adaptation and each part of the recipe are worth.

Run ``python benchmarks/adaptation.py --data DATA [--seeds 2]``. ``DATA`` holds `beijing-uv/` and `uv-chips/`
(`docs/real_data.md`). Three places: training mosaic, chips (another city), validation tiles (another season).
A model of `uvmap train --encoder efficientnet_lite0` learns from two of them and is judged on the third, cell by cell
of 16 m, at the decision that the two places give when each is left out in turn: nothing of the third is looked at but
its imagery. Further: of each place the tiles without villages alone, as a scene of its own: what share of that ground
is called village. `--more` adds two places that are not alike: a slum of Kampala (0.04 km²) and the training districts
of a demo city; each of the five is then left out in turn. Prints tables and, as its last line, one JSON object.

It is checked first that a place standardised by its own statistics has mean 0 and deviation 1.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from demo_tiles import demo_ground, seen_and_unseen
from quality import TILE_PX, all_tiles, ground, judged_ground, training_tiles

from models.checkpoints import CheckpointConfig
from models.encoders.share import estimated_share, scene_level
from models.encoders.weights import IMAGENET
from models.geolink.graph import TileGraphs
from models.segmentation.calibration import calibrate
from models.segmentation.head_data import PlaceFeatures, place_features
from models.segmentation.head_training import (
    DECISION,
    HeadTraining,
    decided,
    fit_head,
    held_out_sample,
    place_logits,
)
from models.segmentation.pyramid_model import PyramidSegmenter
from models.segmentation.trainer import KIND
from models.tiles.samples import SampleSet
from pipeline.learning.training import Backbone, pyramid_segmentation

STRIDE_PX = 112
NAMES = ("mosaic", "chips", "validation tiles")
MORE = ("Kampala", "demo city")
FREE_SHARE = 0.005
FEWEST_FREE_TILES = 8
VARIANTS = {
    "as shipped": {},
    "no noise on features": {"feature_noise": 0.0},
    "noise of 2": {"feature_noise": 2.0},
    "no dropout": {"dropout": 0.0},
    "no smoothing": {"smooth_cells": 0.0},
    "smoothing of 24 m": {"smooth_cells": 1.5},
}


def tiles_of(data: Path, work: Path) -> SampleSet:
    """Tiles of the three places."""
    judged = all_tiles(judged_ground(data, work), STRIDE_PX)
    return SampleSet.concat([training_tiles(data, work), judged])


def more_tiles(data: Path, work: Path) -> SampleSet:
    """Tiles of Kampala and of a demo city's training districts."""
    kampala = data / "kampala"
    scenes = sorted(kampala.glob("*_rgb.tif"))
    slum = ground(scenes, [kampala / "kyc_slum_settlements_kampala.geojson"], work / "kampala")
    seen, _ = seen_and_unseen(demo_ground(work, seed=1, side_m=3000), tile_px=TILE_PX, stride_px=TILE_PX)
    without_map = replace(seen, graphs=TileGraphs.empty(len(seen)), tag_sets=[])
    return SampleSet.concat([all_tiles(slum, STRIDE_PX), without_map])


def places_of(
    tiles: SampleSet, names: Sequence[str] = NAMES, *, backbone: str = "efficientnet_lite0"
) -> list[PlaceFeatures]:
    """Features of the places, made once."""
    config = pyramid_segmentation(Backbone(name=backbone))
    model = PyramidSegmenter(config).eval()
    model.encoder.load_weights(IMAGENET)
    checkpoint = CheckpointConfig(kind=KIND, model=config.model_dump(mode="json"))
    found = place_features(tiles, model, checkpoint, seed=0)
    return [replace(p, name=n) for p, n in zip(found, names, strict=True)]


def check_standardised(places: list[PlaceFeatures]) -> None:
    """The statistics are those of the cells that hold data."""
    for place in places:
        mean, std = place.moments.pooled()
        full = place.features[place.known.all((1, 2))][:, :, 0, 0].float().numpy()
        if not len(full):  # Kampala is smaller than a tile
            continue
        z = (full - mean) / std
        assert np.abs(z.mean()) < 0.5, place.name
        assert 0.5 < z.std() < 2, place.name  # a part of the cells: near, not equal


def iou(score: np.ndarray, truth: np.ndarray) -> float:
    chosen = score >= DECISION
    return float((chosen & truth).sum() / max((chosen | truth).sum(), 1))


def scores(logits: torch.Tensor, calibration: object) -> np.ndarray:
    return calibration.calibrated(logits).softmax(1)[:, 1].numpy()  # type: ignore[attr-defined]


def judge(places: list[PlaceFeatures], variant: str, seed: int) -> dict[str, dict[str, float]]:
    """IoU of each place left out, under several statistics; and the share of free ground that is called village."""
    config = pyramid_segmentation(Backbone(name="efficientnet_lite0")).model_copy(update=VARIANTS[variant])
    rows = {}
    for held in places:
        others = [p for p in places if p is not held]
        sample = held_out_sample(others, config, HeadTraining(), seed)
        head = fit_head(others, config, HeadTraining(), seed)
        calibration = decided(calibrate(sample).calibration, sample)
        own = held.moments.pooled()
        theirs = [p.moments.pooled() for p in others]
        source = (np.mean([m for m, _ in theirs], 0), np.sqrt(np.mean([s * s for _, s in theirs], 0)))
        half = tuple((a + b) / 2 for a, b in zip(own, source, strict=True))
        truth = (held.labels[:, 1] > 0.5)[held.known].numpy()
        known = held.known.numpy()
        row = {}
        for name, statistics in (("scene", own), ("half", half), ("source", source)):
            row[name] = iou(scores(place_logits(held, head, config, statistics), calibration)[known], truth)
        free = np.flatnonzero((held.share < FREE_SHARE) & (held.moments.count > 0))
        if variant == "as shipped" and len(free) >= FEWEST_FREE_TILES:
            part = replace(held, features=held.features[free], known=held.known[free], moments=held.moments.at(free))
            prior = float(np.mean([float(p.labels[:, 1][p.known].mean()) for p in others]))
            cells = part.known.numpy()
            for name, statistics in (("scene", part.moments.pooled()), ("source", source)):
                p = scores(place_logits(part, head, config, statistics), calibration)[cells]
                row[f"free {name}"] = float((p >= DECISION).mean())
                if name == "scene":
                    level = scene_level(estimated_share(p, prior), prior)
                    lowered = 1 / (1 + np.exp(-(np.log(p / (1 - p)) + level)))
                    row["free scene and level"] = float((lowered >= DECISION).mean())
        rows[held.name] = row
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS))
    parser.add_argument("--more", action="store_true", help="also Kampala and a demo city")
    options = parser.parse_args()
    started = time.process_time()
    with tempfile.TemporaryDirectory() as work:
        tiles, names = tiles_of(options.data, Path(work)), NAMES
        if options.more:
            tiles, names = SampleSet.concat([tiles, more_tiles(options.data, Path(work))]), NAMES + MORE
        places = places_of(tiles, names)
    check_standardised(places)
    print(f"features of {[len(p.moments) for p in places]} tiles in {time.process_time() - started:.0f} CPU-s")
    result = {}
    columns = [p.name for p in places]
    print(f"{'IoU of the place left out':28}" + "".join(f"{c:>26}" for c in columns))
    for variant in options.variants:
        runs = [judge(places, variant, seed) for seed in range(options.seeds)]
        result[variant] = runs
        for kind in ("scene", "half", "source") if variant == "as shipped" else ("scene",):
            cells = []
            for c in columns:
                values = [r[c][kind] for r in runs]
                cells.append(f"{np.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})")
            print(f"{variant + ', ' + kind:28}" + "".join(f"{c:>26}" for c in cells), flush=True)
        if variant == "as shipped":
            for kind in ("free source", "free scene", "free scene and level"):
                cells = [f"{np.mean([r[c][kind] for r in runs]):.3f}" if kind in runs[0][c] else "-" for c in columns]
                print(f"{kind + ': called village':28}" + "".join(f"{c:>26}" for c in cells), flush=True)
    print(json.dumps({"cpu_s": round(time.process_time() - started), "runs": result}))


if __name__ == "__main__":
    main()
