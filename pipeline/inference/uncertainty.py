"""How sure a score is: the same tile seen eight ways.

Two values per pixel: the mean probability, and the disagreement, the standard deviation of the views' probabilities (0
where all agree, 0.5 at most). The score raster then has a second band.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.geolink.graph import TileGraphs
from models.tiles.symmetries import symmetric_array, symmetric_graphs
from pipeline.files import digest_of
from pipeline.inference.errors import ModelMismatchError
from pipeline.inference.protocols import TileModel, count_outputs

ALL_SYMMETRIES = tuple(range(8))
"""Numbered as in `models.tiles.symmetries`."""
UNCERTAINTY_VERSION = 1


def invert_symmetry(symmetry: int) -> int:
    """The symmetry of the square that undoes another: with swapped axes, the mirrors change places."""
    if not symmetry & 4:
        return symmetry
    return 4 | ((symmetry & 1) << 1) | ((symmetry & 2) >> 1)


class SymmetryEnsemble:
    """Test-time augmentation: a model asked about each tile turned and mirrored, image and graph in step.

    A `TileModel` whose ``outputs`` is 2; it costs as many runs of the model as there are symmetries.
    """

    outputs = 2

    def __init__(self, model: TileModel, *, symmetries: Sequence[int] = ALL_SYMMETRIES) -> None:
        if not symmetries or any(not 0 <= s < 8 for s in symmetries):
            raise ModelMismatchError(f"symmetries must be some of 0..7, got {tuple(symmetries)}")
        if count_outputs(model) != 1:
            raise ModelMismatchError("the model gives a disagreement already: wrap the single model instead")
        self._model, self._symmetries = model, tuple(symmetries)
        self.tile_px, self.bands, self.batch_size = model.tile_px, model.bands, model.batch_size
        self.uses_graphs = model.uses_graphs
        self.needs_corners = bool(getattr(model, "needs_corners", False))
        self.device = getattr(model, "device", "")
        self.digest = digest_of(["symmetries", UNCERTAINTY_VERSION, list(self._symmetries), model.digest])

    def prepare(self, graphs: TileGraphs | None) -> tuple[Any, ...] | None:
        """The graphs of each view, as the model itself prepares them."""
        if graphs is None:
            return None
        views = (symmetric_graphs(graphs, s) for s in self._symmetries)
        prepare = getattr(self._model, "prepare", None)
        return tuple(views if prepare is None else map(prepare, views))

    def predict(self, images: NDArray[np.uint8], graphs: Any, *where: Any) -> NDArray[np.float32]:
        """Mean and disagreement: float32 (B, 2, T, T)."""

        def seen(symmetry: int, view: Any) -> NDArray[np.float32]:
            turned = np.ascontiguousarray(symmetric_array(images, symmetry))
            return _turn(self._model.predict(turned, view, *where), invert_symmetry(symmetry))

        return combine_answers(seen(s, v) for s, v in zip(self._symmetries, self._views(graphs), strict=True))

    def predict_tensor(self, images: Any, graphs: Any, *where: Any) -> Any:
        """As `predict`, on the model's device: images go there once, views are turned and added up there."""
        import torch  # noqa: PLC0415 -- only where a model's answers stay on its device

        model: Any = self._model
        images = images.to(self.device, non_blocking=True)
        with torch.inference_mode():
            total = squares = torch.zeros((), dtype=torch.float64, device=images.device)
            for symmetry, view in zip(self._symmetries, self._views(graphs), strict=True):
                turned = _turned_tensor(images, symmetry).contiguous()
                answer = _turned_tensor(model.predict_tensor(turned, view, *where), invert_symmetry(symmetry))
                exact = answer.to(torch.float64)
                total = total + exact
                squares = squares + exact * exact
            n = len(self._symmetries)
            mean = total / n
            spread = (squares / n - mean * mean).clamp_(min=0.0).sqrt_()
            return torch.stack([mean, spread], dim=1).to(torch.float32)

    def _views(self, graphs: Any) -> tuple[Any, ...]:
        if isinstance(graphs, TileGraphs):
            graphs = self.prepare(graphs)
        return (None,) * len(self._symmetries) if graphs is None else graphs


def combine_answers(answers: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Mean and standard deviation over members.

    Args:
        answers: float32 (B, T, T) of each member, always in the same order, so that sums come out the same.

    Returns:
        float32 (B, 2, T, T).
    """
    members = 0
    total: Any = 0.0
    squares: Any = 0.0
    for answer in answers:
        exact = answer.astype(np.float64)
        members += 1
        total = total + exact
        squares = squares + exact * exact
    mean = total / members
    spread = np.sqrt(np.maximum(squares / members - mean * mean, 0.0))
    return np.stack([mean, spread], axis=1).astype(np.float32)


def _turn(answer: NDArray[np.float32], symmetry: int) -> NDArray[np.float32]:
    if symmetry & 4:
        answer = answer.swapaxes(-1, -2)
    if symmetry & 1:
        answer = answer[..., ::-1]
    return answer[..., ::-1, :] if symmetry & 2 else answer


def _turned_tensor(tensor: Any, symmetry: int) -> Any:
    """`models.tiles.symmetries.symmetric_array` of a tensor."""
    if symmetry & 4:
        tensor = tensor.swapaxes(-1, -2)
    mirrored = [axis for bit, axis in ((1, -1), (2, -2)) if symmetry & bit]
    return tensor.flip(mirrored) if mirrored else tensor
