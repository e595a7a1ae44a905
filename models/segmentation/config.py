"""What a segmentation model is: its encoder, its decoder, its classes."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.geolink.config import GeoLinkConfig

SIZES = ("tiny", "small", "base", "large")
Size = Literal["tiny", "small", "base", "large"]


class SegmentationConfig(BaseModel):
    """Sizes of a segmentation model; frozen, a round trip through JSON changes nothing.

    Attributes:
        encoder: The GeoLink encoder.
        classes: Number of classes.
        decoder_channels: Width of the UPerNet decoder; the official model has 512.
        dropout: Share of channels dropped before the classifier, in training.
        detail_channels: Width of the convolutional stem on the image that feeds the decoder's fine levels, for
            sharp boundaries; 0 goes without.
        detail_blocks: Residual blocks per level of that stem.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: GeoLinkConfig = GeoLinkConfig()
    classes: Annotated[int, Field(ge=2)] = 2
    decoder_channels: Annotated[int, Field(gt=0)] = 256
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    detail_channels: Annotated[int, Field(ge=0)] = 0
    detail_blocks: Annotated[int, Field(ge=0)] = 1

    @classmethod
    def of_size(cls, size: Size, *, classes: int = 2, **changes: Any) -> "SegmentationConfig":
        """A named size.

        Args:
            size: ``tiny`` (two CPU cores, the demo), ``small`` (ViT-S/16), ``base`` (ViT-B/16) or ``large``
                (ViT-L/16, as published).
            classes: Number of classes.
            changes: Fields to set.
        """
        values: dict[str, Any] = {
            "tiny": {"encoder": GeoLinkConfig.tiny(), "decoder_channels": 32, "detail_channels": 16, "dropout": 0.0},
            "small": {"encoder": GeoLinkConfig.small(), "decoder_channels": 128, "detail_channels": 32},
            "base": {"encoder": GeoLinkConfig.base(), "decoder_channels": 192, "detail_channels": 48},
            "large": {"encoder": GeoLinkConfig.large(), "decoder_channels": 256, "detail_channels": 64},
        }[size]
        return cls(**{**values, "classes": classes, **changes})
