"""What pretraining is worth on the demo city: fine-tuning with few labels, from a pretrained encoder and from scratch.

Run ``python benchmarks/pretraining_gain.py [--work out/pretraining_gain] [--labels 24] [--steps 100] [--seeds 3]``.
An encoder is pretrained, without labels, on all tiles of other demo cities (``--pairs-of own``: of the labelled city
itself, whose images and maps are there to be used too). Then, per seed, a few labelled tiles of the training districts
are drawn (half of them with a fifth or more of urban village) and the same segmentation model is trained on them
twice, with equal steps, order and augmentation: once from random weights, once from the pretrained encoder. Both are
measured (IoU at 0.5) on all districts that are not for training. This is done from the image alone and with the map.
Before that, linear probes of frozen encodings compare the two encoders without changing them. It is checked that both
arms train one model.
Prints a table and, as its last line, one JSON object; ``gains`` are differences of IoU per seed.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from demo_tiles import demo_ground, seen_and_unseen

from models.checkpoints import ModelCard, load_checkpoint, save_checkpoint
from models.geolink.config import GeoLinkConfig
from models.geolink.pretraining import GeoLinkPretraining
from models.pretraining.pairs import MANIFEST_NAME, PairSet
from models.pretraining.trainer import pretrain
from models.segmentation.config import SegmentationConfig
from models.segmentation.encoder_start import encoder_config_of
from models.segmentation.trainer import train_segmenter
from models.tasks.encodings import encode_tiles, pooled
from models.tasks.probes import linear_probe, scene_figures
from models.tiles.augmentation import AugmentationConfig
from models.tiles.samples import SampleSet
from models.training import TrainingConfig
from pipeline.learning.pairs import write_pairs

BATCH = 8
LABELLED_CITY = 1
OTHER_CITIES = (11, 12, 13)


def few(samples: SampleSet, count: int, seed: int) -> SampleSet:
    """``count`` tiles, half of them with at least a fifth of the class."""
    share = (samples.labels == 1).mean((1, 2))
    rng = np.random.default_rng(seed)
    with_class, without = np.flatnonzero(share >= 0.2), np.flatnonzero(share < 0.01)
    half = count // 2
    chosen = [rng.choice(with_class, half, replace=False), rng.choice(without, count - half, replace=False)]
    return samples.select(np.sort(np.concatenate(chosen)))


def pretrained_encoder(args: argparse.Namespace, encoder: GeoLinkConfig) -> tuple[Path, dict[str, object]]:
    """Pretrain on all tiles of some cities; the checkpoint and the losses before and after."""
    pairs = args.work / f"pairs-{args.pairs_of}-{args.cities}-{args.side_m}-{args.tile_px}"
    if not (pairs / MANIFEST_NAME).exists():
        cities = OTHER_CITIES[: args.cities] if args.pairs_of == "others" else (LABELLED_CITY,)
        grounds = [demo_ground(args.work, seed=seed, side_m=args.side_m) for seed in cities]
        write_pairs(grounds, pairs, tile_px=args.tile_px, stride_px=112)
    found = pretrain(
        PairSet(pairs, cached_shards=64),
        encoder,
        out=args.work / f"pretrained-{args.pairs_of}",
        training=TrainingConfig(
            batch_size=32, epochs=args.epochs, learning_rate=2e-3, warmup=0.1, final_share=0.0, accelerator="cpu"
        ),
    )
    print("pretraining:", {k: f"{found.before[k]:.3f} -> {found.after[k]:.3f}" for k in found.before}, flush=True)
    return found.checkpoint, {"before": found.before, "after": found.after, "steps": found.steps}


def probe(seen: SampleSet, unseen: SampleSet, checkpoint: Path, work: Path, *, labels: int) -> dict[str, float]:
    """Mean F1 of linear probes on frozen encodings of tiles, over ten draws of labelled tiles, per start and input.

    The class of a tile is whether a fifth of it is urban village; tiles between that and a hundredth are left out.
    """
    read = load_checkpoint(checkpoint)
    torch.manual_seed(0)
    untrained = GeoLinkPretraining(encoder_config_of(checkpoint)).state_dict()
    save_checkpoint(work / "random", weights=untrained, config=read.config, card=ModelCard(title="random weights"))
    share = [(s.labels == 1).mean((1, 2)) for s in (seen, unseen)]
    clear = [(x >= 0.2) | (x < 0.01) for x in share]
    truth = [(x[k] >= 0.2).astype(np.int64) for x, k in zip(share, clear, strict=True)]
    figures = {}
    for arm, folder in (("random", work / "random"), ("pretrained", checkpoint)):
        for given in ("image", "image and map"):
            x, y = (
                pooled(encode_tiles(folder, s.images, s.graphs if given != "image" else None, s.tag_sets))[k]
                for s, k in zip((seen, unseen), clear, strict=True)
            )
            found = []
            for seed in range(10):
                rng = np.random.default_rng(seed)
                some = [rng.choice(np.flatnonzero(truth[0] == c), labels // 2, replace=False) for c in (1, 0)]
                rows = np.concatenate(some)
                guess = linear_probe(x[rows], truth[0][rows], y, penalty=0.1)
                found.append(scene_figures(guess, truth[1], classes=2)["f1"])
            figures[f"{arm}, {given}"] = float(np.mean(found))
    return figures


def fine_tuned(
    seen: SampleSet, unseen: SampleSet, start: Path, args: argparse.Namespace, name: str
) -> list[dict[str, float]]:
    """IoU on unseen ground per seed and arm."""
    # the detail stem is not pretrained: without it, what is learnt before is what the decoder sees
    config = SegmentationConfig.of_size("tiny", encoder=encoder_config_of(start), detail_channels=0)
    epochs = max(1, round(args.steps * BATCH / args.labels))
    training = TrainingConfig(
        batch_size=BATCH, epochs=epochs, learning_rate=args.rate, validate_every=epochs, accelerator="cpu"
    )
    rows = []
    for seed in range(args.seeds):
        labelled = few(seen, args.labels, seed)
        iou = {}
        for arm, encoder_start in (("scratch", None), ("pretrained", start)):
            result = train_segmenter(
                labelled,
                unseen,
                config,
                out=args.work / f"{arm}-{name}-{seed}",
                training=training,
                augmentation=AugmentationConfig(),
                pretrained=encoder_start,
                seed=seed,
                resume=False,
            )
            iou[arm] = result.figures["iou"]
        rows.append(iou)
        print(f"{name}, seed {seed}: {iou}", flush=True)
    models = [load_checkpoint(args.work / f"{arm}-{name}-0" / "checkpoint").config.model for arm in rows[0]]
    assert models[0] == models[1], "both arms must train one model"
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("out/pretraining_gain"))
    parser.add_argument("--pretrained", type=Path, help="checkpoint of an earlier run; None pretrains")
    parser.add_argument("--pairs-of", choices=("others", "own"), default="others", help="cities to pretrain on")
    parser.add_argument("--cities", type=int, choices=(1, 2, 3), default=3, help="how many others")
    parser.add_argument("--side-m", type=int, default=4000, help="side of each city")
    parser.add_argument("--tile-px", type=int, default=224, help="side of the tiles; 112 takes a quarter of the time")
    parser.add_argument("--epochs", type=int, default=20, help="of pretraining")
    parser.add_argument("--labels", type=int, default=24)
    parser.add_argument("--steps", type=int, default=100, help="of fine-tuning")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate of both arms")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--inputs", nargs="+", choices=("image", "map"), default=["image", "map"])
    parser.add_argument("--no-probe", action="store_true", help="leave out the linear probes")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    start, losses = args.pretrained, {}
    if start is None:
        start, losses = pretrained_encoder(args, GeoLinkConfig.tiny(image_px=args.tile_px))
    ground = demo_ground(args.work, seed=LABELLED_CITY, side_m=args.side_m)
    seen, unseen = seen_and_unseen(ground, tile_px=args.tile_px, stride_px=112)
    probes = {} if args.no_probe else probe(seen, unseen, start, args.work, labels=args.labels)
    for name, f1 in probes.items():
        print(f"linear probe of frozen encodings, {name:26s} F1 {f1:.3f}", flush=True)
    found = {}
    for name in args.inputs:
        sets = (seen, unseen) if name == "map" else (seen.without_map(), unseen.without_map())
        rows = fine_tuned(*sets, start, args, name)
        gains = [row["pretrained"] - row["scratch"] for row in rows]
        found[name] = {"iou": rows, "gains": gains, "mean_gain": float(np.mean(gains))}
    print(f"{'input':>6s} {'seed':>5s} {'scratch':>9s} {'pretrained':>11s} {'gain':>7s}")
    for name, figures in found.items():
        for seed, (row, gain) in enumerate(zip(figures["iou"], figures["gains"], strict=True)):
            print(f"{name:>6s} {seed:5d} {row['scratch']:9.3f} {row['pretrained']:11.3f} {gain:7.3f}")
    setting = {k: getattr(args, k) for k in ("pairs_of", "cities", "side_m", "tile_px", "labels", "steps", "rate")}
    print(json.dumps({**setting, "pretraining": losses, "probe_f1": probes, "fine_tuning": found}))


if __name__ == "__main__":
    main()
