"""Official GeoLink checkpoints: a strict, explained mapping of their names to ours.

An official ``.pth`` file is a dictionary with ``model_config`` and ``model_state_dict``. Every key of it must be
known: it is either mapped, or in `UNUSED`, or a stated double of a mapped key; every parameter of ours must be
found. Widths and depths are read off the tensors, heads and output layers from ``model_config``.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.errors import ModelsError
from models.geolink.config import GeoLinkConfig, GeoLinkConfigError, spread_layers
from models.geolink.encoder import GeoLinkEncoder
from models.geolink.graph import EDGE_TYPES
from models.geolink.image_encoder import ImageEncoder
from models.geolink.official_names import CONV, PRETRAINING_ONLY, UNUSED, official_names
from models.geolink.pretraining import GeoLinkPretraining


class OfficialCheckpointError(ModelsError):
    """A file that is no official GeoLink checkpoint, or one that does not fit its own configuration."""


@dataclass(frozen=True)
class OfficialFile:
    """A read and checked official file.

    Attributes:
        path: Where it lies.
        config: What it describes, in the mode `official`.
        state: Parameters under our names, of `GeoLinkPretraining`.
        has_fusion: False for the image-only file.
        has_pretraining: False where the parts that only pretraining needs are left out.
    """

    path: Path
    config: GeoLinkConfig
    state: dict[str, Tensor]
    has_fusion: bool
    has_pretraining: bool

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The parameters below ``prefix``, without it; models made of one file share their values."""
        return {k[len(prefix) :]: v for k, v in self.state.items() if k.startswith(prefix)}


def read_official(path: str | Path) -> OfficialFile:
    """Read an official ``.pth`` file without running code from it.

    Raises:
        OfficialCheckpointError: the file cannot be read, lacks or has too many keys, or contradicts its own
            configuration.
    """
    path = Path(path)
    model_config, state = _load(path)
    state = _one_layout(path, state)
    has_fusion = any(k.startswith("osm_encoder.") for k in state)
    config = _read_config(path, model_config, state, has_fusion=has_fusion)
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in GeoLinkPretraining(config).state_dict().items()}
    has_pretraining = has_fusion and any(
        name in state for ours in shapes if ours.startswith(PRETRAINING_ONLY) for name in official_names(ours)
    )
    if not has_fusion:
        shapes = {k: s for k, s in shapes.items() if k.startswith("encoder.image.")}
    elif not has_pretraining:
        shapes = {k: s for k, s in shapes.items() if not k.startswith(PRETRAINING_ONLY)}
    wanted = {name for ours in shapes for name in official_names(ours)}
    _refuse(path, "lacks", wanted - state.keys(), "it is cut off or not of this layout")
    _refuse(path, "has unknown keys", state.keys() - wanted - UNUSED.keys(), "it is not of this layout")
    mapped = {ours: _joined(path, state, ours, shape) for ours, shape in shapes.items()}
    return OfficialFile(path, config, mapped, has_fusion, has_pretraining)


def load_official(path: str | Path | OfficialFile) -> GeoLinkPretraining:
    """The full network of an official file, in evaluation mode.

    Raises:
        OfficialCheckpointError: see `read_official`; also for a file without the pretraining parts.
    """
    file = path if isinstance(path, OfficialFile) else read_official(path)
    if not file.has_pretraining:
        raise OfficialCheckpointError(
            f"{file.path}: holds no decoder and no readout, so it is not the full network: use load_official_encoder"
        )
    with torch.device("meta"):  # no time spent on values that are replaced
        model = GeoLinkPretraining(file.config)
    model.load_state_dict(file.state, assign=True)
    return model.eval()


def load_official_encoder(path: str | Path | OfficialFile) -> GeoLinkEncoder:
    """The encoder of an official file, in evaluation mode.

    Raises:
        OfficialCheckpointError: see `read_official`; also for the image-only file.
    """
    file = path if isinstance(path, OfficialFile) else read_official(path)
    if not file.has_fusion:
        raise OfficialCheckpointError(
            f"{file.path}: the image-only file, without graph network and fusion: give the multimodal file"
        )
    with torch.device("meta"):
        model = GeoLinkEncoder(file.config)
    model.load_state_dict(file.part("encoder."), assign=True)
    return model.eval()


def load_official_image_encoder(path: str | Path | OfficialFile) -> ImageEncoder:
    """The image encoder of any official file, in evaluation mode.

    Raises:
        OfficialCheckpointError: see `read_official`.
    """
    file = path if isinstance(path, OfficialFile) else read_official(path)
    with torch.device("meta"):
        model = ImageEncoder(file.config)
    model.load_state_dict(file.part("encoder.image."), assign=True)
    return model.eval()


def _load(path: Path) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise OfficialCheckpointError(f"{path}: no such file") from error
    except pickle.UnpicklingError as error:
        raise OfficialCheckpointError(
            f"{path}: not a file of plain tensors (it is cut off, or asks to run code, which is refused): "
            f"download it again"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OfficialCheckpointError(f"{path}: cannot be read ({first}): download it again") from error
    keys = set(data) if isinstance(data, Mapping) else set()
    if not {"model_config", "model_state_dict"} <= keys:
        raise OfficialCheckpointError(
            f"{path}: an official file holds model_config and model_state_dict, this one "
            f"{_some(map(str, keys)) if keys else type(data).__name__}"
        )
    model_config, state = data["model_config"], data["model_state_dict"]
    if not isinstance(model_config, Mapping) or not isinstance(state, Mapping):
        raise OfficialCheckpointError(f"{path}: model_config and model_state_dict must be dictionaries")
    wrong = [str(k) for k, v in state.items() if not isinstance(k, str) or not isinstance(v, Tensor)]
    if wrong:
        raise OfficialCheckpointError(f"{path}: not tensors: {_some(wrong)}")
    return model_config, dict(state)


def _one_layout(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Bring both PyG layouts, doubles and the image-only file to one set of names."""
    out = {}
    if "pos_embed" in state and "img_pos_embed" not in state:  # the image-only file: a plain timm transformer
        renames = (("pos_embed", "img_pos_embed"), ("blocks.", "img_encoder.blocks."), ("norm.", "img_norm."))
        for key, value in state.items():
            theirs = next((new + key[len(old) :] for old, new in renames if key.startswith(old)), key)
            out[theirs] = value
        return out
    doubles = []
    for key, value in state.items():
        if key.endswith(".lin_src.weight"):  # PyG 2.4
            out[key.replace(".lin_src.", ".lin.")] = value
        elif key.endswith(".lin_dst.weight"):  # PyG 2.4: the same linear map again
            doubles.append((key, key.replace(".lin_dst.", ".lin_src.")))
        elif key.startswith("img_encoder.patch_embed.") and key.removeprefix("img_encoder.") in state:
            doubles.append((key, key.removeprefix("img_encoder.")))
        else:
            out[key.replace("img_encoder.patch_embed.", "patch_embed.")] = value
    for key, twin in doubles:
        if twin not in state or not torch.equal(state[key], state[twin]):
            raise OfficialCheckpointError(
                f"{path}: {key} must repeat {twin}, as the published network shares them, and does not"
            )
    return out


def _read_config(
    path: Path, given: Mapping[str, Any], state: Mapping[str, Tensor], *, has_fusion: bool
) -> GeoLinkConfig:
    def shape(key: str, dims: int) -> tuple[int, ...]:
        if key not in state:
            raise OfficialCheckpointError(f"{path}: lacks {key}: it is cut off or not of this layout")
        if state[key].dim() != dims:
            raise OfficialCheckpointError(f"{path}: {key} has shape {tuple(state[key].shape)}, needs {dims} axes")
        return tuple(state[key].shape)

    width, bands, patch, _ = shape("patch_embed.proj.weight", 4)
    side = round((shape("img_pos_embed", 3)[1] - 1) ** 0.5)
    depth = _count(state, r"img_encoder\.blocks\.(\d+)\.")
    values: dict[str, Any] = {
        "image_px": side * patch,
        "patch_px": patch,
        "in_channels": bands,
        "width": width,
        "depth": depth,
        "mlp_ratio": shape("img_encoder.blocks.0.mlp.fc1.weight", 2)[0] / width,
        "heads": _heads(path, given, width, depth),
        "output_layers": tuple(given.get("output_layers") or spread_layers(depth)),
    }
    if has_fusion:
        osm_width, semantic_width = shape(CONV.format(*EDGE_TYPES[0]) + "lin.weight", 2)
        fusion_width = shape("img_fusion_mlp.weight", 2)[0]
        values |= {
            "semantic_width": semantic_width,
            "osm_width": osm_width,
            "fusion_width": fusion_width,
            "fusion_blocks": _count(state, r"osm_cross_modal_encoder\.(\d+)\."),
            "fusion_heads": given.get("osm_cross_modal_encoder_num_heads", 16),
        }
    if "img_decoder_mlp.weight" in state:
        decoder_width = shape("img_decoder_mlp.weight", 2)[0]
        values |= {
            "decoder_width": decoder_width,
            "decoder_depth": _count(state, r"img_cross_modal_decoder\.(\d+)\."),
            "decoder_heads": given.get("img_decoder_num_heads", 16),
            "decoder_mlp_ratio": shape("img_cross_modal_decoder.0.mlp.fc1.weight", 2)[0] / decoder_width,
            "contrastive_width": shape("img_consistency_prj.weight", 2)[0],
        }
    names = {
        "img_size": "image_px",
        "patch_size": "patch_px",
        "embed_dim": "width",
        "depth": "depth",
        "fusion_embed_dim": "fusion_width",
        "img_decoder_embed_dim": "decoder_width",
    }
    for theirs, ours in names.items():
        if theirs in given and ours in values and given[theirs] != values[ours]:
            raise OfficialCheckpointError(
                f"{path}: model_config says {theirs} {given[theirs]}, its tensors say {values[ours]}"
            )
    try:
        return GeoLinkConfig.official(**values)
    except GeoLinkConfigError as error:
        raise OfficialCheckpointError(f"{path}: {error}") from error


def _heads(path: Path, given: Mapping[str, Any], width: int, depth: int) -> int:
    """Heads are not in the tensors: from ``num_heads``, else timm's ``architecture``, else 16 as released."""
    if "num_heads" in given:
        return int(given["num_heads"])
    if "architecture" not in given:
        return 16
    import timm  # noqa: PLC0415 - its zoo takes seconds to import, and few files name an architecture

    try:
        with torch.device("meta"):
            model = timm.create_model(given["architecture"], num_classes=0)
        heads, found = model.blocks[0].attn.num_heads, (model.embed_dim, len(model.blocks))
    except (RuntimeError, AttributeError, TypeError) as error:
        raise OfficialCheckpointError(
            f"{path}: model_config names architecture {given['architecture']!r}, which timm does not know"
        ) from error
    if found != (width, depth):
        raise OfficialCheckpointError(
            f"{path}: architecture {given['architecture']} has width and depth {found}, "
            f"the tensors have {(width, depth)}"
        )
    return int(heads)


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many numbered parts there are: the largest number plus one."""
    return 1 + max((int(m[1]) for key in state if (m := re.match(pattern, key))), default=0)


def _joined(path: Path, state: Mapping[str, Tensor], ours: str, shape: torch.Size) -> Tensor:
    names = official_names(ours)
    part = shape if len(names) == 1 else shape[1:]
    for name in names:
        got = state[name].shape
        if [n for n in got if n != 1] != [n for n in part if n != 1]:
            raise OfficialCheckpointError(
                f"{path}: {name} has shape {tuple(got)}, the configuration needs {tuple(part)}"
            )
    values = [state[name].float().reshape(part) for name in names]
    return values[0] if len(names) == 1 else torch.stack(values)


def _refuse(path: Path, what: str, keys: Iterable[str], advice: str) -> None:
    keys = sorted(keys)
    if keys:
        raise OfficialCheckpointError(f"{path}: {what} {_some(keys)}: {advice}")


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    rest = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + rest
