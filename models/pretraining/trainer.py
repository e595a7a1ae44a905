"""Pretrain a GeoLink encoder on pairs of image and map."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.checkpoints import CheckpointConfig, ModelCard, save_checkpoint
from models.geolink.config import GeoLinkConfig
from models.geolink.graph import TileGraphs
from models.geolink.masking import PretrainingMasks, draw_masks
from models.geolink.packing import PackedGraphs
from models.geolink.pretraining import GeoLinkPretraining, LossWeights, PretrainingLosses
from models.geolink.text import HashedTagEncoder, TagTextEncoder, tag_set_embeddings
from models.pretraining.augmentation import PairAugmentation, augment_pair, cropped_image
from models.pretraining.pairs import MANIFEST_NAME, PairSet
from models.tiles.batches import normalised, packed_or_none
from models.tiles.crops import Crop
from models.tiles.semantics import tag_encoder_id, with_semantic_width
from models.training import (
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

KIND = "pretraining"
CHECKPOINT_NAME = "checkpoint"
EVALUATION_TILES = 64
"""Pairs that the losses before and after are measured on, with fixed masks and without augmentation."""

PRETRAINING = TrainingConfig(
    batch_size=32, epochs=60, learning_rate=1.5e-3, warmup=0.1, weight_decay=0.05, final_share=0.0
)
"""Epochs as published; rate, warm-up and decay, which are not, as for masked autoencoders (He et al. 2022)."""

PairBatch = tuple[Tensor, PackedGraphs | None]


@dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """What a pretraining gives.

    Attributes:
        checkpoint: Folder of the checkpoint: kind ``pretraining``, the encoder under ``encoder.``.
        digest: Its digest.
        before: Losses at the start by name (``loss``, ``reconstruction``, ``contrastive``, ``consistency``), on
            the same pairs and masks as ``after``.
        after: Losses at the end.
        steps: Optimiser steps.
        seconds: Time taken, this process only.
    """

    checkpoint: Path
    digest: str
    before: dict[str, float]
    after: dict[str, float]
    steps: int
    seconds: float


@dataclass(frozen=True)
class PairBatches:
    """Puts batches of pairs together.

    Attributes:
        pairs: The data.
        encoder: Configuration of the encoder.
        augmentation: How to vary; None takes whole tiles, resized.
    """

    pairs: PairSet
    encoder: GeoLinkConfig
    augmentation: PairAugmentation | None

    def __call__(self, index: NDArray[np.int64], rng: np.random.Generator) -> PairBatch:
        """The batch of the pairs at ``index``: images uint8 (B, 3, T, T) and their graphs."""
        images, graphs = [], []
        side = self.encoder.image_px
        for k in index:
            image, graph = self.pairs[int(k)]
            if self.augmentation is None:
                image, _ = cropped_image(image, Crop(left=0, top=0, width=1, height=1), side)
            else:
                image, graph = augment_pair(image, graph, side_px=side, config=self.augmentation, rng=rng)
            images.append(image)
            graphs.append(graph)
        return torch.from_numpy(np.stack(images)), packed_or_none(TileGraphs.concat(graphs), self.encoder)


class PretrainingTraining(TrainingModule):
    """Pretraining for Lightning; masks are drawn by (seed, step, rank)."""

    semantics: Tensor

    def __init__(
        self,
        model: GeoLinkPretraining,
        config: TrainingConfig,
        *,
        checkpoint: CheckpointConfig,
        semantics: Tensor,
        weights: LossWeights,
        seed: int,
        total_steps: int,
    ) -> None:
        super().__init__(model, config, total_steps=total_steps)
        self.checkpoint, self.weights, self.seed = checkpoint, weights, seed
        self.register_buffer("semantics", semantics, persistent=False)

    def losses(self, batch: PairBatch, *, mask_seed: int) -> PretrainingLosses:
        """The losses of a batch with the masks of ``mask_seed``."""
        images, graphs = batch
        masks = self.masks(len(images), graphs, mask_seed)
        x = normalised(images, self.checkpoint.mean, self.checkpoint.std)
        out: PretrainingLosses = self.model(x, graphs, self.semantics, masks, weights=self.weights)
        return out

    def masks(self, n_tiles: int, graphs: PackedGraphs | None, mask_seed: int) -> PretrainingMasks:
        """What is hidden in a batch."""
        generator = torch.Generator(self.semantics.device).manual_seed(mask_seed)
        encoder: GeoLinkConfig = self.model.config  # type: ignore[assignment]
        return draw_masks(n_tiles, encoder.grid**2, graphs, generator=generator)

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """Loss of a batch."""
        step = self.current_epoch * 1_000_003 + batch_idx
        mask_seed = int(np.random.SeedSequence([self.seed, step, self.global_rank]).generate_state(1)[0])
        found = self.losses(batch, mask_seed=mask_seed)
        parts = {
            "reconstruction": found.reconstruction,
            "contrastive": found.contrastive,
            "consistency": found.consistency,
        }
        self.log_dict({"loss": found.total, **parts}, batch_size=len(batch[0]))
        checked_loss(parts)
        return found.total


def pretrain(  # noqa: PLR0913 -- data, sizes, schedule and switches of one training, each with a default
    pairs: PairSet | Path,
    encoder: GeoLinkConfig,
    *,
    out: Path,
    training: TrainingConfig | None = None,
    augmentation: PairAugmentation | None = None,
    weights: LossWeights | None = None,
    text_encoder: TagTextEncoder | None = None,
    seed: int = 0,
    resume: bool = True,
    title: str = "GeoLink pretraining",
    licence: str = "not stated",
    progress: bool = True,
) -> PretrainResult:
    """Pretrain an encoder and write its checkpoint.

    The same pairs, configuration and seed give the same weights on the CPU, also when the run was killed and
    started again. With ``training.devices`` above 1 Lightning starts a process per device; negatives are gathered
    over all of them.

    Args:
        pairs: The data, or their folder.
        encoder: The encoder; tiles are resized to its ``image_px``, its ``semantic_width`` is that of the tag vectors.
        out: Folder: ``checkpoint/`` is the result, ``log/`` the CSV log.
        training: How to optimise; None takes `PRETRAINING`.
        augmentation: How to vary; None takes the published way.
        weights: Of the losses; None takes the published ones (1, 0.01, 0.01; temperature 0.2).
        text_encoder: Embeds tags; None takes the hashed one, which needs no weights.
        seed: Seed of weights, order, augmentation and masks.
        resume: Continue an interrupted run of equal data and configuration.
        title: Title of the model card.
        licence: Licence of the weights, for the model card.
        progress: Show one progress bar.

    Raises:
        SampleError: the pairs cannot be read.
        TrainingError: the loss is not finite.
    """
    started = time.monotonic()
    pairs = PairSet(pairs) if isinstance(pairs, Path) else pairs
    training = training or PRETRAINING
    augmentation = augmentation or PairAugmentation()
    weights = weights or LossWeights()
    text = text_encoder or HashedTagEncoder(width=encoder.semantic_width)
    encoder = with_semantic_width(encoder, text.width)
    checkpoint = CheckpointConfig(
        kind=KIND,
        model={"encoder": encoder.model_dump(mode="json")},
        tile_px=encoder.image_px,
        classes=(),
        tag_encoder=tag_encoder_id(text),
    )
    semantics = torch.as_tensor(np.asarray(tag_set_embeddings(pairs.tag_sets, text)), dtype=torch.float32)
    data = BatchData(
        size=len(pairs),
        config=training,
        seed=seed,
        make=PairBatches(pairs, encoder, augmentation),
        order=pairs.order,
    )
    torch.manual_seed(seed)
    model = GeoLinkPretraining(encoder)
    module = PretrainingTraining(
        model,
        training,
        checkpoint=checkpoint,
        semantics=semantics,
        weights=weights,
        seed=seed,
        total_steps=data.total_steps,
    )
    before = _evaluated(module, pairs)
    manifest = (pairs.folder / MANIFEST_NAME).read_text(encoding="utf-8")
    key = key_of_run(
        checkpoint.to_json(), training.model_dump(), vars(augmentation), vars(weights), seed, manifest, before
    )
    fit(module, data, Run(out=out, seed=seed, key=key, label="pretraining", resume=resume, progress=progress))
    after = _evaluated(module, pairs)
    figures = {
        f"{name}_{when}": v for when, found in (("before", before), ("after", after)) for name, v in found.items()
    }
    card = ModelCard(
        title=title,
        data=tuple(s for s in (pairs.source, f"{len(pairs)} pairs") if s),
        licence=licence,
        figures=figures,
        notes="An encoder to start from; it segments nothing by itself.",
    )
    written = save_checkpoint(out / CHECKPOINT_NAME, weights=model.state_dict(), config=checkpoint, card=card)
    forget_state(out)
    return PretrainResult(
        checkpoint=out / CHECKPOINT_NAME,
        digest=written.digest,
        before=before,
        after=after,
        steps=module.global_step,
        seconds=time.monotonic() - started,
    )


def _evaluated(module: PretrainingTraining, pairs: PairSet) -> dict[str, float]:
    """Mean losses over the first `EVALUATION_TILES` pairs, in batches of 16, with fixed masks."""
    device = run_device(module.config)
    module.to(device).eval()
    make = PairBatches(pairs, module.model.config, None)  # type: ignore[arg-type]
    tiles = np.arange(min(EVALUATION_TILES, len(pairs)))
    total: dict[str, float] = {}
    with torch.inference_mode():
        for start in range(0, len(tiles), 16):
            part = tiles[start : start + 16]
            batch = module.transfer_batch_to_device(make(part, np.random.default_rng(0)), device, 0)
            found = module.losses(batch, mask_seed=start)
            values = {
                "loss": found.total,
                "reconstruction": found.reconstruction,
                "contrastive": found.contrastive,
                "consistency": found.consistency,
            }
            for name, value in values.items():
                total[name] = total.get(name, 0.0) + float(value) * len(part) / len(tiles)
    module.to("cpu").train()
    return total
