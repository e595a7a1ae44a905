"""Calibration fitted on held-out places: one slope for all logits and a bias per class.

Of two classes that is Platt scaling of the logit margin (Platt 1999, Probabilistic Outputs for Support Vector
Machines, with his targets, which keep the fit finite where the classes separate); of more, temperature scaling with
biases (Guo et al. 2017, On Calibration of Modern Neural Networks). The slope alone cannot move the level of the
scores: another season shifts it, and the bias takes the shift out. One district of the ground that was learnt from
does not show such a shift, only how it differs from its neighbours (demo city: bias -1.06, standard error by tiles
0.31, against +0.54, 0.21, on the unseen districts), so there the slope is fitted alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch import Tensor, cat

from models.calibration import Calibration
from models.segmentation.reliability import ReliabilityBin, expected_calibration_error, reliability_bins
from models.tiles.samples import IGNORE

TEMPERATURE_RANGE = (0.05, 20.0)
BIAS_LIMIT = 10.0
"""Least and highest bias: a factor of e^10 on the odds."""
MIN_PLACES = 3
"""From so many places that were learnt from a bias is fitted: their differences from their neighbours level out."""

STRIDE_PX = 4
"""Every fourth row and column takes part at most: neighbours say the same."""
MAX_SAMPLED_PX = 1 << 20


@dataclass(frozen=True, kw_only=True)
class CalibrationSample:
    """Pixels of held-out tiles.

    Attributes:
        logits: float32 (n, classes).
        labels: int64 (n,), all known.
        place: int64 (n,): the place (scene, folder of chips) of each pixel.
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    place: NDArray[np.int64]

    @property
    def weights(self) -> NDArray[np.float64]:
        """float64 (n,), sum n: places weigh the same, pixels of a place too."""
        _, owner, count = np.unique(self.place, return_inverse=True, return_counts=True)
        weight: NDArray[np.float64] = len(self.place) / max(len(count), 1) / count[owner]
        return weight

    def at(self, places: Iterable[int]) -> CalibrationSample:
        """The pixels of some places."""
        chosen = np.isin(self.place, list(places))
        return CalibrationSample(logits=self.logits[chosen], labels=self.labels[chosen], place=self.place[chosen])


@dataclass(frozen=True, kw_only=True)
class CalibrationOutcome:
    """A calibration and what it changed on the pixels that it was fitted on.

    Attributes:
        calibration: The fit.
        before: Reliability of the logits as they were.
        after: Reliability after the fit.
    """

    calibration: Calibration
    before: tuple[ReliabilityBin, ...]
    after: tuple[ReliabilityBin, ...]

    @property
    def figures(self) -> dict[str, float]:
        """For the model card: ``temperature``, ``bias`` (of the second of two classes), ``ece_before``, ``ece``."""
        fitted = self.calibration
        found = {"temperature": fitted.temperature}
        if len(fitted.bias) == 2:
            found["bias"] = fitted.bias[1] - fitted.bias[0]
        for name, bins in (("ece_before", self.before), ("ece", self.after)):
            error = expected_calibration_error(bins)
            if error is not None:
                found[name] = error
        return found

    def to_markdown(self) -> str:
        """Reliability before and after as a table for the model card."""
        head = "| score | pixels before | mean score | observed | pixels after | mean score | observed |"
        lines = ["Reliability on the held-out pixels of the calibration:", "", head, "|" + " --- |" * 7]
        for old, new in zip(self.before, self.after, strict=True):
            cells = [f"{b.pixels} | {_share(b.score_mean)} | {_share(b.observed)}" for b in (old, new)]
            lines.append(f"| {old.low:.1f} to {old.high:.1f} | {cells[0]} | {cells[1]} |")
        return "\n".join(lines)


class CalibrationSampler:
    """Collects pixels of held-out tiles: the same grid of pixels in every tile, in bounded memory.

    Args:
        tiles: Tiles that will come.
        tile_px: Their side.
    """

    def __init__(self, tiles: int, tile_px: int) -> None:
        self.stride_px = max(STRIDE_PX, int(np.ceil(tile_px * np.sqrt(max(tiles, 1) / MAX_SAMPLED_PX))))
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, logits: Tensor, labels: Tensor, place: Tensor | None = None) -> None:
        """Take pixels of logits (B, classes, T, T) and labels (B, T, T); ``place`` int64 (B,), None for one place."""
        step = self.stride_px
        start = min(step // 2, labels.shape[-1] - 1)
        x = logits[:, :, start::step, start::step].float().permute(0, 2, 3, 1)
        y = labels[:, start::step, start::step].long()
        owner = labels.new_zeros(len(labels)).long() if place is None else place.long()
        known = y != IGNORE
        self._parts.append((x[known].cpu(), y[known].cpu(), owner[:, None, None].expand_as(y)[known].cpu()))

    def sample(self) -> CalibrationSample:
        """What was collected."""
        logits, labels, place = (cat(part).numpy() for part in zip(*self._parts, strict=True))
        return CalibrationSample(logits=logits, labels=labels, place=place)


def calibrate(sample: CalibrationSample, *, trained_on: Iterable[int] = ()) -> CalibrationOutcome:
    """Fit a calibration and say what it changed.

    Args:
        sample: Pixels of held-out tiles.
        trained_on: Places that the model was trained on: their pixels are left out where other places show at least
            two classes; where none do and they are fewer than `MIN_PLACES`, only the slope is fitted.
    """
    elsewhere = sample.at(set(sample.place.tolist()) - set(trained_on))
    is_elsewhere = len(np.unique(elsewhere.labels)) > 1
    if is_elsewhere:
        sample = elsewhere
    fitted = fit_calibration(sample, with_bias=is_elsewhere or len(np.unique(sample.place)) >= MIN_PLACES)
    before, after = (_reliability(sample, c) for c in (Calibration(), fitted))
    return CalibrationOutcome(calibration=fitted, before=before, after=after)


def fit_calibration(sample: CalibrationSample, *, with_bias: bool = True) -> Calibration:
    """The slope and the biases with the smallest cross-entropy; convex, so there is one answer.

    Args:
        sample: Pixels of held-out tiles; their `weights` count.
        with_bias: Fit biases too; the slope alone otherwise.

    Returns:
        The fit, temperature within `TEMPERATURE_RANGE`, biases within `BIAS_LIMIT` and 0 for the first class and for
        classes that the sample does not show; no change where it shows fewer than two.
    """
    x, y = sample.logits.astype(np.float64), sample.labels
    n, classes = x.shape
    count = np.bincount(y, minlength=classes)[:classes]
    if (count > 0).sum() < 2:
        return Calibration()
    weight = sample.weights / n
    # Platt's targets: (n + 1) / (n + 2) for the own class of two, so that separable classes have a finite optimum
    target = np.repeat((1 / (count[y] + classes))[:, None], classes, axis=1)
    target[np.arange(n), y] *= count[y] + 1

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        log_p = log_softmax(x * parameters[0] + np.append(0.0, parameters[1:]), axis=1)
        pull = (np.exp(log_p) - target) * weight[:, None]
        return -float(weight @ (target * log_p).sum(1)), np.append((pull * x).sum(), pull.sum(0)[1:])

    low, high = TEMPERATURE_RANGE
    free = [(-BIAS_LIMIT, BIAS_LIMIT) if count[k] and with_bias else (0.0, 0.0) for k in range(1, classes)]
    start = np.append(1.0, np.zeros(classes - 1))
    best = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(1 / high, 1 / low), *free]).x
    return Calibration(temperature=float(1 / best[0]), bias=(0.0, *best[1:].tolist()) if with_bias else ())


def _reliability(sample: CalibrationSample, calibration: Calibration) -> tuple[ReliabilityBin, ...]:
    """Of the second of two classes, or of the most likely of more (Guo et al. 2017)."""
    x = sample.logits / calibration.temperature + np.asarray(calibration.bias or 0.0)
    p = np.exp(log_softmax(x, axis=1))
    if p.shape[1] == 2:
        score, hit = p[:, 1], sample.labels == 1
    else:
        score, hit = p.max(1), p.argmax(1) == sample.labels
    return reliability_bins(score, hit, weights=sample.weights)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
