"""CLIP's text tower as an encoder of tags, from local files through transformers."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer, CLIPTextModel

from models.geolink.text import Tag, TagTextError, spelled

BATCH = 256


@dataclass(frozen=True)
class ClipTagEncoder:
    """Published semantics of a tag: the mean of CLIP's last hidden states over all tokens but the first.

    The end token is among them. Texts longer than the tower's 77 tokens are cut, end token kept (the released code
    fails on them). Texts of equal length form a batch, so that no padding enters the mean.

    Attributes:
        model: The text tower, in evaluation mode.
        tokenizer: Its tokenizer.
        name: Folder name of the weights.
        digest: Of all files of the folder.
    """

    model: Any
    tokenizer: Any
    name: str
    digest: str

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu") -> ClipTagEncoder:
        """Read a folder as ``save_pretrained`` writes it (config, weights, tokenizer).

        Nothing comes from the network, and no code is unpickled.

        Raises:
            TagTextError: no such folder, or files transformers cannot read.
        """
        path = Path(path)
        if not path.is_dir():
            raise TagTextError(f"{path}: no such folder: give the folder of CLIP's config, weights and tokenizer")
        try:
            model: Any = CLIPTextModel.from_pretrained(path, local_files_only=True, weights_only=True)
            tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
            raise TagTextError(f"{path}: no CLIP text tower ({str(error).splitlines()[0]})") from error
        return cls(model.eval().to(device), tokenizer, f"clip-{path.name}", _digest(path))

    @property
    def width(self) -> int:
        """Channels of a vector: 512 for ViT-B/16's text tower."""
        return int(self.model.config.hidden_size)

    @property
    def max_tokens(self) -> int:
        """Most tokens of a text, first and end token included."""
        return int(self.model.config.max_position_embeddings)

    def encode(self, tags: Sequence[Tag]) -> NDArray[np.float32]:
        """Vectors float32 (n, width); each distinct text goes through the tower once."""
        texts = sorted({spelled(tag) for tag in tags})
        if not texts:
            return np.zeros((0, self.width), np.float32)
        tokens = self.tokenizer(texts, truncation=True, max_length=self.max_tokens)["input_ids"]
        by_length: dict[int, list[int]] = defaultdict(list)
        for k, ids in enumerate(tokens):
            by_length[len(ids)].append(k)
        vectors = np.zeros((len(texts), self.width), np.float32)
        for places in by_length.values():
            for start in range(0, len(places), BATCH):
                some = places[start : start + BATCH]
                vectors[some] = self._tower([tokens[k] for k in some])
        row = {text: k for k, text in enumerate(texts)}
        return vectors[[row[spelled(tag)] for tag in tags]]

    @torch.inference_mode()
    def _tower(self, tokens: list[list[int]]) -> NDArray[np.float32]:
        ids = torch.tensor(tokens, device=self.model.device)
        hidden = self.model(input_ids=ids).last_hidden_state
        out: NDArray[np.float32] = hidden[:, 1:].mean(1).float().cpu().numpy()
        return out


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.is_file():
            total.update(file.name.encode() + b"\0")
            with file.open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()
