"""What holds while a model is trained: deterministic algorithms, and no notices of Lightning."""

import logging
import warnings

import torch

from models.training_config import TrainingConfig


class deterministic:  # noqa: N801 - used as a function
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


class quiet_lightning:  # noqa: N801 - used as a function
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
