"""The training loop that segmentation, tasks and pretraining share: Lightning, seeded, resumable, one progress bar.

What a run gives depends on its data, configuration and seed, not on when or where it was interrupted: batches are
drawn by (seed, epoch, step), the state is saved after every epoch, and ``resume`` continues from there. Only a time
limit (`TrainingConfig.max_seconds`) makes a result depend on the machine's speed.
"""

import hashlib
import json
import logging
import math
import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import lightning
import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from models.errors import ModelsError

RESUME_NAME = "resume.ckpt"


class TrainingError(ModelsError):
    """A training that cannot start or go on."""


class TrainingConfig(BaseModel):
    """How a model is optimised.

    Attributes:
        batch_size: Tiles per step and device.
        epochs: Passes over the samples; the learning rate falls to its end over them.
        max_seconds: Time limit: the learning rate then falls with the time, if that is further than the epochs.
            The result depends on the machine's speed; leave None for a reproducible one.
        learning_rate: Peak of the learning rate.
        final_share: Share of the peak that is left at the end of the cosine.
        warmup: Share of the run over which the learning rate rises to its peak.
        weight_decay: Of AdamW, on weights; biases, norms and tokens have none.
        encoder_rate: Factor on the learning rate of a pretrained encoder.
        accumulate: Steps whose gradients are added up.
        clip: Largest norm of the gradient.
        precision: Lightning's precision: ``32-true`` or ``bf16-mixed``.
        accelerator: Lightning's accelerator: ``auto``, ``cpu``, ``gpu``.
        devices: Devices of this machine; more than one trains with DDP.
        workers: Processes that prepare batches; 0 prepares them in this one.
        validate_every: Epochs between validations; the last epoch is always validated.
        patience: Validations without a better figure after which the run stops; None never stops early.
        keep: ``last`` weights, or those of the ``best`` validation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: Annotated[int, Field(gt=0)] = 8
    epochs: Annotated[int, Field(gt=0)] = 20
    max_seconds: Annotated[float | None, Field(gt=0)] = None
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    final_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.08
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    encoder_rate: Annotated[float, Field(ge=0)] = 1.0
    accumulate: Annotated[int, Field(gt=0)] = 1
    clip: Annotated[float, Field(gt=0)] = 1.0
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: Annotated[int, Field(gt=0)] = 1
    workers: Annotated[int, Field(ge=0)] = 0
    validate_every: Annotated[int, Field(gt=0)] = 5
    patience: Annotated[int | None, Field(gt=0)] = None
    keep: Annotated[str, Field(pattern="^(last|best)$")] = "last"


def learning_rate_factor(progress: float, *, warmup: float, final_share: float) -> float:
    """Linear warm-up, then half a cosine.

    Worked example: warmup 0.1, final share 0: 0.05 gives 0.5, 0.1 gives 1, 0.55 gives 0.5, 1 gives 0.

    Args:
        progress: Share of the run that is done.
        warmup: Share of the run that warms up.
        final_share: Factor at the end.
    """
    if progress < warmup:
        return progress / warmup
    x = min(1.0, (progress - warmup) / (1 - warmup))
    return final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * x))


def parameter_groups(module: nn.Module, *, weight_decay: float, encoder_rate: float = 1.0) -> list[dict[str, Any]]:
    """Groups for AdamW: no decay for biases, norms and tokens; an own rate for what is called ``encoder``."""
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and parameter.shape[0] > 1
            groups.setdefault((decays, "encoder." in f".{name}"), []).append(parameter)
    return [
        {"params": p, "weight_decay": weight_decay if decays else 0.0, "rate": encoder_rate if encoder else 1.0}
        for (decays, encoder), p in sorted(groups.items(), key=lambda item: item[0])
    ]


class TrainingModule(lightning.LightningModule):
    """A model with its optimiser and schedule; subclasses give ``training_step`` and ``validation_step``.

    Args:
        model: What is trained.
        config: How.
        total_steps: Optimiser steps of the whole run.
    """

    def __init__(self, model: nn.Module, config: TrainingConfig, *, total_steps: int) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.total_steps = total_steps
        self._seconds_before = 0.0
        self._started = 0.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        groups = parameter_groups(
            self.model, weight_decay=self.config.weight_decay, encoder_rate=self.config.encoder_rate
        )
        return torch.optim.AdamW(groups, lr=self.config.learning_rate, betas=(0.9, 0.98))

    @property
    def run_seconds(self) -> float:
        """Time spent training, interruptions left out."""
        return self._seconds_before + time.monotonic() - self._started

    @property
    def progress(self) -> float:
        """Share of the run that is done: by steps, or by time where that is further."""
        done = self.global_step / self.total_steps
        limit = self.config.max_seconds
        return done if limit is None else max(done, self.run_seconds / limit)

    def on_train_start(self) -> None:
        """Start the clock of the time limit."""
        self._started = time.monotonic()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate of the coming step."""
        del batch, batch_idx
        factor = learning_rate_factor(
            # a step trains at the rate of its middle, so that the first one trains at all
            self.progress + 0.5 / self.total_steps,
            warmup=self.config.warmup,
            final_share=self.config.final_share,
        )
        optimizer = self.optimizers(use_pl_optimizer=False)
        for group in optimizer.param_groups:  # type: ignore[union-attr]
            group["lr"] = self.config.learning_rate * group["rate"] * factor

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop at the time limit."""
        del outputs, batch, batch_idx
        limit = self.config.max_seconds
        if limit is not None and self.run_seconds >= limit:
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the time spent."""
        checkpoint["run_seconds"] = self.run_seconds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over the time spent."""
        self._seconds_before = float(checkpoint["run_seconds"])


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
        return DataLoader(source, batch_size=None, num_workers=self.config.workers)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """The validation samples in order."""
        if self.make_validation is None:
            return []
        source = BatchSource(
            self.validation_size, self.config.batch_size, self.make_validation, seed=self.seed, epoch=-1
        )
        return DataLoader(source, batch_size=None)


class OneBar(Callback):
    """One progress bar over all steps of a run, with the last loss and figure."""

    def __init__(self, label: str, total: int, shown: tuple[str, ...]) -> None:
        self.label, self.total, self.shown = label, total, shown
        self.bar: tqdm[Any] | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Open the bar."""
        del pl_module
        if trainer.is_global_zero:
            self.bar = tqdm(
                total=self.total, initial=trainer.global_step, desc=self.label, unit="step", mininterval=0.5
            )

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        del pl_module, outputs, batch, batch_idx
        if self.bar is not None:
            self.bar.update(trainer.global_step - self.bar.n)
            figures = {k: f"{v:.3f}" for k, v in trainer.callback_metrics.items() if k in self.shown}
            self.bar.set_postfix(figures, refresh=False)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Close the bar."""
        del trainer, pl_module
        if self.bar is not None:
            self.bar.close()


class KeepWeights(Callback):
    """Remembers the weights of the best validation, and ends a run that no longer gets better."""

    def __init__(self, figure: str, *, patience: int | None, keep_best: bool) -> None:
        self.figure, self.patience, self.keep_best = figure, patience, keep_best
        self.best, self.misses = -math.inf, 0
        self.weights: dict[str, Tensor] | None = None

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Compare with the best so far."""
        value = trainer.callback_metrics.get(self.figure)
        if value is None or trainer.sanity_checking:
            return
        if float(value) > self.best:
            self.best, self.misses = float(value), 0
            if self.keep_best:
                state = pl_module.model.state_dict()  # type: ignore[union-attr]
                self.weights = {k: v.detach().cpu().clone() for k, v in state.items()}
        else:
            self.misses += 1
            if self.patience is not None and self.misses >= self.patience:
                trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs."""
        return {"best": self.best, "misses": self.misses, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a saved state."""
        self.best, self.misses, self.weights = state_dict["best"], state_dict["misses"], state_dict["weights"]


class Fingerprint(Callback):
    """Stores in the resumable state what the run is about, so that another run cannot be continued by mistake."""

    def __init__(self, value: str) -> None:
        self.value = value

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the fingerprint."""
        del trainer, pl_module
        checkpoint["fingerprint"] = self.value


def fingerprint(*parts: Any) -> str:
    """SHA-256 of what decides a run: JSON values, arrays, bytes."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data)
        else:
            digest.update(json.dumps(part, sort_keys=True, ensure_ascii=False, default=str).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def fit(
    module: TrainingModule,
    data: BatchData,
    *,
    out: Path,
    seed: int,
    run_fingerprint: str,
    label: str,
    figure: str | None = None,
    resume: bool = True,
    progress: bool = True,
) -> None:
    """Train ``module``; its weights are the result.

    Args:
        module: Model, loss and schedule.
        data: Batches.
        out: Folder of the log (``log/part-*/metrics.csv``) and of the resumable state.
        seed: Seed of dropout and initialisations in the run.
        run_fingerprint: `fingerprint` of data and configuration.
        label: Name of the progress bar.
        figure: Validation figure that is shown and decides on the best weights; higher is better.
        resume: Continue an interrupted run of the same fingerprint; else start anew.
        progress: Show the bar.

    Raises:
        TrainingError: the loss is not finite.
    """
    config = module.config
    out.mkdir(parents=True, exist_ok=True)
    state = out / RESUME_NAME
    found = _saved_fingerprint(state) if resume else None
    if found != run_fingerprint:
        state.unlink(missing_ok=True)
        shutil.rmtree(out / "log", ignore_errors=True)
    callbacks: list[Callback] = [
        Fingerprint(run_fingerprint),
        ModelCheckpoint(
            dirpath=out,
            filename=Path(RESUME_NAME).stem,
            save_top_k=1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
    ]
    keeper = None
    if figure is not None and data.make_validation is not None:
        keeper = KeepWeights(figure, patience=config.patience, keep_best=config.keep == "best")
        callbacks.append(keeper)
    if progress:
        callbacks.append(OneBar(label, module.total_steps, ("loss", *([figure] if figure else []))))
    with _quiet_lightning(), _deterministic(config):
        lightning.seed_everything(seed, verbose=False)
        trainer = lightning.Trainer(
            max_epochs=config.epochs,
            accelerator=config.accelerator,
            devices=config.devices,
            strategy="ddp_find_unused_parameters_true" if config.devices > 1 else "auto",
            precision=config.precision,  # type: ignore[arg-type]
            accumulate_grad_batches=config.accumulate,
            gradient_clip_val=config.clip,
            logger=CSVLogger(out, name="log", version=f"part-{len(list((out / 'log').glob('part-*')))}"),
            callbacks=callbacks,
            check_val_every_n_epoch=min(config.validate_every, config.epochs),
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            enable_progress_bar=False,
            enable_model_summary=False,
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
        )
        resume_from = state if found == run_fingerprint else None
        trainer.fit(module, datamodule=data, ckpt_path=resume_from, weights_only=True)
        if trainer.interrupted:
            raise KeyboardInterrupt
        if dist.is_available() and dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()
        if not trainer.is_global_zero:
            # a process that Lightning started beside this one ends here: one writes the result
            raise SystemExit(0)
    if keeper is not None and keeper.weights is not None:
        module.model.load_state_dict(keeper.weights)
    state.unlink(missing_ok=True)


def checked_loss(losses: Mapping[str, Tensor]) -> Tensor:
    """The sum of ``losses``.

    Raises:
        TrainingError: it is not finite.
    """
    total = torch.stack(list(losses.values())).sum()
    if not torch.isfinite(total.detach()):
        values = ", ".join(f"{name} {float(value.detach()):.3g}" for name, value in losses.items())
        raise TrainingError(f"the loss is not finite ({values}): use a smaller learning_rate or check the samples")
    return total


def _saved_fingerprint(state: Path) -> str | None:
    if not state.is_file():
        return None
    try:
        saved = torch.load(state, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001 - torch raises many types for a damaged file; the run then starts anew
        return None
    value = saved.get("fingerprint") if isinstance(saved, dict) else None
    return value if isinstance(value, str) else None


class _deterministic:  # noqa: N801 - used as a function
    """Deterministic algorithms within a block; warns on a GPU where an operation has none."""

    def __init__(self, config: TrainingConfig) -> None:
        self.on_cpu = config.accelerator == "cpu" or not torch.cuda.is_available()

    def __enter__(self) -> None:
        self.before = (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        )
        torch.use_deterministic_algorithms(True, warn_only=not self.on_cpu)

    def __exit__(self, *error: object) -> None:
        torch.use_deterministic_algorithms(self.before[0], warn_only=self.before[1])


class _quiet_lightning:  # noqa: N801 - used as a function
    """No notices of Lightning on devices, workers and folders within a block."""

    def __enter__(self) -> None:
        self.loggers = [logging.getLogger(n) for n in ("lightning.pytorch", "lightning.fabric", "lightning")]
        self.levels = [log.level for log in self.loggers]
        for log in self.loggers:
            log.setLevel(logging.ERROR)
        self.caught = warnings.catch_warnings()
        self.caught.__enter__()
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", message=r".*does not have many workers.*")

    def __exit__(self, *error: object) -> None:
        self.caught.__exit__(None, None, None)
        for log, level in zip(self.loggers, self.levels, strict=True):
            log.setLevel(level)
