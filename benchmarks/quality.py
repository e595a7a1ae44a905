"""Baselines on equal terms: segmentation models of the literature and this project's, on real imagery.

Run ``python benchmarks/quality.py --data DATA [--models unet-lite0 "uvmap tiny"] [--steps 400] [--augment strong]``.
``DATA`` holds `beijing-uv/` and `uv-chips/` (`docs/real_data.md`). Every model is trained by the training loop of
`uvmap train` on the same tiles (training mosaic at 1 m, chips at 0.4) with the same batches, augmentation, loss,
schedule, weight averaging and number of steps, then judged on the tiles of `beijing-uv/val`, another season and other
roofs, which no choice here has seen: IoU, F1, boundary F1 (3 m) at a probability of 0.5, and expected calibration
error. Each is judged twice: with the statistics of its batch norms taken on the training tiles (*source*), and with
those taken again, without labels, on the tiles that are judged (*scene*); models without batch norm have one figure.
``--checkpoints NAME=DIR`` adds models of `uvmap train`, mapped by the stages of `uvmap map`, each tile by itself:
without and with their own adaptation; those of several seeds have one name. Prints a row per seed, a table of means and
ranges over the seeds and, as its last line, one JSON object. Operations are those of one tile forward, multiply and
add counted as two; CPU seconds are of this process.

It is checked first that all models see the same first batch.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from quality_models import CONTESTANTS, Contestant
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from accuracy.comparison.confusion import Confusion
from accuracy.comparison.reliability import Reliability
from flows.commands import options as opt
from models.checkpoints import CheckpointConfig, load_checkpoint
from models.geolink.config import GeoLinkConfig
from models.segmentation.predictor import segmenter_of
from models.segmentation.trainer import KIND, SegmentationTraining
from models.tiles.augmentation import AUGMENTATIONS
from models.tiles.batches import BatchMaker, normalised
from models.tiles.samples import IGNORE, SampleSet
from models.training import BatchData, Run, TrainingConfig, fit
from pipeline.city.ground import TILE_PX, CityGround
from pipeline.city.job import CityJob
from pipeline.city.reference import read_city_reference
from pipeline.city.stages import run_stage
from pipeline.learning.chips import read_via_chips
from pipeline.learning.samples import TileImages, cut_samples
from regions.raster.boundaries import BoundaryCounts, count_boundaries
from regions.raster.grid import Tiling, Window
from regions.raster.scores import NOT_PREDICTED, SCORE_SCALE
from regions.settings import GridConfig

RESOLUTION_M = 1.0
CHIP_SCALE = 0.4
TRAIN_STRIDE_PX = 112
BOUNDARY_M = 3.0
THRESHOLD = 0.5
BATCH = 8
EMA = 0.98
SOURCE_TILES = 160
"""Training tiles from which the statistics of batch norms are taken."""
CHECKPOINT = CheckpointConfig(
    kind=KIND, model={}, tile_px=TILE_PX, resolution_m=RESOLUTION_M, classes=("other", "urban_village")
)


@dataclass(frozen=True)
class Budget:
    """What every model is given: steps, and how the tiles of each are varied."""

    steps: int
    augment: str


@dataclass(frozen=True)
class Figures:
    """What a model is worth on the judged tiles."""

    iou: float | None
    f1: float | None
    boundary_f1: float | None
    ece: float | None


def ground(imagery: list[Path], reference: list[Path], work: Path, *, crs: str | None = None) -> CityGround:
    """A ground of files, as the command line makes it."""
    sources = opt.sources_from(
        None, data_root=Path(), imagery=imagery, vectors=None, reference=reference, imagery_crs=crs
    )
    return opt.ground_from(sources, work=work, grid=GridConfig(resolution_m=RESOLUTION_M, stride_px=TILE_PX))


class ScoreTiles:
    """Scores of a map in the place of its imagery, valid where that is."""

    def __init__(self, imagery: TileImages, scores: Path) -> None:
        """Read both."""
        self.imagery = imagery
        with rasterio.open(scores) as raster:
            self.scores = raster.read(1)

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Scores, three times, and the validity of the imagery."""
        inside = Window(0, 0, *self.scores.shape).intersection(window)
        found = np.full((window.height_px, window.width_px), NOT_PREDICTED, np.uint8)
        found[inside.slices_in(window)] = self.scores[inside.slices_in(Window(0, 0, *self.scores.shape))]
        return np.repeat(found[None], 3, axis=0), self.imagery.read(window)[1]


def all_tiles(where: CityGround, stride_px: int, *, scores: Path | None = None) -> SampleSet:
    """All labelled tiles of a ground, or the scores of a map on them."""
    with where.open() as city:
        grid = city.extent.grid
        reference = read_city_reference(where.sources, crs=grid.crs, bounds_m=grid.bounds_m)
        return cut_samples(
            city.imagery if scores is None else ScoreTiles(city.imagery, scores),
            reference.polygons,
            unlabelled=reference.unlabelled,
            grid=grid,
            tiling=Tiling(TILE_PX, stride_px),
            source=city.name,
        )


def judged_ground(data: Path, work: Path) -> CityGround:
    """The validation scenes, mapped tile by tile."""
    val = data / "beijing-uv" / "val"
    images, masks = (sorted((val / name).glob("*.png")) for name in ("image", "mask"))
    return ground(images, masks, work / "val", crs="EPSG:3857")


def training_tiles(data: Path, work: Path) -> SampleSet:
    """Tiles of the training mosaic, and chips."""
    train = data / "beijing-uv" / "train"
    mosaic = ground([train / "mosaic_rgb_jpeg95.tif"], [train / "mosaic_uv_mask.tif"], work / "train")
    chips = read_via_chips(data / "uv-chips" / "train", tile_px=TILE_PX, scale=CHIP_SCALE)
    return SampleSet.concat([all_tiles(mosaic, TRAIN_STRIDE_PX), chips])


def batches_of(samples: SampleSet, config: TrainingConfig, budget: Budget, *, seed: int) -> BatchData:
    """As many batches as there are steps, in one epoch: passes over all samples behind each other."""

    def order(rng: np.random.Generator) -> np.ndarray:
        passes = -(-tiles // len(samples))
        return np.concatenate([rng.permutation(len(samples)) for _ in range(passes)])[:tiles]

    tiles = budget.steps * config.batch_size
    make = BatchMaker(samples, GeoLinkConfig(), AUGMENTATIONS[budget.augment])
    return BatchData(size=tiles, config=config, seed=seed, make=make, order=order)


def train(contestant: Contestant, samples: SampleSet, budget: Budget, *, seed: int, work: Path) -> nn.Module:
    """A model trained by the loop of `uvmap train`."""
    config = TrainingConfig(
        batch_size=BATCH, epochs=1, learning_rate=contestant.learning_rate, ema=EMA, accelerator="cpu"
    )
    data = batches_of(samples, config, budget, seed=seed)
    torch.manual_seed(seed)
    model = contestant.build().to(memory_format=torch.channels_last)
    module = SegmentationTraining(
        model, config, checkpoint=CHECKPOINT, semantics=torch.zeros(0, 512), total_steps=data.total_steps
    )
    fit(module, data, Run(out=work, seed=seed, key="", label="training", resume=False))
    return model.eval()


def batch_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    """Layers whose statistics can be taken again."""
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


@torch.inference_mode()
def take_statistics(model: nn.Module, images: np.ndarray) -> None:
    """Take the statistics of all batch norms from images, uint8 (N, 3, T, T), without labels."""
    norms = batch_norms(model)
    kept = [n.momentum for n in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    for start in range(0, len(images), BATCH):
        model(prepared(images[start : start + BATCH]), None, None)
    model.eval()
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum


def prepared(images: np.ndarray) -> Tensor:
    """Images as the models take them."""
    return normalised(torch.from_numpy(images), CHECKPOINT.mean, CHECKPOINT.std)


@torch.inference_mode()
def probabilities(model: nn.Module, images: np.ndarray) -> np.ndarray:
    """float32 (N, T, T): probability of urban village."""
    parts = [
        torch.softmax(model(prepared(images[k : k + BATCH]), None, None).float(), 1)[:, 1]
        for k in range(0, len(images), BATCH)
    ]
    return torch.cat(parts).numpy()


def judge(share: np.ndarray, labels: np.ndarray) -> Figures:
    """Figures of probabilities (N, T, T) against labels uint8 (N, T, T)."""
    known, truth, mapped = labels != IGNORE, labels == 1, share >= THRESHOLD
    cells = Confusion(
        tp=int((known & truth & mapped).sum()),
        fp=int((known & ~truth & mapped).sum()),
        fn=int((known & truth & ~mapped).sum()),
        tn=int((known & ~truth & ~mapped).sum()),
    )
    outlines = BoundaryCounts()
    for k, r, m in zip(known, truth, mapped, strict=True):
        outlines += count_boundaries(r & k, m & k, tolerance_px=BOUNDARY_M / RESOLUTION_M)
    score = np.rint(share * SCORE_SCALE).astype(np.int64)
    counts = [np.bincount(score[where], minlength=SCORE_SCALE + 1) for where in (known, known & truth)]
    ece = Reliability(pixels=counts[0], positives=counts[1]).expected_calibration_error()
    return Figures(iou=cells.iou, f1=cells.f1, boundary_f1=outlines.f1, ece=ece)


def operations(model: nn.Module) -> int:
    """Floating point operations of one tile."""
    tile = prepared(np.zeros((1, 3, TILE_PX, TILE_PX), np.uint8))
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(tile, None, None)
    return int(counter.get_total_flops())


def compete(name: str, train_on: SampleSet, judged: SampleSet, budget: Budget, *, seed: int) -> dict[str, object]:
    """Train and judge one model."""
    contestant = CONTESTANTS[name]
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        model = train(contestant, train_on, budget, seed=seed, work=Path(folder))
    trained = time.process_time()
    has_norms = bool(batch_norms(model))
    if has_norms:
        take_statistics(model, train_on.images[np.linspace(0, len(train_on) - 1, SOURCE_TILES).astype(int)])
    source = judge(probabilities(model, judged.images), judged.labels)
    scene = None
    if has_norms:
        take_statistics(model, judged.images)
        scene = judge(probabilities(model, judged.images), judged.labels)
    begun_once = time.process_time()
    probabilities(model, judged.images[:BATCH])
    return {
        "model": name,
        "start": contestant.start,
        "seed": seed,
        **asdict(budget),
        "source": asdict(source),
        "scene": None if scene is None else asdict(scene),
        "parameters": sum(p.numel() for p in model.parameters()),
        "operations_per_tile": operations(model),
        "cpu_s_training": trained - begun,
        "cpu_s_per_tile": (time.process_time() - begun_once) / BATCH,
    }


def judge_checkpoint(name: str, folder: Path, where: CityGround, judged: SampleSet, *, seed: int) -> dict[str, object]:
    """Judge what `uvmap train` made, as `uvmap map` maps it: without and with its own adaptation to the scene."""
    found: list[Figures | None] = [None, None]
    begun = time.process_time()
    modes = (False, True) if "adapt" in CityJob.model_fields else (False,)
    for adapt in modes:
        extra = {"adapt": adapt} if len(modes) == 2 else {}
        job = CityJob(ground=where, checkpoint=folder, out=where.work / "product", **extra)
        scores = Path(run_stage("scores", job)["folder"]) / "scores.tif"
        tiles = all_tiles(where, TILE_PX, scores=scores)
        if not np.array_equal(tiles.labels, judged.labels):
            raise SystemExit(f"{name}: the map is not judged on the tiles of the others")
        share = np.where(tiles.images[:, 0] == NOT_PREDICTED, 0, tiles.images[:, 0] / SCORE_SCALE)
        found[adapt] = judge(share, judged.labels)
    checkpoint = load_checkpoint(folder)
    return {
        "model": name,
        "start": "trained",
        "seed": seed,
        "source": None if found[0] is None else asdict(found[0]),
        "scene": None if found[1] is None else asdict(found[1]),
        "parameters": sum(int(np.prod(w.shape)) for w in checkpoint.weights.values()),
        "operations_per_tile": operations(segmenter_of(checkpoint)),
        "cpu_s_training": None,
        "cpu_s_per_tile": (time.process_time() - begun) / (len(judged) * len(modes)),
    }


def check_equal_terms(samples: SampleSet, budget: Budget) -> None:
    """The first batch must not depend on the model's rate or weights."""
    seen = []
    for rate in (1e-3, 2e-3):
        config = TrainingConfig(batch_size=BATCH, epochs=1, learning_rate=rate, ema=EMA, accelerator="cpu")
        data = batches_of(samples, config, budget, seed=0)
        seen.append(next(iter(data.train_dataloader())))
    if not (torch.equal(seen[0].images, seen[1].images) and torch.equal(seen[0].labels, seen[1].labels)):
        raise SystemExit("two models would be trained on different batches")


def number(value: object, unit: float, digits: int) -> str:
    """A number as text, in a unit."""
    return f"{value / unit:.{digits}f}" if isinstance(value, int | float) else "-"


def shown(row: dict[str, object]) -> str:
    """A row of the table."""

    def cells(figures: object) -> str:
        values = figures.values() if isinstance(figures, dict) else [None] * 4
        return " ".join(f"{v:6.3f}" if isinstance(v, float) else "     -" for v in values)

    return (
        f"{row['model']:<22} {row['start']:<9} {row['seed']:>4} {cells(row['source'])}   {cells(row['scene'])}"
        f" {number(row['parameters'], 1e6, 2):>8} {number(row['operations_per_tile'], 1e9, 2):>8}"
        f" {number(row['cpu_s_training'], 1, 0):>8} {number(row['cpu_s_per_tile'], 1, 3):>9}"
    )


def spread(rows: Sequence[Mapping[str, Any]], statistics: str, figure: str) -> str:
    """Mean and range of a figure over the seeds, and of how many where it is not defined for all."""
    values = [row[statistics][figure] for row in rows if row[statistics] is not None]
    known = [v for v in values if v is not None]
    if not known:
        return "-"
    told = f"{np.mean(known):.3f} ({min(known):.3f}-{max(known):.3f})"
    return told if len(known) == len(values) else f"{told} {len(known)}/{len(values)}"


def print_means(rows: Sequence[Mapping[str, Any]]) -> None:
    """Means and ranges over the seeds of each model; statistics of the scene where the model has them."""
    heads = ("IoU source", "IoU scene", "boundary F1", "ECE", "train s")
    print(f"{'model':<22} {'seeds':>5}" + "".join(f"{h:>26}" for h in heads))
    for name in dict.fromkeys(str(row["model"]) for row in rows):
        own = [row for row in rows if row["model"] == name]
        best = "source" if own[0]["scene"] is None else "scene"
        cells = [spread(own, "source", "iou"), spread(own, "scene", "iou")]
        cells += [spread(own, best, figure) for figure in ("boundary_f1", "ece")]
        spent = [row["cpu_s_training"] for row in own if row["cpu_s_training"] is not None]
        cells.append(f"{np.mean(spent):.0f}" if spent else "-")
        print(f"{name:<22} {len(own):>5}" + "".join(f"{c:>26}" for c in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", nargs="*", choices=sorted(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("--checkpoints", nargs="*", default=[], metavar="NAME=DIR")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--augment", choices=sorted(AUGMENTATIONS), default="strong")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("out/quality"))
    args = parser.parse_args()
    budget = Budget(args.steps, args.augment)
    where = judged_ground(args.data, args.work)
    judged = all_tiles(where, TILE_PX)
    train_on = training_tiles(args.data, args.work) if args.models else judged.select([])
    if args.models:
        check_equal_terms(train_on, budget)
    print(
        f"{len(train_on)} training tiles, {len(judged)} judged;"
        f" {args.steps} steps of {BATCH} tiles, {args.augment} augmentation"
    )
    heads = "   IoU     F1    bF1    ECE"
    print(f"{'':<37}{'source statistics':<28}   {'scene statistics':<28}")
    costs = f"{'params M':>8} {'GFLOP':>8} {'train s':>8} {'s / tile':>9}"
    print(f"{'model':<22} {'start':<9} {'seed':>4}{heads}   {heads} {costs}")
    rows = []
    for name in args.models:
        for seed in range(args.seeds):
            rows.append(compete(name, train_on, judged, budget, seed=seed))
            print(shown(rows[-1]), flush=True)
    for given in args.checkpoints:
        name, _, folder = given.rpartition("=")
        seed = sum(row["model"] == name for row in rows)
        rows.append(judge_checkpoint(name or folder, Path(folder), where, judged, seed=seed))
        print(shown(rows[-1]), flush=True)
    print_means(rows)
    print(json.dumps({"benchmark": "quality", "threads": torch.get_num_threads(), "rows": rows}))


if __name__ == "__main__":
    main()
