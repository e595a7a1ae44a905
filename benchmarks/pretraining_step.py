"""Time of a pretraining step with 75 % of the patches hidden, over the same step with none hidden.

Run ``python benchmarks/pretraining_step.py [--size large] [--batch 4] [--repeats 3] [--threads 1] [--device cpu]``.
A step is forward and backward of all three losses on tiles with the 161 map objects of the densest published example.
Hidden patches do not pass through the encoder (they do through the shallow pixel decoder), which is what is measured.
First the equality check: visible patches in shuffled order give the tokens of the dense encoder where nothing is
hidden. Then both steps alternate, and the least processor time of each counts (wall time on a GPU, synchronised).
Prints a table and, as its last line, one JSON object.
"""

import argparse
import json
import platform
import time

import torch

from models.geolink.config import GeoLinkConfig
from models.geolink.masking import draw_masks
from models.geolink.pretraining import GeoLinkPretraining
from models.geolink.synthetic import DENSE_TILE, random_tile_graphs

N_TAG_SETS = 2000
LIMIT = 0.45


def check(model: GeoLinkPretraining, images: torch.Tensor) -> float:
    """Largest relative difference of tokens encoded sparsely, all visible, and densely."""
    patches = model.config.grid**2
    order = torch.randperm(patches, generator=torch.Generator().manual_seed(0)).to(images.device)
    keep = order.expand(len(images), -1)
    with torch.inference_mode():
        _, _, dense = model.encoder.image(images)
        _, _, sparse = model.encoder.image(images, keep)
    worst = float((sparse[:, 1:] - dense[:, 1:][:, order]).abs().max() / dense.abs().max())
    assert worst < 1e-4, f"sparse and dense tokens differ by {worst}"
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="large", choices=["tiny", "small", "base", "large"])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = torch.device(args.device)
    on_gpu = device.type == "cuda"
    model = GeoLinkPretraining(getattr(GeoLinkConfig, args.size)()).to(device)
    config = model.config
    images = torch.randn(args.batch, 3, config.image_px, config.image_px, device=device)
    worst = check(model, images)
    graphs = model.encoder.pack(random_tile_graphs([DENSE_TILE] * args.batch, n_tag_sets=N_TAG_SETS, seed=0))
    table = torch.randn(N_TAG_SETS, config.semantic_width, device=device)
    masks = {
        ratio: draw_masks(
            args.batch,
            config.grid**2,
            graphs,
            generator=torch.Generator(device).manual_seed(0),
            patch_ratio=ratio,
        )
        for ratio in (0.75, 0.0)
    }

    def step(ratio: float) -> float:
        if on_gpu:
            torch.cuda.synchronize(device)
        clock = time.perf_counter if on_gpu else time.process_time
        start = clock()
        model.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=on_gpu):
            model(images, graphs, table, masks[ratio]).total.backward()
        if on_gpu:
            torch.cuda.synchronize(device)
        return clock() - start

    best = {0.75: float("inf"), 0.0: float("inf")}
    for k in range(args.repeats + 1):
        for hidden, least in best.items():
            seconds = step(hidden)
            if k:  # the first round warms up
                best[hidden] = min(least, seconds)
    ratio = best[0.75] / best[0.0]
    print(f"{'step':28s} {'s per batch':>12s} {'s per tile':>12s}")
    for hidden, seconds in best.items():
        print(f"{f'{hidden:.0%} of patches hidden':28s} {seconds:12.3f} {seconds / args.batch:12.4f}")
    name = torch.cuda.get_device_name(device) if on_gpu else platform.processor() or platform.machine()
    facts = {"size": args.size, "batch": args.batch, "device": name, "threads": args.threads, "max_difference": worst}
    print(json.dumps({**facts, "ratios": {"masked_over_unmasked": ratio}, "limit": LIMIT, "holds": ratio <= LIMIT}))


if __name__ == "__main__":
    main()
