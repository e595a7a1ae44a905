"""Figures of a classifier on a frozen pyramid, on labelled tiles."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.calibration import Calibration
from models.checkpoints import CheckpointConfig
from models.geolink.graph import TileGraphs
from models.segmentation.calibration import CalibrationSample, CalibrationSampler
from models.segmentation.metrics import FigureKeeper
from models.segmentation.pyramid_model import PyramidSegmenter
from models.tiles.batches import packed_or_none
from models.tiles.sharded import Samples


@torch.inference_mode()
def head_figures(
    model: PyramidSegmenter,
    samples: Samples,
    checkpoint: CheckpointConfig,
    bank: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]],
    *,
    calibration: Calibration,
    semantics: Tensor | None = None,
) -> tuple[dict[str, float], CalibrationSample]:
    """Figures on labelled tiles, each place standardised by its own statistics; and pixels for a calibration.

    Args:
        model: With its classifier trained.
        samples: Labelled tiles.
        checkpoint: Says how images are normalised, and the classes.
        bank: Mean and standard deviation by place; those of the training for other places.
        calibration: Applied for the figures; the pixels are not calibrated.
        semantics: float32 (S, width), embeddings of the samples' tag sets; None for the image alone.
    """
    keeper = FigureKeeper(checkpoint.classes)
    sampler = CalibrationSampler(len(samples), samples.tile_px)
    for start in range(0, len(samples), 8):
        rows = range(start, min(start + 8, len(samples)))
        read = [samples.tile(k) for k in rows]
        images = torch.from_numpy(np.stack([r[0] for r in read]))
        labels = torch.from_numpy(np.stack([r[1] for r in read]))
        place = torch.from_numpy(samples.place[list(rows)].astype(np.int64))
        own = [bank.get(samples.places[int(k)]) for k in place]
        source = (model.encoder.source_mean.numpy(), model.encoder.source_std.numpy())
        mean, std = (torch.from_numpy(np.stack([(s or source)[i] for s in own])) for i in (0, 1))
        scaled = (images.float() / 255 - torch.tensor(checkpoint.mean).view(1, -1, 1, 1)) / torch.tensor(
            checkpoint.std
        ).view(1, -1, 1, 1)
        graphs = None if semantics is None else packed_or_none(TileGraphs.concat([r[2] for r in read]), model.pyramid)
        logits = model(scaled, graphs, None if graphs is None else semantics, mean, std)
        keeper.update(calibration.calibrated(logits), labels)
        sampler.add(logits, labels, place)
    return keeper.result(), sampler.sample()
