"""Ground with few villages: what adaptation makes of it, what the bound takes back, and what the bound costs elsewhere.

Run ``python benchmarks/few_villages.py --data DATA [--seeds 3] [--looks 8]``. Places as in `benchmarks/adaptation.py`,
each judged by the model that learnt from the other two, whose statistics are those of the training. Scenes of a place:
all its tiles; tiles with a share of villages up to 12, 6 and 2 %; those without villages; a quarter of these, the
least village-like. Looks: every third tile in other colours, blurred, under haze, compressed, one change for all
tiles of a look (`models.tiles.photometry`), with its villages and without. For each the share called village and the
IoU of cells under the scene's statistics, with what is taken back (`models.encoders.rise`), and under those of the
training. Prints a table and, as its last line, one JSON object.

It is checked first that the rise is the difference of the two mean scores.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from adaptation import iou, places_of, scores, tiles_of
from recipe import Learner, Variant

from models.calibration import Calibration
from models.encoders.rise import SceneRise, scene_rise, spread_of, village_direction
from models.segmentation.head_data import PlaceFeatures
from models.segmentation.head_training import DECISION, place_logits
from models.tiles.augmentation import AUGMENTATIONS, coloured
from models.tiles.samples import SampleSet

FREE_SHARE = 0.005
FEWEST_TILES = 8
FULL_CELLS = 98
"""Tiles with data on fewer cells of 196 are left out."""
STEP = 3


def part(place: PlaceFeatures, rows: np.ndarray) -> PlaceFeatures:
    """Some tiles of a place."""
    return replace(
        place,
        features=place.features[rows],
        labels=place.labels[rows],
        known=place.known[rows],
        moments=place.moments.at(rows),
        share=place.share[rows],
        tiles=place.tiles[rows],
    )


def source_of(places: Sequence[PlaceFeatures]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of the training, as a checkpoint holds them."""
    pooled = [p.moments.pooled() for p in places]
    return np.mean([m for m, _ in pooled], 0), np.sqrt(np.mean([s * s for _, s in pooled], 0))


class Judge:
    """The model of some places, asked about scenes of others."""

    def __init__(self, learner: Learner, places: Sequence[PlaceFeatures]) -> None:
        """Fit it."""
        self.head, self.config = learner.head(places), learner.config
        self.calibration: Calibration = learner.calibration(places)
        self.source = source_of(places)
        self.direction = village_direction(self.head.weight.detach().numpy(), self.calibration.temperature)

    def rise(self, scene: PlaceFeatures) -> SceneRise:
        """What adapting to a scene adds."""
        return scene_rise(scene.moments.pooled()[0], *self.source, self.direction)

    def log_odds(self, scene: PlaceFeatures, *, adapted: bool) -> np.ndarray:
        """Of the scene's known cells."""
        mean, std = scene.moments.pooled()
        statistics = (mean, spread_of(std, self.source[1])) if adapted else self.source
        p = scores(place_logits(scene, self.head, self.config, statistics), self.calibration)[scene.known.numpy()]
        p = np.clip(p.astype(np.float64), 1e-9, 1 - 1e-9)
        return np.log(p / (1 - p))

    def row(self, scene: PlaceFeatures) -> dict[str, float]:
        """Figures of one scene."""
        rise = self.rise(scene)
        own, plain = (self.log_odds(scene, adapted=a) for a in (True, False))
        truth = (scene.labels[:, 1] > 0.5)[scene.known].numpy()
        row = {
            "tiles": float(len(scene.tiles)),
            "share": float(truth.mean()),
            "rise": rise.log_odds,
            "alignment": rise.alignment,
            "level": rise.level,
        }
        for name, values in (("scene", own), ("bound", own + rise.level), ("training", plain)):
            p = 1 / (1 + np.exp(-values))
            row |= {f"called {name}": float((p >= DECISION).mean()), f"IoU {name}": iou(p, truth)}
        return row


def check_rise(judge: Judge, place: PlaceFeatures) -> None:
    """The mean of the unsmoothed scores moves by the rise."""
    full = part(place, np.flatnonzero(place.known.all(2).all(1).numpy()))
    plain = judge.config.model_copy(update={"smooth_cells": 0.0})
    margins = []
    for statistics in ((full.moments.pooled()[0], judge.source[1]), judge.source):
        x = judge.calibration.calibrated(place_logits(full, judge.head, plain, statistics))
        margins.append(float((x[:, 1] - x[:, 0]).double().mean()))
    if abs(margins[0] - margins[1] - judge.rise(full).log_odds) > 0.02:
        raise SystemExit(f"the rise is {judge.rise(full).log_odds}, the scores moved by {margins[0] - margins[1]}")


def scenes(place: PlaceFeatures, judge: Judge) -> Iterator[tuple[str, np.ndarray]]:
    """Names and tiles of the scenes of a place."""
    rng = np.random.default_rng(1)
    full = np.flatnonzero(place.moments.count > FULL_CELLS)
    free = full[place.share[full] < FREE_SHARE]
    order = np.concatenate([rng.permutation(free), rng.permutation(np.setdiff1d(full, free))])
    yield "all tiles", full
    mean = np.cumsum(place.share[order]) / np.arange(1, len(order) + 1)
    for most in (0.12, 0.06, 0.02):
        count = int(np.flatnonzero(mean <= most)[-1]) + 1
        if count > len(free):
            yield f"up to {most:.0%}", order[:count]
    yield "no village", free
    logits = place_logits(part(place, free), judge.head, judge.config, judge.source)
    plainest = np.argsort((logits[:, 1] - logits[:, 0]).mean((1, 2)).numpy(), kind="stable")
    yield "least village-like quarter", free[plainest[: max(10, len(free) // 4)]]


def recoloured_places(tiles: SampleSet, looks: int) -> list[list[PlaceFeatures]]:
    """Every third tile of every place, in each of the looks."""
    rows = np.concatenate([np.flatnonzero(tiles.place == k)[::STEP] for k in range(len(tiles.places))])
    some = tiles.select(rows)
    found = []
    for look in range(looks):
        change = AUGMENTATIONS["strong"]
        images = [coloured(image, change, np.random.default_rng(1000 + look)) for image in some.images]
        found.append(places_of(replace(some, images=np.stack(images))))
    return found


def shown(name: str, row: dict[str, float]) -> str:
    kinds = ("scene", "bound", "training")
    called, overlap = ("  ".join(f"{row[f'{what} {k}']:.3f}" for k in kinds) for what in ("called", "IoU"))
    return (
        f"{name:50} {row['share']:6.3f} {row['rise']:6.2f} {row['alignment']:6.2f} {row['level']:6.2f}   "
        f"{called}   {overlap}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--looks", type=int, default=8, help="Judged by the first seed alone.")
    options = parser.parse_args()
    started = time.process_time()
    with tempfile.TemporaryDirectory() as work:
        tiles = tiles_of(options.data, Path(work))
    places, looks = places_of(tiles), recoloured_places(tiles, options.looks)
    rows = []
    print(f"{'seed, place, scene':50} {'share':>6} {'rise':>6} {'align':>6} {'level':>6}   "
          "called: scene, bound, training   IoU: the same")  # fmt: skip
    for seed in range(options.seeds):
        learner = Learner(Variant(), None, seed)
        for held in places:
            judge = Judge(learner, [p for p in places if p is not held])
            check_rise(judge, held)
            found = [(name, part(held, tiles)) for name, tiles in scenes(held, judge)]
            for k, look in enumerate(looks if seed == 0 else ()):
                changed = next(p for p in look if p.name == held.name)
                full = np.flatnonzero(changed.moments.count > FULL_CELLS)
                free = full[changed.share[full] < FREE_SHARE]
                found.append((f"look {k}", part(changed, full)))
                if len(free) >= FEWEST_TILES:
                    found.append((f"look {k}, no village", part(changed, free)))
            for name, scene in found:
                row = judge.row(scene)
                rows.append({"seed": seed, "place": held.name, "scene": name, **row})
                print(shown(f"{seed}, {held.name}, {name}", row), flush=True)
    print(json.dumps({"benchmark": "few_villages", "cpu_s": round(time.process_time() - started), "rows": rows}))


if __name__ == "__main__":
    main()
