"""Train a segmentation model on labelled tiles, from scratch or from a pretrained encoder."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.calibration import Calibration
from models.checkpoints import (
    CheckpointConfig,
    ModelCard,
    save_checkpoint,
)
from models.geolink.text import HashedTagEncoder, TagTextEncoder, tag_set_embeddings
from models.segmentation.calibration import CalibrationOutcome, CalibrationSample, CalibrationSampler, calibrate
from models.segmentation.config import SegmentationConfig
from models.segmentation.encoder_start import load_encoder
from models.segmentation.loss import DiceCrossEntropy, LossConfig
from models.segmentation.metrics import FigureKeeper
from models.segmentation.model import GeoLinkSegmenter
from models.tiles.augmentation import AugmentationConfig
from models.tiles.batches import Batch, BatchMaker, normalised
from models.tiles.samples import IGNORE, share_tables
from models.tiles.semantics import tag_encoder_id, with_semantic_width
from models.tiles.sharded import Samples
from models.tiles.shards import SampleError
from models.training import (
    BalancedOrder,
    BatchData,
    Run,
    TrainingConfig,
    TrainingModule,
    checked_loss,
    fit,
    forget_state,
    key_of_run,
    run_device,
)

KIND = "segmentation"
CHECKPOINT_NAME = "checkpoint"


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a training gives.

    Attributes:
        checkpoint: Folder of the checkpoint.
        digest: Its digest.
        figures: Figures on the validation samples at the end (``iou``, ``f1``, ``precision``, ``recall`` of the
            second class of two; per class and ``miou`` for more), empty without validation; ``iou_before`` (or
            ``miou_before``) without the calibration; ``temperature``, ``bias``, ``ece_before``, ``ece``.
        steps: Optimiser steps that were made.
        seconds: Time that the training took, this process only.
        calibrated: The calibration and reliability before and after it; None without validation.
    """

    checkpoint: Path
    digest: str
    figures: dict[str, float]
    steps: int
    seconds: float
    calibrated: CalibrationOutcome | None = None


class SegmentationTraining(TrainingModule):
    """Segmentation for Lightning."""

    semantics: Tensor

    def __init__(
        self,
        model: GeoLinkSegmenter,
        config: TrainingConfig,
        *,
        checkpoint: CheckpointConfig,
        semantics: Tensor,
        total_steps: int,
        loss: LossConfig | None = None,
    ) -> None:
        super().__init__(model, config, total_steps=total_steps)
        self.checkpoint = checkpoint
        self.loss = DiceCrossEntropy(len(checkpoint.classes), loss)
        self.keeper = FigureKeeper(checkpoint.classes)
        self.register_buffer("semantics", semantics, persistent=False)

    def logits(self, batch: Batch) -> Tensor:
        """Logits (B, classes, T, T) of a batch."""
        x = normalised(batch.images, self.checkpoint.mean, self.checkpoint.std)
        out: Tensor = self.model(x, batch.graphs, self.semantics)
        return out

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch."""
        del batch_idx
        losses = self.loss(self.logits(batch), batch.labels)
        total = checked_loss(losses)
        self.log_dict({"loss": total, **losses}, batch_size=len(batch))
        return total

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect predictions."""
        del batch_idx
        self.keeper.update(self.logits(batch), batch.labels)

    def on_validation_epoch_end(self) -> None:
        """Log the figures."""
        self.log_dict(self.keeper.result())


def train_segmenter(  # noqa: PLR0913 -- data, sizes, schedule and switches of one training, each with a default
    samples: Samples,
    validation: Samples | None,
    config: SegmentationConfig,
    *,
    out: Path,
    training: TrainingConfig | None = None,
    augmentation: AugmentationConfig | None = None,
    loss: LossConfig | None = None,
    balance: bool = False,
    text_encoder: TagTextEncoder | None = None,
    classes: Sequence[str] = ("other", "urban_village"),
    seed: int = 0,
    pretrained: Path | None = None,
    resume: bool = True,
    title: str = "Urban village segmentation",
    licence: str = "not stated",
    progress: bool = True,
) -> TrainResult:
    """Train a segmentation model and write its checkpoint.

    The same samples, configuration and seed give the same weights on the CPU, also when the run was killed and
    started again (unless ``training.max_seconds`` is set).

    Args:
        samples: Training tiles, in memory or on disk.
        validation: Tiles for figures, early stopping and calibration; None goes without.
        config: Size of the model; its ``classes`` must fit.
        out: Folder: ``checkpoint/`` is the result, ``log/`` the CSV log.
        training: How to optimise; None takes the defaults.
        augmentation: How to vary the samples; None takes the defaults.
        loss: What is minimised; None takes the defaults.
        balance: Every place gives as many tiles to an epoch, however many it has.
        text_encoder: Embeds tags; None takes the hashed one, which needs no weights. The model takes its width.
        classes: Names of the classes.
        seed: Seed of weights, order and augmentation.
        pretrained: Checkpoint whose encoder is the start, of the same encoder configuration.
        resume: Continue an interrupted run of equal samples and configuration.
        title: Title of the model card.
        licence: Licence of the weights, for the model card.
        progress: Show one progress bar.

    Raises:
        SampleError: labels outside the classes, or nothing labelled.
        CheckpointError: ``pretrained`` does not fit.
        TrainingError: the loss is not finite.
    """
    training = training or TrainingConfig()
    augmentation = augmentation or AugmentationConfig()
    loss = loss or LossConfig()
    check_samples(samples, config, tuple(classes), "training")
    if validation is not None:
        check_samples(validation, config, tuple(classes), "validation")
    encoder = text_encoder or HashedTagEncoder(width=config.encoder.semantic_width)
    config = config.model_copy(update={"encoder": with_semantic_width(config.encoder, encoder.width)})
    checkpoint = CheckpointConfig(
        kind=KIND,
        model=config.model_dump(mode="json"),
        tile_px=samples.tile_px,
        resolution_m=samples.resolution_m,
        classes=tuple(classes),
        tag_encoder=tag_encoder_id(encoder),
    )
    both: list[Samples] = [samples, *([validation] if validation is not None else [])]
    samples, *others = share_tables(both)
    validation = others[0] if others else None
    semantics = torch.as_tensor(np.asarray(tag_set_embeddings(samples.tag_sets, encoder)), dtype=torch.float32)
    data = BatchData(
        size=len(samples),
        config=training,
        seed=seed,
        make=BatchMaker(samples, config.encoder, augmentation),
        validation_size=len(validation) if validation is not None else 0,
        make_validation=BatchMaker(validation, config.encoder) if validation is not None else None,
        order=BalancedOrder(samples.place) if balance else None,
    )
    torch.manual_seed(seed)
    model = GeoLinkSegmenter(config).to(memory_format=torch.channels_last)
    start = ""
    if pretrained is not None:
        start = load_encoder(model.encoder, pretrained, tag_encoder=checkpoint.tag_encoder)
    module = SegmentationTraining(
        model, training, checkpoint=checkpoint, semantics=semantics, total_steps=data.total_steps, loss=loss
    )
    key = key_of_run(
        checkpoint.to_json(),
        training.model_dump(),
        vars(augmentation),
        loss.model_dump(),
        balance,
        seed,
        start,
        *samples.content,
        *(validation.content if validation is not None else ()),
    )
    told = (
        samples.source,
        f"{len(samples)} training tiles",
        f"start: {start or 'random'}",
        _judged_on(samples, validation),
    )
    card = ModelCard(title=title, data=tuple(line for line in told if line), licence=licence)
    run = Run(out=out, seed=seed, key=key, label="training", resume=resume, progress=progress)
    return fit_and_save(module, data, card, run, trained_on=set(samples.place.tolist()))


def fit_and_save(
    module: SegmentationTraining, data: BatchData, card: ModelCard, run: Run, *, trained_on: Collection[int] = ()
) -> TrainResult:
    """Train, measure and calibrate on the validation tiles, and write the checkpoint.

    Args:
        module: Model, loss and schedule.
        data: Batches.
        card: Model card without figures.
        run: Folder of checkpoint and log, seed, and whether an interrupted run of the same key goes on.
        trained_on: Places of the training tiles: others calibrate where there are some, by slope and bias.

    Raises:
        TrainingError: the loss is not finite.
    """
    started = time.monotonic()
    checkpoint = module.checkpoint
    validated = data.make_validation is not None
    figure = ("iou" if len(checkpoint.classes) == 2 else "miou") if validated else None
    fit(module, data, run, figure=figure)
    figures: dict[str, float] = {}
    outcome = None
    if validated:
        raw, sample = _final_figures(module, data)
        outcome = calibrate(sample, trained_on=trained_on)
        checkpoint = replace(checkpoint, calibration=outcome.calibration)
        figures, _ = _final_figures(module, data, outcome.calibration)
        figures |= {f"{figure}_before": raw[str(figure)], **outcome.figures}
        card = replace(card, notes="\n\n".join(part for part in (card.notes, outcome.to_markdown()) if part))
    written = save_checkpoint(
        run.out / CHECKPOINT_NAME,
        weights=module.model.state_dict(),
        config=checkpoint,
        card=replace(card, figures=figures),
    )
    forget_state(run.out)
    return TrainResult(
        checkpoint=run.out / CHECKPOINT_NAME,
        digest=written.digest,
        figures=figures,
        steps=module.global_step,
        seconds=time.monotonic() - started,
        calibrated=outcome,
    )


def _final_figures(
    module: SegmentationTraining, data: BatchData, calibration: Calibration | None = None
) -> tuple[dict[str, float], CalibrationSample]:
    """Figures of the final weights, and a sample of the logits before ``calibration``."""
    device = run_device(module.config)
    module.to(device).eval()
    module.keeper.metrics.reset()
    sampler = CalibrationSampler(data.validation_size, module.checkpoint.tile_px)
    with torch.inference_mode():
        for batch in data.val_dataloader():
            here = module.transfer_batch_to_device(batch, device, 0)
            out = module.logits(here).float()
            module.keeper.update(out if calibration is None else calibration.calibrated(out), here.labels)
            sampler.add(out, here.labels, here.place)
    return module.keeper.result(), sampler.sample()


def _judged_on(samples: Samples, validation: Samples | None) -> str:
    """For the card: where the validation tiles are from, and whether training knows the place."""
    if validation is None:
        return ""
    known, found = ({s.places[k] for k in set(s.place.tolist())} for s in (samples, validation))
    seen = sorted(known & found)
    return f"validated on {'; '.join(sorted(found))}" + (f"; training has tiles of {'; '.join(seen)}" if seen else "")


def check_samples(samples: Samples, config: SegmentationConfig, classes: tuple[str, ...], what: str) -> None:
    """Refuse samples that a model cannot learn from.

    Raises:
        SampleError: names what does not fit.
    """
    if len(classes) != config.classes:
        raise SampleError(f"{len(classes)} class names for a model of {config.classes} classes: name each class once")
    if samples.tile_px % config.encoder.patch_px or samples.tile_px < 2 * config.encoder.patch_px:
        raise SampleError(
            f"{what} tiles are {samples.tile_px} px, the model needs a multiple of {config.encoder.patch_px} px: "
            "cut tiles of another size"
        )
    present = samples.label_values
    known = present[present != IGNORE]
    if not len(known):
        raise SampleError(f"the {what} samples have no labelled pixel: check that labels and imagery overlap")
    if known[-1] >= config.classes:
        raise SampleError(
            f"the {what} samples have label {known[-1]}, the model knows {config.classes} classes: "
            f"set labels without a class to {IGNORE}"
        )
