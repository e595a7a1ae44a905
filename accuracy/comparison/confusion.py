"""One 2 x 2 confusion and everything that follows from it: F1 and IoU never come from two places."""

from __future__ import annotations

from dataclasses import dataclass


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Counts, areas or weighted totals of map (rows) against reference (columns).

    Measures are ``None`` where their denominator is zero: not estimable, which is neither 0 nor 1.

    Attributes:
        tp: Urban village in map and reference.
        fp: Urban village in the map only (commission).
        fn: Urban village in the reference only (omission).
        tn: Urban village in neither.
    """

    tp: float
    fp: float
    fn: float
    tn: float

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(tp=self.tp + other.tp, fp=self.fp + other.fp, fn=self.fn + other.fn, tn=self.tn + other.tn)

    @property
    def total(self) -> float:
        """Everything compared."""
        return self.tp + self.fp + self.fn + self.tn

    @property
    def precision(self) -> float | None:
        """User's accuracy, TP / (TP + FP)."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        """Producer's accuracy, TP / (TP + FN)."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float | None:
        """TN / (TN + FP)."""
        return _ratio(self.tn, self.tn + self.fp)

    @property
    def iou(self) -> float | None:
        """Jaccard index, TP / (TP + FP + FN)."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def f1(self) -> float | None:
        """Dice coefficient, 2 TP / (2 TP + FP + FN) = 2 IoU / (1 + IoU)."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def overall_accuracy(self) -> float | None:
        """(TP + TN) / all."""
        return _ratio(self.tp + self.tn, self.total)

    def as_dict(self) -> dict[str, float | None]:
        """The four cells and every measure, for JSON."""
        return {
            "tp": self.tp,
            "fp": self.fp,
            "fn": self.fn,
            "tn": self.tn,
            "IoU": self.iou,
            "F1": self.f1,
            "precision": self.precision,
            "recall": self.recall,
            "specificity": self.specificity,
            "OA": self.overall_accuracy,
        }
