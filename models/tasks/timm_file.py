"""The image encoder of a checkpoint as a file that timm reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from models.geolink.encoder import GeoLinkEncoder
from models.geolink.timm_export import timm_arguments, to_timm_vit
from models.segmentation.encoder_start import encoder_config_of, load_encoder


def export_timm(checkpoint: Path, out: Path) -> dict[str, Any]:
    """Write the image encoder's weights under timm's names.

    Args:
        checkpoint: A checkpoint of any kind with a GeoLink encoder whose stem is the published one.
        out: The ``.safetensors`` file, in a folder that exists.

    Returns:
        Arguments for ``timm.create_model("vit_base_patch16_224", **arguments)``, whose ``load_state_dict`` takes them.

    Raises:
        CheckpointError: no encoder there.
        GeoLinkConfigError: its stem has no counterpart in timm.
    """
    encoder = GeoLinkEncoder(encoder_config_of(checkpoint))
    load_encoder(encoder, checkpoint)
    arguments = timm_arguments(encoder.config)
    save_file({name: value.contiguous() for name, value in to_timm_vit(encoder).items()}, out)
    return arguments
