"""A light UPerNet decoder for the four maps of a GeoLink encoder.

The decoder is that of segmentation-models-pytorch. A vision transformer gives four maps at one resolution (a
sixteenth of the image), where UPerNet wants a pyramid (a quarter to a thirty-second). The official model makes it
with transposed convolutions at the full width of the transformer and decodes with 512 channels; here each map is
first projected to the decoder's width, then resized, and a small convolutional stem may give the fine levels the
detail that patches of 16 px lose.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def _group_count(channels: int) -> int:
    # groups of 8 or more channels: fewer make the norm noisy on the one pixel of the coarsest pool
    return next(g for g in (8, 4, 2, 1) if (channels % g == 0 and channels // g >= 4) or g == 1)


def with_group_norm(module: nn.Module) -> nn.Module:
    """Replace every batch norm in ``module`` by a group norm, in place.

    Group norm has no running statistics: a tile's output depends on that tile alone, in training too, and short
    trainings at small batches need no warm-up of averages.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(_group_count(child.num_features), child.num_features))
        else:
            with_group_norm(child)
    return module


class ConvNormAct(nn.Sequential):
    """Convolution, group norm, GELU.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel: Side of the kernel.
        stride: Stride.
        groups: Groups of the convolution.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int = 3, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.GroupNorm(_group_count(out_channels), out_channels),
            nn.GELU(),
        )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside an identity (He et al. 2016), with group norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNormAct(channels, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(_group_count(channels), channels)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, C, H, W)."""
        return functional.gelu(x + self.norm(self.second(self.first(x))))


class DetailStem(nn.Module):
    """Convolutions on the image: maps at a quarter and an eighth of its size, for sharp boundaries.

    Args:
        channels: Width at a quarter; half of it at a half, twice at an eighth.
        blocks: Residual blocks at each of the two levels.
    """

    def __init__(self, channels: int, *, blocks: int = 1) -> None:
        super().__init__()
        self.entry = ConvNormAct(3, channels // 2, kernel=5, stride=2)
        self.quarter = nn.Sequential(
            ConvNormAct(channels // 2, channels, stride=2), *(ResidualBlock(channels) for _ in range(blocks))
        )
        self.eighth = nn.Sequential(
            ConvNormAct(channels, 2 * channels, stride=2), *(ResidualBlock(2 * channels) for _ in range(blocks))
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """From (B, 3, T, T) to (B, C, T/4, T/4) and (B, 2C, T/8, T/8)."""
        quarter = self.quarter(self.entry(images))
        return quarter, self.eighth(quarter)


class LightUPerNet(nn.Module):
    """UPerNet of segmentation-models-pytorch on the maps of a vision transformer.

    Args:
        in_channels: Widths of the four maps, shallow to deep.
        channels: Width of the decoder.
        classes: Number of classes.
        dropout: Share of channels dropped before the classifier, in training.
        detail_channels: Width of the `DetailStem`; 0 goes without.
        detail_blocks: Residual blocks per level of the stem.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        channels: int,
        classes: int,
        dropout: float = 0.1,
        detail_channels: int = 0,
        detail_blocks: int = 1,
    ) -> None:
        # imports timm, torchvision and torch's compiler: paid where a decoder is made, not by all who read checkpoints
        from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder  # noqa: PLC0415

        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(c) for c in in_channels)
        self.neck = nn.ModuleList(nn.Linear(c, channels) for c in in_channels)
        self.detail = DetailStem(detail_channels, blocks=detail_blocks) if detail_channels else None
        extra = (detail_channels, 2 * detail_channels, 0, 0)
        # the first two channel counts stand for the image and its half, which UPerNet does not use
        self.upernet = with_group_norm(
            UPerNetDecoder((3, 0, *(channels + e for e in extra)), encoder_depth=5, decoder_channels=channels)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, classes, 1)

    def forward(self, maps: Sequence[Tensor], images: Tensor) -> Tensor:
        """Decode.

        Args:
            maps: Four maps (B, C_k, h_k, w_k) of any resolution, shallow to deep.
            images: float32 (B, 3, T, T), normalised; only the detail stem looks at them.

        Returns:
            Logits (B, classes, T, T).
        """
        side = images.shape[-1]
        sizes = [side // 4, side // 8, side // 16, side // 32]
        fine = self.detail(images) if self.detail is not None else ()
        levels: list[Tensor] = [images, images]
        for k, (level, size) in enumerate(zip(maps, sizes, strict=True)):
            # (B, C, h, w) -> (B, h, w, C) -> norm, projection -> (B, channels, h, w)
            x = self.neck[k](self.norms[k](level.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
            if size > x.shape[-1]:
                x = functional.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
            elif size < x.shape[-1]:
                x = functional.max_pool2d(x, x.shape[-1] // size)
            levels.append(torch.cat([x, fine[k]], dim=1) if k < len(fine) else x)
        logits = self.classifier(self.dropout(self.upernet(levels)))
        return functional.interpolate(logits, size=(side, side), mode="bilinear", align_corners=False)
