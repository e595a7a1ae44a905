"""Refinement with SAM or SAM 2 from local weights: box, points and mask of the scores as prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, Sam2Model, SamModel

from pipeline.refinement.errors import RefinementError
from pipeline.refinement.prompts import Prompt, make_logits
from pipeline.refinement.refiner import RefinedMask

MODELS: dict[str, Any] = {"sam": SamModel, "sam2": Sam2Model, "sam2_video": Sam2Model}
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
PADDING_LABEL = -10
"""Label of a point that SAM's prompt encoder ignores."""
PROMPTS_PER_BATCH = 16


class SamRefiner:
    """SAM as a refiner.

    One window is encoded once, whatever number of villages it shows; each village is prompted by itself with its
    box, its points and the low-resolution logits of the scores. SAM answers with one mask, which it was trained to give
    for prompts that leave no doubt, as several together do (Kirillov et al., ICCV 2023, appendix A), or with several
    (whole, part, part of it: for a village as easily one roof), of which the one that SAM itself holds best is taken.

    Args:
        folder: Local folder in the layout of `transformers` (``config.json``, ``model.safetensors``).
        masks: ``one``, or the best of ``several``.
        device: torch device; None takes a GPU where there is one.

    Raises:
        RefinementError: The folder is missing, or holds another model.
    """

    name = "sam"

    def __init__(self, folder: Path, *, masks: Literal["one", "several"] = "one", device: str | None = None) -> None:
        if not (folder / "config.json").exists():
            raise RefinementError(f"{folder}: no config.json; give a local folder with the weights of SAM or SAM 2")
        kind = AutoConfig.from_pretrained(folder, local_files_only=True).model_type
        if kind not in MODELS:
            raise RefinementError(f"{folder}: holds a model of type {kind!r}, expected one of {sorted(MODELS)}")
        self._device = choose_device(device)
        self._model: Any = MODELS[kind].from_pretrained(folder, local_files_only=True).to(self._device).eval()
        self._several = masks == "several"
        self._mean, self._std = (part.to(self._device) for part in _normalisation(folder))
        encoder = self._model.prompt_encoder
        self.side_px: int = int(encoder.input_image_size)
        self._mask_px: int = 4 * int(encoder.image_embedding_size[0])

    @torch.inference_mode()
    def refine(self, images: NDArray[np.uint8], prompts: Sequence[Sequence[Prompt]]) -> list[list[RefinedMask]]:
        """See `Refiner.refine`."""
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(self._device).float().div_(255)
        embeddings = self._model.get_image_embeddings((pixels - self._mean) / self._std)
        flat = [(k, prompt) for k, of_window in enumerate(prompts) for prompt in of_window]
        answers: list[list[RefinedMask]] = [[] for _ in prompts]
        for start in range(0, len(flat), PROMPTS_PER_BATCH):
            batch = flat[start : start + PROMPTS_PER_BATCH]
            found = self._decode(embeddings, [k for k, _ in batch], [prompt for _, prompt in batch])
            for (k, _), answer in zip(batch, found, strict=True):
                answers[k].append(answer)
        return answers

    def _decode(self, embeddings: Any, windows: list[int], prompts: list[Prompt]) -> list[RefinedMask]:
        index = torch.tensor(windows, device=self._device)
        # SAM gives one map per window, SAM 2 one per resolution; each prompt becomes an image of its own, since the
        # dense prompt is per image
        chosen = [part[index] for part in embeddings] if isinstance(embeddings, list) else embeddings[index]
        points, labels = _padded_points(prompts)
        logits = np.stack([make_logits(prompt, side_px=self._mask_px) for prompt in prompts])[:, None]
        output = self._model(
            image_embeddings=chosen,
            input_points=torch.from_numpy(points).to(self._device),
            input_labels=torch.from_numpy(labels).to(self._device),
            input_boxes=torch.tensor([[prompt.box] for prompt in prompts], dtype=torch.float32, device=self._device),
            input_masks=torch.from_numpy(logits).to(self._device),
            multimask_output=self._several,
        )
        masks = torch.nn.functional.interpolate(
            output.pred_masks[:, 0].float(), size=(self.side_px, self.side_px), mode="bilinear", align_corners=False
        )
        quality = output.iou_scores[:, 0].float()
        best = quality.argmax(dim=1)
        rows = torch.arange(len(prompts), device=self._device)
        inside = (masks[rows, best] > 0).cpu().numpy()
        return [RefinedMask(mask, float(q)) for mask, q in zip(inside, quality[rows, best].cpu(), strict=True)]


def choose_device(name: str | None) -> str:
    """The device asked for; without a wish a GPU where there is one."""
    return name or ("cuda" if torch.cuda.is_available() else "cpu")


def _padded_points(prompts: Sequence[Prompt]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Points (B, 1, n, 2) and labels (B, 1, n): 1 inside, 0 outside, padded with points that SAM ignores."""
    count = max(1, *(len(prompt.positive) + len(prompt.negative) for prompt in prompts))
    points = np.zeros((len(prompts), 1, count, 2), dtype=np.float32)
    labels = np.full((len(prompts), 1, count), PADDING_LABEL, dtype=np.int32)
    for k, prompt in enumerate(prompts):
        inside, outside = len(prompt.positive), len(prompt.negative)
        points[k, 0, :inside], labels[k, 0, :inside] = prompt.positive, 1
        points[k, 0, inside : inside + outside], labels[k, 0, inside : inside + outside] = prompt.negative, 0
    return points, labels


def _normalisation(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (1, 3, 1, 1) of the folder's preprocessor, or ImageNet's."""
    path = folder / "preprocessor_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    mean = torch.tensor(settings.get("image_mean", IMAGE_MEAN)).reshape(1, 3, 1, 1)
    std = torch.tensor(settings.get("image_std", IMAGE_STD)).reshape(1, 3, 1, 1)
    return mean, std
