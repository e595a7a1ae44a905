"""What fusion with the map adds to the image encoder's forward pass, and that it changes nothing it must not.

Run ``python benchmarks/geolink_fusion.py [--size large] [--batch 8] [--repeats 3] [--threads 1] [--device cpu]``.
First the equality check: the batch's tiles alone give the batch's answer, the image-only pass equals the fused pass on
blank tiles. Then image-only and fused passes alternate, and the least processor time of each counts (wall time on a
GPU, synchronised). Prints a table and, as its last line, one JSON object.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable

import torch

from models.geolink.config import GeoLinkConfig
from models.geolink.encoder import GeoLinkEncoder
from models.geolink.packing import PackedGraphs
from models.geolink.synthetic import DENSE_TILE, random_tile_graphs

N_TAG_SETS = 2000


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one run: processor time on the CPU, wall time between synchronisations on a GPU."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start


def check(encoder: GeoLinkEncoder, images: torch.Tensor, table: torch.Tensor) -> float:
    """Largest difference of a tile's fused map in a batch and with blank batch-mates; blank tiles must be exact."""
    graphs = random_tile_graphs([DENSE_TILE] * len(images), n_tag_sets=N_TAG_SETS, seed=1)
    mates = random_tile_graphs([(0, 0, 0)] * (len(images) - 1), n_tag_sets=N_TAG_SETS, seed=2)
    mixed = type(graphs).concat([graphs.select([0]), mates])
    whole, some, alone = (
        encoder(images, None if g is None else encoder.pack(g), table)[-1] for g in (graphs, mixed, None)
    )
    assert torch.equal(some[1:], alone[1:]), "a blank tile must give the image-only answer"
    assert not torch.equal(whole[0], alone[0]), "the map must matter"
    return float((whole[0] - some[0]).abs().max() / whole.abs().max())


def parts(
    encoder: GeoLinkEncoder, images: torch.Tensor, packed: PackedGraphs, table: torch.Tensor
) -> dict[str, Callable[[], object]]:
    """The passes to time."""
    return {
        "image only": lambda: encoder(images, None, None),
        "with map": lambda: encoder(images, packed, table),
        "graph network alone": lambda: encoder.encode_nodes(packed, table, n_tiles=len(images)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("tiny", "small", "base", "large", "official"), default="large")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    config = getattr(GeoLinkConfig, options.size)()
    encoder = GeoLinkEncoder(config).eval().to(device)
    images = torch.randn(options.batch, 3, config.image_px, config.image_px, device=device)
    table = torch.randn(N_TAG_SETS, config.semantic_width, device=device)
    with torch.inference_mode():
        apart = check(encoder, images, table)
        print(f"equality: blank tiles exact; a tile's answer with other batch-mates differs by {apart:.3g}")
        graphs = random_tile_graphs([DENSE_TILE] * options.batch, n_tag_sets=N_TAG_SETS, seed=1)
        packed = encoder.pack(graphs)
        seconds: dict[str, list[float]] = {}
        for _ in range(options.repeats):
            for name, run in parts(encoder, images, packed, table).items():
                seconds.setdefault(name, []).append(timed(run, device))
        seconds["packing on the host"] = [
            timed(lambda: encoder.pack(graphs, device="cpu"), torch.device("cpu")) for _ in range(10)
        ]
    least = {name: min(values) for name, values in seconds.items()}
    for name, value in least.items():
        print(f"{name:24s} {value:9.4f} s   {value / options.batch * 1e3:9.2f} ms per tile")
    ratio = least["with map"] / least["image only"]
    print(f"with map / image only: {ratio:.3f} (aim: below 1.10)")
    result = {
        "size": options.size,
        "batch": options.batch,
        "nodes_per_tile": sum(DENSE_TILE),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU",
        "threads": options.threads,
        "torch": torch.__version__,
        "largest_difference_with_other_batch_mates": apart,
        "seconds": least,
        "ratios": {"with_map_to_image_only": ratio},
        "below_aim": ratio < 1.10,
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
