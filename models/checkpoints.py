"""Checkpoints of our own: a folder with weights, a typed configuration and a model card.

A checkpoint is a folder with three files:

- ``model.safetensors``: the weights; reading it runs no code.
- ``config.json``: `CheckpointConfig`, with the SHA-256 of the weights.
- ``card.md``: for people: data, licence, figures, digest.

The digest of a checkpoint is the SHA-256 of its canonical ``config.json``, which holds that of the weights:
equal weights and equal configuration give an equal digest on any machine, whatever the card says.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pydantic
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from models.calibration import NOT_CALIBRATED, Calibration
from models.errors import ModelsError

FORMAT_VERSION = 1
WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
CARD_NAME = "card.md"


class CheckpointError(ModelsError):
    """A checkpoint that is missing, damaged or made for something else."""


@dataclass(frozen=True, kw_only=True)
class TagEncoderId:
    """Which tag text encoder the weights were trained with.

    Attributes:
        name: Name of the encoder, such as ``hashed-ngram``.
        digest: Digest of its vectors; another encoder of the same name gives other scores.
        width: Width of its embeddings.
    """

    name: str
    digest: str
    width: int


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """What must be known to use the weights.

    Attributes:
        kind: What the weights are: ``segmentation``, ``pretraining``, ``classification``, ``change``.
        model: Configuration of the model that the weights fit, as plain JSON values.
        tile_px: Side of the tiles that the model sees.
        resolution_m: Ground size of a pixel that the model was trained on, or None where it is not known.
        bands: Names of the bands, in order.
        mean: Mean of each band, on the scale 0 to 1.
        std: Standard deviation of each band, on the scale 0 to 1.
        classes: Names of the classes, in the order of the logits.
        tag_encoder: Tag text encoder, or None where the model never saw a map.
        calibration: What makes probabilities of the logits; also part of the digest.
        weights_sha256: SHA-256 of the weights file; filled in by `save_checkpoint`.
        format_version: Version of this layout.
    """

    __pydantic_config__: ClassVar[pydantic.ConfigDict] = pydantic.ConfigDict(extra="forbid")

    kind: str
    model: dict[str, Any]
    tile_px: int = 224
    resolution_m: float | None = None
    bands: tuple[str, ...] = ("red", "green", "blue")
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    classes: tuple[str, ...] = ("other", "urban_village")
    tag_encoder: TagEncoderId | None = None
    calibration: Calibration = NOT_CALIBRATED
    weights_sha256: str = ""
    format_version: int = FORMAT_VERSION

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical configuration, the hash of the weights included."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, one byte sequence for one value.

        A calibration without bias is written as ``temperature`` alone, as before there was a bias: checkpoints of
        then keep their digest.
        """
        data = _CONFIG.dump_python(self, mode="json")
        if not self.calibration.bias:
            data["temperature"] = data.pop("calibration")["temperature"]
        return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


_CONFIG: pydantic.TypeAdapter[CheckpointConfig] = pydantic.TypeAdapter(CheckpointConfig)


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What people must know before they use the weights.

    Attributes:
        title: One line.
        data: One line per data set: what it is, where it is from.
        licence: Licence of the weights.
        figures: Measured figures, name to value.
        notes: Free text: limits, intended use.
    """

    title: str
    data: tuple[str, ...] = ()
    licence: str = "not stated"
    figures: Mapping[str, float | int | str] = field(default_factory=dict)
    notes: str = ""

    def to_markdown(self, config: CheckpointConfig) -> str:
        """The card as Markdown, with the digest of ``config``."""
        encoder = config.tag_encoder
        text = f"{encoder.name} ({encoder.digest[:12]})" if encoder else "none (image only)"
        lines = [
            f"# {self.title}",
            "",
            f"- kind: {config.kind}; classes: {', '.join(config.classes)}",
            f"- input: {', '.join(config.bands)}; tiles of {config.tile_px} px"
            + (f" at {config.resolution_m:g} m" if config.resolution_m else ""),
            f"- tag text encoder: {text}",
            f"- calibration: {config.calibration.describe(config.classes)}",
            f"- licence: {self.licence}",
            f"- digest: {config.digest}",
            "",
            "## Data",
            "",
            *([f"- {line}" for line in self.data] or ["- not stated"]),
            "",
            "## Figures",
            "",
            *([f"- {name}: {_figure(value)}" for name, value in sorted(self.figures.items())] or ["- none"]),
        ]
        if self.notes:
            lines += ["", "## Notes", "", self.notes]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint read from disk.

    Attributes:
        path: Its folder.
        config: Its configuration.
        weights: Parameter name to tensor, on the CPU.
    """

    path: Path
    config: CheckpointConfig
    weights: dict[str, Tensor]

    @property
    def digest(self) -> str:
        """Digest of the content."""
        return self.config.digest

    def load_into(self, module: nn.Module) -> None:
        """Copy the weights into ``module``, strictly.

        Raises:
            CheckpointError: where names or shapes differ; names the first difference of each sort.
        """
        load_weights(module, self.weights, source=self.path / WEIGHTS_NAME)


def save_checkpoint(
    path: Path, *, weights: Mapping[str, Tensor], config: CheckpointConfig, card: ModelCard
) -> CheckpointConfig:
    """Write a checkpoint folder, in one step: a killed run leaves the old one or none.

    Args:
        path: Folder to make or to replace.
        weights: State dictionary; tensors are stored contiguous, on the CPU, in their own dtype.
        config: Configuration; its ``weights_sha256`` is filled in.
        card: Model card.

    Returns:
        The configuration as written; its ``digest`` is that of the checkpoint.

    Raises:
        CheckpointError: ``path`` is a file, or a folder that is no checkpoint.
    """
    if path.exists() and not (path / CONFIG_NAME).is_file() and (path.is_file() or any(path.iterdir())):
        raise CheckpointError(f"{path} exists and is no checkpoint: choose another folder, or remove it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: weights[name].detach().cpu().contiguous().clone() for name in sorted(weights)}
    payload = safetensors.torch.save(tensors)
    config = replace(config, weights_sha256=hashlib.sha256(payload).hexdigest())
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        fresh = Path(scratch) / "new"
        fresh.mkdir()
        (fresh / WEIGHTS_NAME).write_bytes(payload)
        (fresh / CONFIG_NAME).write_text(config.to_json(), encoding="utf-8")
        (fresh / CARD_NAME).write_text(card.to_markdown(config), encoding="utf-8")
        if path.exists():
            os.replace(path, Path(scratch) / "old")  # noqa: PTH105 - the name says what it does to a folder
        shutil.move(fresh, path)
    return config


def load_config(path: Path) -> CheckpointConfig:
    """Read and check the configuration of a checkpoint, without its weights.

    Raises:
        CheckpointError: missing, not JSON, of another version, or with a wrong field.
    """
    file = path / CONFIG_NAME
    if not file.is_file():
        hint = "give the folder, not the file" if path.is_file() else "check the path, or train a model first"
        raise CheckpointError(f"{path} is no checkpoint folder (it has no {CONFIG_NAME}): {hint}")
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file} is not valid JSON ({error}): copy or download the checkpoint again") from error
    version = data.get("format_version") if isinstance(data, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{file} has format_version {version}, this program reads {FORMAT_VERSION}: "
            "use the program's version that wrote it, or train again"
        )
    if "calibration" not in data and "temperature" in data:
        data["calibration"] = {"temperature": data.pop("temperature")}
    try:
        config = _CONFIG.validate_python(data)
    except pydantic.ValidationError as error:
        raise CheckpointError(f"{file}: {first_problem(error)}; copy or download the checkpoint again") from error
    if len(config.calibration.bias) not in (0, len(config.classes)):
        raise CheckpointError(
            f"{file} has {len(config.calibration.bias)} biases for {len(config.classes)} classes: "
            "copy or download the checkpoint again"
        )
    return config


def load_checkpoint(path: Path, *, kind: str | None = None) -> Checkpoint:
    """Read a checkpoint folder; nothing is unpickled.

    Args:
        path: The folder.
        kind: Kind that the caller can use; None takes any.

    Raises:
        CheckpointError: missing, truncated, changed since it was written, or of another kind.
    """
    config = load_config(path)
    if kind is not None and config.kind != kind:
        raise CheckpointError(f"{path} is a checkpoint of kind '{config.kind}', needed is '{kind}': give another one")
    file = path / WEIGHTS_NAME
    if not file.is_file():
        raise CheckpointError(f"{file} is missing beside {CONFIG_NAME}: copy or download the checkpoint again")
    payload = file.read_bytes()
    found = hashlib.sha256(payload).hexdigest()
    if found != config.weights_sha256:
        raise CheckpointError(
            f"{file} ({len(payload)} bytes) has SHA-256 {found[:12]}…, {CONFIG_NAME} says "
            f"{config.weights_sha256[:12]}…: it is truncated or was changed, copy or download it again"
        )
    try:
        weights = safetensors.torch.load(payload)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{file} is no safetensors file ({error}): copy or download it again") from error
    return Checkpoint(path=path, config=config, weights=weights)


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], *, source: Path | str) -> None:
    """Copy ``weights`` into ``module``: every name and shape must fit.

    Args:
        module: The module to fill.
        weights: State dictionary.
        source: Where the weights come from, for messages.

    Raises:
        CheckpointError: names what is missing, unknown or of another shape.
    """
    expected = module.state_dict()
    missing = sorted(expected.keys() - weights.keys())
    unknown = sorted(weights.keys() - expected.keys())
    misfits = [n for n in sorted(expected.keys() & weights.keys()) if expected[n].shape != weights[n].shape]
    problems = []
    if missing:
        problems.append(f"{len(missing)} parameters are missing (first '{missing[0]}')")
    if unknown:
        problems.append(f"{len(unknown)} are unknown to the model (first '{unknown[0]}')")
    if misfits:
        name = misfits[0]
        shapes = f"{tuple(weights[name].shape)} in the file, {tuple(expected[name].shape)} in the model"
        problems.append(f"{len(misfits)} have another shape (first '{name}': {shapes})")
    if problems:
        raise CheckpointError(
            f"{source} does not fit the configured model: {'; '.join(problems)}: "
            "use the configuration that lies beside these weights"
        )
    with torch.no_grad():
        module.load_state_dict(dict(weights), strict=True)


def first_problem(error: pydantic.ValidationError) -> str:
    """The first problem of a validation in one line: field, value and reason."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"]) or "value"
    return f"field '{where}' is {problem['input']!r}: {problem['msg']}"


def _figure(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
