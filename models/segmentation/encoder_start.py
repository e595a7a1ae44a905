"""Start a model from the encoder of a checkpoint: pretrained, official, or of another task."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from models.checkpoints import (
    CONFIG_NAME,
    CheckpointError,
    TagEncoderId,
    first_problem,
    load_checkpoint,
    load_config,
    load_weights,
)
from models.geolink.config import GeoLinkConfig
from models.geolink.encoder import GeoLinkEncoder
from models.tiles.semantics import check_tag_encoder

HEAD_FIELDS = frozenset(
    {"decoder_width", "decoder_depth", "decoder_heads", "decoder_mlp_ratio", "contrastive_width", "pretraining_fusion"}
)
"""Fields of an encoder's configuration that only pretraining uses."""


def encoder_config_of(path: Path) -> GeoLinkConfig:
    """The configuration of the encoder in a checkpoint of any kind; models that start from it must have the same.

    Raises:
        CheckpointError: no encoder in it.
    """
    saved = load_config(path).model.get("encoder")
    try:
        return GeoLinkConfig.model_validate(saved)
    except ValidationError as error:
        raise CheckpointError(
            f"{path / CONFIG_NAME} holds no GeoLink encoder: model.encoder: {first_problem(error)}; give another one"
        ) from error


def load_encoder(encoder: GeoLinkEncoder, path: Path, *, tag_encoder: TagEncoderId | None = None) -> str:
    """Fill ``encoder`` from a checkpoint that holds a GeoLink encoder, and return the checkpoint's digest.

    Args:
        encoder: The encoder to fill.
        path: Folder of a checkpoint of any kind whose ``model`` has an ``encoder``.
        tag_encoder: The tag text encoder in use; None does not check it.

    Raises:
        CheckpointError: no encoder in it, one of another configuration, or trained with other tag vectors.
    """
    checkpoint = load_checkpoint(path)
    saved = checkpoint.config.model.get("encoder")
    wanted = encoder.config.model_dump(mode="json")
    if not isinstance(saved, dict):
        raise CheckpointError(f"{path} holds no GeoLink encoder (kind '{checkpoint.config.kind}'): give another one")
    for name in (n for n in sorted(wanted.keys() | saved.keys()) if n not in HEAD_FIELDS):
        if saved.get(name) != wanted.get(name):
            raise CheckpointError(
                f"{path} has an encoder with {name} {saved.get(name)}, the model needs {wanted.get(name)}: "
                "train with the encoder configuration of the checkpoint"
            )
    if tag_encoder is not None:
        check_tag_encoder(path, checkpoint.config.tag_encoder, tag_encoder)
    prefix = "encoder."
    weights = {k.removeprefix(prefix): v for k, v in checkpoint.weights.items() if k.startswith(prefix)}
    load_weights(encoder, weights, source=path)
    return checkpoint.digest
