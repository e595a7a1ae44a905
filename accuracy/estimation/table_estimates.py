"""Everything a labelled table says: each measure for the whole, its strata and further domains, three variances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from accuracy.arrays import Bools, Floats, SampleArrays
from accuracy.errors import DesignError, SampleTableError
from accuracy.estimation.calibration import CalibratedMeasures, is_calibrated
from accuracy.estimation.estimation import WHOLE, EstimateTable, calibrate_sample, estimate, interpreter_variance
from accuracy.estimation.options import EstimateOptions
from accuracy.estimation.replication import draw_rao_wu_multipliers, make_jackknife_multipliers, replicate
from accuracy.estimation.variance import VARIANCE_KINDS, VarianceKind
from accuracy.measures import MEASURES, confusion_indicators
from accuracy.survey.design import PsuSelection, SamplingDesign, as_text
from accuracy.survey.sample import ReferenceSample

PRIMARY: dict[PsuSelection, VarianceKind] = {
    "probability": "two_stage",
    "pps": "with_replacement",
    "census": "two_stage",
    "purposive": "cities_fixed",
}
"""The variance of each way of choosing the cities; `primary_variance` also looks at the table."""


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


ON_PURPOSE = (
    "the cities were chosen on purpose: all figures speak for the assessed cities only, and no interval reaches beyond"
    " them"
)


def primary_variance(sample: ReferenceSample) -> VarianceKind:
    """The variance that the way of choosing the cities calls for."""
    if sample.design.is_without_replacement(sample.table):
        return "two_stage"
    return PRIMARY[sample.design.psu_selection]


def name_whole(design: SamplingDesign) -> str:
    """What people read for the whole: the cities chosen, where no figure reaches beyond them."""
    return "the cities chosen" if design.psu_selection == "purposive" and design.psu else "the whole"


def estimate_table(
    sample: ReferenceSample,
    options: EstimateOptions | None = None,
    *,
    by: Sequence[str] = (),
    calibrate_to: Mapping[tuple[str, ...], float] | None = None,
    calibrated: CalibratedMeasures = "areas",
) -> TableEstimates:
    """Estimate under every variance, for the whole, each stratum and each value of the columns ``by``.

    Domains of ``by`` are named ``column=value``. Where totals of the map are given, the column ``weights`` says which
    rows are calibrated to them: areas by default, since calibration usually makes F1, IoU, precision and recall worse.
    A variance that the design does not allow keeps the estimates and has no standard error; the notes say why.

    Raises:
        AccuracyError: The table is wrong, or the variance that the design calls for cannot be estimated.
    """
    options = options or EstimateOptions()
    design = sample.design
    primary = primary_variance(sample)
    notes = _notes(sample)
    domains = [None, *([design.stratum] if design.stratum else []), *by]
    _check_names(sample)
    frames = []
    for kind in VARIANCE_KINDS:
        try:
            _refuse(kind, sample)
            parts = _estimate_domains(sample, domains, replace(options, variance=kind), calibrate_to, calibrated)
        except DesignError as error:
            if kind == primary:
                raise
            notes.append(f"no {kind} standard errors: {error}")
            # point estimates do not depend on the variance, so any rule for single units will do
            anyhow = replace(options, variance="cities_fixed", lonely_psu="certainty")
            parts = [
                _without_variance(f, kind, str(error))
                for f in _estimate_domains(sample, domains, anyhow, calibrate_to, calibrated)
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
    calibrated: CalibratedMeasures,
) -> list[pd.DataFrame]:
    plain = [estimate(sample, options, domain=d).frame.assign(weights="design") for d in domains]
    if calibrate_to is None:
        return plain
    known = [estimate(sample, options, domain=d, calibrate_to=calibrate_to).frame for d in domains]
    return [mix_weights(p, k.assign(weights="calibrated"), calibrated) for p, k in zip(plain, known, strict=True)]


def mix_weights(plain: pd.DataFrame, calibrated: pd.DataFrame, which: CalibratedMeasures) -> pd.DataFrame:
    """Rows of two tables of the same domains and measures: calibrated where that is wanted, else by design weights."""
    take = np.array([is_calibrated(m, which) for m in plain["measure"]])
    return pd.concat([calibrated[take], plain[~take]]).sort_index()


def estimate_replicated(
    sample: ReferenceSample,
    options: EstimateOptions | None = None,
    *,
    by: Sequence[str] = (),
    replicates: int = 1000,
    seed: int = 0,
    calibrate_to: Mapping[tuple[str, ...], float] | None = None,
    calibrated: CalibratedMeasures = "areas",
) -> pd.DataFrame:
    """Rao-Wu bootstrap and jackknife of the same domains, with replacement: a check on the linearisation.

    Measures are calibrated as in `estimate_table`. Drawing cities again cannot show what other interpreters would have
    said: with `EstimateOptions.interpreters` their variance is added, by the formula of the linearised errors.

    Returns:
        Columns ``variance`` (``bootstrap``, ``jackknife``), ``domain``, ``value``, ``measure``, ``estimate``, ``se``,
        ``se_interpreters`` (part of ``se``; NaN where no panel was given),
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
    own = tuple(m for m in options.measures if calibration is None or not is_calibrated(m, calibrated))
    known = tuple(m for m in options.measures if m not in own)
    added = {
        m: interpreter_variance(
            arrays,
            arrays.weight * (1.0 if known_totals is None else known_totals.factors(arrays.weight)),
            np.stack(masks),
            replace(options, measures=m, variance=primary_variance(sample)),
        )
        for m, known_totals in ((own, None), (known, calibration))
        if m
    }
    rows: dict[tuple[str, int, str], dict[str, Any]] = {}
    for kind, multipliers, weights in (("bootstrap", drawn, None), ("jackknife", dropped, factor)):
        for measures, totals in ((own, None), (known, calibration)):
            if not measures:
                continue
            got = replicate(
                arrays,
                onehot,
                np.stack(masks),
                multipliers,
                measures=measures,
                kind="bootstrap" if kind == "bootstrap" else "jackknife",
                factor=weights,
                calibration=totals,
                within=np.random.default_rng([seed, 1]) if kind == "bootstrap" else None,
            )
            if options.interpreters is not None:
                got = replace(got, interpreters=added[measures])
            se, absent = got.se(), got.not_estimable
            se[~_varies(arrays, np.stack(masks), multipliers, kind)] = np.nan
            none = (np.full_like(se, np.nan),) * 2
            low, high = got.percentile_interval(options.level) if kind == "bootstrap" else none
            inside = np.array([MEASURES[m].proportion for m in measures])
            low, high = np.where(inside, np.maximum(low, 0), low), np.where(inside, np.minimum(high, 1), high)
            for g, (domain, value) in enumerate(labels):
                for k, measure in enumerate(measures):
                    rows[kind, g, measure] = {
                        "variance": kind,
                        "domain": domain,
                        "value": value,
                        "measure": measure,
                        "estimate": got.full[g, k],
                        "se": se[g, k],
                        "se_interpreters": np.nan if got.interpreters is None else np.sqrt(got.interpreters[g, k]),
                        "ci_low": low[g, k],
                        "ci_high": high[g, k],
                        "not_estimable": absent[g, k],
                    }
    kinds = ("bootstrap", "jackknife")
    return pd.DataFrame([rows[kind, g, m] for kind in kinds for g in range(len(labels)) for m in options.measures])


def _varies(arrays: SampleArrays, masks: Bools, multipliers: Floats, kind: str) -> Bools:
    """Bool (G,): whether replicates say anything of a domain; a jackknife says nothing of cities it never drops."""
    if kind == "bootstrap":
        return np.ones(len(masks), dtype=bool)
    dropped = (multipliers != 1).any(axis=0)[arrays.psu]
    return np.asarray((masks & dropped).any(axis=1))


UNITS_M2 = {"area_m2": 1.0, "area_km2": 1e6}


def read_map_totals(
    table: pd.DataFrame,
    columns: Sequence[str],
    size_column: str | None = None,
    *,
    in_m2: bool = False,
    source: str = "--map-totals",
) -> dict[tuple[str, ...], float]:
    """Known sizes of cells from a table with the key columns and one column of sizes.

    Args:
        table: One row per cell.
        columns: Its key columns.
        size_column: Its column of sizes; None: ``area_m2`` or ``area_km2``, else the only other column.
        in_m2: The sample's weights are areas, so the sizes must be areas too, and come out in m².
        source: Name of the table, for messages.

    Raises:
        SampleTableError: A column is missing or ambiguous, a cell repeats, a size is no number or negative, or the
            sizes are in another unit than the sample's.
    """
    missing = [c for c in columns if c not in table.columns]
    if missing:
        raise SampleTableError(f"{source} has no column {missing[0]!r} (they have {', '.join(table.columns)})")
    rest = [c for c in table.columns if c not in columns]
    named = [c for c in rest if c in UNITS_M2]
    if size_column is None and len(named or rest) != 1:
        raise SampleTableError(f"{source} needs one column of sizes beside {', '.join(columns)}, found {rest}")
    name = size_column or (named or rest)[0]
    if in_m2 and name not in UNITS_M2:
        raise SampleTableError(
            f"{source}: column {name!r} does not say its unit, and the sample's weights are areas: give sizes in a"
            " column area_m2 or area_km2 (`uvmap sample totals` writes one)"
        )
    if name in UNITS_M2 and not in_m2:
        raise SampleTableError(
            f"{source}: column {name!r} holds areas, but the sample's weights are numbers of pixels: give a column of"
            " pixels, or a sample with a column of a pixel's area (`uvmap sample points` writes pixel_m2)"
        )
    sizes = pd.to_numeric(table[name], errors="coerce").astype(float)
    if not (np.isfinite(sizes) & (sizes >= 0)).all():
        row = int(np.flatnonzero(~(np.isfinite(sizes) & (sizes >= 0)))[0])
        raise SampleTableError(
            f"{source}: {name!r} holds {table[name].iloc[row]} in row {row + 1}, a value that is no number of 0 or more"
        )
    keys = list(zip(*(as_text(table[c]) for c in columns), strict=True))
    repeated = pd.Series(keys)[pd.Series(keys).duplicated()]
    if len(repeated):
        both = [sizes.iloc[k] for k, key in enumerate(keys) if key == repeated.iloc[0]]
        raise SampleTableError(
            f"{source} has {' x '.join(map(str, repeated.iloc[0]))} {len(both)} times"
            f" ({', '.join(f'{v:g}' for v in both)}): keep one row per {' x '.join(columns)}"
        )
    unit = UNITS_M2.get(name, 1.0) if in_m2 else 1.0
    return dict(zip(keys, (float(v) * unit for v in sizes), strict=True))


def _notes(sample: ReferenceSample) -> list[str]:
    design = sample.design
    # what limits every figure stands on top
    notes = [ON_PURPOSE] if design.psu_selection == "purposive" and design.psu else []
    silent = int((~sample.responded).sum())
    if silent:
        notes.append(
            f"{silent} of {len(sample.table)} units ({sample.non_response_rate:.1%}) have no answer; their weight is"
            " spread over the answered ones of their city and stratum"
        )
    if design.psu_selection == "pps" and primary_variance(sample) == "with_replacement":
        notes.append(
            f"the table has no column {design.psu_probability!r} of the cities' own probabilities: they count as drawn"
            " with replacement, which widens the intervals where they were not"
        )
    shown = {"lonely_psu", "probability_mismatch"}
    notes += [p.message for p in sample.layout.problems if p.code in shown]
    if design.psu and design.stratum:
        names = pd.Series([name.split("/", 1)[1] for name in sample.layout.psu_names])
        shared = names[names.duplicated()]
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
    if kind == "two_stage" and sample.design.psu_selection == "pps" and primary_variance(sample) != kind:
        raise DesignError(
            "cities drawn with probability proportional to size call for with_replacement, unless a column states each"
            " city's probability of being drawn without it"
        )


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
