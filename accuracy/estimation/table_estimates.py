"""Everything a labelled table says: each measure for the whole, its strata and further domains, three variances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from accuracy.errors import DesignError, SampleTableError
from accuracy.estimation.estimation import WHOLE, EstimateTable, calibrate_sample, estimate
from accuracy.estimation.options import EstimateOptions
from accuracy.estimation.replication import draw_rao_wu_multipliers, make_jackknife_multipliers, replicate
from accuracy.estimation.variance import VARIANCE_KINDS, VarianceKind
from accuracy.measures import confusion_indicators
from accuracy.survey.design import PsuSelection
from accuracy.survey.design_checks import find_problems
from accuracy.survey.sample import ReferenceSample

PRIMARY: dict[PsuSelection, VarianceKind] = {
    "probability": "two_stage",
    "pps": "with_replacement",
    "census": "two_stage",
    "purposive": "cities_fixed",
}
"""The variance that the way of choosing the cities calls for; it must be estimable, the others may be missing."""


@dataclass(frozen=True, kw_only=True)
class TableEstimates:
    """Estimates under several variances.

    Attributes:
        tables: All rows; their column ``variance`` tells them apart.
        notes: What a reader must know: non-response, variances that do not exist for this design.
        primary: The variance that the design calls for.
    """

    tables: EstimateTable
    notes: tuple[str, ...]
    primary: VarianceKind

    def nested(self) -> dict[str, Any]:
        """``{variance: {domain: {measure: {estimate, se, …}}}}``."""
        return self.tables.nested()


def estimate_table(
    sample: ReferenceSample,
    options: EstimateOptions | None = None,
    *,
    by: Sequence[str] = (),
    calibrate_to: Mapping[tuple[str, ...], float] | None = None,
) -> TableEstimates:
    """Estimate under every variance, for the whole, each stratum and each value of the columns ``by``.

    Domains of ``by`` are named ``column=value``. A variance that the design does not allow keeps the estimates and
    has no standard error, with the reason in the notes.

    Raises:
        AccuracyError: The table is wrong, or the variance that the design calls for cannot be estimated.
    """
    options = options or EstimateOptions()
    design = sample.design
    primary = PRIMARY[design.psu_selection]
    notes = _notes(sample)
    domains = [None, *([design.stratum] if design.stratum else []), *by]
    _check_names(sample)
    frames = []
    for kind in VARIANCE_KINDS:
        try:
            _refuse(kind, sample)
            parts = _estimate_domains(sample, domains, replace(options, variance=kind), calibrate_to)
        except DesignError as error:
            if kind == primary:
                raise
            notes.append(f"no {kind} standard errors: {error}")
            # point estimates do not depend on the variance, so any rule for single units will do
            anyhow = replace(options, variance="cities_fixed", lonely_psu="certainty")
            parts = [
                _without_variance(f, kind, str(error)) for f in _estimate_domains(sample, domains, anyhow, calibrate_to)
            ]
        frames += parts
    frame = pd.concat(frames, ignore_index=True)
    frame["value"] = [f"{d}={v}" if d in by else v for d, v in zip(frame["domain"], frame["value"], strict=True)]
    return TableEstimates(tables=EstimateTable(frame=frame, level=options.level), notes=tuple(notes), primary=primary)


def _estimate_domains(
    sample: ReferenceSample,
    domains: Sequence[str | None],
    options: EstimateOptions,
    calibrate_to: Mapping[tuple[str, ...], float] | None,
) -> list[pd.DataFrame]:
    return [estimate(sample, options, domain=d, calibrate_to=calibrate_to).frame for d in domains]


def estimate_replicated(
    sample: ReferenceSample,
    options: EstimateOptions | None = None,
    *,
    by: Sequence[str] = (),
    replicates: int = 1000,
    seed: int = 0,
    calibrate_to: Mapping[tuple[str, ...], float] | None = None,
) -> pd.DataFrame:
    """Rao-Wu bootstrap and jackknife of the same domains, with replacement: a check on the linearisation.

    Returns:
        Columns ``variance`` (``bootstrap``, ``jackknife``), ``domain``, ``value``, ``measure``, ``estimate``, ``se``,
        ``ci_low``, ``ci_high`` (percentiles; NaN for the jackknife), ``not_estimable`` (share of replicates).
    """
    options = options or EstimateOptions()
    arrays, design = sample.arrays, sample.design
    onehot = confusion_indicators(sample.mapped, sample.reference)
    labels, masks = [("", WHOLE)], [np.ones(len(onehot), dtype=bool)]
    for column in [*([design.stratum] if design.stratum else []), *by]:
        values = sample.codes(column).to_numpy()
        for value in sorted(set(values)):
            labels.append((column, f"{column}={value}" if column in by else str(value)))
            masks.append(values == value)
    calibration = calibrate_sample(sample, calibrate_to)
    dropped, factor = make_jackknife_multipliers(arrays)
    drawn = draw_rao_wu_multipliers(arrays, replicates=replicates, seed=seed)
    rows = []
    for kind, multipliers, weights in (("bootstrap", drawn, None), ("jackknife", dropped, factor)):
        got = replicate(
            arrays,
            onehot,
            np.stack(masks),
            multipliers,
            measures=options.measures,
            kind="bootstrap" if kind == "bootstrap" else "jackknife",
            factor=weights,
            calibration=calibration,
        )
        se, absent = got.se(), got.not_estimable
        low, high = got.percentile_interval(options.level) if kind == "bootstrap" else (np.full_like(se, np.nan),) * 2
        for g, (domain, value) in enumerate(labels):
            for k, measure in enumerate(options.measures):
                rows.append(
                    {
                        "variance": kind,
                        "domain": domain,
                        "value": value,
                        "measure": measure,
                        "estimate": got.full[g, k],
                        "se": se[g, k],
                        "ci_low": low[g, k],
                        "ci_high": high[g, k],
                        "not_estimable": absent[g, k],
                    }
                )
    return pd.DataFrame(rows)


def read_map_totals(
    table: pd.DataFrame, columns: Sequence[str], size_column: str | None = None
) -> dict[tuple[str, ...], float]:
    """Known sizes of cells from a table with the key columns and one column of sizes.

    Raises:
        SampleTableError: A column is missing or ambiguous, or a size is no number.
    """
    missing = [c for c in columns if c not in table.columns]
    if missing:
        raise SampleTableError(f"--map-totals has no column {missing[0]!r} (they have {', '.join(table.columns)})")
    rest = [c for c in table.columns if c not in columns]
    if size_column is None and len(rest) != 1:
        raise SampleTableError(f"--map-totals needs one column of sizes beside {', '.join(columns)}, found {rest}")
    sizes = pd.to_numeric(table[size_column or rest[0]], errors="coerce")
    if sizes.isna().any():
        raise SampleTableError(f"--map-totals: {size_column or rest[0]!r} holds a value that is no number")
    keys = zip(*(table[c].astype(str) for c in columns), strict=True)
    return dict(zip(keys, sizes.astype(float), strict=True))


def _notes(sample: ReferenceSample) -> list[str]:
    notes = []
    silent = int((~sample.responded).sum())
    if silent:
        notes.append(
            f"{silent} of {len(sample.table)} units ({sample.non_response_rate:.1%}) have no answer; their weight is"
            " spread over the answered ones of their city and stratum"
        )
    design = sample.design
    if design.psu_selection == "purposive" and design.psu:
        notes.append("the cities were chosen on purpose: all figures speak for the assessed cities only")
    shown = {"lonely_psu", "probability_mismatch"}
    notes += [p.message for p in find_problems(design, sample.table) if not p.fatal and p.code in shown]
    if design.psu and design.stratum:
        keys = design.keys(sample.table)[["stratum", "psu"]].drop_duplicates()
        shared = keys[keys["psu"].duplicated()]["psu"]
        if len(shared):
            notes.append(
                f"{design.psu} {shared.iloc[0]!r} occurs in several values of {design.stratum}: taken as different"
                " units of the same name"
            )
    return notes


def _check_names(sample: ReferenceSample) -> None:
    stratum = sample.design.stratum
    if stratum and WHOLE in (names := set(sample.codes(stratum))) and len(names) > 1:
        raise SampleTableError(f"column {stratum!r} has a value {WHOLE!r}, which names the whole here: rename it")


def _refuse(kind: VarianceKind, sample: ReferenceSample) -> None:
    if kind == "two_stage" and sample.design.psu_selection == "pps":
        raise DesignError("cities drawn with probability proportional to size call for with_replacement")


def _without_variance(frame: pd.DataFrame, kind: VarianceKind, reason: str) -> pd.DataFrame:
    blank = dict.fromkeys(("se", "ci_low", "ci_high", "n_eff", "deff", "cv", "df"), np.nan)
    known = frame["estimate"].notna()
    return frame.assign(
        variance=kind,
        one_sided=False,
        flags=frame["flags"].where(~known, pd.Series([("no_variance",)] * len(frame), index=frame.index)),
        reason=frame["reason"].where(~known, reason),
        **blank,
    )
