"""What a training run shows, keeps and remembers."""

from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
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


class AverageWeights(WeightAveraging):
    """Exponential moving average of the weights (Polyak and Juditsky 1992): what is validated, and what is kept.

    The share of the past rises from nothing to ``decay`` as (1 + n) / (10 + n) over n steps, so that a short run is
    not held back by its first weights. Buffers are averaged as well, numbers that count steps are taken over.

    Args:
        decay: Share of the past in the average, far into a run.
        device: Where the average is kept.
    """

    def __init__(self, decay: float, *, device: torch.device) -> None:
        self.decay = decay
        super().__init__(device=device, multi_avg_fn=self._mix)

    @torch.no_grad()
    def _mix(self, averaged: Any, current: Any, count: Tensor | int) -> None:
        n = float(count)
        new = 1 - min(self.decay, (1 + n) / (10 + n))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, new)
        else:
            torch._foreach_copy_(averaged, current)


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
