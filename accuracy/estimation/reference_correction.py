"""Estimates corrected for the interpreters' errors, by a latent class model of double readings. A model, not a design.

Interpreter t says "village" at a true village with probability a_t and elsewhere with b_tz, each independently of the
others given the truth (Dawid & Skene 1979; for two readers in two populations Hui & Walter 1980). Cell s (second-stage
stratum x map answer) holds a share p_s of true village. A point's readings L have the likelihood

    f = p_s prod_t a_t^L (1 - a_t)^(1 - L) + (1 - p_s) prod_t b_tz^L (1 - b_tz)^(1 - L)

where an adjudicated answer counts as the truth. Zone z is the rest stratum, where false answers are rarer, or all
other ground. Readings that were ordered because of earlier ones (splits, single omissions) do no harm: what was said
before is in the likelihood. Points read once take part. Pseudo-likelihood with design weights, scaled to mean 1 within
cells; a tenth of a false and of a right answer of each kind (`ADDED`) keeps error rates off 0 and 1.

Corrected totals put p_s in the place of the answers. The variance is the design's of the linearised values: of the
point's own cell, and through its score on p_s, H^-1 s (sandwich; Binder 1983), so that what the double readings leave
unknown is in it. Errors that interpreters share at the same points (hard ones) are beyond the model: it corrects too
little then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize
from scipy.special import expit, logit

from accuracy import intervals
from accuracy.arrays import Bools, Floats, Ints
from accuracy.errors import DesignError
from accuracy.estimation.describe import degrees_of_freedom
from accuracy.estimation.estimation import estimate, sampling_variance_of
from accuracy.estimation.interpreters import InterpreterPanel
from accuracy.estimation.options import EstimateOptions
from accuracy.measures import MEASURES, coefficients
from accuracy.survey.sample import ReferenceSample

CORRECTION_NOTE = (
    "corrected for interpreters' errors by a latent class model of the double readings (errors independent given the"
    " truth); not design-based"
)
LEAST_SHARED = 50
"""Readings shared with others, from which an interpreter has error rates of his own, and the rest stratum its own."""
UNTOLD = (
    "the double readings do not tell the interpreters' errors from the ground: they need strata of different shares of"
    " village, of which points were read twice (or three times); order more with `uvmap label reread`, or leave"
    " --correct-reference out"
)
REST = "rest"
OTHERS = "all others"
FLOOR = 14.0  # logits beyond it are 0 or 1
LEAST_CURVATURE = 1e-4
ADDED = 0.1  # answers


@dataclass(frozen=True, kw_only=True)
class CorrectedEstimates:
    """What a model of the interpreters' errors makes of the estimates.

    Attributes:
        frame: ``measure``, ``uncorrected``, ``estimate``, ``se``, ``ci_low``, ``ci_high``, ``basis`` ("model").
        interpreters: ``interpreter``, ``zone``, ``sensitivity``, ``false_positive``, ``shared`` (readings of points
            that others read, too).
        shares: ``cell`` (stratum, map answer), ``uncorrected``, ``share``: weighted share of village, by the answers
            used and by the model.
        df: Degrees of freedom of the intervals.
    """

    frame: pd.DataFrame
    interpreters: pd.DataFrame
    shares: pd.DataFrame
    df: float


@dataclass(frozen=True, kw_only=True)
class LatentClassFit:
    """A fitted model of who errs how often.

    Attributes:
        share: float64 (S,), true share of every cell.
        sensitivity: float64 (G,), of every group of interpreters.
        false_positive: float64 (G, Z), of every group in every zone.
        effect: float64 (n, S), each point's effect on logit(share); sums over points to 0 but for the answers added.
    """

    share: Floats
    sensitivity: Floats
    false_positive: Floats
    effect: Floats


def correct_reference(sample: ReferenceSample, options: EstimateOptions | None = None) -> CorrectedEstimates:
    """Measures of the whole, corrected for the interpreters' errors.

    Args:
        sample: A merged table with double readings (column ``readings``).
        options: Measures, variance, level and rules; None for the defaults.

    Raises:
        DesignError: No point was read twice, or the readings do not tell the interpreters' errors.
    """
    options = options or EstimateOptions()
    panel = InterpreterPanel.of(sample)
    if panel is None:
        raise DesignError(
            "no point was read twice (column readings of `uvmap label merge`), so nothing tells how often interpreters"
            " err: order a second reading with `uvmap label reread`, or leave --correct-reference out"
        )
    arrays = sample.arrays
    cell, names = _cells(sample, panel)
    group, group_names = _groups(panel)
    zone, zone_names = _zones(sample, panel)
    fit = fit_latent_classes(
        panel.labels, cell, arrays.weight, group=group, zone=zone, truth=_known(panel)
    )  # fmt: skip
    mapped = np.zeros(len(names), dtype=bool)
    mapped[cell] = panel.mapped
    z, value = _linearise(fit, cell, mapped, arrays.weight, options.measures)
    se = np.sqrt(np.maximum(sampling_variance_of(arrays, options)(z), 0.0))
    df = float(degrees_of_freedom(arrays, np.ones(len(cell), dtype=bool), options.variance))
    plain = estimate(sample, options).frame.set_index("measure")["estimate"]
    rows = []
    for k, m in enumerate(options.measures):
        inside = MEASURES[m].proportion and 0 < value[k] < 1
        limits = (intervals.logit_t if inside else intervals.wald_t)(value[k], se[k], df, options.level)
        row = {"measure": m, "uncorrected": plain[m], "estimate": value[k], "se": se[k]}
        rows.append(row | {"ci_low": float(limits[0]), "ci_high": float(limits[1]), "basis": "model"})
    size = np.bincount(cell, arrays.weight)
    return CorrectedEstimates(
        frame=pd.DataFrame(rows),
        interpreters=_tell_interpreters(panel, fit, group, group_names, zone_names),
        shares=pd.DataFrame(
            {"cell": names, "uncorrected": np.bincount(cell, arrays.weight * panel.final) / size, "share": fit.share}
        ),
        df=df,
    )


def fit_latent_classes(
    labels: Floats, cell: Ints, weight: Floats, *, group: Ints, zone: Ints, truth: Floats | None = None
) -> LatentClassFit:
    """Maximum pseudo-likelihood of the model in the module's text.

    Args:
        labels: float64 (n, T), 1 or 0; NaN where an interpreter did not answer.
        cell: int64 (n,), cell of each point, 0..S-1.
        weight: float64 (n,), design weights.
        group: int64 (T,), interpreters who share their error rates, 0..G-1.
        zone: int64 (n,), where false answers are equally common, 0..Z-1.
        truth: float64 (n,), 1 or 0 where it is known; NaN elsewhere. None: nowhere.

    Raises:
        DesignError: The readings do not identify the model, or an interpreter says "village" no more often at
            villages than elsewhere.
    """
    read = np.isfinite(labels)
    G, Z, S = int(group.max()) + 1, int(zone.max()) + 1, int(cell.max()) + 1
    yes = np.stack([(np.nan_to_num(labels) * (group == g)).sum(axis=1) for g in range(G)], axis=1)
    no = np.stack([(read * (group == g)).sum(axis=1) for g in range(G)], axis=1) - yes
    known = np.full(len(cell), np.nan) if truth is None else truth
    scaled = weight * (np.bincount(cell) / np.bincount(cell, weight))[cell]
    pattern = np.column_stack([cell, zone, yes, no, np.nan_to_num(known, nan=2.0)])
    unique, row = np.unique(pattern, axis=0, return_inverse=True)
    row = np.asarray(row).ravel()
    table = _Patterns(
        cell=unique[:, 0].astype(np.int64),
        zone=unique[:, 1].astype(np.int64),
        yes=unique[:, 2 : 2 + G],
        no=unique[:, 2 + G : 2 + 2 * G],
        truth=unique[:, -1],
        shape=(S, G, Z),
    )
    if table.count_figures() < S + G + G * Z:
        raise DesignError(UNTOLD)
    mass: Floats = np.bincount(row, scaled).astype(np.float64)
    start = np.concatenate([np.full(S, logit(0.2)), np.full(G, logit(0.9)), np.full(G * Z, logit(0.05))])
    for _ in range(100):
        start = table.step(start, mass)
    found = optimize.minimize(
        lambda at: table.loss(at, mass), start, jac=True, method="L-BFGS-B",
        bounds=[(-FLOOR, FLOOR)] * len(start), options={"maxiter": 2000, "ftol": 1e-14, "gtol": 1e-8},
    )  # fmt: skip
    at = np.asarray(found.x, dtype=np.float64)
    step = 1e-4
    H = np.stack(
        [(table.loss(at + e, mass)[1] - table.loss(at - e, mass)[1]) / (2 * step) for e in step * np.eye(len(at))]
    )
    H = (H + H.T) / 2
    free = np.diag(H) > LEAST_CURVATURE  # shares of 0 or 1 are not moved by single points
    free[S:] = True
    p, a, b = table.split(at)
    rates = expit(at[S:])
    told = H - np.diag(np.concatenate([np.zeros(S), 2 * ADDED * rates * (1 - rates)]))  # without the answers added
    moved = np.diag(told) > LEAST_CURVATURE
    root = np.sqrt(np.diag(told)[moved])
    if np.linalg.eigvalsh(told[np.ix_(moved, moved)] / np.outer(root, root)).min() < LEAST_CURVATURE:
        raise DesignError(UNTOLD)
    if (a[:, None] <= b).any():
        g = int(np.flatnonzero((a[:, None] <= b).any(axis=1))[0])
        raise DesignError(
            f"by the double readings an interpreter says village at {a[g]:.2f} of the villages and at {b[g].max():.2f}"
            " of other ground: such readings cannot correct anything; look at `uvmap label merge`'s agreement first"
        )
    inverse = np.zeros_like(H)
    inverse[np.ix_(free, free)] = np.linalg.inv(H[np.ix_(free, free)])
    effect = (table.scores(at) @ inverse[:, :S])[row] * scaled[:, None]
    return LatentClassFit(share=p, sensitivity=a, false_positive=b, effect=effect)


@dataclass(frozen=True, kw_only=True)
class _Patterns:
    """Points of one cell, zone and set of answers are one row; parameters are logits of (p, a, b)."""

    cell: Ints
    zone: Ints
    yes: Floats
    no: Floats
    truth: Floats
    shape: tuple[int, int, int]

    def split(self, at: Floats) -> tuple[Floats, Floats, Floats]:
        """Shares (S,), sensitivities (G,), false positives (G, Z)."""
        S, G, Z = self.shape
        values = np.asarray(expit(at), dtype=np.float64)
        return values[:S], values[S : S + G], values[S + G :].reshape(G, Z)

    def count_figures(self) -> int:
        """Shares of answers that the cells show independently: of the largest set of readings in each."""
        outcomes = np.prod(self.yes + self.no + 1, axis=1)
        outcomes = np.where(self.truth < 2, 2 * outcomes, outcomes)  # beside the readings the truth is seen
        most = np.zeros(self.shape[0])
        np.maximum.at(most, self.cell, outcomes)
        return int(np.sum(most - 1))

    def posterior(self, at: Floats) -> tuple[Floats, Floats]:
        """Chance that the point is a village, given its readings, and log f."""
        p, a, b = self.split(at)
        b = b[:, self.zone].T
        p = p[self.cell]
        village = np.log(p) + self.yes @ np.log(a) + self.no @ np.log1p(-a)
        other = np.log1p(-p) + (self.yes * np.log(b) + self.no * np.log1p(-b)).sum(axis=1)
        village = np.where(self.truth == 0, -np.inf, village)
        other = np.where(self.truth == 1, -np.inf, other)
        whole = np.logaddexp(village, other)
        return np.exp(village - whole), np.asarray(whole)

    def scores(self, at: Floats) -> Floats:
        """float64 (rows, parameters): derivatives of log f."""
        S, G, Z = self.shape
        p, a, b = self.split(at)
        tau, _ = self.posterior(at)
        out = np.zeros((len(tau), len(at)))
        rows = np.arange(len(tau))
        out[rows, self.cell] = tau - p[self.cell]
        n = self.yes + self.no
        out[:, S : S + G] = tau[:, None] * (self.yes - n * a)
        for g in range(G):
            away = (1 - tau) * (self.yes[:, g] - n[:, g] * b[g, self.zone])
            out[rows, S + G + g * Z + self.zone] = away
        return out

    def loss(self, at: Floats, mass: Floats) -> tuple[float, Floats]:
        """Negative penalised log-likelihood and its gradient."""
        S = self.shape[0]
        _, log_f = self.posterior(at)
        rates = expit(at[S:])
        value = -float(mass @ log_f) - ADDED * float(np.sum(np.log(rates) + np.log1p(-rates)))
        gradient = -(mass @ self.scores(at))
        gradient[S:] -= ADDED * (1 - 2 * rates)
        return value, gradient

    def step(self, at: Floats, mass: Floats) -> Floats:
        """One step of EM."""
        S, G, Z = self.shape
        tau, _ = self.posterior(at)
        here, away = mass * tau, mass * (1 - tau)
        p = np.bincount(self.cell, here, minlength=S) / np.bincount(self.cell, mass, minlength=S)
        hits, n = here @ self.yes + ADDED, here @ (self.yes + self.no) + 2 * ADDED
        rates = [hits / n]
        for g in range(G):
            false = np.bincount(self.zone, away * self.yes[:, g], minlength=Z) + ADDED
            rates.append(false / (np.bincount(self.zone, away * (self.yes + self.no)[:, g], minlength=Z) + 2 * ADDED))
        low = float(expit(-FLOOR))
        return np.asarray(logit(np.clip(np.concatenate([p, *rates]), low, 1 - low)), dtype=np.float64)


def _linearise(
    fit: LatentClassFit, cell: Ints, mapped: Bools, weight: Floats, measures: tuple[str, ...]
) -> tuple[Floats, Floats]:
    """Weighted linearised values (n, K) and values (K,)."""
    y_of, x_of = coefficients(measures)
    p = fit.share[:, None]
    yes, no = np.where(mapped, 0, 2), np.where(mapped, 1, 3)
    y, x = p * y_of[yes] + (1 - p) * y_of[no], p * x_of[yes] + (1 - p) * x_of[no]
    size = np.bincount(cell, weight)
    is_total = x_of.sum(axis=0) == 0
    X = np.where(is_total, 1.0, size @ x)
    with np.errstate(invalid="ignore", divide="ignore"):
        R = np.where(X > 0, size @ y / X, np.nan)
        slope = np.where(is_total, 0.0, R)
        own = weight[:, None] * ((y - slope * x) / X)[cell]
        pull = size[:, None] * (y_of[yes] - y_of[no] - slope * (x_of[yes] - x_of[no])) / X * p * (1 - p)
    return own + fit.effect @ pull, R


def _cells(sample: ReferenceSample, panel: InterpreterPanel) -> tuple[Ints, list[str]]:
    text = sample.second.astype(str)
    code, names = pd.factorize(
        pd.Series([f"{s}, {'mapped' if m else 'not mapped'}" for s, m in zip(text, panel.mapped, strict=True)]),
        sort=True,
    )
    return np.asarray(code, dtype=np.int64), [str(n) for n in names]


def _known(panel: InterpreterPanel) -> Floats:
    return np.where(panel.adjudicated, panel.final.astype(float), np.nan)


def _groups(panel: InterpreterPanel) -> tuple[Ints, list[str]]:
    """Interpreters of many shared readings on their own, the others together."""
    shared = _shared(panel)
    alone = np.flatnonzero(shared >= LEAST_SHARED)
    group = np.full(len(panel.names), len(alone), dtype=np.int64)
    group[alone] = np.arange(len(alone))
    names = [panel.names[t] for t in alone]
    return group, names if len(alone) == len(group) else [*names, OTHERS]


def _shared(panel: InterpreterPanel) -> Ints:
    return np.asarray((np.isfinite(panel.labels) & (panel.readings > 1)[:, None]).sum(axis=0), dtype=np.int64)


def _zones(sample: ReferenceSample, panel: InterpreterPanel) -> tuple[Ints, list[str]]:
    text = sample.second.astype(str)
    far = np.asarray(text == REST, dtype=bool)
    twice = int((far & (panel.readings > 1)).sum())
    if twice < LEAST_SHARED or len(set(text[~far])) < 2:
        return np.zeros(len(text), dtype=np.int64), ["everywhere"]
    return far.astype(np.int64), ["near the map", "rest stratum"]


def _tell_interpreters(
    panel: InterpreterPanel, fit: LatentClassFit, group: Ints, names: list[str], zones: list[str]
) -> pd.DataFrame:
    shared = np.bincount(group, _shared(panel), minlength=len(names)).astype(int)
    return pd.DataFrame(
        [
            {
                "interpreter": name,
                "zone": zone,
                "sensitivity": float(fit.sensitivity[g]),
                "false_positive": float(fit.false_positive[g, z]),
                "shared": int(shared[g]),
            }
            for g, name in enumerate(names)
            for z, zone in enumerate(zones)
        ]
    )
