"""What each part of the recipe of a model that is trained through is worth, on real ground: several seeds.

Run ``python benchmarks/training_parts.py --data DATA [--seeds 3] [--steps 100] [--parts NAME ...]``. Data, training
loop and judgement as in `benchmarks/quality.py`: a model of its list with ImageNet weights learns from the training
mosaic and the chips by the loop of `uvmap train` and is judged on the validation tiles (another season, other roofs)
at a probability of 0.5: with the averages that its batch norms kept in training (*source*) and with statistics taken
again, without labels, on the judged tiles (*scene*). One part is changed at a time; each is a setting that `uvmap
train` has: strong augmentation (scale and colours), the average of the weights, label smoothing, the ignore band,
bootstrapping, a rate of its own for what is pretrained, balanced places, and the best weights on another place. For
the last the chips are kept back, so it is compared with the last weights of a training without chips. Prints mean and
range over the seeds and, as its last line, one JSON object.

It is checked first that the same seed gives the same weights.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality import (
    CHECKPOINT,
    EMA,
    all_tiles,
    judge,
    judged_ground,
    probabilities,
    spread,
    take_statistics,
    training_tiles,
)
from quality_models import CONTESTANTS
from torch import nn

from models.geolink.config import GeoLinkConfig
from models.segmentation.loss import LossConfig
from models.segmentation.trainer import SegmentationTraining
from models.tiles.augmentation import AUGMENTATIONS, AugmentationConfig
from models.tiles.batches import BatchMaker
from models.tiles.samples import SampleSet
from models.training import BalancedOrder, BatchData, Run, TrainingConfig, fit
from pipeline.city.ground import TILE_PX

EPOCHS = 5
"""A run is validated so many times, where it is."""
JUDGING_EVERY = 3
"""Of the chips that validate, one tile in so many is looked at."""
STRONG = AUGMENTATIONS["strong"]
NONE = AugmentationConfig(
    symmetries=False, brightness=0.0, contrast=0.0, channel_gain=0.0, saturation=0.0, noise=0.0, drop_nodata=0.0
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A recipe.

    Attributes:
        augmentation: How tiles are varied.
        training: Fields of the training.
        loss: What is minimised.
        balance: Every place gives as many tiles.
        without_chips: Chips are kept back: they validate and teach nothing.
    """

    augmentation: AugmentationConfig = STRONG
    training: Mapping[str, Any] = field(default_factory=dict)
    loss: LossConfig = field(default_factory=LossConfig)
    balance: bool = False
    without_chips: bool = False


PARTS = {
    "all of: strong augmentation, average": Part(),
    "plain augmentation": Part(augmentation=AUGMENTATIONS["plain"]),
    "strong scale, plain colours": Part(augmentation=replace(STRONG, photometry=None)),
    "strong colours, no scale": Part(augmentation=replace(STRONG, scale=(1.0, 1.0))),
    "no average of weights": Part(training={"ema": None}),
    "label smoothing 0.1": Part(loss=LossConfig(label_smoothing=0.1)),
    "ignore band of 5 px": Part(loss=LossConfig(ignore_band_px=5)),
    "bootstrap 0.2": Part(loss=LossConfig(bootstrap=0.2)),
    "encoder at a tenth of the rate": Part(training={"encoder_rate": 0.1}),
    "places balanced": Part(balance=True),
    "chips kept back": Part(without_chips=True),
    "chips kept back, best on chips": Part(without_chips=True, training={"keep": "best"}),
    "no augmentation": Part(augmentation=NONE),
}


def batches(
    learnt: SampleSet, judging: SampleSet | None, part: Part, config: TrainingConfig, *, steps: int, seed: int
) -> BatchData:
    """So many steps in `EPOCHS` epochs; each epoch draws its tiles anew."""
    wanted = steps // EPOCHS * config.batch_size
    draw = BalancedOrder(learnt.place) if part.balance else (lambda rng: rng.permutation(len(learnt)))

    def order(rng: np.random.Generator) -> np.ndarray:
        rounds = -(-wanted // len(learnt))
        return np.concatenate([draw(rng) for _ in range(rounds)])[:wanted]

    encoder = GeoLinkConfig()
    return BatchData(
        size=wanted,
        config=config,
        seed=seed,
        make=BatchMaker(learnt, encoder, part.augmentation),
        order=order,
        validation_size=0 if judging is None else len(judging),
        make_validation=None if judging is None else BatchMaker(judging, encoder),
    )


def trained(name: str, tiles: SampleSet, part: Part, *, steps: int, batch: int, seed: int) -> nn.Module:
    """A model trained by a recipe."""
    chips = tiles.place == tiles.place.max()
    learnt = tiles.select(np.flatnonzero(~chips)) if part.without_chips else tiles
    judging = tiles.select(np.flatnonzero(chips)[::JUDGING_EVERY]) if "keep" in part.training else None
    contestant = CONTESTANTS[name]
    settings = {
        "batch_size": batch,
        "epochs": EPOCHS,
        "validate_every": 1,
        "learning_rate": contestant.learning_rate,
        "ema": EMA,
        "accelerator": "cpu",
        **part.training,
    }
    config = TrainingConfig(**settings)
    data = batches(learnt, judging, part, config, steps=steps, seed=seed)
    torch.manual_seed(seed)
    model = contestant.build().to(memory_format=torch.channels_last)
    module = SegmentationTraining(
        model,
        config,
        checkpoint=CHECKPOINT,
        semantics=torch.zeros(0, 512),
        total_steps=data.total_steps,
        loss=part.loss,
    )
    with tempfile.TemporaryDirectory() as folder:
        run = Run(out=Path(folder), seed=seed, key="", label="training", resume=False, progress=False)
        fit(module, data, run, figure=None if judging is None else "iou")
    return model.eval()


def compete(name: str, tiles: SampleSet, judged: SampleSet, part: Part, **how: int) -> dict[str, object]:
    """Train by a recipe and judge."""
    begun = time.process_time()
    model = trained(name, tiles, part, **how)
    spent = time.process_time() - begun
    found = {"source": judge(probabilities(model, judged.images), judged.labels)}
    take_statistics(model, judged.images)
    found["scene"] = judge(probabilities(model, judged.images), judged.labels)
    return {**{k: asdict(v) for k, v in found.items()}, "seed": how["seed"], "cpu_s_training": spent}


def check_deterministic(name: str, tiles: SampleSet) -> None:
    """The same seed must give the same weights, another one others."""
    weights = []
    for seed in (0, 0, 1):
        model = trained(name, tiles, Part(), steps=EPOCHS, batch=2, seed=seed)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    if not torch.equal(weights[0], weights[1]) or torch.equal(weights[0], weights[2]):
        raise SystemExit("the seed does not decide the weights")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", choices=sorted(CONTESTANTS), default="deeplabv3plus-lite0")
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("out/quality"))
    args = parser.parse_args()
    tiles = training_tiles(args.data, args.work)
    judged = all_tiles(judged_ground(args.data, args.work), TILE_PX)
    check_deterministic(args.model, tiles)
    counts = ", ".join(f"{(tiles.place == k).sum()} of {tiles.places[k]}" for k in np.unique(tiles.place))
    print(f"{args.model}, {args.steps} steps of {args.batch} of {counts}; {len(judged)} tiles judged")
    columns = [("source", "iou"), ("scene", "iou"), ("scene", "boundary_f1"), ("scene", "ece")]
    print(f"{'part':38}" + "".join(f"{f'{f}, {s}':>22}" for s, f in columns) + f"{'CPU-s':>7}")
    result: dict[str, list[dict[str, Any]]] = {}
    for name in args.parts:
        how = {"steps": args.steps, "batch": args.batch}
        result[name] = [compete(args.model, tiles, judged, PARTS[name], seed=k, **how) for k in range(args.seeds)]
        spent = np.mean([row["cpu_s_training"] for row in result[name]])
        print(f"{name:38}" + "".join(f"{spread(result[name], *c):>22}" for c in columns) + f"{spent:>7.0f}", flush=True)
    print(json.dumps({"benchmark": "training_parts", "model": args.model, "steps": args.steps, "rows": result}))


if __name__ == "__main__":
    main()
