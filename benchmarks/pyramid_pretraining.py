"""GeoLink's pretraining for what joins the map to a frozen pyramid: is a fusion that saw pairs first worth more?

Run ``python benchmarks/pyramid_pretraining.py [--work out/pyramid_map] [--blur-m 4] [--labels 24 0] [--seeds 3]``.
Pairs of image and map without labels (training districts of all ``--cities``) pretrain graph network and fusion by
the three losses of GeoLink: match the image of a tile with its map (contrastive), restore the meaning of hidden nodes
from the fused ones (consistency), and restore what is hidden of the image. The last is of features, not of pixels,
since the image encoder is frozen: three quarters of the cells are hidden (0, the mean of the scene) and predicted
from what the fusion, that is the map, brings to them. Then the map's part learns from the labels of the first city,
as `uvmap train` does, from random weights and from the pretrained ones, with equal order, noise and steps; all of its
training tiles (``--labels 0``) or a few. Judged as in `benchmarks/pyramid_map.py`, on districts kept for assessment.
Prints a table and, as its last line, one JSON object.

It is checked first that both arms give the same answer without a map.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pretraining_gain import few
from pyramid_map import SMOOTH_M, City, Seen, city_of, classified, judged, pixel_logits, seen_by
from torch import Tensor, nn

from models.encoders.config import PyramidConfig
from models.encoders.pyramid import PyramidEncoder, pyramid_config
from models.encoders.weights import IMAGENET
from models.geolink.losses import consistency_loss, contrastive_loss
from models.geolink.masking import PretrainingMasks, draw_masks
from models.geolink.osm_encoder import N_TYPES
from models.geolink.packing import PackedGraphs
from models.geolink.positions import grid_encoding
from models.geolink.region import MapReadout
from models.segmentation.config import SegmentationConfig
from models.segmentation.map_training import MappedPlace, MapTraining, fit_map, map_gain
from models.segmentation.pyramid_model import PyramidSegmenter
from models.tiles.batches import packed_or_none

STRIDE_PX = 16
TILES = 16
WEIGHTS = {"reconstruction": 1.0, "contrastive": 0.1, "consistency": 1.0}
"""The published 1, 0.01 and 0.01 are for a decoder of pixels; here all three train the same small parts."""
JOINED = ("encoder.osm.", "encoder.fusion.")


class PyramidPretraining(nn.Module):
    """Graph network and fusion of a pyramid, with what pretraining adds."""

    def __init__(self, encoder: PyramidEncoder) -> None:
        """Wrap an encoder; its backbone is not looked at."""
        super().__init__()
        config = encoder.config.map
        self.encoder = encoder
        self.readout = MapReadout(config)
        self.image_projection = nn.Linear(config.width, config.contrastive_width)
        self.osm_mask_token = nn.Parameter(torch.empty(N_TYPES, config.semantic_width))
        self.node_prediction = nn.Linear(config.fusion_width, config.semantic_width)
        self.cell_prediction = nn.Linear(config.fusion_width, config.width)
        nn.init.normal_(self.osm_mask_token, std=0.02)

    def trained(self) -> list[nn.Parameter]:
        """All but the backbone."""
        return [p for name, p in self.named_parameters() if not name.startswith("encoder.backbone.")]

    def forward(
        self, cells: Tensor, graphs: PackedGraphs, semantics: Tensor, masks: PretrainingMasks
    ) -> dict[str, Tensor]:
        """The three losses of standardised cells (B, C, h, w) and their maps."""
        rows, columns = cells.shape[2:]
        whole = cells.flatten(2).transpose(1, 2)
        tokens = whole * (1 - masks.hidden[..., None])
        table = semantics[graphs.semantic_rows]
        masked = torch.where(masks.nodes, len(table) + graphs.node_type, graphs.node_row)
        nodes = self.encoder.osm(torch.cat([table, self.osm_mask_token]), masked, graphs)
        places = grid_encoding(rows, columns, self.encoder.config.map.fusion_width, centre=True)[:, 1:].to(cells)
        fused, blocks = self.encoder.fusion(tokens, places, nodes, graphs, grid=(rows, columns))
        counted = masks.hidden * graphs.tile_has_nodes[:, None].float()
        error = (self.cell_prediction(fused) - whole).square().mean(-1)
        seen = tokens.sum(1) / (1 - masks.hidden).sum(1, keepdim=True)
        image = self.image_projection(seen)
        predicted = masks.predicted[graphs.chunk_node] & graphs.chunk_valid
        return {
            "reconstruction": (error * counted).sum() / counted.sum().clamp(min=1),
            "contrastive": contrastive_loss(image, self.readout(nodes, graphs), paired=graphs.tile_has_nodes),
            "consistency": consistency_loss(
                self.node_prediction(blocks), table[graphs.node_row][graphs.chunk_node], predicted
            ),
        }


def losses_of(
    module: PyramidPretraining, place: MappedPlace, rows: np.ndarray, config: PyramidConfig, seed: int
) -> dict[str, Tensor]:
    """The losses of some tiles of a place, hidden by ``seed``."""
    cells = place.standardised(rows)
    graphs = packed_or_none(place.graphs_of(rows), config)
    if graphs is None:
        raise SystemExit("a mapped tile has no objects")
    generator = torch.Generator().manual_seed(seed)
    masks = draw_masks(len(rows), cells.shape[2] * cells.shape[3], graphs, generator=generator)
    found: dict[str, Tensor] = module(cells, graphs, place.semantics, masks)
    return found


def pretrained(
    encoder: PyramidEncoder, places: Sequence[MappedPlace], *, steps: int, seed: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Pretrain in place; losses on fixed tiles and masks before and after."""
    module = PyramidPretraining(encoder)
    rng = np.random.default_rng([seed, 2])
    optimiser = torch.optim.AdamW(module.trained(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)

    @torch.inference_mode()
    def measured() -> dict[str, float]:
        parts = [losses_of(module, p, np.arange(min(TILES, len(p.tiles))), encoder.config, 0) for p in places]
        return {k: float(np.mean([float(part[k]) for part in parts])) for k in WEIGHTS}

    before = measured()
    for step in range(steps):
        place = places[step % len(places)]
        rows = rng.choice(len(place.tiles), min(TILES, len(place.tiles)), replace=False)
        found = losses_of(module, place, rows, encoder.config, int(rng.integers(2**31)))
        loss = torch.stack([WEIGHTS[k] * v for k, v in found.items()]).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.trained(), 1.0)
        optimiser.step()
        schedule.step()
    return before, measured()


def with_labels(city: City, labels: int, seed: int) -> City:
    """A city of which a few training tiles are labelled; 0 takes all."""
    return city if labels == 0 else replace(city, train=few(city.train, labels, seed))


def pretrained_parts(
    config: SegmentationConfig, places: Sequence[MappedPlace], *, steps: int, seed: int
) -> dict[str, Tensor]:
    """Weights of graph network and fusion after pretraining."""
    begun = time.process_time()
    torch.manual_seed(seed)
    model = PyramidSegmenter(config).eval()
    before, after = pretrained(model.encoder, places, steps=steps, seed=seed)
    told = ", ".join(f"{k} {before[k]:.3f} -> {after[k]:.3f}" for k in before)
    print(f"seed {seed}, pretraining ({time.process_time() - begun:.0f} CPU-s): {told}", flush=True)
    return {k: v for k, v in model.state_dict().items() if k.startswith(JOINED)}


def arms(
    config: SegmentationConfig, target: Seen, parts: dict[str, Tensor], *, steps: Sequence[int], seed: int
) -> list[dict[str, object]]:
    """Figures of a fusion from scratch and of a pretrained one."""
    rows: list[dict[str, object]] = []
    torch.manual_seed(seed)
    model = PyramidSegmenter(config).eval()
    calibration = classified(model, [target], seed)
    start = {k: v.clone() for k, v in model.state_dict().items()}
    alone = []
    for number in steps:
        for arm, weights in (("scratch", start), ("pretrained", start | parts)):
            model.load_state_dict(weights)
            fit_map(model, [target.train], calibration, training=MapTraining(steps=number), seed=seed)
            gain = map_gain(model, [target.judged], calibration)
            found = judged(model, target, calibration)
            alone.append(pixel_logits(model, target.judged, None))
            rows.append({"arm": arm, "steps": number, "seed": seed, **found, **gain.figures})
            print(
                f"  {arm:>10}, {number:>3} steps: "
                + ", ".join(f"{k} {v:.3f}" for k, v in found.items())
                + f"; cross-entropy image {gain.image:.4f}, map {gain.map:.4f}, wrong map {gain.wrong_map:.4f}",
                flush=True,
            )
    if not all(torch.equal(alone[0], other) for other in alone):
        raise SystemExit("the two arms differ without a map")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("out/pyramid_map"))
    parser.add_argument("--cities", type=int, nargs="*", default=[1, 101, 102], help="The first has labels.")
    parser.add_argument("--side-m", type=int, default=2500)
    parser.add_argument("--blur-m", type=float, default=4.0)
    parser.add_argument("--labels", type=int, nargs="*", default=[24, 0], help="Labelled tiles; 0 takes all.")
    parser.add_argument("--steps", type=int, nargs="*", default=[300], help="Of learning from labels.")
    parser.add_argument("--pretraining-steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    cities = [city_of(args.work, seed, args.side_m, args.blur_m) for seed in args.cities]
    config = SegmentationConfig(
        encoder=pyramid_config("efficientnet_lite0"), dropout=0.3, smooth_cells=SMOOTH_M / STRIDE_PX, feature_noise=1.0
    )
    backbone = PyramidSegmenter(config).eval()
    backbone.encoder.load_weights(IMAGENET)
    seen = [seen_by(backbone, city) for city in cities]
    rows = []
    for seed in range(args.seeds):
        parts = pretrained_parts(config, [s.train for s in seen], steps=args.pretraining_steps, seed=seed)
        for labels in args.labels:
            target = seen[0] if labels == 0 else seen_by(backbone, with_labels(cities[0], labels, seed))
            print(f"  {labels or len(cities[0].train)} labelled tiles", flush=True)
            rows += [{"labels": labels, **row} for row in arms(config, target, parts, steps=args.steps, seed=seed)]
    print(json.dumps({"benchmark": "pyramid_pretraining", "rows": rows}))


if __name__ == "__main__":
    main()
