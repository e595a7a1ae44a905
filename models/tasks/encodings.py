"""Dense encodings of tiles: the feature maps of an encoder, for maps of features, neighbours and linear probes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from models.checkpoints import CONFIG_NAME, CheckpointError, first_problem, load_checkpoint, load_weights
from models.geolink.config import GeoLinkConfig
from models.geolink.encoder import GeoLinkEncoder
from models.geolink.graph import TileGraphs
from models.geolink.text import TagTextEncoder
from models.tiles.batches import normalised, packed_or_none
from models.tiles.semantics import tag_semantics


class TileEncoder:
    """The encoder of any checkpoint, giving one feature vector per patch of a tile.

    Attributes:
        tile_px: Side of a tile.
        patch_px: Pixels per cell of the encodings.
        channels: Channels of the encodings.
        batch_size: Tiles that go through the encoder at once; more are cut up, fewer filled up, so that a tile
            gives the same encoding on the CPU whatever is beside it.
        digest: Digest of what decides an encoding.
    """

    def __init__(
        self,
        encoder: GeoLinkEncoder,
        *,
        semantics: NDArray[np.float32],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        digest: str,
        device: torch.device,
        batch_size: int,
    ) -> None:
        self.encoder = encoder.to(device).eval()
        self.tile_px, self.patch_px = encoder.config.image_px, encoder.config.patch_px
        self.channels = encoder.config.fusion_width
        self.batch_size = batch_size
        self.device = device
        self.digest = hashlib.sha256(f"{digest} {batch_size} {device.type}".encode()).hexdigest()
        self._mean, self._std = mean, std
        self._semantics = torch.as_tensor(semantics, dtype=torch.float32, device=device)

    @classmethod
    def load(
        cls,
        checkpoint: Path,
        tag_sets: Sequence[dict[str, str]] = (),
        *,
        device: str = "cpu",
        batch_size: int = 8,
        text_encoder: TagTextEncoder | None = None,
    ) -> TileEncoder:
        """Read the encoder of a checkpoint of any kind.

        Args:
            checkpoint: Its folder.
            tag_sets: The table of tag sets that graphs will point to.
            device: Name of a torch device.
            batch_size: Tiles per pass.
            text_encoder: The tag text encoder of the training; None takes the hashed one.

        Raises:
            CheckpointError: no encoder in it, damaged, or trained with another tag text encoder.
        """
        read = load_checkpoint(checkpoint)
        try:
            config = GeoLinkConfig.model_validate(read.config.model.get("encoder"))
        except ValidationError as error:
            raise CheckpointError(f"{checkpoint / CONFIG_NAME}: model.encoder: {first_problem(error)}") from error
        encoder = GeoLinkEncoder(config)
        weights = {k.removeprefix("encoder."): v for k, v in read.weights.items() if k.startswith("encoder.")}
        load_weights(encoder, weights, source=checkpoint)
        semantics = tag_semantics(read, tag_sets, width=config.semantic_width, text_encoder=text_encoder)
        return cls(
            encoder,
            semantics=semantics,
            mean=read.config.mean,
            std=read.config.std,
            digest=read.digest,
            device=torch.device(device),
            batch_size=batch_size,
        )

    def encode_tiles(self, images: NDArray[np.uint8], graphs: TileGraphs | None = None) -> NDArray[np.float32]:
        """Encode tiles.

        Args:
            images: uint8 (N, 3, T, T), any N.
            graphs: What the map shows of the N tiles (multimodal); None for the image alone.

        Returns:
            float32 (N, channels, T / patch_px, T / patch_px); the upper left cell is that of the upper left patch.
        """
        parts = [np.zeros((0, self.channels, *(s // self.patch_px for s in images.shape[2:])), np.float32)]
        for start in range(0, len(images), self.batch_size):
            cut = images[start : start + self.batch_size]
            here = None if graphs is None else graphs.select(range(start, start + len(cut)))
            parts.append(self._encode(cut, here))
        return np.concatenate(parts)

    def _encode(self, images: NDArray[np.uint8], graphs: TileGraphs | None) -> NDArray[np.float32]:
        missing = self.batch_size - len(images)
        filled = np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.uint8)])
        packed = None
        if graphs is not None:
            whole = TileGraphs.concat([graphs, TileGraphs.empty(missing, rich=graphs.is_rich)])
            packed = packed_or_none(whole, self.encoder.config)
        with torch.inference_mode():
            x = normalised(torch.from_numpy(filled).to(self.device), self._mean, self._std)
            graph = packed.to(self.device) if packed is not None else None
            maps = self.encoder(x, graph, self._semantics if graph is not None else None)
        last: Tensor = maps[-1][: len(images)]
        return last.float().cpu().numpy()


def encode_tiles(
    checkpoint: Path,
    images: NDArray[np.uint8],
    graphs: TileGraphs | None = None,
    tag_sets: Sequence[dict[str, str]] = (),
    *,
    device: str = "cpu",
    batch_size: int = 8,
    text_encoder: TagTextEncoder | None = None,
) -> NDArray[np.float32]:
    """Dense encodings of tiles: `TileEncoder.load`, then `TileEncoder.encode_tiles`."""
    encoder = TileEncoder.load(checkpoint, tag_sets, device=device, batch_size=batch_size, text_encoder=text_encoder)
    return encoder.encode_tiles(images, graphs)


def pooled(encodings: NDArray[np.float32]) -> NDArray[np.float32]:
    """One vector per tile: mean and standard deviation over its cells; (N, C, h, w) to (N, 2 C)."""
    flat = encodings.reshape(*encodings.shape[:2], -1)
    return np.concatenate([flat.mean(2), flat.std(2)], axis=1).astype(np.float32)
