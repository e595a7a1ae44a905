"""What a training run shows, keeps and remembers."""

import math
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from tqdm import tqdm


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


class RunKey(Callback):
    """Stores in the resumable state what the run is about, so that another run cannot be continued by mistake."""

    def __init__(self, value: str) -> None:
        self.value = value

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the key."""
        del trainer, pl_module
        checkpoint["run_key"] = self.value
