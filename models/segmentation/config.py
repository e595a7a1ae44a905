"""What a segmentation model is: its encoder, its decoder, its classes."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from models.encoders.config import PyramidConfig
from models.geolink.config import GeoLinkConfig, GeoLinkConfigError

SIZES = ("tiny", "small", "base", "large")
Size = Literal["tiny", "small", "base", "large"]


def _family(value: Any) -> str:
    family = value.get("family") if isinstance(value, dict) else getattr(value, "family", None)
    return "pyramid" if family == "pyramid" else "geolink"


EncoderConfig = Annotated[
    Annotated[GeoLinkConfig, Tag("geolink")] | Annotated[PyramidConfig, Tag("pyramid")], Discriminator(_family)
]


class SegmentationConfig(BaseModel):
    """Sizes of a segmentation model; frozen, a round trip through JSON changes nothing.

    Attributes:
        encoder: The encoder: GeoLink's, or a pyramid of timm whose grid is classified cell by cell.
        classes: Number of classes.
        decoder_channels: Width of the UPerNet decoder; the official model has 512.
        dropout: Share of channels dropped before the classifier, in training.
        detail_channels: Width of the convolutional stem on the image that feeds the decoder's fine levels, for
            sharp boundaries; 0 goes without.
        detail_blocks: Residual blocks per level of that stem.
        smooth_cells: Of a pyramid: standard deviation, in cells of its grid, of the Gaussian over its logits in use;
            labels outline districts, not roofs. 0 goes without.
        feature_noise: Of a pyramid: standard deviation of the noise on standardised features in training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: EncoderConfig = GeoLinkConfig()
    classes: Annotated[int, Field(ge=2)] = 2
    decoder_channels: Annotated[int, Field(gt=0)] = 256
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    detail_channels: Annotated[int, Field(ge=0)] = 0
    detail_blocks: Annotated[int, Field(ge=0)] = 1
    smooth_cells: Annotated[float, Field(ge=0)] = 0.0
    feature_noise: Annotated[float, Field(ge=0)] = 0.0

    @property
    def adapts(self) -> bool:
        """Whether the model standardises by the statistics of each scene."""
        return isinstance(self.encoder, PyramidConfig)

    @property
    def geolink(self) -> GeoLinkConfig:
        """The GeoLink encoder, for what needs one.

        Raises:
            GeoLinkConfigError: the model has another encoder.
        """
        if not isinstance(self.encoder, GeoLinkConfig):
            raise GeoLinkConfigError(f"the encoder is '{self.encoder.name}', a GeoLink encoder is needed here")
        return self.encoder

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
