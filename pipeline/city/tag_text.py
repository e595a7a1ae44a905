"""The text model that makes vectors of a city's tags, as its checkpoint and the settings say."""

from __future__ import annotations

from pathlib import Path

from models.checkpoints import load_config
from models.geolink.text import TagTextEncoder
from models.geolink.text_encoders import text_encoder_for
from regions.settings import TextConfig

KEPT_VECTORS = "tag_vectors"
"""Folder in a work folder that keeps the vectors of a text model: each tag is read once, in whatever stage."""


def tag_text_of(checkpoint: Path | None, text: TextConfig, *, work: Path) -> TagTextEncoder | None:
    """The text encoder for a model.

    Args:
        checkpoint: Folder of the model; None where a training starts from nothing.
        text: What the user gives; nothing takes the encoder of the training.
        work: Work folder; vectors of text models are kept in it.

    Returns:
        The encoder; None for hashed vectors and for a model that never saw a map.

    Raises:
        CheckpointError: no checkpoint.
        TagTextError: an encoder whose files are missing, or an unknown one.
    """
    trained_with = None if checkpoint is None else load_config(checkpoint).tag_encoder
    name = None if trained_with is None else trained_with.name
    return text_encoder_for(name, text.encoder, path=text.weights, keep=work / KEPT_VECTORS)
