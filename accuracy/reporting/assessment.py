"""A whole assessment from a labelled sample: everything a report shows, as plain tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from accuracy.comparison.block_objects import BlockSurvey, estimate_from_blocks
from accuracy.errors import AccuracyError
from accuracy.estimation.autocorrelation import AutocorrelationReport
from accuracy.estimation.calibration import CalibratedMeasures
from accuracy.estimation.city_ground import NationGround, estimate_nation_ground
from accuracy.estimation.describe import FLAG_TEXT
from accuracy.estimation.error_matrix import estimate_matrix_se, tabulate_errors
from accuracy.estimation.estimation import WHOLE, EstimateTable, estimate
from accuracy.estimation.options import EstimateOptions
from accuracy.estimation.reference_correction import CorrectedEstimates, correct_reference
from accuracy.estimation.sensitivity import estimate_sensitivity
from accuracy.estimation.table_estimates import (
    ON_PURPOSE,
    estimate_replicated,
    estimate_table,
    mix_weights,
    name_whole,
    primary_variance,
)
from accuracy.estimation.variance import VarianceKind
from accuracy.reporting.maps_of_points import find_places
from accuracy.reporting.publication import Publication, describe_publication
from accuracy.reporting.reference_quality import ReferenceQuality, describe_reference
from accuracy.survey.agreement import Agreement
from accuracy.survey.leakage import LeakageReport
from accuracy.survey.record import SurveyRecord
from accuracy.survey.sample import ReferenceSample

SCHEMA_VERSION = "1.0.0"
CALIBRATION_NOTES: dict[CalibratedMeasures, str] = {
    "areas": "design weights; areas by weights calibrated to the map's known totals",
    "all": "weights calibrated to the map's known totals",
}
CITY_FIGURES = ("UA", "PA", "F1", "IoU", "OA", "area")


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the numbers cannot know.

    Attributes:
        product: Name and version of the map.
        response: The response design as the user wrote it; the tables' own sentences follow.
        map_date: ISO date of its imagery.
        survey: The record of the draw: frame, seed, names of cities, checksums of the map; None where it is not given.
        names: What people call the cities, by key.
        places: ``city``, ``lon``, ``lat``, ``result`` (tp, fp, fn, tn or no answer) of the points, to draw them; None
            where places are not known.
        unit_area_m2: Area of one unit of the sizes (a pixel), to show areas; None for shares only.
        agreements: Interpreters' agreement; empty where the table's own readings are to give it.
        leakage: The check against the training manifest, None if it was not made.
        autocorrelation: How alike errors are within cities, None if it was not asked.
        calibrated: Which measures of the headline follow known totals: ``areas`` or ``all``.
        city_totals: Mapped and unmapped ground of every city of the frame (``city_totals.csv``), for km² of the whole,
            regions and cities; None for none.
        corrects: Whether estimates corrected for interpreters' errors, by a model, are shown beside the others.
    """

    product: str = ""
    response: str = ""
    map_date: str = ""
    survey: SurveyRecord | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    places: pd.DataFrame | None = None
    unit_area_m2: float | None = None
    agreements: tuple[Agreement, ...] = ()
    leakage: LeakageReport | None = None
    autocorrelation: AutocorrelationReport | None = None
    calibrated: CalibratedMeasures = "areas"
    city_totals: pd.DataFrame | None = None
    corrects: bool = False


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """All tables of a report.

    Attributes:
        design: What was drawn and answered, label to text.
        primary: The variance that the design calls for.
        estimates: Whole, regions, domains under every variance (columns of `EstimateTable`).
        calibrated: The same calibrated to the map's totals, or None.
        cities: Each city on its own, cities fixed.
        checks: Bootstrap and jackknife, or None where they do not apply.
        matrix_counts: Error matrix, points.
        matrix_share: Error matrix, share of the area.
        matrix_se: Standard errors of the shares.
        sensitivity: Other choices.
        blocks: Object and boundary measures, or None.
        ground: km² of the whole and regions by design, and of every city by a model, or None.
        corrected: What a model of the interpreters' errors makes of the whole, or None.
        context: What the numbers cannot know.
        notes: What a reader must know.
        warnings: Why figures must not be taken at their word.
        limits: What the figures do not cover.
        level: Confidence level.
        calibration_note: Which weights were used.
        total_units: Size of the whole area in units of the sizes.
        true_total: Interval of the urban village in it, in the same units, where the whole is itself estimated: its
            error is then that of a total, not of a share.
        total_known: Whether that is known (map totals) or itself estimated.
        calibrated_measures: Which rows of the headline are calibrated where totals are known.
        whole: What people read for all units together.
        reference: What is known of the labels.
        publication: Strata, areas, sizes and the response design.
    """

    design: dict[str, str]
    primary: VarianceKind
    estimates: pd.DataFrame
    calibrated: pd.DataFrame | None
    cities: pd.DataFrame
    checks: pd.DataFrame | None
    matrix_counts: pd.DataFrame
    matrix_share: pd.DataFrame
    matrix_se: pd.DataFrame
    sensitivity: pd.DataFrame
    blocks: pd.DataFrame | None
    ground: NationGround | None
    corrected: CorrectedEstimates | None
    context: Context
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    limits: tuple[str, ...]
    level: float
    calibration_note: str
    total_units: float
    true_total: tuple[float, float] | None
    total_known: bool
    reference: ReferenceQuality
    publication: Publication
    calibrated_measures: CalibratedMeasures = "areas"
    whole: str = "the whole"

    @property
    def headline(self) -> pd.DataFrame:
        """Rows of the primary variance; where totals are known, the areas (or all, if asked) are calibrated to them."""
        frame = self.estimates
        if self.calibrated is not None:
            frame = mix_weights(self.estimates, self.calibrated, self.calibrated_measures)
        return frame[frame["variance"] == self.primary]


def assess(
    sample: ReferenceSample,
    options: EstimateOptions | None = None,
    *,
    by: Sequence[str] = (),
    calibrate_to: Mapping[tuple[str, ...], float] | None = None,
    blocks: BlockSurvey | None = None,
    context: Context | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> Assessment:
    """Make every table of the report.

    Args:
        sample: The labelled sample.
        options: Measures, intervals, level and rules; the variances shown follow from the design.
        by: Further domain columns (size class, ``seen``).
        calibrate_to: Known map totals by stratum and map class.
        blocks: The sample of digitised blocks.
        context: What the numbers cannot know.
        replicates: Bootstrap replicates, 0 for none.
        seed: Seed of the bootstrap.

    Raises:
        AccuracyError: The sample does not fit its design.
    """
    context = context or Context()
    design = sample.design
    primary = primary_variance(sample)
    reference = describe_reference(sample)
    plain_options = replace(options or EstimateOptions(), variance=primary, interpreters=None)
    options = replace(plain_options, interpreters=reference.panel)
    if not context.agreements:
        context = replace(context, agreements=reference.agreements)
    if context.places is None:
        context = replace(context, places=find_places(sample))
    if sample.arrays.in_m2:
        context = _in_square_metres(sample, context)
    notes: list[str] = []
    if context.leakage is not None:
        sample, by = _with_seen(sample, context.leakage), [*by, "seen"]
    plain = estimate_table(sample, options, by=tuple(by))
    known = None
    if calibrate_to is not None:
        known = estimate_table(sample, options, by=tuple(by), calibrate_to=calibrate_to, calibrated="all")
    checks = None
    if replicates and design.psu_selection != "purposive":
        try:
            checks = estimate_replicated(
                sample,
                options,
                by=tuple(by),
                replicates=replicates,
                seed=seed,
                calibrate_to=calibrate_to,
                calibrated=context.calibrated,
            )
        except AccuracyError as error:
            notes.append(f"no bootstrap or jackknife: {error}")
    kind: VarianceKind = "two_stage" if design.psu is None else primary
    whole = replace(plain_options, variance=kind)
    return Assessment(
        design=_design_box(sample, context),
        primary=primary,
        estimates=plain.tables.frame,
        calibrated=None if known is None else known.tables.frame,
        cities=_estimate_cities(sample, options),
        checks=checks,
        matrix_counts=tabulate_errors(sample, as_="counts"),
        matrix_share=tabulate_errors(sample),
        matrix_se=estimate_matrix_se(sample, whole),
        sensitivity=estimate_sensitivity(sample, whole),
        blocks=None if blocks is None else estimate_from_blocks(blocks, plain_options),
        ground=None if context.city_totals is None else estimate_nation_ground(sample, context.city_totals, options),
        corrected=correct_reference(sample, whole) if context.corrects else None,
        context=context,
        notes=(*plain.notes, *notes),
        warnings=(*_warnings(plain.tables, sample, context), *reference.warnings),
        limits=tuple(_limits(sample, context, reference, has_blocks=blocks is not None)),
        reference=reference,
        publication=describe_publication(
            sample,
            replace(options, variance=kind),
            reference,
            unit_area_m2=context.unit_area_m2,
            calibrated=None if known is None else known.tables.frame,
            totals=calibrate_to,
        ),
        level=options.level,
        calibration_note=CALIBRATION_NOTES[context.calibrated] if known else "design weights",
        calibrated_measures=context.calibrated,
        whole=name_whole(design),
        true_total=None if calibrate_to else _estimate_true_total(sample, options),
        total_units=float(sum(calibrate_to.values())) if calibrate_to else float(sample.arrays.weight.sum()),
        total_known=calibrate_to is not None,
    )


def _in_square_metres(sample: ReferenceSample, context: Context) -> Context:
    """The sample states the areas of its units, so that weights are areas; another statement must agree."""
    column = sample.design.unit_area
    areas = pd.to_numeric(sample.table[column]).to_numpy(dtype=float)
    given = context.unit_area_m2
    if given is not None and (np.abs(areas / given - 1) > 0.01).any():
        raise AccuracyError(
            f"--pixel-m {given**0.5:g} says units of {given:g} m², but column {column!r} holds {areas.min():g} to"
            f" {areas.max():g} m²: leave --pixel-m out, the sample knows the areas"
        )
    return replace(context, unit_area_m2=1.0)


def _estimate_true_total(sample: ReferenceSample, options: EstimateOptions) -> tuple[float, float]:
    kind: VarianceKind = "two_stage" if sample.design.psu is None else options.variance
    row = estimate(sample, replace(options, measures=("area_total",), variance=kind)).get("area_total")
    return max(float(row["ci_low"]), 0.0), float(row["ci_high"])


def _estimate_cities(sample: ReferenceSample, options: EstimateOptions) -> pd.DataFrame:
    """Each city on its own, the cities taken as fixed; empty for a single-stage sample."""
    if sample.design.psu is None:
        return pd.DataFrame()
    own = replace(options, measures=CITY_FIGURES, variance="cities_fixed", fpc_in_cells=True, lonely_psu="certainty")
    return estimate(sample, own, domain=sample.design.psu).frame


def _with_seen(sample: ReferenceSample, leakage: LeakageReport) -> ReferenceSample:
    if len(leakage.points) != len(sample.table):
        raise AccuracyError(
            f"the leakage report covers {len(leakage.points)} units, the sample has {len(sample.table)}: check the"
            " same table"
        )
    return replace(sample, table=sample.table.assign(seen=leakage.seen.to_numpy()))


def _design_box(sample: ReferenceSample, context: Context) -> dict[str, str]:
    design, arrays = sample.design, sample.arrays
    how = {
        "probability": "drawn at random within regions, without replacement",
        "pps": "drawn with unequal probabilities, "
        + (
            f"without replacement, {int(arrays.is_certain.sum())} of them certainties"
            if arrays.psu_probability is not None
            else "with replacement"
        ),
        "purposive": "chosen on purpose: the figures speak for the assessed cities only",
        "census": "all cities of the frame",
    }[design.psu_selection]
    box = {"map": context.product, "date of the map's imagery": _map_date(sample, context)}
    survey = context.survey
    if survey is not None:
        box |= {
            "frame": survey.frame,
            "SHA-256 of the map's files": survey.map_sha256,
            "strata": f"candidate: a score of {survey.candidate_threshold:g} or more, or within {survey.buffer_m:g} m"
            " of the map",
        }
    if design.psu is not None:
        population = arrays.psu_population
        frame = f" of {population.sum():g}" if np.isfinite(population).all() else ""
        box["cities"] = f"{len(arrays.psu_names)}{frame} in {len(arrays.stratum_names)} strata, {how}"
        box["cities per stratum"] = "; ".join(
            f"{name} {n}" + (f" of {N:g}" if np.isfinite(N) else "")
            for name, n, N in zip(arrays.stratum_names, arrays.psu_sampled, population, strict=True)
        )
    box["units drawn"] = f"{len(sample.table)}, of which {int(sample.responded.sum())} answered"
    box["non-response"] = f"{sample.non_response_rate:.1%}, its weight spread within city and stratum" + (
        "; best and worst case under sensitivity" if sample.non_response_rate else ""
    )
    if design.second_stage_strata:
        keys = pd.Series(sample.second).value_counts().sort_index()
        box["answered units per stratum"] = "; ".join(f"{k} {v}" for k, v in keys.items())
    box["seed of the draw"] = "" if survey is None else str(survey.seed)
    for column, label in (("date_ref", "dates of the reference"), ("interpreter", "interpreters")):
        if column in sample.table.columns:
            values = pd.Series(sample.table[column].dropna().unique()).astype(str)
            if len(values):
                few = sorted({part for v in values for part in v.split("; ")})
                box[label] = f"{values.min()[:10]} to {values.max()[:10]}" if column == "date_ref" else ", ".join(few)
    for pair in context.agreements:
        if pair.overall is not None:
            on_uv = "-" if pair.on_uv is None else f"{pair.on_uv:.3f}"
            box[f"agreement of {pair.first} and {pair.second}"] = (
                f"{pair.overall:.3f} [{pair.overall_low:.3f}, {pair.overall_high:.3f}] overall, {on_uv} on villages"
            )
    return {k: v for k, v in box.items() if v}


def _map_date(sample: ReferenceSample, context: Context) -> str:
    """As given, or as the design says by city."""
    if context.map_date or "map_date" not in sample.table.columns:
        return context.map_date
    dates = sorted({str(d) for d in sample.table["map_date"].dropna() if str(d).strip()})
    return dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}, by city" if dates else ""


def _warnings(table: EstimateTable, sample: ReferenceSample, context: Context) -> list[str]:
    frame = table.frame[table.frame["variance"] == primary_variance(sample)]
    found = []
    for flag in ("few_omissions", "zero_count", "few_psu", "few_points", "cv_do_not_quote", "not_estimable"):
        rows = frame[[flag in f for f in frame["flags"]]]
        whole = rows[rows["value"] == WHOLE]["measure"].tolist()
        parts = sorted(set(rows[rows["value"] != WHOLE]["value"]))
        if whole:
            found.append(f"{', '.join(whole)} for {name_whole(sample.design)}: {FLAG_TEXT[flag]}.")
        if parts:
            found.append(f"{', '.join(parts)}: some measures are marked {flag} ({FLAG_TEXT[flag]}).")
    if context.leakage is not None and not context.leakage.is_clean:
        found.insert(0, context.leakage.statement())
    if sample.design.psu_selection == "purposive" and sample.design.psu:
        found.insert(0, ON_PURPOSE[:1].upper() + ON_PURPOSE[1:] + ".")
    return found


def _limits(sample: ReferenceSample, context: Context, reference: ReferenceQuality, *, has_blocks: bool) -> list[str]:
    scope = (
        "Cities other than the assessed ones: they were chosen on purpose."
        if sample.design.psu_selection == "purposive"
        else "Cities outside the frame, and ground without a prediction."
    )
    date = f" ({context.map_date})" if context.map_date else ""
    limits = [
        scope,
        f"Other dates than the map's{date}: villages are demolished.",
        reference.limit,
        "Single cities: their recall and F1 rest on too few points outside the map and show the spread only.",
    ]
    if not has_blocks:
        limits.append("Objects and boundaries: points cannot measure them; a sample of digitised blocks can.")
    if context.leakage is None:
        limits.append("Independence from training data: it was not checked here.")
    return limits
