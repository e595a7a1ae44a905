"""A trained segmentation model behind the protocol that mapping uses: uint8 tiles in, probabilities out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from models.checkpoints import (
    CONFIG_NAME,
    Checkpoint,
    CheckpointConfig,
    CheckpointError,
    first_problem,
    load_checkpoint,
)
from models.encoders.statistics import SceneStatistics
from models.errors import ModelsError
from models.geolink.config import GeoLinkConfigError
from models.geolink.graph import TileGraphs
from models.geolink.packing import PackedGraphs
from models.geolink.staging import StagedGraphs, staged
from models.geolink.text import TagTextEncoder
from models.segmentation.config import SegmentationConfig
from models.segmentation.device import DeviceMemoryError, default_batch, keep_weights_in
from models.segmentation.model import Segmenter, build_segmenter
from models.segmentation.pyramid_model import PyramidSegmenter
from models.tiles.batches import Normaliser, packed_or_none
from models.tiles.semantics import tag_semantics

KIND = "segmentation"


class PredictionError(ModelsError):
    """Tiles, graphs or a device that do not fit the predictor."""


class SegmentationPredictor:
    """Probabilities of a class for batches of tiles.

    The answer for a tile depends on that tile alone: on the CPU it is equal to the last bit whatever else is in the
    batch, since every batch is filled up to ``batch_size``.

    Attributes:
        tile_px: Side of a tile.
        bands: Number of bands.
        batch_size: Tiles per batch; more are refused, fewer are filled up.
        digest: Digest of all that decides an answer: weights, configuration, batch size, device and precision.
        uses_graphs: Whether graphs change the answer.
        resolution_m: Ground size of a pixel that the model was trained on, or None.
    """

    def __init__(
        self,
        model: Segmenter,
        config: CheckpointConfig,
        *,
        semantics: NDArray[np.float32],
        device: torch.device,
        batch_size: int,
        compiled: bool = False,
        scenes: SceneStatistics | None = None,
        few_shapes: bool | None = None,
    ) -> None:
        self.config = config
        self.device = device
        self.tile_px = config.tile_px
        self.bands = len(config.bands)
        self.batch_size = batch_size
        self.uses_graphs = config.tag_encoder is not None
        self.resolution_m = config.resolution_m
        self.few_shapes = (compiled or device.type == "cuda") if few_shapes is None else few_shapes
        self.model = model.to(device).to(memory_format=torch.channels_last).eval()
        if device.type == "cuda":
            keep_weights_in(self.model, torch.bfloat16)
        self._normalise = Normaliser(config.mean, config.std, device)
        self._encoder = model.config.encoder
        self._semantics = torch.as_tensor(semantics, dtype=torch.float32, device=device)
        self._forward: Callable[..., Any] = torch.compile(self.model) if compiled else self.model
        precision = "bfloat16" if device.type == "cuda" else "float32"
        content = [config.digest, str(batch_size), device.type, precision, str(compiled)]
        self._scenes = scenes if isinstance(model, PyramidSegmenter) else None
        if self._scenes is not None:
            content.append(self._scenes.digest)
        self.digest = hashlib.sha256("\n".join(content).encode()).hexdigest()

    @classmethod
    def load(
        cls,
        checkpoint: Path | Checkpoint,
        tag_sets: Sequence[dict[str, str]] = (),
        *,
        device: str | None = None,
        batch_size: int | None = 8,
        text_encoder: TagTextEncoder | None = None,
        compiled: bool = False,
        scenes: SceneStatistics | None = None,
    ) -> SegmentationPredictor:
        """Read a checkpoint and embed a city's tag sets.

        Args:
            checkpoint: Its folder, or as read.
            tag_sets: The city's table of tag sets, to which ``semantic_id`` points.
            device: Name of a torch device; None takes a GPU where there is one.
            batch_size: Tiles per batch; None for what the device holds (`models.segmentation.device`).
            text_encoder: The tag text encoder that the model was trained with; None takes the hashed one.
            compiled: Compile the model (worth it for many batches on a GPU).
            scenes: Statistics of the city's scenes, for a model that adapts; None uses those of its training.

        Raises:
            CheckpointError: damaged, of another kind, or trained with another tag text encoder.
            PredictionError: there is no such device.
        """
        read = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint, kind=KIND)
        model = segmenter_of(read)
        where = _device(device)
        width = model.config.encoder.semantic_width
        semantics = tag_semantics(read, tag_sets, width=width, text_encoder=text_encoder)
        return cls(
            model,
            read.config,
            semantics=semantics,
            device=where,
            batch_size=batch_size or default_batch(where),
            compiled=compiled,
            scenes=scenes,
        )

    def prepare(self, graphs: TileGraphs | None) -> StagedGraphs | None:
        """Pack the graphs of a batch for `predict`, in any thread and ahead of time; None where no tile has a node."""
        if graphs is None or not self.uses_graphs:
            return None
        missing = self.batch_size - graphs.n_tiles
        if missing > 0:
            graphs = TileGraphs.concat([graphs, TileGraphs.empty(missing, rich=graphs.is_rich)])
        packed = packed_or_none(graphs, self._encoder, few_shapes=self.few_shapes)
        return None if packed is None else staged(packed, pinned=self.device.type == "cuda")

    def predict(
        self,
        images: NDArray[np.uint8],
        graphs: TileGraphs | StagedGraphs | None,
        shares: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Probability of the second class (urban village).

        Args:
            images: uint8 (B, bands, T, T), B at most ``batch_size``.
            graphs: What the map shows of the B tiles, or what `prepare` made of it; None is the image-only answer.
            shares: float32 (B, scenes), share of each scene on each tile, for a model adapted to several; None where
                there is one.

        Returns:
            float32 (B, T, T), 0 to 1.

        Raises:
            PredictionError: shapes that do not fit.
        """
        return self.probabilities(images, graphs, shares)[:, 1]

    def probabilities(
        self,
        images: NDArray[np.uint8],
        graphs: TileGraphs | StagedGraphs | None,
        shares: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Probability of every class: float32 (B, classes, T, T); arguments as for `predict`."""
        pixels = torch.from_numpy(np.ascontiguousarray(images))
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()
        return self._scores(pixels, graphs, shares).cpu().numpy()

    def predict_tensor(
        self, images: Tensor, graphs: TileGraphs | StagedGraphs | None, shares: NDArray[np.float32] | None = None
    ) -> Tensor:
        """As `predict`, from a uint8 tensor in host memory (best pinned) to a float32 tensor left on `device`."""
        return self._scores(images, graphs, shares)[:, 1]

    def _scores(
        self, pixels: Tensor, graphs: TileGraphs | StagedGraphs | None, shares: NDArray[np.float32] | None
    ) -> Tensor:
        self._check(pixels, graphs)
        n, missing = len(pixels), self.batch_size - len(pixels)
        scenes = self._scenes_of(n, shares)
        if missing:
            pixels = torch.cat([pixels, pixels.new_zeros((missing, *pixels.shape[1:]))])
        ready = graphs if isinstance(graphs, StagedGraphs) else self.prepare(graphs)
        try:
            return self._guarded(pixels, ready, scenes)[:n]
        except torch.OutOfMemoryError:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()  # pieces that no batch of this shape fits into
        try:
            return self._guarded(pixels, ready, scenes)[:n]
        except torch.OutOfMemoryError as error:
            raise DeviceMemoryError(
                f"a batch of {self.batch_size} tiles does not fit into the memory of {self.device} "
                f"({str(error).splitlines()[0]}): set a smaller batch_size, or leave the device to this process"
            ) from error

    def _guarded(self, pixels: Tensor, graphs: StagedGraphs | None, scenes: SceneStatistics | None) -> Tensor:
        with torch.inference_mode(), self._precision():
            return self._run(pixels, graphs, scenes)

    def _scenes_of(self, tiles: int, shares: NDArray[np.float32] | None) -> SceneStatistics | None:
        """The statistics of each tile, filled up to the batch size; None where the model is not adapted."""
        if self._scenes is None:
            return None
        if shares is None and len(self._scenes) == 1:
            shares = np.ones((tiles, 1), np.float32)
        if shares is None or shares.shape != (tiles, len(self._scenes)):
            shape = None if shares is None else shares.shape
            raise PredictionError(
                f"{tiles} tiles come with scene shares of shape {shape}: the model is adapted to {len(self._scenes)} "
                f"scenes, give float32 {(tiles, len(self._scenes))}"
            )
        filled = np.concatenate([shares, np.repeat(shares[:1], self.batch_size - tiles, axis=0)])
        return self._scenes.mixed(filled)

    def _run(self, pixels: Tensor, graphs: StagedGraphs | None, scenes: SceneStatistics | None) -> Tensor:
        x = self._normalise(pixels.to(self.device, non_blocking=True))
        packed: PackedGraphs | None = graphs.to(self.device) if graphs is not None else None
        semantics = self._semantics if packed is not None else None
        if scenes is None:
            logits: Tensor = self._forward(x, packed, semantics)
            return self.config.calibration.calibrated(logits.float()).softmax(1)
        mean, std, level = self._moved(scenes)
        calibrated = self.config.calibration.calibrated(self._forward(x, packed, semantics, mean, std).float())
        calibrated[:, 1] += level[:, None, None]
        return calibrated.softmax(1)

    def _moved(self, scenes: SceneStatistics) -> tuple[Tensor, Tensor, Tensor]:
        """Means, deviations and levels of the tiles on the device: one copy, page-locked for a GPU."""
        width = scenes.mean.shape[1]
        rows = torch.from_numpy(np.concatenate([scenes.mean, scenes.std, scenes.level[:, None]], axis=1))
        if self.device.type == "cuda":
            rows = rows.pin_memory()
        rows = rows.to(self.device, non_blocking=True)
        return rows[:, :width].contiguous(), rows[:, width : 2 * width].contiguous(), rows[:, -1].contiguous()

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast("cuda", torch.bfloat16) if self.device.type == "cuda" else nullcontext()

    def _check(self, images: Tensor, graphs: TileGraphs | StagedGraphs | None) -> None:
        wanted = (self.bands, self.tile_px, self.tile_px)
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1:] != wanted:
            raise PredictionError(
                f"tiles are {images.dtype} {tuple(images.shape)}, the model needs uint8 (B, *{wanted}): "
                "cut tiles of the size and bands that the checkpoint names"
            )
        if len(images) > self.batch_size:
            raise PredictionError(f"{len(images)} tiles in a batch of at most {self.batch_size}: give fewer at once")
        fit = {len(images), self.batch_size} if isinstance(graphs, StagedGraphs) else {len(images)}
        if graphs is not None and graphs.n_tiles not in fit:
            raise PredictionError(f"{len(images)} tiles come with graphs of {graphs.n_tiles}: give one graph per tile")


def segmenter_of(checkpoint: Checkpoint) -> Segmenter:
    """The model of a checkpoint with its weights, in evaluation mode.

    Raises:
        CheckpointError: its configuration is not one of a segmenter, or does not fit the weights.
    """
    file = checkpoint.path / CONFIG_NAME
    try:
        config = SegmentationConfig.model_validate(checkpoint.config.model)
    except ValidationError as error:
        raise CheckpointError(f"{file}: model: {first_problem(error)}; copy or download it again") from error
    except GeoLinkConfigError as error:
        raise CheckpointError(f"{file}: model: {error}; copy or download it again") from error
    if config.classes != len(checkpoint.config.classes):
        raise CheckpointError(
            f"{file} names {len(checkpoint.config.classes)} classes, its model has {config.classes}: "
            "copy or download it again"
        )
    if checkpoint.config.tile_px % config.encoder.patch_px:
        raise CheckpointError(
            f"{file} has tile_px {checkpoint.config.tile_px}, its model needs a multiple of "
            f"{config.encoder.patch_px}: copy or download it again"
        )
    model = build_segmenter(config)
    checkpoint.load_into(model)
    return model.eval()


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise PredictionError(f"device '{name}' cannot be used ({reason}): give 'cpu' or leave it out") from error
    return device
