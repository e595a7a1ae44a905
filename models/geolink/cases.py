"""Reference cases: inputs and outputs of the released code, as ``.npz`` files, and what our model makes of them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import ModelsError
from models.geolink.encoder import GeoLinkEncoder
from models.geolink.graph import (
    EDGE_TYPES,
    GEOMETRY_COLUMNS,
    NODE_TYPES,
    POSITION_POINTS,
    RELATIONS,
    TileGraphs,
)
from models.geolink.losses import contrastive_loss, reconstruction_loss
from models.geolink.masking import PretrainingMasks
from models.geolink.packing import pack
from models.geolink.pretraining import GeoLinkPretraining

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class CaseError(ModelsError):
    """A reference case that cannot be read or does not fit the model."""


@dataclass(frozen=True)
class Difference:
    """How far one array is from the reference: largest difference over the reference's largest absolute value.

    ``note`` says why arrays cannot be compared.
    """

    array: str
    relative: float
    note: str = ""


def difference(array: str, got: NDArray[Any], expected: NDArray[Any]) -> Difference:
    """Compare one array; arrays of other shapes or with values that are not finite are infinitely far apart."""
    if got.shape != expected.shape:
        return Difference(array, float("inf"), f"shape {got.shape}, the reference has {expected.shape}")
    if not expected.size:
        return Difference(array, 0.0)
    far = float(np.abs(got.astype(np.float64) - expected.astype(np.float64)).max())
    scale = float(np.abs(expected.astype(np.float64)).max())
    if far == 0:
        return Difference(array, 0.0)
    relative = far / scale if scale else float("inf")
    return Difference(array, relative if np.isfinite(relative) else float("inf"))


def read_case(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a case, without unpickling.

    Raises:
        CaseError: no such file, or no ``.npz`` of plain arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except FileNotFoundError as error:
        raise CaseError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError, AttributeError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise CaseError(f"{path}: not a readable .npz of plain arrays ({error})") from error


def normalised_image(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Tensor:
    """``image_uint8`` (H, W, 3) with ImageNet mean and standard deviation, float32 (1, 3, H, W).

    Raises:
        CaseError: no such array, or another shape or type.
    """
    image = arrays.get("image_uint8")
    if image is None or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = "none" if image is None else f"{image.dtype} {image.shape}"
        raise CaseError(f"{path}: image_uint8 must be uint8 (height, width, 3), found {found}")
    scaled = torch.from_numpy(image.astype(np.float32) / 255)
    return ((scaled - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)).permute(2, 0, 1)[None]


def case_graphs(path: Path, arrays: Mapping[str, NDArray[Any]], semantic_width: int) -> tuple[TileGraphs, Tensor]:
    """The graph of a tile case, and the table of its nodes' semantics (a row per node).

    Raises:
        CaseError: node features of another width, or edges that do not fit.
    """
    count, position, rows = {}, {}, []
    for t in NODE_TYPES:
        width = semantic_width + 2 * POSITION_POINTS[t]
        x = np.asarray(arrays.get(f"x_{t}", np.zeros((0, width))), np.float32)
        if x.ndim != 2 or x.shape[1] != width:
            raise CaseError(f"{path}: x_{t} has shape {x.shape}, the model needs (nodes, {width})")
        count[t], position[t] = len(x), x[:, semantic_width:].copy()
        rows.append(x[:, :semantic_width])
    first = np.cumsum([0] + [count[t] for t in NODE_TYPES])
    index = {}
    for src, dst in EDGE_TYPES:
        edges = np.asarray(arrays.get(f"edge_index_{src}__to__{dst}", np.zeros((2, 0))), np.int64)
        if edges.ndim != 2 or edges.shape[0] != 2:
            raise CaseError(f"{path}: edge_index_{src}__to__{dst} has shape {edges.shape}, needs (2, edges)")
        index[src, dst] = edges
    graphs = TileGraphs(
        1,
        {t: np.zeros(count[t], np.int64) for t in NODE_TYPES},
        {t: np.arange(count[t]) + first[k] for k, t in enumerate(NODE_TYPES)},
        position,
        {t: np.zeros((count[t], len(GEOMETRY_COLUMNS)), np.float32) for t in NODE_TYPES},
        index,
        {p: np.zeros((index[p].shape[1], len(RELATIONS[p])), np.float32) for p in EDGE_TYPES},
    )
    try:
        graphs.validate()
    except ModelsError as error:
        raise CaseError(f"{path}: {error}") from error
    return graphs, torch.from_numpy(np.concatenate(rows))


def compare_tile(path: Path, arrays: Mapping[str, NDArray[Any]], encoder: GeoLinkEncoder) -> list[Difference]:
    """Feature maps and node embeddings of one tile.

    Raises:
        CaseError: see `normalised_image` and `case_graphs`.
    """
    image = normalised_image(path, arrays)
    graphs, semantics = case_graphs(path, arrays, encoder.config.semantic_width)
    packed = pack(graphs)
    with torch.inference_mode():
        maps = encoder(image, packed, semantics)
        nodes = encoder.encode_nodes(packed, semantics, n_tiles=1)
    got = {f"feature_{k}": m for k, m in enumerate(maps)}
    if nodes is not None:
        got |= {f"osm_embedding_{t}": v for t, v in packed.split_by_type(nodes).items()}
    return _compare(got, arrays)


def compare_pretraining(
    path: Path,
    arrays: Mapping[str, NDArray[Any]],
    model: GeoLinkPretraining,
    tiles: Mapping[str, NDArray[np.uint8]],
) -> list[Difference]:
    """Reconstruction for a given mask, its loss, and the contrastive loss of given embeddings.

    Args:
        path: Of the case.
        arrays: ``ids_restore``, ``mask`` and ``tiles`` for the reconstruction, ``contrastive_img`` and
            ``contrastive_graph`` for the other loss; either part may be absent.
        model: The full network.
        tiles: Image (H, W, 3) of each tile the case names.

    Raises:
        CaseError: the mask does not fit the image.
    """
    got: dict[str, Tensor] = {}
    with torch.inference_mode():
        if "ids_restore" in arrays:
            restore = torch.from_numpy(np.asarray(arrays["ids_restore"], np.int64))
            images = torch.cat([normalised_image(path, {"image_uint8": tiles[str(n)]}) for n in arrays["tiles"]])
            hidden = _hidden(path, arrays, restore)
            if restore.shape != (len(images), model.config.grid**2):
                raise CaseError(
                    f"{path}: ids_restore has shape {tuple(restore.shape)}, the tiles and the model need "
                    f"{(len(images), model.config.grid**2)}"
                )
            n_keep = int((hidden[0] == 0).sum())
            masks = PretrainingMasks.of_patches(restore, n_keep)
            if not torch.equal(masks.hidden, hidden):
                raise CaseError(f"{path}: mask and ids_restore do not fit: the first places must be visible ones")
            _, got["pred"] = model.reconstruct(images, masks.keep, restore)
            got["reconstruction_loss"] = reconstruction_loss(
                got["pred"], images, hidden, patch_px=model.config.patch_px
            )
        if "contrastive_img" in arrays:
            image, graph = (torch.from_numpy(arrays[f"contrastive_{k}"]) for k in ("img", "graph"))
            got["contrastive_loss"] = contrastive_loss(image, graph, gather=False)
    return _compare(got, arrays)


def _hidden(path: Path, arrays: Mapping[str, NDArray[Any]], restore: Tensor) -> Tensor:
    if "mask" not in arrays or arrays["mask"].shape != tuple(restore.shape):
        raise CaseError(f"{path}: ids_restore {tuple(restore.shape)} needs a mask of the same shape")
    return torch.from_numpy(np.asarray(arrays["mask"], np.float32))


def _compare(got: Mapping[str, Tensor], arrays: Mapping[str, NDArray[Any]]) -> list[Difference]:
    outputs = [n for n in arrays if n.startswith(OUTPUT_PREFIXES) and n not in INPUTS]
    return [
        difference(n, got[n].numpy(), arrays[n]) if n in got else Difference(n, float("inf"), "our model gives none")
        for n in outputs
    ]


INPUTS = ("contrastive_img", "contrastive_graph")
OUTPUT_PREFIXES = ("feature_", "osm_embedding_", "pred", "reconstruction_loss", "contrastive_", "tokens")
