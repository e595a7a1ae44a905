"""The further tasks of GeoLink on folders of tiles: function zones, scene classes, change between two dates.

Tiles are RGB images of one size (PNG, JPEG or TIFF without georeference). Layouts:

- zones: ``img/NAME`` and ``label/NAME`` with the class of each pixel (0 to 8; 9 and above are ignored);
- scenes: ``CLASS/NAME``, one folder per class;
- change: ``before/NAME``, ``after/NAME`` and ``label/NAME`` (1 changed, 0 not, 255 unknown).

Every fifth tile by name is kept for validation, of scenes every fifth of each class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from models.geolink.graph import TileGraphs
from models.segmentation.trainer import TrainResult, train_segmenter
from models.tasks.change import ChangeSet, detect_change, train_change
from models.tasks.encodings import encode_tiles, pooled
from models.tasks.probes import linear_probe, nearest_neighbours, scene_figures
from models.tasks.scenes import SceneSet, fine_tune_classifier
from models.tasks.zones import ZONES, zone_labels
from models.tiles.samples import SampleSet
from models.training_config import TrainingConfig
from pipeline.errors import PipelineError
from pipeline.files import replacing
from pipeline.learning.held_out import HELD_OUT_EVERY
from pipeline.learning.training import segmentation_config, size_of, training_config
from regions.raster.scores import SCORE_SCALE

Task = Literal["zones", "scenes", "change"]
TASKS: tuple[str, ...] = get_args(Task)
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


class TaskTilesError(PipelineError):
    """A folder of tiles that does not fit the task."""


@dataclass(frozen=True)
class TaskRun:
    """How a task is trained.

    Attributes:
        tiles: Folder of tiles, by the layout of the task.
        out: Folder that receives the checkpoint.
        size: Preset of the model; that of ``pretrained`` where None, else the smallest.
        changes: Fields of `TrainingConfig` that differ from the preset's; None is the preset's.
        pretrained: Checkpoint whose encoder to start from.
        seed: Seed of all that is random.
        progress: Show a progress bar.
    """

    tiles: Path
    out: Path
    size: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    pretrained: Path | None = None
    seed: int = 0
    progress: bool = False

    @property
    def training(self) -> TrainingConfig:
        """How the model is optimised."""
        return training_config(size_of(self.size, pretrained=self.pretrained), **self.changes)


def train_task(task: str, run: TaskRun) -> TrainResult:
    """Train a model for a task and write its checkpoint.

    Raises:
        TaskTilesError: an unknown task, or tiles that do not fit it or each other.
        ModelsError: as the trainer of the task raises.
    """
    if task == "zones":
        return _train_zones(run)
    if task == "scenes":
        return _train_scenes(run)
    if task == "change":
        return _train_change(run)
    raise TaskTilesError(f"no task '{task}'; the tasks are {', '.join(TASKS)}")


def probe_scenes(tiles: Path, checkpoint: Path) -> dict[str, float]:
    """How well frozen encodings tell scenes apart: nearest neighbours and a linear probe on every fifth tile.

    Args:
        tiles: Folder by the layout of scenes.
        checkpoint: Any checkpoint with an encoder.

    Returns:
        ``neighbours_accuracy``, ``neighbours_f1``, ``linear_accuracy``, ``linear_f1``.

    Raises:
        TaskTilesError: tiles that do not fit.
        CheckpointError: no encoder there.
    """
    images, labels, classes, held = _scenes(tiles)
    vectors = pooled(encode_tiles(checkpoint, images))
    figures: dict[str, float] = {}
    for name, classify in (("neighbours", nearest_neighbours), ("linear", linear_probe)):
        guess = classify(vectors[~held], labels[~held], vectors[held])
        found = scene_figures(guess, labels[held], classes=len(classes))
        figures |= {f"{name}_{measure}": value for measure, value in found.items()}
    return figures


def write_change(checkpoint: Path, before: Path, after: Path, out: Path) -> list[Path]:
    """Write the probability of change of pairs of tiles as PNG scores, 0 to 250 for 0 to 1.

    Args:
        checkpoint: What `train_task` wrote for change.
        before: Folder of tiles.
        after: Folder of tiles of the same names and ground.
        out: Folder that receives one PNG per pair.

    Raises:
        TaskTilesError: no pair, a tile of one date alone, or tiles of different sizes.
        CheckpointError: damaged or of another kind.
    """
    names = _names(before)
    alone = sorted({*names} ^ {*_names(after)})
    if alone:
        raise TaskTilesError(f"{alone[0]} and {len(alone) - 1} more are in {before} or {after} alone: give both dates")
    stems = [Path(name).stem for name in names]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise TaskTilesError(f"{before}: several tiles are called {twice[0]}: each name gives one PNG, rename them")
    scores = detect_change(checkpoint, _pictures(before, names), _pictures(after, names))
    written = []
    for name, values in zip(names, scores, strict=True):
        path = (out / name).with_suffix(".png")
        with replacing(path) as temporary:
            Image.fromarray(np.rint(values * SCORE_SCALE).astype(np.uint8)).save(temporary, format="PNG")
        written.append(path)
    return written


def _train_zones(run: TaskRun) -> TrainResult:
    names = _names(run.tiles / "img")
    samples = SampleSet.image_only(
        _pictures(run.tiles / "img", names),
        np.stack([zone_labels(_labels(run.tiles / "label", n)) for n in names]),
        source=f"{run.tiles.name}: {len(names)} tiles of function zones",
    )
    train, validation = _split(samples, len(samples))
    return train_segmenter(
        train,
        validation,
        segmentation_config(run.size, classes=len(ZONES), pretrained=run.pretrained),
        out=run.out,
        training=run.training,
        classes=ZONES,
        seed=run.seed,
        pretrained=run.pretrained,
        title="Urban function zones",
        progress=run.progress,
    )


def _train_scenes(run: TaskRun) -> TrainResult:
    images, labels, classes, held = _scenes(run.tiles)
    train, validation = (
        SceneSet(images=images[part], labels=labels[part], graphs=TileGraphs.empty(int(part.sum())))
        for part in (~held, held)
    )
    return fine_tune_classifier(
        train,
        validation,
        segmentation_config(run.size, pretrained=run.pretrained).geolink,
        classes=classes,
        out=run.out,
        training=run.training,
        pretrained=run.pretrained,
        seed=run.seed,
        progress=run.progress,
    )


def _train_change(run: TaskRun) -> TrainResult:
    names = _names(run.tiles / "before")
    dates = [_pictures(run.tiles / date, names) for date in ("before", "after")]
    images, labels = np.stack(dates, axis=1), np.stack([_labels(run.tiles / "label", n) for n in names])
    held = _held_out(len(names))
    source = f"{run.tiles.name}: {len(names)} pairs"
    train, validation = (ChangeSet(images=images[part], labels=labels[part], source=source) for part in (~held, held))
    return train_change(
        train,
        validation,
        segmentation_config(run.size, pretrained=run.pretrained),
        out=run.out,
        training=run.training,
        pretrained=run.pretrained,
        seed=run.seed,
        progress=run.progress,
    )


def _scenes(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...], NDArray[np.bool_]]:
    """Images, labels, class names, and which tiles are kept for validation: every fifth of each class."""
    classes = tuple(sorted(p.name for p in folder.iterdir() if p.is_dir())) if folder.is_dir() else ()
    if len(classes) < 2:
        raise TaskTilesError(f"{folder}: holds {len(classes)} folders, one for each of at least two classes is needed")
    names = [_names(folder / name) for name in classes]
    images = [_pictures(folder / name, of_class) for name, of_class in zip(classes, names, strict=True)]
    sizes = {i.shape[2] for i in images}
    if len(sizes) > 1:
        raise TaskTilesError(f"{folder}: tiles of {sorted(sizes)} px: tiles of one size are needed")
    labels = np.repeat(np.arange(len(classes)), [len(of_class) for of_class in names])
    held = [_held_out(len(of_class), what=str(folder / name)) for name, of_class in zip(classes, names, strict=True)]
    return np.concatenate(images), labels.astype(np.int64), classes, np.concatenate(held)


def _split(samples: SampleSet, count: int) -> tuple[SampleSet, SampleSet]:
    held = _held_out(count)
    return samples.select(np.flatnonzero(~held)), samples.select(np.flatnonzero(held))


def _held_out(count: int, *, what: str = "") -> NDArray[np.bool_]:
    if count < 2:
        raise TaskTilesError(
            f"{what or 'the folder'} holds {count} tiles: at least one to learn from and one to validate on are needed"
        )
    held: NDArray[np.bool_] = np.arange(count) % HELD_OUT_EVERY == min(HELD_OUT_EVERY, count) - 1
    return held


def _names(folder: Path) -> list[str]:
    names = (
        sorted(p.name for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
        if folder.is_dir()
        else []
    )
    if not names:
        raise TaskTilesError(f"{folder}: no tiles; expected images ending in {', '.join(SUFFIXES)}")
    return names


def _pictures(folder: Path, names: Sequence[str]) -> NDArray[np.uint8]:
    """uint8 (N, 3, T, T)."""
    pictures = [np.asarray(_opened(folder / name).convert("RGB")).transpose(2, 0, 1) for name in names]
    sizes = {p.shape[1:] for p in pictures}
    if len(sizes) > 1 or any(h != w for h, w in sizes):
        raise TaskTilesError(f"{folder}: tiles of {sorted(sizes)} px: square ones of one size are needed")
    return np.stack(pictures).astype(np.uint8)


def _labels(folder: Path, name: str) -> NDArray[np.uint8]:
    """uint8 (T, T) of the label of a tile, under its name or with the ending of PNG."""
    path = folder / name if (folder / name).exists() else (folder / name).with_suffix(".png")
    values: NDArray[Any] = np.asarray(_opened(path))
    if values.ndim != 2 or values.dtype != np.uint8:
        raise TaskTilesError(f"{path}: labels are {values.dtype} {values.shape}, one uint8 band is needed")
    return values


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image.copy()
    except FileNotFoundError as error:
        raise TaskTilesError(f"{path}: no such file; every tile needs one of that name") from error
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise TaskTilesError(f"{path}: cannot be read as an image: {error}") from error
