"""Scene classification by fine-tuning: one class per tile. What frozen encodings know: `models.tasks.probes`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.checkpoints import CheckpointConfig, ModelCard, save_checkpoint
from models.errors import ModelsError
from models.geolink.config import GeoLinkConfig
from models.geolink.encoder import GeoLinkEncoder
from models.geolink.graph import TileGraphs
from models.geolink.packing import PackedGraphs
from models.geolink.text import HashedTagEncoder, TagTextEncoder, tag_set_embeddings
from models.segmentation.encoder_start import load_encoder
from models.segmentation.trainer import CHECKPOINT_NAME, TrainResult
from models.tasks.probes import scene_figures
from models.tiles.augmentation import AugmentationConfig, augment
from models.tiles.batches import Batch, normalised, packed_or_none
from models.tiles.graphs import split_graphs
from models.tiles.semantics import tag_encoder_id
from models.tiles.shards import graph_arrays
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

KIND = "classification"


class SceneError(ModelsError):
    """Scenes and classes that do not fit each other."""


@dataclass(frozen=True, kw_only=True)
class SceneSet:
    """Tiles with one class each.

    Attributes:
        images: uint8 (N, 3, T, T).
        labels: int64 (N,), class of each tile.
        graphs: What the map shows of the tiles.
        tag_sets: The table that ``graphs.semantic_id`` points to.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    graphs: TileGraphs
    tag_sets: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not len(self.images) == len(self.labels) == self.graphs.n_tiles:
            raise SceneError(
                f"{len(self.images)} images, {len(self.labels)} labels and graphs of {self.graphs.n_tiles} tiles: "
                "give one of each per scene"
            )

    def __len__(self) -> int:
        return len(self.images)


class SceneClassifier(nn.Module):
    """Encoder, mean over patches, one linear map.

    Args:
        config: The encoder.
        classes: Number of classes.
    """

    def __init__(self, config: GeoLinkConfig, classes: int) -> None:
        super().__init__()
        self.encoder = GeoLinkEncoder(config)
        self.norm = nn.LayerNorm(config.fusion_width)
        self.head = nn.Linear(config.fusion_width, classes)

    def forward(self, images: Tensor, graphs: PackedGraphs | None, semantics: Tensor | None) -> Tensor:
        """Logits (B, classes) of images float32 (B, 3, T, T)."""
        last = self.encoder(images, graphs, semantics)[-1]
        out: Tensor = self.head(self.norm(last.mean((2, 3))))
        return out


@dataclass
class _SceneBatches:
    scenes: SceneSet
    encoder: GeoLinkConfig
    augmentation: AugmentationConfig | None

    def __post_init__(self) -> None:
        self._graphs = split_graphs(self.scenes.graphs)
        self._blank = np.zeros(self.scenes.images.shape[2:], np.uint8)

    def __call__(self, index: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        images = [self.scenes.images[k] for k in index]
        graphs = [self._graphs[k] for k in index]
        if self.augmentation is not None:
            for k, (image, graph) in enumerate(zip(images, graphs, strict=True)):
                images[k], _, graphs[k] = augment(image, self._blank, graph, config=self.augmentation, rng=rng)
        return Batch(
            images=torch.from_numpy(np.stack(images)),
            labels=torch.from_numpy(self.scenes.labels[index]),
            graphs=packed_or_none(TileGraphs.concat(graphs), self.encoder),
            place=torch.zeros(len(index), dtype=torch.int64),
        )


class _SceneTraining(TrainingModule):
    semantics: Tensor

    def __init__(
        self,
        model: SceneClassifier,
        config: TrainingConfig,
        *,
        checkpoint: CheckpointConfig,
        semantics: Tensor,
        total_steps: int,
    ) -> None:
        super().__init__(model, config, total_steps=total_steps)
        self.checkpoint = checkpoint
        self.register_buffer("semantics", semantics, persistent=False)
        self._seen: list[tuple[Tensor, Tensor]] = []

    def logits(self, batch: Batch) -> Tensor:
        x = normalised(batch.images, self.checkpoint.mean, self.checkpoint.std)
        out: Tensor = self.model(x, batch.graphs, self.semantics)
        return out

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        del batch_idx
        loss = checked_loss({"cross_entropy": functional.cross_entropy(self.logits(batch).float(), batch.labels)})
        self.log("loss", loss, batch_size=len(batch))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        del batch_idx
        self._seen.append((self.logits(batch).argmax(1).cpu(), batch.labels.cpu()))

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.figures())

    def figures(self) -> dict[str, float]:
        guess, truth = (torch.cat(part).numpy() for part in zip(*self._seen, strict=True))
        self._seen.clear()
        return scene_figures(guess, truth, classes=len(self.checkpoint.classes))


def fine_tune_classifier(  # noqa: PLR0913 -- data, sizes, schedule and switches of one training, each with a default
    scenes: SceneSet,
    validation: SceneSet,
    encoder: GeoLinkConfig,
    *,
    classes: Sequence[str],
    out: Path,
    training: TrainingConfig | None = None,
    augmentation: AugmentationConfig | None = None,
    text_encoder: TagTextEncoder | None = None,
    pretrained: Path | None = None,
    seed: int = 0,
    resume: bool = True,
    licence: str = "not stated",
    progress: bool = True,
) -> TrainResult:
    """Train a classifier of tiles, all weights included, and write its checkpoint.

    Args:
        scenes: Training tiles.
        validation: Tiles for the figures ``accuracy`` and ``f1``; with the same table of tag sets.
        encoder: The encoder.
        classes: Names of the classes.
        out: Folder of checkpoint and log.
        training: How to optimise.
        augmentation: How to vary the tiles.
        text_encoder: Embeds tags; None takes the hashed one.
        pretrained: Checkpoint whose encoder is the start.
        seed: Seed of weights, order and augmentation.
        resume: Continue an interrupted run of equal data and configuration.
        licence: Licence of the weights, for the model card.
        progress: Show one progress bar.

    Raises:
        SceneError: labels beyond the classes, or two tables of tag sets.
        CheckpointError: ``pretrained`` does not fit.
    """
    started = time.monotonic()
    training = training or TrainingConfig()
    augmentation = augmentation or AugmentationConfig(drop_nodata=0.0)
    highest = max(int(scenes.labels.max()), int(validation.labels.max()))
    if highest >= len(classes):
        raise SceneError(f"a scene has label {highest}, there are {len(classes)} classes: name each class")
    if scenes.tag_sets != validation.tag_sets:
        raise SceneError("training and validation scenes point to two tables of tag sets: build them with one")
    text = text_encoder or HashedTagEncoder(width=encoder.semantic_width)
    checkpoint = CheckpointConfig(
        kind=KIND,
        model={"encoder": encoder.model_dump(mode="json")},
        tile_px=int(scenes.images.shape[-1]),
        classes=tuple(classes),
        tag_encoder=tag_encoder_id(text),
    )
    torch.manual_seed(seed)
    model = SceneClassifier(encoder, len(classes))
    start = load_encoder(model.encoder, pretrained, tag_encoder=checkpoint.tag_encoder) if pretrained else ""
    data = BatchData(
        size=len(scenes),
        config=training,
        seed=seed,
        make=_SceneBatches(scenes, encoder, augmentation),
        validation_size=len(validation),
        make_validation=_SceneBatches(validation, encoder, None),
    )
    module = _SceneTraining(
        model,
        training,
        checkpoint=checkpoint,
        semantics=torch.as_tensor(np.asarray(tag_set_embeddings(scenes.tag_sets, text)), dtype=torch.float32),
        total_steps=data.total_steps,
    )
    content = [scenes.images, scenes.labels, scenes.tag_sets, *graph_arrays(scenes.graphs).values()]
    key = key_of_run(checkpoint.to_json(), training.model_dump(), vars(augmentation), seed, start, *content)
    run = Run(out=out, seed=seed, key=key, label="classification", resume=resume, progress=progress)
    fit(module, data, run, figure="accuracy")
    device = run_device(training)
    module.to(device).eval()
    with torch.inference_mode():
        for k, batch in enumerate(data.val_dataloader()):
            module.validation_step(module.transfer_batch_to_device(batch, device, 0), k)
    figures = module.figures()
    card = ModelCard(title="Scene classification", data=(f"{len(scenes)} scenes",), licence=licence, figures=figures)
    written = save_checkpoint(out / CHECKPOINT_NAME, weights=model.state_dict(), config=checkpoint, card=card)
    forget_state(out)
    return TrainResult(
        checkpoint=out / CHECKPOINT_NAME,
        digest=written.digest,
        figures=figures,
        steps=module.global_step,
        seconds=time.monotonic() - started,
    )
