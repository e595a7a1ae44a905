"""Floating-point operations of our decoders beside the official UPerNet-512, counted the same way.

Run ``python benchmarks/decoder.py``. Operations are counted by ``torch.utils.flop_counter`` (two per multiply-add) on
meta tensors, so nothing is computed and no weights are needed. The official head is rebuilt here from its published
description (512 channels; four maps of a ViT-L, the last of 256 channels; transposed convolutions to a quarter and an
eighth; pyramid pooling over 1, 2, 3, 6). First the equality check: the rebuilt head must have the official head's
41,840,137 parameters (nine classes) and 93.9 GFLOP per 224 px tile. Prints a table and, as its last line, one JSON
object; ``ratios`` are ours over official.
"""

import json
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from models.segmentation.config import SIZES, SegmentationConfig
from models.segmentation.decoder import LightUPerNet
from models.segmentation.model import GeoLinkSegmenter

OFFICIAL_PARAMETERS = 41_840_137
OFFICIAL_GFLOP = 93.9
SIDE_PX = 224


def conv(a: int, b: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(a, b, kernel, padding=kernel // 2), nn.BatchNorm2d(b), nn.ReLU())


class OfficialUPerNet(nn.Module):
    """The published head: neck, pyramid pooling, lateral and output convolutions, classifier."""

    def __init__(self, widths: Sequence[int] = (1024, 1024, 1024, 256), channels: int = 512, classes: int = 9) -> None:
        super().__init__()
        first, second, _, last = widths
        self.up4 = nn.Sequential(
            nn.ConvTranspose2d(first, first, 2, 2),
            nn.BatchNorm2d(first),
            nn.GELU(),
            nn.ConvTranspose2d(first, first, 2, 2),
        )
        self.up2 = nn.ConvTranspose2d(second, second, 2, 2)
        self.down = nn.MaxPool2d(2, 2)
        self.pools = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(s), conv(last, channels, 1)) for s in (1, 2, 3, 6)
        )
        self.bottleneck = conv(last + 4 * channels, channels, 3)
        self.laterals = nn.ModuleList(conv(w, channels, 1) for w in widths[:3])
        self.outputs = nn.ModuleList(conv(channels, channels, 3) for _ in range(3))
        self.fuse = conv(4 * channels, channels, 3)
        self.classifier = nn.Conv2d(channels, classes, 1)

    def forward(self, maps: Sequence[Tensor], images: Tensor) -> Tensor:
        """Logits at the size of ``images``."""

        def to(x: Tensor, size: tuple[int, ...]) -> Tensor:
            return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)

        levels = [self.up4(maps[0]), self.up2(maps[1]), maps[2], self.down(maps[3])]
        low = levels[3]
        pooled = self.bottleneck(torch.cat([low, *(to(p(low), low.shape[2:]) for p in self.pools)], 1))
        sides = [*(lateral(x) for lateral, x in zip(self.laterals, levels, strict=False)), pooled]
        for k in (2, 1, 0):
            sides[k] = sides[k] + to(sides[k + 1], sides[k].shape[2:])
        out = [*(o(s) for o, s in zip(self.outputs, sides, strict=False)), sides[3]]
        joined = self.fuse(torch.cat([to(x, out[0].shape[2:]) for x in out], 1))
        return to(self.classifier(joined), images.shape[2:])


def gflop(run: object, *inputs: object) -> float:
    """Operations of one call, in 1e9."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        run(*inputs)  # type: ignore[operator]
    return counter.get_total_flops() / 1e9


def main() -> None:
    rows, ratios = [], {}
    with torch.device("meta"):
        images = torch.empty(1, 3, SIDE_PX, SIDE_PX)
        official_maps = [torch.empty(1, c, 14, 14) for c in (1024, 1024, 1024, 256)]
        head = OfficialUPerNet().eval()
        parameters = sum(p.numel() for p in head.parameters())
        official = gflop(head, official_maps, images)
        rows.append(("official UPerNet-512, ViT-L maps", official, parameters / 1e6))
        for size in SIZES:
            config = SegmentationConfig.of_size(size, classes=9)
            model = GeoLinkSegmenter(config).eval()
            decoder = model.decoder
            strides = model.encoder.feature_strides_px
            widths = model.encoder.feature_channels
            maps = [torch.empty(1, c, SIDE_PX // s, SIDE_PX // s) for c, s in zip(widths, strides, strict=True)]
            used = gflop(decoder, maps, images)
            rows.append((f"ours, {size}", used, sum(p.numel() for p in decoder.parameters()) / 1e6))
            ratios[size] = used / official
        plain = LightUPerNet((1024, 1024, 1024, 256), channels=256, classes=9).eval()
        used = gflop(plain, official_maps, images)
        rows.append(("ours, large, without detail stem", used, sum(p.numel() for p in plain.parameters()) / 1e6))
        ratios["large_without_detail"] = used / official
    print(f"{'decoder':36s} {'GFLOP per tile':>15s} {'M parameters':>13s} {'of official':>12s}")
    for name, used, millions in rows:
        print(f"{name:36s} {used:15.2f} {millions:13.2f} {used / official:12.3f}")
    assert abs(official - OFFICIAL_GFLOP) < 0.05 * OFFICIAL_GFLOP, f"the rebuilt head has {official:.1f} GFLOP"
    assert parameters == OFFICIAL_PARAMETERS, f"the rebuilt head has {parameters} parameters"
    assert ratios["large"] <= 0.5
    print(json.dumps({"official_gflop": official, "official_parameters": parameters, "ratios": ratios, "limit": 0.5}))


if __name__ == "__main__":
    main()
