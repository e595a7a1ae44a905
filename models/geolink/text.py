"""Tags to vectors: one interface, a default that needs no weights, and tables of vectors computed once.

An object's tags are a tag set, ``{"building": "yes", "building:levels": "6"}``. Each distinct tag is encoded once;
a tag set is the weighted mean of its tags, weights ``ln(count of the key)`` as published, where counts are given.
CLIP's text tower is in `models.geolink.clip_text` and MiniLM in `models.geolink.sentence_text`, so that this module
needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from models.errors import ModelsError

Tag = tuple[str, str]


class TagTextError(ModelsError):
    """Tags, a table or a text model that cannot be used."""


class TagTextEncoder(Protocol):
    """What turns tags into vectors.

    Attributes:
        name: For people and file names.
        width: Channels of a vector.
        digest: Changes where any vector would.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - see the class
    @property
    def width(self) -> int: ...  # noqa: D102 - idem
    @property
    def digest(self) -> str: ...  # noqa: D102 - idem

    def encode(self, tags: Sequence[Tag]) -> NDArray[np.float32]:
        """Vectors float32 (n, width) of (key, value) pairs; any text is normal input."""
        ...


def spelled_key(key: str) -> str:
    """A key as the published vocabulary spells it: a colon becomes a space, underscores stay.

    >>> spelled_key("addr:street")
    'addr street'
    """
    return key.replace(":", " ")


def spelled(tag: Tag) -> str:
    """A tag as the published model reads it: ``key:value``, the value ``yes`` written as the key again.

    >>> spelled(("building", "yes")), spelled(("addr:street", "High Street"))
    ('building:building', 'addr street:High Street')
    """
    key = spelled_key(tag[0])
    return f"{key}:{key if tag[1] == 'yes' else tag[1]}"


def tag_set_embeddings(
    tag_sets: Sequence[Mapping[str, str]],
    encoder: TagTextEncoder,
    key_counts: Mapping[str, int] | None = None,
) -> NDArray[np.float32]:
    """The vector of each tag set: the weighted mean over its tags.

    Args:
        tag_sets: Tags of each set; an empty one gives zeros.
        encoder: Encodes each distinct tag once.
        key_counts: How often each key occurs, keys as `spelled_key` writes them. A tag weighs ln(count): frequent
            keys weigh more, as published; an unknown key counts as once, so weighs nothing beside known ones. Where
            all weights of a set are zero, and where None is given, the mean is plain.

    Returns:
        float32 (S, width), summed in float64 in the order of the keys.

    Raises:
        TagTextError: a count below 1.
    """
    distinct = sorted({tag for tags in tag_sets for tag in tags.items()})
    place = {tag: k for k, tag in enumerate(distinct)}
    vectors = encoder.encode(distinct).astype(np.float64)
    weight = np.array([_weight(key, key_counts) for key, _ in distinct])
    out = np.zeros((len(tag_sets), encoder.width), np.float32)
    for row, tags in enumerate(tag_sets):
        ids = [place[tag] for tag in sorted(tags.items())]
        if ids:
            w = weight[ids]
            out[row] = (w if w.sum() > 0 else np.ones_like(w)) @ vectors[ids] / (w.sum() or len(w))
    return out


def _weight(key: str, key_counts: Mapping[str, int] | None) -> float:
    if key_counts is None:
        return 1.0
    count = key_counts.get(spelled_key(key), 1)
    if count < 1:
        raise TagTextError(f"key {key!r} has count {count}: counts are 1 or more")
    return float(np.log(count))


@dataclass(frozen=True)
class HashedTagEncoder:
    """Vectors of plus and minus one per character n-gram, hashed: no weights, no vocabulary, always the same.

    A tag is the sum of the vectors of its key, of ``key=value``, and of the n-grams of the value's words, scaled to
    a root mean square of 1 (CLIP's embeddings have 0.8). Vectors are bits of SHAKE-128 of the feature's text, so
    that any platform gives the same; tags that share a key or a stem lie close.

    Attributes:
        width: Channels, a multiple of 8.
        ngrams: Lengths of the n-grams.
    """

    width: int = 512
    ngrams: tuple[int, ...] = (3, 4)

    def __post_init__(self) -> None:
        if self.width <= 0 or self.width % 8:
            raise TagTextError(f"width {self.width} must be a positive multiple of 8")

    @property
    def name(self) -> str:
        """Name with the width."""
        return f"hashed-{self.width}"

    @property
    def digest(self) -> str:
        """Of the scheme and its parameters."""
        return hashlib.sha256(f"hashed-ngrams-1 {self.width} {self.ngrams}".encode()).hexdigest()

    def encode(self, tags: Sequence[Tag]) -> NDArray[np.float32]:
        """Vectors float32 (n, width)."""
        known: dict[str, NDArray[np.float64]] = {}
        out = np.zeros((len(tags), self.width), np.float32)
        for row, (key, value) in enumerate(tags):
            total = np.zeros(self.width)
            for feature, weight in self._features(key, value):
                if feature not in known:
                    known[feature] = self._signs(feature)
                total += weight * known[feature]
            out[row] = total / (np.sqrt(np.mean(total**2)) or 1.0)
        return out

    def _features(self, key: str, value: str) -> list[tuple[str, float]]:
        key, value = key.lower(), value.lower()
        parts = [f"^{w}$" for w in re.split(r"[\W_]+", value) if w]
        grams = sorted({p[i : i + n] for p in parts for n in self.ngrams for i in range(len(p) - n + 1)})
        share = 1 / np.sqrt(len(grams)) if grams else 0.0
        return [(f"k {key}", 1.0), (f"t {key}={value}", 1.0), *((f"g {g}", share) for g in grams)]

    def _signs(self, feature: str) -> NDArray[np.float64]:
        raw = hashlib.shake_128(feature.encode("utf-8", "surrogatepass")).digest(self.width // 8)
        return np.unpackbits(np.frombuffer(raw, np.uint8)).astype(np.float64) * 2 - 1


@dataclass(frozen=True)
class TagTable:
    """Vectors of a vocabulary, computed once: an encoder that needs neither weights nor torch.

    Attributes:
        encoder_name: Of the encoder that made the vectors.
        encoder_digest: Idem.
        vectors: float32 (tags, width).
        rows: The row of each tag.
    """

    encoder_name: str
    encoder_digest: str
    vectors: NDArray[np.float32]
    rows: Mapping[Tag, int]

    @classmethod
    def build(cls, tags: Sequence[Tag], encoder: TagTextEncoder) -> TagTable:
        """Encode each distinct tag once."""
        distinct = sorted(set(tags))
        vectors = encoder.encode(distinct)
        return cls(encoder.name, encoder.digest, vectors, {tag: k for k, tag in enumerate(distinct)})

    @property
    def name(self) -> str:
        """The name of the encoder that made it."""
        return self.encoder_name

    @property
    def width(self) -> int:
        """Channels of a vector."""
        return int(self.vectors.shape[1])

    @property
    def digest(self) -> str:
        """That of the encoder: a table gives the same vectors."""
        return self.encoder_digest

    def encode(self, tags: Sequence[Tag]) -> NDArray[np.float32]:
        """Vectors float32 (n, width).

        Raises:
            TagTextError: a tag that the table was not built with.
        """
        missing = sorted({tag for tag in tags if tag not in self.rows})
        if missing:
            raise TagTextError(
                f"the table of {self.name} lacks {len(missing)} tags, first {'='.join(missing[0])!r}: build it from "
                f"this city's tags"
            )
        return self.vectors[[self.rows[tag] for tag in tags]]

    def save(self, path: str | Path) -> None:
        """Write a safetensors file; the same table gives the same bytes."""
        tags = sorted(self.rows, key=self.rows.__getitem__)
        meta = {"encoder": self.encoder_name, "digest": self.encoder_digest, "tags": json.dumps(tags)}
        # one key: the order of several is not fixed in the header
        save_file({"vectors": self.vectors}, path, metadata={"tag_table": json.dumps(meta, sort_keys=True)})

    @classmethod
    def load(cls, path: str | Path) -> TagTable:
        """Read what `save` wrote.

        Raises:
            TagTextError: no such file, or another kind of file.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                meta = json.loads(file.metadata()["tag_table"])
                vectors = file.get_tensor("vectors")
            tags = [(str(k), str(v)) for k, v in json.loads(meta["tags"])]
            if vectors.ndim != 2 or len(tags) != len(vectors) or vectors.dtype != np.float32:
                raise TagTextError(f"{path}: {len(tags)} tags and vectors {vectors.dtype} {vectors.shape}")
            return cls(str(meta["encoder"]), str(meta["digest"]), vectors, {t: k for k, t in enumerate(tags)})
        except FileNotFoundError as error:
            raise TagTextError(f"{path}: no such file") from error
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise TagTextError(f"{path}: no tag table ({error}): build it again") from error
