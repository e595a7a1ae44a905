"""What each part of the recipe of `uvmap train --encoder` is worth: every place left out in turn, several seeds.

Run ``python benchmarks/recipe.py --data DATA [--seeds 3] [--variants NAME ...]``. Places, judgement and figures as in
`benchmarks/adaptation.py`: a model learns from two of three places and is judged on the third by IoU of cells of 16 m
at the decision that the two give when each is left out in turn. One part is changed at a time. Parts that the recipe
has: noise, dropout, smoothing, soft labels, statistics of some tiles, levels of the backbone, number of steps, the
calibration and the level of the decision. Parts that it does not have: label smoothing, an ignore band, turned and
recoloured copies of the tiles, an average of the weights. Prints mean and range over the seeds and, as its last line,
one JSON object.

It is checked first that the same seed gives the same classifier.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adaptation import iou, places_of, scores, tiles_of
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from models.calibration import Calibration
from models.encoders.statistics import TileMoments
from models.segmentation.calibration import CalibrationSample, calibrate
from models.segmentation.config import SegmentationConfig
from models.segmentation.head_data import PlaceFeatures
from models.segmentation.head_training import HeadTraining, decided, fit_head, place_logits
from models.tiles.augmentation import AUGMENTATIONS, coloured
from models.tiles.samples import SampleSet
from models.tiles.symmetries import symmetric_array
from pipeline.learning.training import Backbone, pyramid_segmentation

Change = Callable[[PlaceFeatures], PlaceFeatures]
BACKBONE = "efficientnet_lite0"
EMA = 0.98
BAND = 0.1
SMOOTHED = 0.1
LEVELS = {4: (0, 24), 8: (24, 64), 16: (64, 176), 32: (176, 496)}
"""Channels of EfficientNet-lite0's levels by stride; the level of stride 16 has the most refined features."""


@dataclass(frozen=True)
class Variant:
    """One change of the recipe.

    Attributes:
        config: Fields of the model.
        training: Fields of the training.
        learnt: What is done to the places that are learnt from.
        seen: What is done to all places, those that are judged included.
        copies: Copies of the tiles that are learnt from, beside them: ``turned`` or ``recoloured``.
        average: Keep an average of the weights.
        level: Move the decision of the left-out places to the middle of the thresholds.
        calibrated: Fit slope and bias on left-out places.
        backbones: Whose features are put beside each other.
    """

    config: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    learnt: Change | None = None
    seen: Change | None = None
    copies: str | None = None
    average: bool = False
    level: bool = True
    calibrated: bool = True
    backbones: tuple[str, ...] = (BACKBONE,)


def hard(place: PlaceFeatures) -> PlaceFeatures:
    """Labels of a cell: its most frequent class instead of the shares."""
    return replace(place, labels=(place.labels == place.labels.amax(1, keepdim=True)).float())


def smoothed_labels(place: PlaceFeatures) -> PlaceFeatures:
    """A tenth of every label is spread over the classes."""
    return replace(place, labels=place.labels * (1 - SMOOTHED) + SMOOTHED / place.labels.shape[1])


def without_borders(place: PlaceFeatures) -> PlaceFeatures:
    """Cells of two classes are left out."""
    pure = (place.labels[:, 1] < BAND) | (place.labels[:, 1] > 1 - BAND)
    return replace(place, known=place.known & pure)


def only(*strides: int) -> Change:
    """Features of some levels alone."""

    def change(place: PlaceFeatures) -> PlaceFeatures:
        rows = np.concatenate([np.arange(*LEVELS[s]) for s in strides])
        m = place.moments
        moments = TileMoments(m.count, m.total[:, rows], m.square[:, rows])
        return replace(place, features=place.features[:, rows], moments=moments)

    return change


VARIANTS = {
    "as shipped": Variant(),
    "no noise on features": Variant(config={"feature_noise": 0.0}),
    "noise of 2": Variant(config={"feature_noise": 2.0}),
    "no dropout": Variant(config={"dropout": 0.0}),
    "neither": Variant(config={"feature_noise": 0.0, "dropout": 0.0}),
    "no smoothing": Variant(config={"smooth_cells": 0.0}),
    "smoothing of 20 m": Variant(config={"smooth_cells": 1.25}),
    "smoothing of 80 m": Variant(config={"smooth_cells": 5.0}),
    "statistics of all tiles": Variant(training={"some_tiles": False}),
    "few and many villages alike": Variant(training={"few_villages": 0.5}),
    "100 steps": Variant(training={"steps": 100}),
    "600 steps": Variant(training={"steps": 600}),
    "hard labels": Variant(learnt=hard),
    "label smoothing 0.1": Variant(learnt=smoothed_labels),
    "ignore band": Variant(learnt=without_borders),
    "strides 16 and 32": Variant(seen=only(16, 32)),
    "strides 4 to 16": Variant(seen=only(4, 8, 16)),
    "stride 32": Variant(seen=only(32)),
    "average of weights 0.98": Variant(average=True),
    "turned copies": Variant(copies="turned"),
    "recoloured copies": Variant(copies="recoloured"),
    "decision not moved": Variant(level=False),
    "not calibrated": Variant(level=False, calibrated=False),
    "efficientnet_lite1": Variant(backbones=("efficientnet_lite1",)),
    "efficientnet_lite2": Variant(backbones=("efficientnet_lite2",)),
    "lite0, lite1 and lite2": Variant(backbones=(BACKBONE, "efficientnet_lite1", "efficientnet_lite2")),
}


def copied(samples: SampleSet, kind: str) -> SampleSet:
    """Every tile turned, or seen in other colours."""
    rng = np.random.default_rng(0)
    images, labels = samples.images.copy(), samples.labels.copy()
    for k in range(len(images)):
        if kind == "turned":
            turn = int(rng.integers(1, 8))
            images[k], labels[k] = (symmetric_array(a, turn) for a in (images[k], labels[k]))
        else:
            images[k] = coloured(images[k], AUGMENTATIONS["strong"], rng)
    return replace(samples, images=images, labels=labels)


def beside(places: Sequence[PlaceFeatures]) -> PlaceFeatures:
    """One place seen by several backbones."""
    moments = [p.moments for p in places]
    total, square = (np.concatenate([getattr(m, of) for m in moments], axis=1) for of in ("total", "square"))
    features = torch.cat([p.features for p in places], dim=1)
    return replace(places[0], features=features, moments=TileMoments(moments[0].count, total, square))


def together(place: PlaceFeatures, copy: PlaceFeatures) -> PlaceFeatures:
    """A place and a copy of it."""
    return PlaceFeatures(
        name=place.name,
        features=torch.cat([place.features, copy.features]),
        labels=torch.cat([place.labels, copy.labels]),
        known=torch.cat([place.known, copy.known]),
        moments=TileMoments.concat([place.moments, copy.moments]),
        share=np.concatenate([place.share, copy.share]),
        tiles=np.concatenate([place.tiles, copy.tiles]),
    )


@contextmanager
def averaging(use: bool) -> Iterator[Callable[[nn.Module], None]]:
    """Average the weights over the steps of every optimiser; what is given puts the average into a module."""
    averages: dict[int, torch.Tensor] = {}
    order: list[int] = []

    def after(optimiser: torch.optim.Optimizer, *_: object) -> None:
        for group in optimiser.param_groups:
            for p in group["params"]:
                if id(p) not in averages:
                    averages[id(p)] = p.detach().clone()
                    order.append(id(p))
                averages[id(p)].lerp_(p.detach(), 1 - EMA)

    def put(module: nn.Module) -> None:
        with torch.no_grad():
            for p in module.parameters() if use else ():
                p.copy_(averages[id(p)])

    hook = register_optimizer_step_post_hook(after) if use else None
    try:
        yield put
    finally:
        if hook is not None:
            hook.remove()


class Learner:
    """Classifiers of a variant and a seed, each fitted once."""

    def __init__(self, variant: Variant, copies: Sequence[PlaceFeatures] | None, seed: int) -> None:
        """Nothing is fitted yet."""
        base = pyramid_segmentation(Backbone(name=BACKBONE))
        self.variant, self.seed = variant, seed
        self.copies = {p.name: p for p in copies or ()}
        self.config: SegmentationConfig = base.model_copy(update=variant.config)
        self.training = HeadTraining(**variant.training)
        self.heads: dict[tuple[str, ...], nn.Linear] = {}

    def head(self, places: Sequence[PlaceFeatures]) -> nn.Linear:
        """The classifier of some places."""
        key = tuple(p.name for p in places)
        if key not in self.heads:
            given = [together(p, self.copies[p.name]) if self.copies else p for p in places]
            given = [self.variant.learnt(p) if self.variant.learnt else p for p in given]
            with averaging(self.variant.average) as put:
                head = fit_head(given, self.config, self.training, self.seed)
                put(head)
            self.heads[key] = head
        return self.heads[key]

    def calibration(self, places: Sequence[PlaceFeatures]) -> Calibration:
        """That of some places, each left out in turn."""
        parts = []
        for k, place in enumerate(places):
            logits = place_logits(place, self.head([p for p in places if p is not place]), self.config)
            label = place.labels.argmax(1)[place.known]
            parts.append((logits.permute(0, 2, 3, 1)[place.known], label, torch.full((len(label),), k)))
        found = [torch.cat(part).numpy() for part in zip(*parts, strict=True)]
        sample = CalibrationSample(logits=found[0], labels=found[1], place=found[2])
        fitted = calibrate(sample).calibration if self.variant.calibrated else Calibration()
        return decided(fitted, sample) if self.variant.level else fitted


def judge(places: Sequence[PlaceFeatures], learner: Learner) -> dict[str, float]:
    """IoU of each place, learnt from the others."""
    row = {}
    for held in places:
        others = [p for p in places if p is not held]
        logits = place_logits(held, learner.head(others), learner.config)
        known = held.known.numpy()
        truth = (held.labels[:, 1] > 0.5)[held.known].numpy()
        row[held.name] = iou(scores(logits, learner.calibration(others))[known], truth)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=VARIANTS)
    options = parser.parse_args()
    chosen = {name: VARIANTS[name] for name in options.variants}
    with tempfile.TemporaryDirectory() as work:
        tiles = tiles_of(options.data, Path(work))
        backbones = sorted({BACKBONE}.union(*(v.backbones for v in chosen.values())))
        features = {name: places_of(tiles, backbone=name) for name in backbones}
        places = features[BACKBONE]
        kinds = sorted({v.copies for v in chosen.values() if v.copies})
        copies = {kind: places_of(copied(tiles, kind)) for kind in kinds}
    first = [fit_head(places[1:2], pyramid_segmentation(Backbone(name=BACKBONE)), HeadTraining(steps=5), 0)
             for _ in range(2)]  # fmt: skip
    if not torch.equal(first[0].weight, first[1].weight):
        raise SystemExit("the same seed gives two classifiers")
    columns = [p.name for p in places]
    print(f"{'IoU of the place left out':28}" + "".join(f"{c:>22}" for c in [*columns, "mean"]) + f"{'CPU-s':>7}")
    result = {}
    for name, variant in chosen.items():
        started = time.process_time()
        seen = [beside(of) for of in zip(*(features[b] for b in variant.backbones), strict=True)]
        given = [variant.seen(p) if variant.seen else p for p in seen]
        learners = (Learner(variant, copies.get(variant.copies or ""), seed) for seed in range(options.seeds))
        result[name] = [judge(given, learner) for learner in learners]
        values = [[row[c] for row in result[name]] for c in columns]
        values.append(list(np.mean(values, axis=0)))
        cells = [f"{np.mean(v):.3f} ({min(v):.3f}-{max(v):.3f})" for v in values]
        print(f"{name:28}" + "".join(f"{c:>22}" for c in cells) + f"{time.process_time() - started:>7.0f}", flush=True)
    print(json.dumps({"benchmark": "recipe", "runs": result}))


if __name__ == "__main__":
    main()
