"""The training loop that segmentation, tasks and pretraining share: Lightning, seeded, resumable, one progress bar.

What a run gives depends on its data, configuration and seed, not on when or where it was interrupted: batches are
drawn by (seed, epoch, step), the state is saved after every epoch, and ``resume`` continues from there. Only a time
limit (`TrainingConfig.max_seconds`) makes a result depend on the machine's speed.
"""

import importlib.util
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch import Tensor, nn

from models.errors import ModelsError
from models.training_batches import BalancedOrder, BatchData
from models.training_callbacks import AverageWeights, OneBar, RunKey
from models.training_config import TrainingConfig
from models.training_context import deterministic, quiet_lightning
from models.training_optimiser import learning_rate_factor, parameter_groups
from models.training_run import Run, key_of_run

__all__ = [
    "BalancedOrder",
    "BatchData",
    "Run",
    "TrainingConfig",
    "TrainingError",
    "TrainingModule",
    "checked_loss",
    "fit",
    "forget_state",
    "key_of_run",
    "learning_rate_factor",
    "parameter_groups",
    "run_device",
]

RESUME_NAME = "resume.ckpt"
BEST_NAME = "best.ckpt"


class TrainingError(ModelsError):
    """A training that cannot start or go on."""


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
        self._clock = 0.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        groups = parameter_groups(
            self.model, weight_decay=self.config.weight_decay, encoder_rate=self.config.encoder_rate
        )
        return torch.optim.AdamW(groups, lr=self.config.learning_rate, betas=(0.9, 0.98))

    @property
    def run_seconds(self) -> float:
        """Time spent training by the clock of this process, interruptions left out."""
        return self._seconds_before + time.monotonic() - self._started

    @property
    def progress(self) -> float:
        """Share of the run that is done: by steps, or by time where that is further."""
        done = self.global_step / self.total_steps
        limit = self.config.max_seconds
        return done if limit is None else max(done, self._clock / limit)

    def read_clock(self) -> float:
        """The time spent by the clock of the first process, which decides for all where there is a time limit.

        Each process following its own clock would give each its own learning rate and last step.
        """
        if self.config.max_seconds is not None:
            seconds = self.run_seconds
            several = self.trainer.world_size > 1
            self._clock = self.trainer.strategy.broadcast(seconds, src=0) if several else seconds
        return self._clock

    def on_train_start(self) -> None:
        """Start the clock of the time limit."""
        self._started = time.monotonic()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate of the coming step."""
        del batch, batch_idx
        self.read_clock()
        factor = learning_rate_factor(
            # a step trains at the rate of its middle, so that the first one trains at all
            self.progress + 0.5 / self.total_steps,
            warmup=self.config.warmup,
            final_share=self.config.final_share,
        )
        optimizer = self.optimizers(use_pl_optimizer=False)
        for group in optimizer.param_groups:  # type: ignore[union-attr]
            group["lr"] = self.config.learning_rate * group["rate"] * factor
        self.log("learning_rate", self.config.learning_rate * factor)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient to a largest norm, and log the norm that it had."""
        del gradient_clip_algorithm
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        limit = float("inf") if gradient_clip_val is None else gradient_clip_val
        self.log("gradient_norm", nn.utils.clip_grad_norm_(parameters, limit))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop at the time limit."""
        del outputs, batch, batch_idx
        limit = self.config.max_seconds
        if limit is not None and self.read_clock() >= limit:
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the time spent."""
        checkpoint["run_seconds"] = self.run_seconds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over the time spent."""
        self._seconds_before = float(checkpoint["run_seconds"])


def fit(module: TrainingModule, data: BatchData, run: Run, *, figure: str | None = None) -> None:
    """Train ``module``; its weights are the result.

    Args:
        module: Model, loss and schedule.
        data: Batches.
        run: Where and on which seed, and whether an interrupted run of the same key goes on.
        figure: Validation figure that is shown and decides on the best weights; higher is better.

    Raises:
        TrainingError: the loss is not finite, or a GPU is wanted where there is none.
    """
    config, out = module.config, run.out
    if config.accelerator == "gpu" and torch.cuda.device_count() < config.devices:
        raise TrainingError(
            f"{config.devices} GPUs are wanted, there are {torch.cuda.device_count()}: give --accelerator cpu or auto, "
            "or fewer --devices"
        )
    out.mkdir(parents=True, exist_ok=True)
    state = out / RESUME_NAME
    found = _saved_run_key(state) if run.resume else None
    if found != run.key:
        forget_state(out)
        shutil.rmtree(out / "log", ignore_errors=True)
    judged = figure if data.make_validation is not None else None
    callbacks = _callbacks(config, run, judged)
    if run.progress:
        callbacks.append(OneBar(run.label, module.total_steps, ("loss", *([figure] if figure else []))))
    with quiet_lightning(), deterministic(config):
        lightning.seed_everything(run.seed, verbose=False)
        trainer = lightning.Trainer(
            max_epochs=config.epochs,
            accelerator=config.accelerator,
            devices=config.devices,
            strategy="ddp_find_unused_parameters_true" if config.devices > 1 else "auto",
            precision=config.precision,
            accumulate_grad_batches=config.accumulate,
            gradient_clip_val=config.clip,
            logger=_loggers(out),
            callbacks=callbacks,
            check_val_every_n_epoch=min(config.validate_every, config.epochs),
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            enable_progress_bar=False,
            enable_model_summary=False,
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
        )
        resume_from = state if found == run.key else None
        trainer.fit(module, datamodule=data, ckpt_path=resume_from, weights_only=True)
        if trainer.interrupted:
            raise KeyboardInterrupt
        if dist.is_available() and dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()
        if not trainer.is_global_zero:
            # a process that Lightning started beside this one ends here: one writes the result
            raise SystemExit(0)
    if judged is not None and config.keep == "best":
        best = torch.load(out / BEST_NAME, map_location="cpu", weights_only=True)["state_dict"]
        module.model.load_state_dict({k.removeprefix("model."): v for k, v in best.items() if k.startswith("model.")})


def _callbacks(config: TrainingConfig, run: Run, figure: str | None) -> list[Callback]:
    """Run key, averaged weights, early stopping, and what is saved: the state after each epoch, the best weights."""
    found: list[Callback] = [RunKey(run.key)]
    if config.ema is not None:
        found.append(AverageWeights(config.ema, device=run_device(config)))
    if figure is not None and config.patience is not None:
        found.append(EarlyStopping(figure, mode="max", patience=config.patience, check_on_train_epoch_end=False))
    if figure is not None and config.keep == "best":
        found.append(
            ModelCheckpoint(
                dirpath=run.out,
                filename=Path(BEST_NAME).stem,
                monitor=figure,
                mode="max",
                save_on_train_epoch_end=False,
                enable_version_counter=False,
            )
        )
    return [
        *found,
        ModelCheckpoint(
            dirpath=run.out,
            filename=Path(RESUME_NAME).stem,
            save_top_k=1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
    ]


def _loggers(out: Path) -> list[Logger]:
    """CSV always; TensorBoard beside it where it is installed."""
    part = f"part-{len(list((out / 'log').glob('part-*')))}"
    found: list[Logger] = [CSVLogger(out, name="log", version=part)]
    if any(importlib.util.find_spec(name) for name in ("tensorboard", "tensorboardX")):
        found.append(TensorBoardLogger(out, name="log", version=part))
    return found


def forget_state(out: Path) -> None:
    """Remove the resumable state: call it when the result is written, so that a kill before that loses nothing."""
    for name in (RESUME_NAME, BEST_NAME):
        (out / name).unlink(missing_ok=True)


def run_device(config: TrainingConfig) -> torch.device:
    """The device that a run of ``config`` uses in this process, for measurements before and after it."""
    if config.accelerator == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def checked_loss(losses: Mapping[str, Tensor]) -> Tensor:
    """The sum of ``losses``.

    Raises:
        TrainingError: it is not finite.
    """
    total = torch.stack(list(losses.values())).sum()
    if not torch.isfinite(total.detach()):
        values = ", ".join(f"{name} {float(value.detach()):.3g}" for name, value in losses.items())
        raise TrainingError(
            f"the loss is not finite ({values}): check the imagery and labels, or give another --seed or --size"
        )
    return total


def _saved_run_key(state: Path) -> str | None:
    if not state.is_file():
        return None
    try:
        saved = torch.load(state, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001 - torch raises many types for a damaged file; the run then starts from the beginning
        return None
    value = saved.get("run_key") if isinstance(saved, dict) else None
    return value if isinstance(value, str) else None
