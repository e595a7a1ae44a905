"""Our decoder beside the official UPerNet-512 at equal training on the demo city: IoU, operations, time per step.

Run ``python benchmarks/decoder_training.py [--steps 240] [--seeds 1] [--work out/decoder_training]`` (about 4 s per
step and seed on one core, nearly all of it the official head; ``--bf16`` halves it). The demo city's training
districts are cut into tiles of 112 px. Per seed one encoder of the ``tiny`` widths (patches as published, so that all
four maps are at a sixteenth, where the official neck expects them) is drawn and copied to every arm; each arm trains
encoder and head on the same tiles in the same order with the same augmentation, loss and schedule. The arms: the
official head as rebuilt in ``decoder.py``, and our head at the widths of ``large`` and ``tiny``. IoU is measured at
0.5 on the districts with the role ``validation`` and ``assess``, which no arm saw. First it is checked that all arms
start from equal encoders.
Prints a table and, as its last line, one JSON object; ``ratio`` is operations of the head over those of the official.
"""

import argparse
import copy
import json
import time
from pathlib import Path

import numpy as np
import torch
from decoder import OfficialUPerNet, gflop
from demo_tiles import demo_ground, seen_and_unseen
from torch import Tensor, nn
from tqdm import tqdm

from models.geolink.cases import IMAGENET_MEAN, IMAGENET_STD
from models.geolink.config import GeoLinkConfig
from models.geolink.encoder import GeoLinkEncoder
from models.geolink.text import HashedTagEncoder, tag_set_embeddings
from models.segmentation.decoder import LightUPerNet
from models.segmentation.loss import DiceCrossEntropy
from models.segmentation.metrics import FigureKeeper
from models.tiles.augmentation import AugmentationConfig
from models.tiles.batches import Batch, BatchMaker, normalised
from models.training import learning_rate_factor

SIDE_PX = 112
BATCH = 8


class Arm(nn.Module):
    """An encoder and a head."""

    def __init__(self, encoder: GeoLinkEncoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, batch: Batch, semantics: Tensor) -> Tensor:
        """Logits (B, 2, T, T)."""
        images = normalised(batch.images, IMAGENET_MEAN, IMAGENET_STD)
        out: Tensor = self.head(self.encoder(images, batch.graphs, semantics), images)
        return out


def train(
    arm: Arm, maker: BatchMaker, semantics: Tensor, *, steps: int, rate: float, seed: int, bf16: bool, name: str
) -> float:
    """Train and give the seconds per step."""
    loss = DiceCrossEntropy(2)
    optimiser = torch.optim.AdamW(arm.parameters(), lr=rate, weight_decay=0.05)
    warmup = max(1, round(0.08 * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda k: learning_rate_factor(max(k, min(k + 1, warmup)) / steps, warmup=warmup / steps, final_share=0),
    )
    rng = np.random.default_rng(seed)
    arm.train()
    started = time.perf_counter()
    for _ in tqdm(range(steps), desc=name, unit="step"):
        batch = maker(rng.choice(len(maker.samples), BATCH, replace=False), rng)
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = arm(batch, semantics)
        total = sum(loss(logits.float(), batch.labels).values(), torch.zeros(()))
        total.backward()
        nn.utils.clip_grad_norm_(arm.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return (time.perf_counter() - started) / steps


@torch.inference_mode()
def iou(arm: Arm, maker: BatchMaker, semantics: Tensor) -> float:
    """Of the second class, over all tiles."""
    arm.eval()
    keeper = FigureKeeper(("other", "urban_village"))
    rng = np.random.default_rng(0)
    for start in range(0, len(maker.samples), BATCH):
        batch = maker(np.arange(start, min(start + BATCH, len(maker.samples))), rng)
        keeper.update(arm(batch, semantics), batch.labels)
    return keeper.result()["iou"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("out/decoder_training"))
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--only", help="train only heads whose name holds this")
    parser.add_argument("--bf16", action="store_true", help="train all arms under bf16 autocast: half the time")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ground = demo_ground(args.work, seed=1, side_m=3000)
    seen, unseen = seen_and_unseen(ground, tile_px=SIDE_PX, stride_px=SIDE_PX)
    config = GeoLinkConfig.tiny(stem="patch", image_px=SIDE_PX, depth=4, output_layers=(0, 1, 2, 3))
    widths = config.feature_channels
    tags = HashedTagEncoder(width=config.semantic_width)
    semantics = torch.as_tensor(np.asarray(tag_set_embeddings(seen.tag_sets, tags)), dtype=torch.float32)
    learn, judge = BatchMaker(seen, config, AugmentationConfig()), BatchMaker(unseen, config)
    print(f"{len(seen)} tiles to learn from, {len(unseen)} to judge by", flush=True)
    heads = {
        "official UPerNet-512": lambda: OfficialUPerNet(widths, classes=2),
        "ours, 256 channels + stem 64": lambda: LightUPerNet(widths, channels=256, classes=2, detail_channels=64),
        "ours, 32 channels + stem 16": lambda: LightUPerNet(
            widths, channels=32, classes=2, dropout=0.0, detail_channels=16
        ),
    }
    heads = {name: make for name, make in heads.items() if args.only is None or args.only in name}
    images = torch.zeros(1, 3, SIDE_PX, SIDE_PX)
    maps = [torch.zeros(1, w, SIDE_PX // 16, SIDE_PX // 16) for w in widths]
    operations = {name: gflop(make().eval(), maps, images) for name, make in heads.items()}
    official = gflop(OfficialUPerNet(widths, classes=2).eval(), maps, images)
    found: dict[str, list[float]] = {name: [] for name in heads}
    seconds: dict[str, float] = {}
    for seed in range(args.seeds):
        torch.manual_seed(seed)
        encoder = GeoLinkEncoder(config)
        arms = {name: Arm(copy.deepcopy(encoder), make()) for name, make in heads.items()}
        for arm in arms.values():
            pairs = zip(arm.encoder.state_dict().values(), encoder.state_dict().values(), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs), "all arms must start from one encoder"
        for name, arm in arms.items():
            seconds[name] = train(
                arm, learn, semantics, steps=args.steps, rate=args.rate, seed=seed, bf16=args.bf16, name=name
            )
            found[name].append(iou(arm, judge, semantics))
            print(f"seed {seed}, {name}: IoU {found[name][-1]:.3f}", flush=True)
    print(f"{'head':30s} {'GFLOP/tile':>11s} {'of official':>12s} {'s/step':>8s} {'IoU unseen':>11s}")
    for name, values in found.items():
        print(
            f"{name:30s} {operations[name]:11.2f} {operations[name] / official:12.3f} {seconds[name]:8.2f} "
            f"{np.mean(values):11.3f}"
        )
    rows = {
        name: {"gflop": operations[name], "ratio": operations[name] / official, "iou": v, "s_per_step": seconds[name]}
        for name, v in found.items()
    }
    print(json.dumps({"steps": args.steps, "rate": args.rate, "bf16": args.bf16, "tile_px": SIDE_PX, "heads": rows}))


if __name__ == "__main__":
    main()
