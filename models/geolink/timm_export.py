"""The image encoder as a plain timm vision transformer."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from models.geolink.config import GeoLinkConfig, GeoLinkConfigError
from models.geolink.encoder import GeoLinkEncoder

_NAMES = {"img_pos_embed": "pos_embed", "stem.embed.": "patch_embed."}


def timm_arguments(config: GeoLinkConfig) -> dict[str, Any]:
    """Arguments for ``timm.create_model("vit_base_patch16_224", **arguments)`` that give this image encoder.

    For the published sizes ``timm.create_model("vit_large_patch16_224", num_classes=0)`` gives it by name alone.

    Raises:
        GeoLinkConfigError: the stem is not timm's.
    """
    if config.stem != "patch":
        raise GeoLinkConfigError(
            f"stem {config.stem!r} (that of the size tiny) has no counterpart in timm's vision transformer: "
            "export an encoder of another size, trained with --size small, base or large, or the published one"
        )
    return {
        "img_size": config.image_px,
        "patch_size": config.patch_px,
        "in_chans": config.in_channels,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.heads,
        "mlp_ratio": config.mlp_ratio,
        "num_classes": 0,
    }


def to_timm_vit(encoder: GeoLinkEncoder) -> dict[str, Tensor]:
    """The image encoder's parameters under timm's names, for ``load_state_dict`` of a model without head.

    timm's last norm has an epsilon of 1e-6. Encoders in our own mode have it too, and the export gives their tokens
    to the last bit; the published one has 1e-5, which moves tokens by some 5e-6 of their largest value unless
    ``model.norm.eps`` is set.

    Raises:
        GeoLinkConfigError: the stem is not timm's.
    """
    timm_arguments(encoder.config)
    out = {}
    for name, value in encoder.image.state_dict().items():
        theirs = name
        for ours, timm_name in _NAMES.items():
            if name.startswith(ours):
                theirs = timm_name + name[len(ours) :]
        out[theirs] = value.detach().clone()
    return out
