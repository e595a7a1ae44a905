"""Train the classifier of a frozen pyramid, calibrated across places.

Features are made once, so a training costs little more than one look at every tile, and can be repeated: each place
is left out in turn, and what the others make of it calibrates the model that learns from all (leave one place out).
In every step each place is standardised by the statistics of some of its tiles, mostly those with few villages: the
share of villages, which shifts the statistics, then differs from step to step, as it will from city to city.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from models.calibration import Calibration
from models.checkpoints import CheckpointConfig, ModelCard, save_checkpoint
from models.encoders.rise import scene_rise, village_direction
from models.geolink.text import HashedTagEncoder, TagTextEncoder
from models.segmentation.calibration import CalibrationSample, calibrate
from models.segmentation.config import SegmentationConfig
from models.segmentation.head_data import PlaceFeatures, place_features
from models.segmentation.head_figures import head_figures
from models.segmentation.map_training import MapTraining, learn_map, mapped_places, tag_table
from models.segmentation.pyramid_model import PyramidSegmenter, smoothed
from models.segmentation.self_training import SelfTraining, SureAnswers, sure_answers
from models.segmentation.trainer import CHECKPOINT_NAME, KIND, TrainResult, check_samples
from models.tiles.semantics import tag_encoder_id
from models.tiles.sharded import Samples

DECISION = 0.475
"""Score at which the best threshold of the left-out places comes to lie: the middle of the default thresholds."""
MOST_SHIFT = 0.75
"""Largest change of the log-odds that this may take."""
LEAST_TILES = 4
"""Statistics of a step are taken over at least so many tiles."""


class HeadTraining(BaseModel):
    """How the classifier is optimised.

    Attributes:
        steps: Optimiser steps.
        cells: Cells per step, in equal parts from every place.
        learning_rate: Peak of the one-cycle schedule (Smith and Topin 2019).
        few_villages: Share of steps in which a place's statistics come from its tiles with the fewest villages; in the
            others they come from those with the most.
        some_tiles: Take the statistics of a step from some of a place's tiles; always from all of them otherwise.
        map: How what the map adds is learnt, where training and validation have one.
        self_training: What is taken for a label on a target without labels, where one is given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=300, gt=0)
    cells: int = Field(default=2048, gt=0)
    learning_rate: float = Field(default=5e-3, gt=0)
    few_villages: float = Field(default=0.7, ge=0, le=1)
    some_tiles: bool = True
    map: MapTraining = MapTraining()
    self_training: SelfTraining = SelfTraining()


def train_head(  # noqa: PLR0913 -- data, model, schedule and words of one training, each with a default
    samples: Samples,
    validation: Samples | None,
    config: SegmentationConfig,
    *,
    out: Path,
    weights: str | Path,
    target: Samples | None = None,
    training: HeadTraining | None = None,
    classes: Sequence[str] = ("other", "urban_village"),
    text_encoder: TagTextEncoder | None = None,
    seed: int = 0,
    title: str = "Urban village segmentation",
    licence: str = "not stated",
    progress: Callable[[Iterable[Any]], Iterable[Any]] | None = None,
) -> TrainResult:
    """Train on what the images show, and on what the map adds where there is one, and write the checkpoint.

    The same samples, configuration and seed give the same weights on the CPU.

    Args:
        samples: Training tiles.
        validation: Tiles for figures, and for the calibration where all training tiles are of one place.
        config: The model; its encoder is a frozen pyramid.
        out: Folder that receives ``checkpoint/``.
        weights: ``imagenet`` or a file with the backbone's weights.
        target: Tiles of ground that is to be mapped, for self-training (`models.segmentation.self_training`): labels 0
            where there is data, else `IGNORE`; what they say otherwise is not read.
        training: How to optimise; None takes the defaults.
        classes: Names of the classes.
        text_encoder: Text model of the map's tags; None takes the hashed one.
        seed: Seed of order, noise and choice.
        title: Title of the model card.
        licence: Licence of the trained weights, for the model card.
        progress: Wraps what takes long; None for silence.

    Raises:
        SampleError: labels outside the classes, or nothing labelled.
        BackboneWeightsError: the weights are missing or of another backbone.
    """
    started = time.monotonic()
    training, show = training or HeadTraining(), progress or iter
    check_samples(samples, config, tuple(classes), "training")
    torch.manual_seed(seed)  # what joins the map starts at random
    model = PyramidSegmenter(config).eval()
    record = model.encoder.load_weights(weights)
    checkpoint = CheckpointConfig(
        kind=KIND,
        model=config.model_dump(mode="json"),
        tile_px=samples.tile_px,
        resolution_m=samples.resolution_m,
        classes=tuple(classes),
    )
    places = place_features(samples, model, checkpoint, seed=seed, progress=show)
    held_out = held_out_sample(places, config, training, seed) if len(places) > 1 else None
    head = fit_head(places, config, training, seed)
    _take(model, head, places)
    bank = {p.name: p.moments.pooled() for p in places}
    answers = None
    if target is not None:
        (unlabelled,) = place_features(target, model, checkpoint, seed=seed, progress=show)
        answers = _learn_target(model, head, (places, unlabelled), held_out, training=training, seed=seed)
    figures: dict[str, float] = answers.figures if answers else {}
    maps: dict[str, float] = {}
    notes: list[str] = [answers.describe(training.self_training)] if answers else []
    if validation is not None:
        check_samples(validation, config, tuple(classes), "validation")
        seen = place_features(validation, model, checkpoint, seed=seed, progress=show)
        bank = {p.name: p.moments.pooled() for p in seen} | bank
        raw, sample = head_figures(model, validation, checkpoint, bank, calibration=Calibration())
        outcome = calibrate(held_out or sample, trained_on=_trained_on(validation, samples) if held_out is None else ())
        checkpoint = replace(checkpoint, calibration=decided(outcome.calibration, held_out))
        tags = text_encoder or HashedTagEncoder(width=config.encoder.semantic_width)
        learnt, judged = (mapped_places(*of, bank, tags) for of in ((places, samples), (seen, validation)))
        if learnt and judged:
            gain = learn_map(model, learnt, judged, checkpoint.calibration, training=training.map, seed=seed)
            maps = gain.figures
            notes.append(gain.describe())
            if gain.pays:
                checkpoint = replace(checkpoint, tag_encoder=tag_encoder_id(tags))
        semantics = tag_table(validation.tag_sets, tags) if checkpoint.tag_encoder else None
        fitted = checkpoint.calibration
        judged_by, _ = head_figures(model, validation, checkpoint, bank, calibration=fitted, semantics=semantics)
        name = "iou" if len(classes) == 2 else "miou"
        figures |= judged_by | {f"{name}_before": raw[name], **outcome.figures, **maps}
        notes.append(outcome.to_markdown())
    elif held_out is not None:
        outcome = calibrate(held_out)
        checkpoint = replace(checkpoint, calibration=decided(outcome.calibration, held_out))
        figures |= outcome.figures
        notes.append(outcome.to_markdown())
    notes.append(
        "Scores are standardised by the statistics of each scene (stage `adapt`). "
        + (
            f"Calibrated on {len(places)} places, each left out in turn."
            if held_out
            else "Calibrated on held-out tiles."
        )
    )
    without_labels = f"{target.source}: {len(target)} tiles without labels (self-training)" if target else ""
    card = ModelCard(
        title=title,
        data=tuple(
            s for s in (samples.source, f"{len(samples)} training tiles", without_labels, record.describe()) if s
        ),
        licence=licence,
        figures=figures,
        notes="\n\n".join(notes),
    )
    written = save_checkpoint(out / CHECKPOINT_NAME, weights=model.state_dict(), config=checkpoint, card=card)
    return TrainResult(
        checkpoint=out / CHECKPOINT_NAME,
        digest=written.digest,
        figures=figures,
        steps=training.steps,
        seconds=time.monotonic() - started,
    )


def _trained_on(validation: Samples, samples: Samples) -> Collection[int]:
    """Rows of the validation's places that are places of the training."""
    known = {samples.places[k] for k in np.unique(samples.place)}
    return {k for k, name in enumerate(validation.places) if name in known}


def fit_head(
    places: Sequence[PlaceFeatures], config: SegmentationConfig, training: HeadTraining, seed: int
) -> nn.Linear:
    """The classifier of standardised cells."""
    generator = torch.Generator().manual_seed(seed)
    cells = [p.features.permute(0, 2, 3, 1)[p.known] for p in places]
    targets = [p.labels.permute(0, 2, 3, 1)[p.known] for p in places]
    head = nn.Linear(cells[0].shape[1], config.classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimiser = torch.optim.AdamW(head.parameters(), lr=training.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, training.learning_rate, total_steps=max(training.steps, 2)
    )
    total = sum(p.weight for p in places)
    each = [max(1, int(training.cells * p.weight / total)) for p in places]
    for _ in range(training.steps):
        drawn, wanted = [], []
        for place, x, y, count in zip(places, cells, targets, each, strict=True):
            mean, std = place.moments.at(_some_tiles(place, training, generator)).pooled()
            row = torch.randint(len(x), (count,), generator=generator)
            drawn.append((x[row].float() - torch.from_numpy(mean)) / torch.from_numpy(std))
            wanted.append(y[row])
        batch = torch.cat(drawn)
        batch = batch + config.feature_noise * torch.randn(batch.shape, generator=generator)
        if config.dropout:
            kept = torch.rand(batch.shape, generator=generator) >= config.dropout
            batch = batch * kept / (1 - config.dropout)
        loss = functional.cross_entropy(head(batch), torch.cat(wanted))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return head


def _some_tiles(place: PlaceFeatures, training: HeadTraining, generator: torch.Generator) -> NDArray[np.int64]:
    """Tiles of a place for the statistics of one step: a random number of those with the fewest or most villages."""
    number = len(place.moments)
    if not training.some_tiles:
        return np.flatnonzero(place.moments.count > 0)
    few, size = torch.rand(2, generator=generator).tolist()
    count = max(min(LEAST_TILES, number), int(number * (0.1 + 0.9 * size)))
    share = torch.from_numpy(place.share) + 0.05 * torch.rand(number, generator=generator, dtype=torch.float64)
    order = torch.argsort(share)
    chosen = order[:count] if few < training.few_villages else order[-count:]
    chosen = chosen[torch.from_numpy(place.moments.count)[chosen] > 0]
    return (chosen if len(chosen) else torch.from_numpy(np.flatnonzero(place.moments.count > 0))).numpy()


def held_out_sample(
    places: Sequence[PlaceFeatures], config: SegmentationConfig, training: HeadTraining, seed: int
) -> CalibrationSample | None:
    """What models of the other places make of each place; None where none of them shows two classes."""
    parts = []
    for k, place in enumerate(places):
        head = fit_head([p for p in places if p is not place], config, training, seed)
        logits = place_logits(place, head, config)
        label = place.labels.argmax(1)[place.known]
        parts.append((logits.permute(0, 2, 3, 1)[place.known], label, torch.full((len(label),), k)))
    logits, labels, owner = (torch.cat(part) for part in zip(*parts, strict=True))
    if len(np.unique(labels.numpy())) < 2:
        return None
    return CalibrationSample(logits=logits.numpy(), labels=labels.numpy(), place=owner.numpy())


def decided(calibration: Calibration, sample: CalibrationSample | None) -> Calibration:
    """The calibration, its level moved so that the best decision on left-out places is one at `DECISION`.

    The threshold with the best overlap lies below one half wherever a class is hard to tell (it is half of the best F1:
    Lipton, Elkan and Naryanaswamy 2014, Optimal Thresholding of Classifiers to Maximize F1 Measure). Maps are made with
    one pair of thresholds, so the scores move instead, by `MOST_SHIFT` at most; the probabilities pay for it.

    Args:
        calibration: Fitted on ``sample``, of two classes with biases; others are returned as they are.
        sample: Pixels of places that were left out in turn; None changes nothing.
    """
    if sample is None or sample.logits.shape[1] != 2 or len(calibration.bias) != 2:
        return calibration
    margin = (sample.logits[:, 1] - sample.logits[:, 0]) / calibration.temperature
    score = 1 / (1 + np.exp(-(margin + calibration.bias[1] - calibration.bias[0])))
    thresholds = np.arange(0.05, 0.96, 0.01)
    overlap = np.zeros(len(thresholds))
    for place in np.unique(sample.place):
        own, truth = score[sample.place == place], sample.labels[sample.place == place] == 1
        if truth.any():
            chosen = own[:, None] >= thresholds
            overlap += (chosen & truth[:, None]).sum(0) / (chosen | truth[:, None]).sum(0)
    best = float(thresholds[int(overlap.argmax())])
    shift = float(np.clip(np.log(DECISION / (1 - DECISION)) - np.log(best / (1 - best)), -MOST_SHIFT, MOST_SHIFT))
    return replace(calibration, bias=(calibration.bias[0], calibration.bias[1] + shift))


@torch.no_grad()
def place_logits(
    place: PlaceFeatures,
    head: nn.Linear,
    config: SegmentationConfig,
    statistics: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
) -> Tensor:
    """Logits (N, classes, h, w) of a place, smoothed; standardised by its own statistics unless others are given."""
    mean, std = (torch.from_numpy(v).view(1, -1, 1, 1) for v in statistics or place.moments.pooled())
    weight, bias = head.weight[:, :, None, None], head.bias
    parts = torch.split(place.features, 32)
    logits = torch.cat([functional.conv2d((f.float() - mean) / std, weight, bias) for f in parts])
    return smoothed(logits, config.smooth_cells)


def _learn_target(
    model: PyramidSegmenter,
    head: nn.Linear,
    ground: tuple[Sequence[PlaceFeatures], PlaceFeatures],
    held_out: CalibrationSample | None,
    *,
    training: HeadTraining,
    seed: int,
) -> SureAnswers:
    """Train once more with what the classifier of the labelled places, calibrated by them, is sure of on a target."""
    places, target = ground
    fitted = Calibration() if held_out is None else decided(calibrate(held_out).calibration, held_out)
    source = (model.encoder.source_mean.numpy(), model.encoder.source_std.numpy())
    direction = village_direction(head.weight.detach().numpy(), fitted.temperature)
    answers = sure_answers(
        target,
        place_logits(target, head, model.config),
        fitted,
        rise=scene_rise(target.moments.pooled()[0], *source, direction),
        source_share=float(model.source_share),
        how=training.self_training,
    )
    if answers.place is not None:
        _take(model, fit_head([*places, answers.place], model.config, training, seed), places)
    return answers


@torch.no_grad()
def _take(model: PyramidSegmenter, head: nn.Linear, places: Sequence[PlaceFeatures]) -> None:
    """Put the classifier into the model, with the statistics and share that places have on average."""
    model.classifier.weight.copy_(head.weight[:, :, None, None])
    if model.classifier.bias is not None:
        model.classifier.bias.copy_(head.bias)
    pooled = [p.moments.pooled() for p in places]
    model.encoder.source_mean.copy_(torch.from_numpy(np.mean([m for m, _ in pooled], axis=0)))
    model.encoder.source_std.copy_(torch.from_numpy(np.sqrt(np.mean([s * s for _, s in pooled], axis=0))))
    shares = [float(p.labels[:, 1][p.known].mean()) for p in places]
    model.source_share.fill_(float(np.clip(np.mean(shares), 0.01, 0.99)))
