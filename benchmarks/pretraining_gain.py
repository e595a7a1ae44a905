"""What pretraining is worth on the demo city: fine-tuning with few labels, from a pretrained encoder and from scratch.

Run ``python benchmarks/pretraining_gain.py [--work out/pretraining_gain] [--labels 24] [--steps 100] [--seeds 3]``.
The demo city is made (or taken from ``--data``), its training districts are cut into tiles with their tile graphs.
An encoder is pretrained on all of these tiles without their labels. Then, per seed, a few labelled tiles are drawn
(half of them with a fifth or more of urban village) and the same segmentation model is trained on them twice, with
equal steps, order and augmentation: once from random weights, once from the pretrained encoder. Both are measured on
the validation district, which neither saw. Before that, linear probes of frozen encodings compare the two encoders
without changing them. It is checked that both arms train one model.
Prints a table and, as its last line, one JSON object; ``gains`` are differences of IoU per seed.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from models.checkpoints import ModelCard, load_checkpoint, save_checkpoint
from models.geolink.config import GeoLinkConfig
from models.geolink.pretraining import GeoLinkPretraining, LossWeights
from models.pretraining.pairs import MANIFEST_NAME, PairSet, PairWriter
from models.pretraining.trainer import pretrain
from models.segmentation.augmentation import AugmentationConfig
from models.segmentation.config import SegmentationConfig
from models.segmentation.encoder_start import encoder_config_of
from models.segmentation.samples import SampleSet
from models.segmentation.trainer import train_segmenter
from models.tasks.encodings import encode_tiles, pooled
from models.tasks.scenes import linear_probe, scene_figures
from models.training import TrainingConfig
from pipeline.job import CityJob
from pipeline.sources import find_sources
from pipeline.training import labelled_tiles
from regions.campaign import GridSettings
from regions.demo import DEMO_ADCODE, generate_demo_city
from regions.registry import find_city

BATCH = 8


def samples_of(data: Path, work: Path) -> tuple[SampleSet, SampleSet]:
    """Tiles of the training districts and of the validation district, kept in ``work``."""
    kept = work / "train", work / "validation"
    if not all((k / "samples.json").exists() for k in kept):
        job = CityJob(
            adcode=DEMO_ADCODE,
            sources=find_sources(data, DEMO_ADCODE),
            crs=find_city(DEMO_ADCODE).crs,
            out=work / "out",
            work=work / "stages",
            checkpoint=work / "none",
            grid=GridSettings(),
        )
        tiles = labelled_tiles(job, stride_px=112)
        tiles.train.save(kept[0])
        tiles.validation.save(kept[1])
    return SampleSet.load(kept[0]), SampleSet.load(kept[1])


def few(samples: SampleSet, count: int, seed: int) -> SampleSet:
    """``count`` tiles, half of them with at least a fifth of the class."""
    share = (samples.labels == 1).mean((1, 2))
    rng = np.random.default_rng(seed)
    with_class, without = np.flatnonzero(share >= 0.2), np.flatnonzero(share < 0.01)
    half = count // 2
    chosen = [rng.choice(with_class, half, replace=False), rng.choice(without, count - half, replace=False)]
    return samples.select(np.sort(np.concatenate(chosen)))


def probe(train: SampleSet, validation: SampleSet, checkpoint: Path, work: Path, *, labels: int) -> dict[str, float]:
    """Mean F1 of linear probes on frozen encodings of tiles, over ten draws of labelled tiles, per start and input.

    The class of a tile is whether a fifth of it is urban village; tiles between that and a hundredth are left out.
    """
    read = load_checkpoint(checkpoint)
    torch.manual_seed(0)
    untrained = GeoLinkPretraining(encoder_config_of(checkpoint)).state_dict()
    save_checkpoint(work / "random", weights=untrained, config=read.config, card=ModelCard(title="random weights"))
    share = [(s.labels == 1).mean((1, 2)) for s in (train, validation)]
    clear = [(x >= 0.2) | (x < 0.01) for x in share]
    truth = [(x[k] >= 0.2).astype(np.int64) for x, k in zip(share, clear, strict=True)]
    figures = {}
    for arm, folder in (("random", work / "random"), ("pretrained", checkpoint)):
        for given in ("image", "image and map"):
            x, y = (
                pooled(encode_tiles(folder, s.images, s.graphs if given != "image" else None, s.tag_sets))[k]
                for s, k in zip((train, validation), clear, strict=True)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("out/pretraining_gain"))
    parser.add_argument("--data", type=Path, help="folder of a demo city; None makes one")
    parser.add_argument("--pretrained", type=Path, help="checkpoint of an earlier run; None pretrains")
    parser.add_argument("--labels", type=int, default=24)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate of both arms")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20, help="of pretraining")
    parser.add_argument("--contrastive", type=float, default=0.01)
    parser.add_argument("--consistency", type=float, default=0.01)
    parser.add_argument("--image-only", action="store_true", help="fine-tune and measure without the map")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = args.data or args.work / "city"
    if args.data is None and not (data / "imagery").exists():
        generate_demo_city(data, seed=1, side_m=4000)
    train, validation = samples_of(data, args.work)
    encoder = GeoLinkConfig.tiny()
    pairs = args.work / "pairs"
    if not (pairs / MANIFEST_NAME).exists():
        with PairWriter(pairs, source="demo city, training districts, no labels") as writer:
            writer.add(train.images, train.graphs, train.tag_sets)
    start, losses = args.pretrained, {}
    if start is None:
        found = pretrain(
            PairSet(pairs, cached_shards=16),
            encoder,
            out=args.work / "pretrained",
            training=TrainingConfig(
                batch_size=16, epochs=args.epochs, learning_rate=2e-3, warmup=0.1, final_share=0.0, accelerator="cpu"
            ),
            weights=LossWeights(contrastive=args.contrastive, consistency=args.consistency),
        )
        start, losses = found.checkpoint, {"before": found.before, "after": found.after, "steps": found.steps}
        print("pretraining:", {k: f"{found.before[k]:.3f} -> {found.after[k]:.3f}" for k in found.before})
    probes = probe(train, validation, start, args.work, labels=args.labels)
    for name, f1 in probes.items():
        print(f"linear probe of frozen encodings, {name:26s} F1 {f1:.3f}", flush=True)
    # the detail stem is not pretrained: without it, what is learnt before is what the decoder sees
    config = SegmentationConfig.of_size("tiny", encoder=encoder, detail_channels=0)
    epochs = max(1, round(args.steps * BATCH / args.labels))
    training = TrainingConfig(
        batch_size=BATCH, epochs=epochs, learning_rate=args.rate, validate_every=epochs, accelerator="cpu"
    )
    if args.image_only:
        train, validation = train.without_map(), validation.without_map()
    rows = []
    for seed in range(args.seeds):
        labelled = few(train, args.labels, seed)
        iou = {}
        for arm, encoder_start in (("scratch", None), ("pretrained", start)):
            result = train_segmenter(
                labelled,
                validation,
                config,
                out=args.work / f"{arm}-{seed}",
                training=training,
                augmentation=AugmentationConfig(),
                pretrained=encoder_start,
                seed=seed,
                resume=False,
            )
            iou[arm] = result.figures["iou"]
        rows.append(iou)
        print(seed, iou, flush=True)
    if not rows:
        print(json.dumps({"labels": args.labels, "probe_f1": probes}))
        return
    shapes = [load_checkpoint(args.work / f"{arm}-0" / "checkpoint").config.model for arm in ("scratch", "pretrained")]
    assert shapes[0] == shapes[1], "both arms must train one model"
    gains = [row["pretrained"] - row["scratch"] for row in rows]
    print(f"{'seed':>6s} {'scratch':>9s} {'pretrained':>11s} {'gain':>7s}")
    for seed, (row, gain) in enumerate(zip(rows, gains, strict=True)):
        print(f"{seed:6d} {row['scratch']:9.3f} {row['pretrained']:11.3f} {gain:7.3f}")
    facts = {
        "labels": args.labels,
        "image_only": args.image_only,
        "steps": args.steps,
        "rate": args.rate,
        "pretraining": losses,
    }
    print(json.dumps({**facts, "iou": rows, "gains": gains, "mean_gain": float(np.mean(gains))}))


if __name__ == "__main__":
    main()
