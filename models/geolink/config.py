"""What a GeoLink model is: widths, depths, and the switches between the published model and ours.

Every difference between the published network and our own mode is one switch of `GeoLinkConfig`, with a line
saying why. The presets are `tiny`, `small`, `base` and `large` (own mode) and `official` (what a faithful load of
published weights needs).
"""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.errors import ModelsError


class GeoLinkConfigError(ModelsError):
    """A configuration whose values do not fit each other."""


class GeoLinkConfig(BaseModel):
    """Sizes and switches of a GeoLink model; frozen, and a round trip through JSON changes nothing.

    Attributes:
        image_px: Side of the square tile the model is built for, px.
        patch_px: Side of a patch, px.
        in_channels: Image bands.
        stem: ``patch``: one linear map per patch, as published. ``cells``: a patch is embedded in three steps of
            a quarter, a half and the whole of it (no step looks across a patch edge, so sparse and dense input
            give the same tokens), and the first two steps are feature maps 0 and 1, at strides of 4 and 8 px for
            patches of 16: a small model then has fine maps to segment from.
        stem_widths: Channels of the two fine maps of the ``cells`` stem.
        width, depth, heads, mlp_ratio: The image transformer.
        output_layers: Blocks (from 0) whose raw output is a feature map; the last entry stands for the fused map,
            which comes from the end of the transformer. The ``cells`` stem puts its two fine maps before these.
        norm_eps: Epsilon of the norms within image blocks.
        last_norm_eps: Epsilon of the image encoder's last norm and of the decoder's norms: timm's 1e-6, so that
            the export to timm is exact; the published network has 1e-5.
        semantic_width: Width of a tag set's embedding.
        osm_width, osm_layers: The graph network.
        fusion_width, fusion_heads, fusion_blocks, fusion_dropout: The two-way attention of patches and nodes.
        decoder_width, decoder_depth, decoder_heads, decoder_mlp_ratio: The decoder of pretraining.
        contrastive_width: Width of the image and map embeddings that pretraining compares.
        osm_norm: Over what the node embeddings are normalised. ``node``: each node alone, so that nothing but
            the node decides. ``tile``: all nodes of a type in a tile, what published weights were read with at
            batch 1. ``batch``: all nodes of a type in the batch, as released: a tile's answer then depends on
            its batch-mates.
        edge_attributes: Use what the relation of two objects is (touches, covers, how far). The released network
            builds these attributes and drops them.
        geometry_columns: Use size, shape, orientation and height of objects. The released network sees four
            points of an object and nothing else.
        osm_residual: Keep a node's own meaning beside what its neighbours say. In the released network a node
            without edges of a type gets only a bias.
        patch_centre: Place a patch at its centre. The released network places it at its top left corner while
            objects are placed truly: half a patch (8 px) of offset.
        node_limit: Most nodes of a tile that take part in fusion; None takes all.
        node_choice: Which nodes stay under the limit. ``largest``: by area, then length, a fixed answer.
            ``random``: as released: two runs differ.
        blank_tiles: What a tile without nodes gives. ``image_only``: exactly what the image alone gives.
            ``error``: as released, which fails or gives NaN there.
        type_weights: How the three node types add up to a tile's map embedding. ``softmax``: weights over the
            types present. ``sum``: as released, where the softmax runs over an axis of size 1 and does nothing.
        pretraining_fusion: Which nodes fusion sees in pretraining. ``all``: as in use. ``masked``: the masked
            nodes alone, as released: use then differs from training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_px: int = Field(224, gt=0)
    patch_px: int = Field(16, gt=0)
    in_channels: int = Field(3, gt=0)
    stem: Literal["patch", "cells"] = "patch"
    stem_widths: tuple[int, int] = (32, 64)
    width: int = Field(1024, gt=0)
    depth: int = Field(24, gt=0)
    heads: int = Field(16, gt=0)
    mlp_ratio: float = Field(4.0, gt=0)
    output_layers: tuple[int, ...] = (7, 11, 15, 23)
    norm_eps: float = Field(1e-6, gt=0)
    last_norm_eps: float = Field(1e-6, gt=0)
    semantic_width: int = Field(512, gt=0)
    osm_width: int = Field(128, gt=0)
    osm_layers: int = Field(1, gt=0)
    fusion_width: int = Field(256, gt=0)
    fusion_heads: int = Field(16, gt=0)
    fusion_blocks: int = Field(1, gt=0)
    fusion_dropout: float = Field(0.0, ge=0, lt=1)
    decoder_width: int = Field(512, gt=0)
    decoder_depth: int = Field(2, gt=0)
    decoder_heads: int = Field(16, gt=0)
    decoder_mlp_ratio: float = Field(4.0, gt=0)
    contrastive_width: int = Field(64, gt=0)

    osm_norm: Literal["node", "tile", "batch"] = "node"
    edge_attributes: bool = True
    geometry_columns: bool = True
    osm_residual: bool = True
    patch_centre: bool = True
    node_limit: int | None = Field(None, gt=0)
    node_choice: Literal["largest", "random"] = "largest"
    blank_tiles: Literal["image_only", "error"] = "image_only"
    type_weights: Literal["softmax", "sum"] = "softmax"
    pretraining_fusion: Literal["all", "masked"] = "all"

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise GeoLinkConfigError(_one_line(error)) from error

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name, width, heads in (
            ("width", self.width, self.heads),
            ("fusion_width", self.fusion_width, self.fusion_heads),
            ("decoder_width", self.decoder_width, self.decoder_heads),
        ):
            if width % heads:
                raise ValueError(f"{name} {width} is no multiple of its {heads} heads")
            if width % 4:
                raise ValueError(f"{name} {width} is no multiple of 4, which the sin-cos position needs")
        if self.image_px % self.patch_px:
            raise ValueError(f"image_px {self.image_px} is no multiple of patch_px {self.patch_px}")
        layers = self.output_layers
        if not layers or list(layers) != sorted(set(layers)) or layers[0] < 0 or layers[-1] >= self.depth:
            raise ValueError(f"output_layers {layers} must rise within 0..{self.depth - 1}")
        if self.stem == "cells" and self.patch_px % 4:
            raise ValueError(f"stem 'cells' needs patch_px to be a multiple of 4, got {self.patch_px}")
        return self

    @property
    def grid(self) -> int:
        """Patches along a side of the tile."""
        return self.image_px // self.patch_px

    @property
    def feature_channels(self) -> tuple[int, ...]:
        """Channels of the feature maps the encoder returns."""
        fine = self.stem_widths if self.stem == "cells" else ()
        return (*fine, *(self.width,) * (len(self.output_layers) - 1), self.fusion_width)

    @property
    def feature_strides_px(self) -> tuple[int, ...]:
        """Pixels per cell of the feature maps the encoder returns."""
        fine = (self.patch_px // 4, self.patch_px // 2) if self.stem == "cells" else ()
        return (*fine, *(self.patch_px,) * len(self.output_layers))

    def with_(self, **changes: Any) -> "GeoLinkConfig":
        """A copy with some values changed, checked as a whole.

        Raises:
            GeoLinkConfigError: the values do not fit each other.
        """
        return GeoLinkConfig(**{**self.model_dump(), **changes})

    @classmethod
    def tiny(cls, **changes: Any) -> "GeoLinkConfig":
        """For two CPU cores and the demo city: trains in minutes."""
        sizes = {
            "stem": "cells",
            "stem_widths": (32, 64),
            **_image_sizes(128, 3, 4),
            "mlp_ratio": 2.0,
            "output_layers": (1, 2),
            "osm_width": 64,
            "fusion_width": 64,
            "fusion_heads": 4,
            "decoder_width": 64,
            "decoder_depth": 1,
            "decoder_heads": 4,
            "contrastive_width": 32,
        }
        return cls(**{**sizes, **changes})

    @classmethod
    def small(cls, **changes: Any) -> "GeoLinkConfig":
        """ViT-S/16 image encoder."""
        return cls(**{**_image_sizes(384, 12, 6), "decoder_width": 256, "decoder_heads": 8, **changes})

    @classmethod
    def base(cls, **changes: Any) -> "GeoLinkConfig":
        """ViT-B/16 image encoder."""
        return cls(**{**_image_sizes(768, 12, 12), **changes})

    @classmethod
    def large(cls, **changes: Any) -> "GeoLinkConfig":
        """ViT-L/16 image encoder, the published size."""
        return cls(**{**_image_sizes(1024, 24, 16), **changes})

    @classmethod
    def official(cls, *, as_released: bool = False, **changes: Any) -> "GeoLinkConfig":
        """The published network: ViT-L/16 unless ``changes`` say otherwise.

        Args:
            as_released: Also take over what makes the released code depend on batch-mates and chance: the norm
                over the whole batch, 50 random nodes, failure on tiles without nodes. Without it, a tile gives
                what the released code gives for that tile alone with all its nodes, and a tile without nodes
                gives the image-only answer.
            changes: Fields to set.
        """
        switches: dict[str, Any] = {
            "last_norm_eps": 1e-5,
            "fusion_dropout": 0.1,
            "osm_norm": "tile",
            "edge_attributes": False,
            "geometry_columns": False,
            "osm_residual": False,
            "patch_centre": False,
            "type_weights": "sum",
            "pretraining_fusion": "masked",
        }
        if as_released:
            switches |= {
                "osm_norm": "batch",
                "node_limit": 50,
                "node_choice": "random",
                "blank_tiles": "error",
            }
        return cls(**{**_image_sizes(1024, 24, 16), **switches, **changes})


def spread_layers(depth: int) -> tuple[int, ...]:
    """Blocks at a third, half, two thirds and the end of ``depth``: 7, 11, 15, 23 of 24, as published."""
    return tuple(sorted({max(0, round(depth * part) - 1) for part in (1 / 3, 1 / 2, 2 / 3, 1)}))


def _image_sizes(width: int, depth: int, heads: int) -> dict[str, Any]:
    return {"width": width, "depth": depth, "heads": heads, "output_layers": spread_layers(depth)}


def _one_line(error: ValidationError) -> str:
    parts = (f"{'.'.join(map(str, e['loc'])) or 'values'}: {e['msg']}" for e in error.errors())
    return "GeoLink configuration: " + "; ".join(parts)
