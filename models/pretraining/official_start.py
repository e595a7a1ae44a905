"""Official GeoLink weights as a checkpoint of ours, to start a training from."""

from __future__ import annotations

from pathlib import Path

from models.checkpoints import CheckpointConfig, ModelCard, TagEncoderId, save_checkpoint
from models.geolink.official import OfficialCheckpointError, load_official_encoder, read_official

KIND = "pretraining"


def import_official(
    file: Path, out: Path, *, tag_encoder: TagEncoderId | None = None, licence: str = "not stated by its authors"
) -> str:
    """Write the encoder of an official multimodal file as a checkpoint, and return its digest.

    The checkpoint keeps the mode `official`, in which these weights give what the published code gives. Give it to
    a training as ``pretrained``, with the encoder configuration that
    `models.segmentation.encoder_start.encoder_config_of` reads from it.

    Args:
        file: The ``.pth`` file; nothing in it is run.
        out: Folder of the checkpoint.
        tag_encoder: The CLIP text encoder whose vectors the weights fit; None does not check it later.
        licence: For the model card.

    Raises:
        OfficialCheckpointError: the file cannot be read, is the image-only one, or takes other tag vectors.
        CheckpointError: ``out`` is something else than a checkpoint.
    """
    official = read_official(file)
    if tag_encoder is not None and tag_encoder.width != official.config.semantic_width:
        raise OfficialCheckpointError(
            f"{file} takes tag vectors of width {official.config.semantic_width}, those of '{tag_encoder.name}' have "
            f"{tag_encoder.width}: give --text-weights of the encoder it was trained with"
        )
    encoder = load_official_encoder(official)
    config = CheckpointConfig(
        kind=KIND,
        model={"encoder": official.config.model_dump(mode="json")},
        tile_px=official.config.image_px,
        classes=(),
        tag_encoder=tag_encoder,
    )
    card = ModelCard(
        title="GeoLink, official weights",
        data=("1.27 million image and OpenStreetMap pairs, as published (arXiv 2509.26016)",),
        licence=licence,
        notes="Converted from the official file. Tags must be embedded with the CLIP text tower it was trained with.",
    )
    weights = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    return save_checkpoint(out, weights=weights, config=config, card=card).digest
