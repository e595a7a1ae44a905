"""Vectors of tag sets for a checkpoint, from the tag text encoder that it was trained with and no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from models.checkpoints import Checkpoint, CheckpointError, TagEncoderId
from models.geolink.text import HashedTagEncoder, TagTextEncoder, tag_set_embeddings

ConfigT = TypeVar("ConfigT", bound=BaseModel)


def tag_encoder_id(encoder: TagTextEncoder) -> TagEncoderId:
    """What a checkpoint records of a tag text encoder."""
    return TagEncoderId(name=encoder.name, digest=encoder.digest, width=encoder.width)


def with_semantic_width(config: ConfigT, width: int) -> ConfigT:
    """The configuration of an encoder that takes tag vectors of another width, checked as a whole.

    Args:
        config: With a field ``semantic_width``.
        width: Of the vectors.
    """
    if config.model_dump()["semantic_width"] == width:
        return config
    return type(config).model_validate(config.model_dump() | {"semantic_width": width})


def check_tag_encoder(path: Path, trained_with: TagEncoderId | None, given: TagEncoderId) -> None:
    """Refuse another tag text encoder than that of the training: its vectors mean nothing to the weights.

    Args:
        path: The checkpoint, for the message.
        trained_with: What it records; None where its model never saw a map.
        given: The encoder in use.

    Raises:
        CheckpointError: they differ in name, digest or width.
    """
    if trained_with is not None and trained_with != given:
        raise CheckpointError(
            f"{path} was trained with tag text encoder '{trained_with.name}' ({trained_with.digest[:12]}, width "
            f"{trained_with.width}), given is '{given.name}' ({given.digest[:12]}, width {given.width}): "
            "give the former by --text-encoder and --text-weights, or choose another checkpoint"
        )


def tag_semantics(
    checkpoint: Checkpoint,
    tag_sets: Sequence[dict[str, str]],
    *,
    width: int,
    text_encoder: TagTextEncoder | None = None,
) -> NDArray[np.float32]:
    """Vectors of the tag sets that graphs point to.

    Args:
        checkpoint: The model that will see the graphs.
        tag_sets: The table, S tag sets.
        width: Width of the vectors that its encoder takes.
        text_encoder: The tag text encoder of the training; None takes the hashed one.

    Returns:
        float32 (S, width); zeros where the model never saw a map.

    Raises:
        CheckpointError: trained with another tag text encoder.
    """
    trained_with = checkpoint.config.tag_encoder
    if trained_with is None or not len(tag_sets):
        return np.zeros((len(tag_sets), width), np.float32)
    encoder = text_encoder or HashedTagEncoder(width=trained_with.width)
    check_tag_encoder(checkpoint.path, trained_with, tag_encoder_id(encoder))
    return np.asarray(tag_set_embeddings(list(tag_sets), encoder), np.float32)
