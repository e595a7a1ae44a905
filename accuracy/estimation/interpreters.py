"""What the interpreters add to the error: other interpreters would have labelled the same points differently.

A measurement model (Hansen, Hurwitz & Bershad 1961; for maps Stehman et al. 2022, Remote Sensing of Environment 269,
112806): interpreter t, one of many who might have worked, says "village" at point k with a probability q_kt, on average
over all of them q_k. What he has in common with himself at all his points, no number of points removes. Where points
were read twice it shows as e_kt, his answer less the mean of all J_k answers of the point; sqrt(J / (J - 1)) e_kt has
the expectation of q_kt - q_k in the square. The variance added is

    sum_t ( sum_k sqrt(J_k / (J_k - 1)) w_k D_k e_kt (S_tc + x_kt) )^2   less its own sampling variance, 0 if negative

with D_k what the answer 1 instead of 0 does to the linearised measure, and

- S_tc = weight of the points of class c that he alone read / weight of those that he read with others. A class is
  second-stage stratum x first reading (of the interpreter with most answers), so that omissions that are all read again
  and other points of which some are stand for their own kind.
- x_kt for the points read twice themselves. The majority of three changes with one of them by 2 q (1 - q), the chance
  that the other two differ; three of them give x = sqrt(3 / 2) 2 q (1 - q), with q the share of readings that say
  "village" among the points of the stratum that ended with the same answer. Where even splits were left to the first
  interpreter, x is the share of splits that went his way: one who always wins has x = 1. Adjudicated splits count as
  settled by a third.

A single city holds too few points that were read twice to show of itself how interpreters differ: its w_k is the
weight of all points of the same class and map answer, times the city's share of it (`borrows`).

One interpreter for all points and a second for some give D^2 / 2 - v(D) / 2, D the difference of their estimates on
what both read. Errors that all interpreters share stay hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from accuracy.arrays import Bools, Floats, Ints
from accuracy.errors import SampleTableError
from accuracy.measures import coefficients, confusion_indicators
from accuracy.survey.design import as_text
from accuracy.survey.merging import tabulate_answers, tabulate_readings
from accuracy.survey.sample import YES, ReferenceSample


@dataclass(frozen=True, kw_only=True)
class InterpreterPanel:
    """Who answered what, over the n answered rows of a sample.

    Attributes:
        names: T interpreters, the one with most answers first.
        labels: float64 (n, T), 1 or 0; NaN where an interpreter did not answer.
        final: bool (n,), the answer that was used.
        mapped: bool (n,), what the map says.
        stratum: int64 (n,), second-stage stratum.
        adjudicated: bool (n,), settled by somebody else.
        borrows: Whether a domain takes what interpreters differ in from all points of the same class and map answer,
            wherever they lie; for domains as small as a city.
    """

    names: tuple[str, ...]
    labels: Floats
    final: Bools
    mapped: Bools
    stratum: Ints
    adjudicated: Bools
    borrows: bool = False

    @classmethod
    def of(cls, sample: ReferenceSample, column: str = "readings") -> InterpreterPanel | None:
        """The panel of a merged table; None where it says nothing of readings, or nobody read a point twice.

        Readings are 1 and 0, or names of classes where the sample's ``positive`` is one.
        """
        if column not in sample.table.columns or not sample.responded.any():
            return None
        if sample.positive is not None:
            named = cls.of_class(sample, sample.positive, column)
            if named is not None:
                return named
        table = tabulate_readings(sample.labelled[column])
        return cls._of_labels(sample, table, final=sample.reference, mapped=sample.mapped)

    @classmethod
    def of_class(cls, sample: ReferenceSample, name: str | None, column: str = "readings") -> InterpreterPanel | None:
        """The panel of one class against the rest, from readings that name classes as map and reference do.

        Args:
            sample: The merged table of a map of classes.
            name: The class; None for the answer "the map is right", where the map counts as 1 at all points.
            column: What each interpreter said (``Ann=forest; Bo=village``).

        Returns:
            None where no reading names a class, or nobody read a point twice.
        """
        if column not in sample.table.columns or not sample.responded.any():
            return None
        answers = tabulate_answers(sample.labelled[column])
        if not answers.isin(sample.classes()).to_numpy().any():
            return None
        mapped, final = (sample.codes(c).to_numpy() for c in (sample.map_column, sample.reference_column))
        wanted = mapped if name is None else np.full(len(mapped), name, dtype=object)
        said = answers.eq(pd.Series(wanted, index=answers.index), axis=0).astype(float)
        return cls._of_labels(sample, said.where(answers.notna()), final=final == wanted, mapped=mapped == wanted)

    @classmethod
    def _of_labels(
        cls, sample: ReferenceSample, table: pd.DataFrame, *, final: Bools, mapped: Bools
    ) -> InterpreterPanel | None:
        rows = sample.labelled
        labels = table.to_numpy(dtype=np.float64).reshape(len(rows), -1)
        if not (np.isfinite(labels).sum(axis=1) > 1).any():
            return None
        settled = (
            as_text(rows["adjudicated"]).str.lower().isin(YES).to_numpy(dtype=bool)
            if "adjudicated" in rows.columns
            else np.zeros(len(rows), dtype=bool)
        )
        second = sample.second
        return cls(
            names=tuple(str(n) for n in table.columns),
            labels=labels,
            final=np.asarray(final, dtype=bool),
            mapped=np.asarray(mapped, dtype=bool),
            stratum=np.unique(second.astype(str), return_inverse=True)[1].astype(np.int64),
            adjudicated=settled,
        )

    @property
    def readings(self) -> Ints:
        """int64 (n,): answers per point."""
        return np.asarray(np.isfinite(self.labels).sum(axis=1), dtype=np.int64)

    @property
    def df(self) -> float:
        """Degrees of freedom of the interpreters' variance: one less than those who share points."""
        shared = np.isfinite(self.labels) & (self.readings > 1)[:, None]
        return float(max(1, int(shared.any(axis=0).sum()) - 1))

    @property
    def classes(self) -> Ints:
        """int64 (n,): second-stage stratum x first reading."""
        read = np.isfinite(self.labels)
        first = self.labels[np.arange(len(read)), read.argmax(axis=1)]
        return np.asarray(2 * self.stratum + np.nan_to_num(first).astype(np.int64))

    def unseen(self, weight: Floats) -> float:
        """Share of the weight that was read once, in classes of which no point was read twice."""
        twice = self.readings > 1
        seen = np.bincount(self.classes, twice, minlength=int(self.classes.max()) + 1)
        return float(weight[~twice & (seen[self.classes] == 0)].sum() / weight.sum())

    def variance(
        self,
        weight: Floats,
        masks: Bools,
        measures: tuple[str, ...],
        *,
        sampling_variance: Callable[[Floats], Floats],
    ) -> Floats:
        """Variance that the interpreters add to K measures in G domains.

        Args:
            weight: float64 (n,), the weights of the estimate.
            masks: bool (G, n), the domains.
            measures: K names.
            sampling_variance: The design's variance of the column sums of float64 (n, K), by which the noise of the
                comparison is taken off.

        Returns:
            float64 (G, K); NaN where the measure has no denominator.

        Raises:
            SampleTableError: The panel belongs to another sample.
        """
        if len(weight) != len(self.labels):
            raise SampleTableError(
                f"the readings are of {len(self.labels)} points, the estimate of {len(weight)}: read them off the same"
                " table"
            )
        out, steps = self._change_by_domain(weight, masks, measures), self._steps(weight)
        return np.stack([_variance_of(steps, change, sampling_variance) for change in out])

    def change(self, weight: Floats, measures: tuple[str, ...]) -> Floats:
        """float64 (n, K): what the answer 1 instead of 0 does to K linearised measures of the whole; NaN: no value."""
        return self._change_by_domain(weight, np.ones((1, len(weight)), dtype=bool), measures)[0]

    def variance_of(self, weight: Floats, change: Floats, *, sampling_variance: Callable[[Floats], Floats]) -> Floats:
        """float64 (K,): variance that the interpreters add to figures that an answer changes by float64 (n, K)."""
        return _variance_of(self._steps(weight), change, sampling_variance)

    def _spread(self, masks: Bools, weight: Floats) -> Floats:
        """float64 (G, n): each domain's share of the weight of a point's class and map answer."""
        kind = 2 * self.classes + self.mapped
        size = int(kind.max()) + 1
        whole = np.bincount(kind, weight, minlength=size)
        part = np.stack([np.bincount(kind, weight * m, minlength=size) for m in masks])
        return np.asarray(np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)[:, kind])

    def _change_by_domain(self, weight: Floats, masks: Bools, measures: tuple[str, ...]) -> list[Floats]:
        y_of, x_of = coefficients(measures)
        cells = confusion_indicators(self.mapped, self.final)
        gain = confusion_indicators(self.mapped, np.ones_like(self.final))
        gain -= confusion_indicators(self.mapped, np.zeros_like(self.final))
        is_total = x_of.sum(axis=0) == 0
        X = np.where(is_total, 1.0, (masks * weight) @ (cells @ x_of))
        with np.errstate(invalid="ignore", divide="ignore"):
            R = np.where(is_total, 0.0, ((masks * weight) @ (cells @ y_of)) / X)
            slopes = [gain @ y_of - r * (gain @ x_of) for r in R]
            shares = self._spread(masks, weight) if self.borrows else masks
        return [m[:, None] * s / np.where(x > 0, x, np.nan) for m, s, x in zip(shares, slopes, X, strict=True)]

    def _steps(self, weight: Floats) -> Floats:
        """float64 (n, T): sqrt(J / (J - 1)) w e (S + x)."""
        read, J = np.isfinite(self.labels), self.readings
        twice = J > 1
        mean = np.nan_to_num(self.labels).sum(axis=1) / np.maximum(J, 1)
        e = np.where(read & twice[:, None], np.nan_to_num(self.labels) - mean[:, None], 0.0)
        classes, size = self.classes, int(self.classes.max()) + 1
        alone = np.stack([np.bincount(classes, weight * (r & ~twice), minlength=size) for r in read.T], axis=1)
        shared = np.stack([np.bincount(classes, weight * (r & twice), minlength=size) for r in read.T], axis=1)
        S = np.divide(alone, shared, out=np.zeros_like(alone), where=shared > 0)[classes]
        factor = weight * np.sqrt(J / np.maximum(J - 1, 1))
        return np.asarray(factor[:, None] * e * (S + self._own(weight, mean, J)))

    def _own(self, weight: Floats, mean: Floats, J: Ints) -> Floats:
        """float64 (n, T): x, how much an answer decides at the points read twice."""
        twice = J > 1
        group = 2 * self.stratum + self.final
        size = int(group.max()) + 1
        answers = np.bincount(group, weight * twice * J, minlength=size)
        q = np.divide(
            np.bincount(group, weight * twice * J * mean, minlength=size), answers,
            out=np.zeros(size), where=answers > 0,
        )[group]  # fmt: skip
        x = np.repeat((np.sqrt(1.5) * 2 * q * (1 - q))[:, None], len(self.names), axis=1)
        split = twice & (mean == 0.5) & ~self.adjudicated  # left to a rule, here: the first interpreter's answer
        if split.any():
            lost = np.bincount(self.stratum, weight * split)
            won = np.stack(
                [
                    np.bincount(self.stratum, weight * split * (self.final == L), minlength=len(lost))
                    for L in self.labels.T
                ],
                axis=1,
            )
            share = np.divide(won, lost[:, None], out=np.zeros_like(won), where=lost[:, None] > 0)
            x = np.where((lost > 0)[self.stratum][:, None], share[self.stratum], x)
        return np.asarray(x)


def _variance_of(steps: Floats, change: Floats, sampling_variance: Callable[[Floats], Floats]) -> Floats:
    out = np.zeros(change.shape[1])
    known = np.isfinite(change).all(axis=0)
    filled = np.where(known, change, 0.0)
    for step in steps.T:
        z = step[:, None] * filled
        if z.any():
            out += np.square(z.sum(axis=0)) - sampling_variance(z)
    return np.where(known, np.maximum(out, 0.0), np.nan)


def join_df(sampling: float, df: float, interpreters: float, interpreters_df: float) -> float:
    """Degrees of freedom of the sum of two estimated variances (Satterthwaite 1946)."""
    total = sampling + interpreters
    if not total > 0 or not interpreters > 0:
        return df
    parts = (sampling**2 / df if df > 0 else np.inf) + interpreters**2 / interpreters_df
    return float(total**2 / parts) if np.isfinite(parts) else df
