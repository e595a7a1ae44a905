"""Change between two dates: one encoder for both, their difference decoded to a class per pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.checkpoints import Checkpoint, CheckpointConfig, CheckpointError, ModelCard, load_checkpoint
from models.errors import ModelsError
from models.segmentation.config import SegmentationConfig
from models.segmentation.encoder_start import load_encoder
from models.segmentation.model import GeoLinkSegmenter
from models.segmentation.trainer import SegmentationTraining, TrainResult, fit_and_save
from models.tiles.augmentation import AugmentationConfig, coloured
from models.tiles.batches import Batch, normalised
from models.tiles.samples import IGNORE
from models.tiles.symmetries import symmetric_array
from models.training import BatchData, Run, TrainingConfig, key_of_run

KIND = "change"


class ChangeError(ModelsError):
    """Pairs of dates and labels that do not fit each other."""


@dataclass(frozen=True, kw_only=True)
class ChangeSet:
    """Tiles at two dates.

    Attributes:
        images: uint8 (N, 2, 3, T, T), before and after.
        labels: uint8 (N, T, T): 1 where something changed, 0 where not, `IGNORE` where unknown.
        source: One line for the model card.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    source: str = ""

    def __post_init__(self) -> None:
        n, side = len(self.images), self.images.shape[-1]
        if self.images.shape != (n, 2, 3, side, side) or self.labels.shape != (n, side, side):
            raise ChangeError(
                f"images are {self.images.shape} and labels {self.labels.shape}, needed are (N, 2, 3, T, T) and "
                "(N, T, T): give both dates of each tile on one grid"
            )

    def __len__(self) -> int:
        return len(self.images)


class ChangeDetector(GeoLinkSegmenter):
    """The segmenter on differences of two dates: of the encoder's maps, and of the pixels for the detail stem.

    Swapping the dates changes the sign of the differences, which are told apart: what appears is not what vanishes.
    """

    def compare(self, before: Tensor, after: Tensor) -> Tensor:
        """Logits (B, classes, T, T) of two normalised images (B, 3, T, T) of the same ground."""
        both = self.encoder(torch.cat([before, after]), None, None)
        maps = [new - old for old, new in (m.chunk(2) for m in both)]
        logits: Tensor = self.decoder(maps, after - before)
        return logits


class _ChangeTraining(SegmentationTraining):
    def logits(self, batch: Batch) -> Tensor:
        before, after = (normalised(batch.images[:, k], self.checkpoint.mean, self.checkpoint.std) for k in range(2))
        model: ChangeDetector = self.model  # type: ignore[assignment]
        return model.compare(before, after)


@dataclass(frozen=True)
class _ChangeBatches:
    samples: ChangeSet
    augmentation: AugmentationConfig | None

    def __call__(self, index: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        images, labels = [], []
        for k in index:
            pair, label = self.samples.images[k], self.samples.labels[k]
            if self.augmentation is not None:
                if self.augmentation.symmetries:
                    symmetry = int(rng.integers(8))
                    pair, label = symmetric_array(pair, symmetry), symmetric_array(label, symmetry)
                # two dates have two lights
                pair = np.stack([coloured(date, self.augmentation, rng) for date in pair])
            images.append(pair)
            labels.append(label)
        return Batch(
            images=torch.from_numpy(np.stack(images)),
            labels=torch.from_numpy(np.stack(labels)),
            graphs=None,  # the map has one date, change has two
            place=torch.zeros(len(index), dtype=torch.int64),
        )


def train_change(  # noqa: PLR0913 -- data, sizes, schedule and switches of one training, each with a default
    samples: ChangeSet,
    validation: ChangeSet | None,
    config: SegmentationConfig,
    *,
    out: Path,
    training: TrainingConfig | None = None,
    augmentation: AugmentationConfig | None = None,
    classes: Sequence[str] = ("same", "changed"),
    pretrained: Path | None = None,
    seed: int = 0,
    resume: bool = True,
    licence: str = "not stated",
    progress: bool = True,
) -> TrainResult:
    """Train a change detector and write its checkpoint.

    Args:
        samples: Training tiles at two dates.
        validation: Tiles for the figures; None goes without.
        config: Size of the model.
        out: Folder of checkpoint and log.
        training: How to optimise.
        augmentation: How to vary; each date gets its own colours.
        classes: Names of the classes.
        pretrained: Checkpoint whose encoder is the start.
        seed: Seed of weights, order and augmentation.
        resume: Continue an interrupted run of equal data and configuration.
        licence: Licence of the weights, for the model card.
        progress: Show one progress bar.

    Raises:
        ChangeError: labels beyond the classes.
        CheckpointError: ``pretrained`` does not fit.
    """
    training = training or TrainingConfig()
    augmentation = augmentation or AugmentationConfig()
    known = samples.labels[samples.labels != IGNORE]
    if not len(known) or int(known.max()) >= config.classes or len(classes) != config.classes:
        raise ChangeError(
            f"labels up to {known.max() if len(known) else 'none'}, {len(classes)} class names and a model of "
            f"{config.classes} classes do not fit: name each class, set unknown labels to {IGNORE}"
        )
    checkpoint = CheckpointConfig(
        kind=KIND, model=config.model_dump(mode="json"), tile_px=int(samples.images.shape[-1]), classes=tuple(classes)
    )
    torch.manual_seed(seed)
    model = ChangeDetector(config).to(memory_format=torch.channels_last)
    start = load_encoder(model.encoder, pretrained) if pretrained else ""
    data = BatchData(
        size=len(samples),
        config=training,
        seed=seed,
        make=_ChangeBatches(samples, augmentation),
        validation_size=len(validation) if validation is not None else 0,
        make_validation=_ChangeBatches(validation, None) if validation is not None else None,
    )
    module = _ChangeTraining(
        model,
        training,
        checkpoint=checkpoint,
        semantics=torch.zeros(0, config.encoder.semantic_width),
        total_steps=data.total_steps,
    )
    key = key_of_run(
        checkpoint.to_json(), training.model_dump(), vars(augmentation), seed, start, samples.images, samples.labels
    )
    card = ModelCard(
        title="Change between two dates", data=(samples.source or f"{len(samples)} tiles",), licence=licence
    )
    run = Run(out=out, seed=seed, key=key, label="change", resume=resume, progress=progress)
    return fit_and_save(module, data, card, run, trained_on=(0,))


def detect_change(
    checkpoint: Path | Checkpoint, before: NDArray[np.uint8], after: NDArray[np.uint8], *, batch_size: int = 8
) -> NDArray[np.float32]:
    """Probability of change.

    Args:
        checkpoint: What `train_change` wrote, or as read.
        before: uint8 (N, 3, T, T).
        after: uint8 (N, 3, T, T) of the same ground.
        batch_size: Tiles per pass; the last batch is filled up.

    Returns:
        float32 (N, T, T), 0 to 1.

    Raises:
        CheckpointError: damaged or of another kind.
        ChangeError: the dates do not have one shape.
    """
    if before.shape != after.shape:
        raise ChangeError(f"before is {before.shape}, after {after.shape}: cut both dates on one grid")
    read = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint, kind=KIND)
    if read.config.kind != KIND:
        raise CheckpointError(f"{read.path} is a checkpoint of kind '{read.config.kind}', needed is '{KIND}'")
    model = ChangeDetector(SegmentationConfig.model_validate(read.config.model))
    read.load_into(model)
    model.eval().to(memory_format=torch.channels_last)
    parts = [np.zeros((0, *before.shape[2:]), np.float32)]
    for start in range(0, len(before), batch_size):
        cut = slice(start, start + batch_size)
        missing = batch_size - len(before[cut])
        pair = [np.concatenate([d[cut], np.zeros((missing, *d.shape[1:]), np.uint8)]) for d in (before, after)]
        with torch.inference_mode():
            old, new = (normalised(torch.from_numpy(d), read.config.mean, read.config.std) for d in pair)
            score = read.config.calibration.calibrated(model.compare(old, new)).softmax(1)[:, 1]
        parts.append(score[: batch_size - missing].numpy())
    return np.concatenate(parts)
