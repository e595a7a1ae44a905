"""What turns logits into probabilities that mean what they say: a temperature and a bias per class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from torch import Tensor

from models.errors import ModelsError


class CalibrationError(ModelsError, ValueError):
    """A calibration with values that no fit gives."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Logits become ``logits / temperature + bias`` before the softmax.

    Of two classes only the difference of the biases counts: the probability of the second is the logistic function
    of ``margin / temperature + bias[1] - bias[0]`` (Platt 1999); of more it is vector scaling with one common slope
    (Guo et al. 2017).

    Attributes:
        temperature: Positive; above 1 where the model is too sure of itself.
        bias: One per class, that of the first 0; empty for none.

    Raises:
        CalibrationError: a temperature that is not positive, or a value that is not finite.
    """

    temperature: float = 1.0
    bias: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise CalibrationError(f"temperature {self.temperature} must be finite and above 0")
        if not all(math.isfinite(b) for b in self.bias):
            raise CalibrationError(f"bias {self.bias} must be finite")

    @property
    def is_fitted(self) -> bool:
        """Whether it changes any probability."""
        return self.temperature != 1.0 or any(self.bias)

    def describe(self, classes: Sequence[str]) -> str:
        """One line for people, with the names of the classes."""
        shifts = [
            f", bias of {c} {b:+.4g}" for c, b in zip(classes, self.bias or (0.0,) * len(classes), strict=True) if b
        ]
        return f"temperature {self.temperature:.4g}{''.join(shifts)}"

    def undone(self, probability: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities of the second of two classes as they were before the calibration.

        Args:
            probability: float64 (n,), 0 to 1, calibrated.

        Returns:
            float64 (n,): what the logistic function gives of the margin before slope and bias; 0 and 1 stay.
        """
        shift = self.bias[1] - self.bias[0] if self.bias else 0.0
        return np.asarray(expit((logit(probability) - shift) * self.temperature), np.float64)

    def calibrated(self, logits: Tensor) -> Tensor:
        """Logits (B, classes, ...) to logits of the same shape, dtype and device."""
        out = logits / self.temperature
        if any(self.bias):
            out = out + logits.new_tensor(self.bias).view(1, -1, *(1,) * (logits.dim() - 2))
        return out


NOT_CALIBRATED = Calibration()
"""Logits as they are."""
