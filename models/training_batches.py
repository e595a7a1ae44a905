"""Batches for training, drawn by (seed, epoch, step): any process draws the same, in any order."""

from collections.abc import Callable
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from models.training_config import TrainingConfig


class BatchSource(Dataset[Any]):
    """The batches of one epoch, drawn by (seed, epoch, step): any process draws the same.

    Args:
        size: Number of samples.
        batch_size: Samples per batch and rank.
        make: From sample indices int64 (B,) and a source of chance to a batch.
        seed: Seed of the run.
        epoch: Number of the epoch; -1 goes through the samples in order, for validation.
        rank: Number of this process.
        ranks: Number of processes.
        order: Draws the order of an epoch; None shuffles all samples.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        make: Callable[[NDArray[np.int64], np.random.Generator], Any],
        *,
        seed: int,
        epoch: int,
        rank: int = 0,
        ranks: int = 1,
        order: Callable[[np.random.Generator], NDArray[np.int64]] | None = None,
    ) -> None:
        self.make, self.seed, self.epoch, self.rank, self.ranks = make, seed, epoch, rank, ranks
        self.batch_size = batch_size
        self.is_training = epoch >= 0
        self.order = np.arange(size)
        if self.is_training:
            draw = order or (lambda rng: rng.permutation(size))
            drawn = draw(np.random.default_rng([seed, epoch]))
            short = -size % (batch_size * ranks)
            self.order = np.concatenate([drawn, np.resize(drawn, short)])  # the last batch is filled from the first

    def __len__(self) -> int:
        per_step = self.batch_size * (self.ranks if self.is_training else 1)
        return (len(self.order) + per_step - 1) // per_step

    def __getitem__(self, step: int) -> Any:
        if step >= len(self):
            raise IndexError(step)
        start = (step * self.ranks + self.rank) * self.batch_size if self.is_training else step * self.batch_size
        rng = np.random.default_rng([self.seed, self.epoch + 1, step, self.rank])
        return self.make(self.order[start : start + self.batch_size], rng)


class BalancedOrder:
    """The order of an epoch in which every place has the same share, give or take one tile.

    An epoch has as many tiles as there are; those of a small place come several times, and of a large one each epoch
    shows others.

    Args:
        place: int32 (N,), place of each tile.
    """

    def __init__(self, place: NDArray[np.int32]) -> None:
        self.tiles = [np.flatnonzero(place == p) for p in np.unique(place)]
        self.size = len(place)

    def __call__(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """int64 (N,)."""
        places = rng.permutation(len(self.tiles))
        drawn = []
        for k, p in enumerate(places):
            wanted = self.size // len(places) + (k < self.size % len(places))
            rounds = -(-wanted // len(self.tiles[p]))
            drawn.append(np.concatenate([rng.permutation(self.tiles[p]) for _ in range(rounds)])[:wanted])
        return rng.permutation(np.concatenate(drawn)).astype(np.int64)


class BatchData(lightning.LightningDataModule):
    """Training and validation batches for Lightning; a new order every epoch."""

    def __init__(
        self,
        *,
        size: int,
        config: TrainingConfig,
        seed: int,
        make: Callable[[NDArray[np.int64], np.random.Generator], Any],
        validation_size: int = 0,
        make_validation: Callable[[NDArray[np.int64], np.random.Generator], Any] | None = None,
        order: Callable[[np.random.Generator], NDArray[np.int64]] | None = None,
    ) -> None:
        super().__init__()
        self.order = order
        self.size, self.config, self.seed, self.make = size, config, seed, make
        self.validation_size, self.make_validation = validation_size, make_validation

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch and rank."""
        return -(-self.size // (self.config.batch_size * self.config.devices))

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return -(-self.steps_per_epoch // self.config.accumulate) * self.config.epochs

    def train_dataloader(self) -> DataLoader[Any]:
        """The batches of the current epoch."""
        trainer = self.trainer
        epoch, rank, ranks = (trainer.current_epoch, trainer.global_rank, trainer.world_size) if trainer else (0, 0, 1)
        source = BatchSource(
            self.size,
            self.config.batch_size,
            self.make,
            seed=self.seed,
            epoch=epoch,
            rank=rank,
            ranks=ranks,
            order=self.order,
        )
        return self._loader(source)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """The validation samples in order."""
        if self.make_validation is None:
            return []
        source = BatchSource(
            self.validation_size, self.config.batch_size, self.make_validation, seed=self.seed, epoch=-1
        )
        return self._loader(source)

    def _loader(self, source: BatchSource) -> DataLoader[Any]:
        on_gpu = self.config.accelerator != "cpu" and torch.cuda.is_available()
        return DataLoader(source, batch_size=None, num_workers=self.config.workers, pin_memory=on_gpu)
