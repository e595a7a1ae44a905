"""Every accuracy measure as one ratio of two totals, so that one linearisation serves them all.

R = sum w y / sum w x, linearised d = (y - R x) / sum w x (Särndal et al. 1992, ch. 5). F1 and IoU are each such a
ratio; their standard errors never come from those of precision and recall, which are correlated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accuracy.arrays import Bools, Floats

CELLS = ("tp", "fp", "fn", "tn")


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A ratio of totals over the four cells of a confusion.

    Attributes:
        name: Short name.
        label: For people.
        numerator: Weights of (tp, fp, fn, tn) in y.
        denominator: The same for x.
        proportion: Lies in [0, 1] (else intervals are Wald's).
        perfect_if_zero: Cells whose absence from the sample makes the measure look perfect.
        nothing_if_zero: Cells whose absence makes it look like 0.
        total: The estimate is the numerator's expanded total, in the units of the sizes; no denominator.
    """

    name: str
    label: str
    numerator: tuple[float, float, float, float]
    denominator: tuple[float, float, float, float]
    proportion: bool = True
    perfect_if_zero: tuple[str, ...] = ()
    nothing_if_zero: tuple[str, ...] = ("tp",)
    total: bool = False


ALL = (1.0, 1.0, 1.0, 1.0)

MEASURES: dict[str, Measure] = {
    m.name: m
    for m in (
        Measure(
            name="UA",
            label="precision (user's accuracy)",
            numerator=(1, 0, 0, 0),
            denominator=(1, 1, 0, 0),
            perfect_if_zero=("fp",),
        ),
        Measure(
            name="PA",
            label="recall (producer's accuracy)",
            numerator=(1, 0, 0, 0),
            denominator=(1, 0, 1, 0),
            perfect_if_zero=("fn",),
        ),
        Measure(
            name="F1",
            label="F1",
            numerator=(2, 0, 0, 0),
            denominator=(2, 1, 1, 0),
            perfect_if_zero=("fp", "fn"),
        ),
        Measure(
            name="IoU",
            label="IoU",
            numerator=(1, 0, 0, 0),
            denominator=(1, 1, 1, 0),
            perfect_if_zero=("fp", "fn"),
        ),
        Measure(
            name="OA",
            label="overall accuracy",
            numerator=(1, 0, 0, 1),
            denominator=ALL,
            perfect_if_zero=("fp", "fn"),
            nothing_if_zero=("tp", "tn"),
        ),
        Measure(
            name="specificity",
            label="specificity",
            numerator=(0, 0, 0, 1),
            denominator=(0, 1, 0, 1),
            perfect_if_zero=("fp",),
            nothing_if_zero=("tn",),
        ),
        Measure(
            name="NPV",
            label="negative predictive value",
            numerator=(0, 0, 0, 1),
            denominator=(0, 0, 1, 1),
            perfect_if_zero=("fn",),
            nothing_if_zero=("tn",),
        ),
        Measure(
            name="area",
            label="share of area that is urban village",
            numerator=(1, 0, 1, 0),
            denominator=ALL,
            perfect_if_zero=("fp", "tn"),
            nothing_if_zero=("tp", "fn"),
        ),
        Measure(
            name="area_map",
            label="share of area that is mapped",
            numerator=(1, 1, 0, 0),
            denominator=ALL,
            perfect_if_zero=("fn", "tn"),
            nothing_if_zero=("tp", "fp"),
        ),
        Measure(
            name="area_difference",
            label="mapped minus true share",
            numerator=(0, 1, -1, 0),
            denominator=ALL,
            proportion=False,
            nothing_if_zero=("fp", "fn"),
        ),
        Measure(
            name="area_total",
            label="urban village, units of the sizes",
            numerator=(1, 0, 1, 0),
            denominator=ALL,
            proportion=False,
            nothing_if_zero=("tp", "fn"),
            total=True,
        ),
        Measure(
            name="total",
            label="whole area, units of the sizes",
            numerator=ALL,
            denominator=ALL,
            proportion=False,
            nothing_if_zero=CELLS,
            total=True,
        ),
    )
}

DEFAULT_MEASURES = ("UA", "PA", "F1", "IoU", "OA", "specificity", "area", "area_map", "area_difference")


def coefficients(names: tuple[str, ...]) -> tuple[Floats, Floats]:
    """float64 (4, K) numerators and denominators of the measures; totals have denominator 0."""
    y = np.array([MEASURES[n].numerator for n in names], dtype=np.float64).T
    x = np.array([(0, 0, 0, 0) if MEASURES[n].total else MEASURES[n].denominator for n in names], dtype=np.float64).T
    return y, x


def confusion_indicators(mapped: Bools, reference: Bools) -> Floats:
    """float64 (n, 4): one-hot of tp, fp, fn, tn."""
    return np.stack(
        [mapped & reference, mapped & ~reference, ~mapped & reference, ~mapped & ~reference], axis=1
    ).astype(np.float64)
