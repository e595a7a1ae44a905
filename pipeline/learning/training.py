"""Training of a segmentation model from the files of cities, scenes and chips."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import ValidationError

from models.encoders.pyramid import pyramid_config
from models.encoders.weights import IMAGENET
from models.geolink.text import TagTextEncoder
from models.segmentation.config import SIZES, SegmentationConfig, Size
from models.segmentation.encoder_start import encoder_config_of
from models.segmentation.head_training import train_head
from models.segmentation.loss import LossConfig
from models.segmentation.trainer import TrainResult, train_segmenter
from models.tiles.augmentation import AUGMENTATIONS
from models.tiles.samples import SampleSet
from models.tiles.sharded import Samples, SampleStore
from models.training import TrainingConfig
from pipeline.city.ground import TILE_PX, CityGround
from pipeline.learning.chips import cut_via_chips, place_of_chips
from pipeline.learning.ground_tiles import TrainingDataError, Use, ground_tiles, scenes_named
from pipeline.learning.held_out import HELD_OUT_EVERY
from pipeline.learning.reliability_page import RELIABILITY_NAME, write_reliability_page
from pipeline.learning.unlabelled import unlabelled_tiles
from regions.errors import RegionsError
from regions.registry import find_city

TILES_IN_MEMORY_GB = 2.0
"""Training tiles of more than this are kept on disk."""
SEMANTIC_WIDTH = 512
"""Width of hashed tag vectors."""
PLAIN_LOSS = LossConfig()
EMA = 0.999
"""Share of the past in the average of the weights that is kept; see `models.training_callbacks.AverageWeights`."""
_LOG = logging.getLogger(__name__)

Progress = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How samples are varied, weighed and judged.

    Attributes:
        augment: Name of an augmentation, of `AUGMENTATIONS`.
        balance: Every place gives as many tiles to an epoch, however many it has.
        loss: What is minimised.
    """

    augment: str = "plain"
    balance: bool = False
    loss: LossConfig = PLAIN_LOSS


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """An image encoder of timm with weights that somebody else trained.

    Attributes:
        name: timm's name, such as ``efficientnet_lite0``.
        weights: ``imagenet`` for the package that carries them, or a file.
    """

    name: str
    weights: str = IMAGENET


@dataclass(frozen=True, kw_only=True)
class Grounds:
    """What there is to learn from.

    Attributes:
        grounds: Cities or scenes with reference.
        chips: Folders of plain images with VIA JSON polygons, each a place.
        chip_scale: Factor that brings chips to the pixel size of the scenes.
        validate_on: The place to validate on: a city by adcode or name, a scene by file name, or a folder of chips; it
            teaches nothing, and all the rest only teaches. None keeps a part of each ground for validation.
        stride_px: Distance between training tiles.
    """

    grounds: Sequence[CityGround]
    chips: Sequence[Path] = ()
    chip_scale: float = 1.0
    validate_on: str | None = None
    stride_px: int = 112

    def tiles(self, progress: Progress = iter) -> Iterator[tuple[Use, SampleSet]]:
        """All samples and what they are for, a few at a time.

        Raises:
            TrainingDataError: no such place to validate on, or nothing else to learn from.
            PipelineError: as `ground_tiles` and `cut_via_chips` raise.
        """
        held, held_chips = self._held()
        elsewhere = self.validate_on is not None
        for ground in self.grounds:
            mine = ground in held
            yield from ground_tiles(
                ground,
                stride_px=self.stride_px,
                validate_on=self._scene_of(ground) if mine else None,
                held_elsewhere=elsewhere and not mine,
                progress=progress,
            )
        alone = not self.grounds and not elsewhere
        for folder in self.chips:
            cut = cut_via_chips(folder, tile_px=TILE_PX, scale=self.chip_scale, progress=progress)
            for number, part in enumerate(cut):
                judges = folder in held_chips or (alone and number % HELD_OUT_EVERY == 0)
                yield ("validation" if judges else "train"), part

    def _held(self) -> tuple[list[CityGround], list[Path]]:
        """Grounds and folders of chips that `validate_on` names."""
        if self.validate_on is None:
            return [], []
        name = self.validate_on
        grounds = [g for g in self.grounds if _is_city(g, name) or scenes_named(g, name)]
        chips = [c for c in self.chips if name in {str(c), c.name, place_of_chips(c)}]
        if len(grounds) + len(chips) != 1:
            there = [g.adcode for g in self.grounds] + [p.name for g in self.grounds for p in g.sources.imagery]
            there += [place_of_chips(c) for c in self.chips]
            raise TrainingDataError(
                f"--validate-on {name}: names {len(grounds) + len(chips)} places, one is needed; there are "
                f"{', '.join(there)}"
            )
        scenes = [p for g in grounds if not _is_city(g, name) for p in g.sources.imagery]
        if len(self.grounds) + len(self.chips) == 1 and len(scenes) < 2:
            raise TrainingDataError(
                f"--validate-on {name}: is the only place, so nothing is left to learn from: name further cities, "
                "scenes or --chips"
            )
        return grounds, chips

    def _scene_of(self, ground: CityGround) -> str:
        """What of a ground is validated on: its adcode stands for all of it."""
        name = str(self.validate_on)
        return ground.adcode if _is_city(ground, name) else name


def train_model(  # noqa: PLR0913 -- a command's worth of choices, each with a default
    grounds: Grounds | Sequence[CityGround],
    *,
    out: Path,
    size: str | None = None,
    recipe: Recipe = Recipe(),
    pretrained: Path | None = None,
    backbone: Backbone | None = None,
    self_train: CityGround | None = None,
    text_encoder: TagTextEncoder | None = None,
    tiles_in_memory_gb: float = TILES_IN_MEMORY_GB,
    seed: int = 0,
    progress: Progress | None = None,
    warn: Callable[[str], None] = _LOG.warning,
    **training: Any,
) -> TrainResult:
    """Train a model on cities, scenes and chips, and write its checkpoint.

    Args:
        grounds: What to learn from; cities alone stand for `Grounds` with its defaults.
        out: Folder of the checkpoint.
        size: Preset of the model; None takes that of ``pretrained``, else ``tiny``.
        recipe: How samples are varied, weighed and judged.
        pretrained: Checkpoint whose encoder to start from.
        backbone: Train a linear classifier on this frozen encoder, adapted to scenes, and what the map adds where
            there is one, instead of a GeoLink model; of the other fields it uses ``text_encoder``,
            ``tiles_in_memory_gb`` and ``seed``.
        self_train: Ground that is to be mapped: the model on ``backbone`` also learns from its own sure answers there
            (`models.segmentation.self_training`). Its labels are not read.
        text_encoder: Text model of the map's tags; None takes the hashed one.
        tiles_in_memory_gb: Training and validation tiles above this size, each, go to ``out/tiles`` while they are
            cut, and are read from there; removed at the end.
        seed: Seed of all that is random.
        progress: Wraps what takes long; None for silence.
        warn: Told what is doubtful of the data.
        **training: Fields of `TrainingConfig` that differ from the preset of the size; None is the preset's.

    Raises:
        TrainingDataError: nothing to learn from, or a field that does not fit.
    """
    if recipe.augment not in AUGMENTATIONS:
        raise TrainingDataError(f"no augmentation '{recipe.augment}'; there are {', '.join(AUGMENTATIONS)}")
    if self_train is not None and backbone is None:
        raise TrainingDataError("--self-train needs --encoder: other models do not adapt to the ground they look at")
    if backbone is None:
        config = segmentation_config(size, pretrained=pretrained)
    else:
        config = pyramid_segmentation(backbone, semantic_width=text_encoder.width if text_encoder else SEMANTIC_WIDTH)
    how = training_config(size_of(size, pretrained=pretrained), **training)
    sources = grounds if isinstance(grounds, Grounds) else Grounds(grounds=grounds)
    folder = out / "tiles"
    limit = round(tiles_in_memory_gb * 1e9)
    # with several devices Lightning starts this command again for each, when the first process has its tiles
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    stores = {use: SampleStore(folder / use, limit_bytes=limit, writes=first) for use in ("train", "validation")}
    for use, part in sources.tiles(progress or iter):
        stores[use].add(part)
    samples, validation = (stores[use].finish() for use in ("train", "validation"))
    if samples is None:
        raise TrainingDataError("nothing to learn from: name cities with labels, give --imagery, or --chips")
    if validation is not None and (common := common_places(samples, validation)):
        warn(
            f"training and validation come from one place ({'; '.join(common)}): the figures say how well the model "
            "knows it, not what it does elsewhere; keep another place back by --validate-on"
        )
    if backbone is not None:
        target = None
        if self_train is not None:
            target = unlabelled_tiles(self_train, stride_px=sources.stride_px, progress=progress or iter)
        result = train_head(
            samples,
            validation,
            config,
            out=out,
            weights=backbone.weights,
            target=target,
            text_encoder=text_encoder,
            seed=seed,
            progress=progress,
        )
        shutil.rmtree(folder, ignore_errors=True)
        return result
    result = train_segmenter(
        samples,
        validation,
        config,
        out=out,
        training=how,
        augmentation=AUGMENTATIONS[recipe.augment],
        loss=recipe.loss,
        balance=recipe.balance,
        seed=seed,
        pretrained=pretrained,
        text_encoder=text_encoder,
        progress=progress is not None,
    )
    shutil.rmtree(folder, ignore_errors=True)
    if result.calibrated is not None:
        write_reliability_page(result.calibrated, out / RELIABILITY_NAME)
    return result


def pyramid_segmentation(
    backbone: Backbone, *, classes: int = 2, semantic_width: int = SEMANTIC_WIDTH
) -> SegmentationConfig:
    """The model on a frozen backbone; its values were chosen with each place left out in turn (docs/quality.md).

    Args:
        backbone: The image encoder.
        classes: Number of classes.
        semantic_width: Width of the vectors of the map's tags.

    Raises:
        BackboneWeightsError: timm knows no such backbone.
    """
    return SegmentationConfig(
        encoder=pyramid_config(backbone.name, semantic_width=semantic_width),
        classes=classes,
        dropout=0.3,
        smooth_cells=2.5,
        feature_noise=1.0,
    )


def common_places(samples: Samples, validation: Samples) -> list[str]:
    """Names of the places that have tiles in both."""
    used = [{s.places[k] for k in set(s.place.tolist())} for s in (samples, validation)]
    return sorted(used[0] & used[1])


def segmentation_config(size: str | None, *, classes: int = 2, pretrained: Path | None = None) -> SegmentationConfig:
    """The configuration of a model of a size, or of one that starts from a checkpoint.

    Args:
        size: Name of a preset; None takes that of ``pretrained``, else ``tiny``.
        classes: Classes that are told apart.
        pretrained: Checkpoint to start from. Its encoder is taken as it is, of whatever widths and switches; where a
            size is named that has other widths, that size is left to the trainer to refuse.

    Raises:
        TrainingDataError: no such size.
        CheckpointError: ``pretrained`` has no encoder.
    """
    name = cast(Size, size_of(size, pretrained=pretrained))
    preset = SegmentationConfig.of_size(name, classes=classes)
    if pretrained is None:
        return preset
    start, wanted = encoder_config_of(pretrained), preset.geolink
    if size is not None and (start.width, start.depth, start.stem) != (wanted.width, wanted.depth, wanted.stem):
        return preset
    return SegmentationConfig.of_size(name, classes=classes, encoder=start)


def size_of(size: str | None, *, pretrained: Path | None = None) -> str:
    """The named size, or the smallest with an encoder as wide as that of a checkpoint, or ``tiny``.

    Raises:
        TrainingDataError: no such size.
        CheckpointError: ``pretrained`` has no encoder.
    """
    if size is None and pretrained is not None:
        width = encoder_config_of(pretrained).width
        fitting = (s for s in SIZES if SegmentationConfig.of_size(cast(Size, s)).encoder.width >= width)
        return next(fitting, SIZES[-1])
    if size is not None and size not in SIZES:
        raise TrainingDataError(f"no model size '{size}'; the sizes are {', '.join(SIZES)}")
    return size or SIZES[0]


def training_config(size: str, **changes: Any) -> TrainingConfig:
    """How a size is trained unless told otherwise: a transformer of full size wants a lower rate than the tiny one.

    On a GPU training is in bfloat16 with processes that prepare batches; patience keeps the best weights.

    Args:
        size: Preset of the model.
        **changes: Fields of `TrainingConfig`; None leaves the preset's.

    Raises:
        TrainingDataError: a field that does not fit.
    """
    told = {name: value for name, value in changes.items() if value is not None}
    preset: dict[str, Any] = {"ema": EMA} if size == "tiny" else {"ema": EMA, "learning_rate": 3e-4}
    if told.get("accelerator", "auto") != "cpu" and torch.cuda.is_available():
        preset |= {"precision": "bf16-mixed", "workers": min(8, os.cpu_count() or 1)}
    if "patience" in told:
        preset["keep"] = "best"
    try:
        return TrainingConfig(**preset | told)
    except ValidationError as error:
        faults = [f"--{'-'.join(map(str, e['loc'])).replace('_', '-')}: {e['msg']}" for e in error.errors()]
        raise TrainingDataError("; ".join(faults)) from error


def _is_city(ground: CityGround, name: str) -> bool:
    try:
        return name == ground.adcode or find_city(name).adcode == ground.adcode
    except RegionsError:
        return False
