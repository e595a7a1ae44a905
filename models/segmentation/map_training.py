"""Learn what the map adds to a frozen pyramid, and keep it only where it pays.

The classifier of the image stays as it is: ground without a map reads as before, to the bit. A fusion that learns from
labels alone learns a second classifier of the image, which the presence of any map switches on (demo city: IoU 0.87
with the map, 0.87 with the maps of other tiles, 0.83 without one; a curve that breaks off where the last object goes).
In every step the tiles are therefore shown the maps of other tiles too, and what those add is penalised. What is left
must lower the error on tiles that were not learnt from, below the image alone and below the map of another tile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from models.calibration import Calibration
from models.geolink.graph import TileGraphs
from models.geolink.text import TagTextEncoder, tag_set_embeddings
from models.segmentation.head_data import PlaceFeatures
from models.segmentation.pyramid_model import PyramidSegmenter
from models.tiles.batches import packed_or_none
from models.tiles.graphs import thinned_graphs
from models.tiles.sharded import Samples

LEAST_MAPPED_TILES = 4
"""A place with fewer tiles that show map objects teaches nothing of the map."""
JUDGED_TILES = 8
GRADIENT_NORM = 1.0

Statistics = tuple[NDArray[np.float32], NDArray[np.float32]]


class MapTraining(BaseModel):
    """How the map's part is optimised.

    Attributes:
        steps: Optimiser steps; each is of one place, in turn.
        tiles: Tiles per step.
        learning_rate: Peak of the one-cycle schedule.
        wrong_map: Weight of the squared log-odds that the map of another tile adds.
        thinned: Share of steps in which a random share of the objects is missing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=300, gt=0)
    tiles: int = Field(default=12, gt=0)
    learning_rate: float = Field(default=2e-3, gt=0)
    wrong_map: float = Field(default=1.0, ge=0)
    thinned: float = Field(default=0.5, ge=0, le=1)


@dataclass(frozen=True)
class MappedPlace:
    """Tiles of a place that show map objects.

    Attributes:
        cells: Features of the place.
        tiles: int64 (n,): tiles with objects, rows of ``cells``.
        graphs: Their n graphs.
        statistics: What the place is standardised by.
        semantics: float32 (S, width), embeddings of the tag sets that the graphs point to.
    """

    cells: PlaceFeatures
    tiles: NDArray[np.int64]
    graphs: Sequence[TileGraphs]
    statistics: Statistics
    semantics: Tensor

    def standardised(self, rows: NDArray[np.int64]) -> Tensor:
        """Features float32 (b, C, h, w) of some of the n tiles."""
        mean, std = (torch.from_numpy(v).view(1, -1, 1, 1) for v in self.statistics)
        return (self.cells.features[self.tiles[rows]].float() - mean) / std

    def graphs_of(self, rows: NDArray[np.int64]) -> TileGraphs:
        """Graphs of some of the n tiles."""
        return TileGraphs.concat([self.graphs[k] for k in rows])

    def loss(self, rows: NDArray[np.int64], logits: Tensor) -> Tensor:
        """Cross-entropy of calibrated logits (b, classes, h, w) on labelled cells."""
        known = self.cells.known[self.tiles[rows]]
        labels = self.cells.labels[self.tiles[rows]]
        return functional.cross_entropy(logits.permute(0, 2, 3, 1)[known], labels.permute(0, 2, 3, 1)[known])


@dataclass(frozen=True, kw_only=True)
class MapGain:
    """Cross-entropy on tiles with map objects that were not learnt from.

    Attributes:
        image: Of the image alone.
        map: With the map.
        wrong_map: With the map of another tile.
    """

    image: float
    map: float
    wrong_map: float

    @property
    def pays(self) -> bool:
        """Whether the map is better than none and than a wrong one."""
        return self.map < min(self.image, self.wrong_map)

    @property
    def figures(self) -> dict[str, float]:
        """For the model card."""
        return {"loss_image": self.image, "loss_map": self.map, "loss_wrong_map": self.wrong_map}

    def describe(self) -> str:
        """A sentence for the model card."""
        found = f"{self.map:.4f} with the map, {self.image:.4f} without, {self.wrong_map:.4f} with that of another tile"
        kept = "The map takes part" if self.pays else "The map does not pay on held-out tiles and is not used"
        return f"{kept}: cross-entropy of cells {found}."


def tag_table(tag_sets: Sequence[dict[str, str]], encoder: TagTextEncoder) -> Tensor:
    """Embeddings of tag sets: float32 (S, width)."""
    return torch.as_tensor(np.asarray(tag_set_embeddings(tag_sets, encoder)), dtype=torch.float32)


def mapped_places(
    places: Sequence[PlaceFeatures], samples: Samples, bank: Mapping[str, Statistics], encoder: TagTextEncoder
) -> list[MappedPlace]:
    """Places with map objects on at least `LEAST_MAPPED_TILES` tiles.

    Args:
        places: Features of tiles of ``samples``.
        samples: Their maps.
        bank: Statistics by place.
        encoder: Text model of the map's tags.
    """
    if not samples.tag_sets:
        return []
    found, semantics = [], tag_table(samples.tag_sets, encoder)
    for place in places:
        graphs = [samples.tile(int(k))[2] for k in place.tiles]
        shown = [k for k, g in enumerate(graphs) if any(len(t) for t in g.node_tile.values()) and place.known[k].any()]
        if len(shown) >= LEAST_MAPPED_TILES:
            found.append(MappedPlace(place, np.array(shown), [graphs[k] for k in shown], bank[place.name], semantics))
    return found


def learn_map(
    model: PyramidSegmenter,
    places: Sequence[MappedPlace],
    judged: Sequence[MappedPlace],
    calibration: Calibration,
    *,
    training: MapTraining,
    seed: int,
) -> MapGain:
    """Train the map's part, and take it back where it does not pay on ``judged``; other arguments as for `fit_map`."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit_map(model, places, calibration, training=training, seed=seed)
    gain = map_gain(model, judged, calibration)
    if not gain.pays:
        model.load_state_dict(before)
    return gain


def fit_map(
    model: PyramidSegmenter,
    places: Sequence[MappedPlace],
    calibration: Calibration,
    *,
    training: MapTraining,
    seed: int,
) -> None:
    """Train graph network, fusion and the map's classifier; nothing else of the model changes.

    Args:
        model: Its image classifier is trained already.
        places: What to learn from.
        calibration: Of the image's logits; the map learns what is to be added before it is applied.
        training: How to optimise.
        seed: Seed of order, noise and thinning.
    """
    rng, generator = np.random.default_rng([seed, 1]), torch.Generator().manual_seed(seed)
    parts = (model.encoder.osm, model.encoder.fusion, model.map_classifier)
    weights = [p for part in parts for p in part.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=training.learning_rate)
    steps = max(training.steps, 2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.learning_rate, total_steps=steps)
    for step in range(training.steps):
        place = places[step % len(places)]
        n = len(place.tiles)
        rows = rng.choice(n, min(training.tiles, n), replace=False)
        wrong = (rows + rng.integers(1, n, len(rows))) % n  # never the own one
        share = rng.uniform(0, 0.9) if rng.uniform() < training.thinned else 0.0
        graphs = TileGraphs.concat(
            [thinned_graphs(place.graphs_of(rows), share, rng), thinned_graphs(place.graphs_of(wrong), share, rng)]
        )
        cells = place.standardised(rows)
        with torch.no_grad():
            image = model.image_logits(cells)
        noisy = cells + model.config.feature_noise * torch.randn(cells.shape, generator=generator)
        added = model.map_logits(torch.cat([noisy, noisy]), packed_or_none(graphs, model.pyramid), place.semantics)
        if added is None:
            continue
        own, other = added[: len(rows)], added[len(rows) :]
        moved = (other - other[:, :1]) / calibration.temperature
        loss = place.loss(rows, calibration.calibrated(image + own)) + training.wrong_map * moved.square().mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(weights, GRADIENT_NORM)
        optimiser.step()
        schedule.step()


@torch.inference_mode()
def map_gain(model: PyramidSegmenter, places: Sequence[MappedPlace], calibration: Calibration) -> MapGain:
    """What the map is worth on tiles; all cells of all tiles weigh the same.

    Args:
        model: With its map's part trained.
        places: Tiles to judge on.
        calibration: Of the image's logits.
    """
    total, cells = np.zeros(3), 0
    for place in places:
        n = len(place.tiles)
        for rows in np.array_split(np.arange(n), -(-n // JUDGED_TILES)):
            features = place.standardised(rows)
            image = model.image_logits(features)
            number = int(place.cells.known[place.tiles[rows]].sum())
            for k, shown in enumerate((None, rows, (rows + n // 2) % n)):
                graphs = None if shown is None else packed_or_none(place.graphs_of(shown), model.pyramid)
                added = model.map_logits(features, graphs, place.semantics)
                logits = image if added is None else image + added
                total[k] += number * place.loss(rows, calibration.calibrated(logits)).item()
            cells += number
    image, own, other = (total / cells).tolist()
    return MapGain(image=image, map=own, wrong_map=other)
