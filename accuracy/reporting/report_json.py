"""The assessment of a sample as one JSON object with a schema version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accuracy.estimation.autocorrelation import AutocorrelationReport
from accuracy.estimation.describe import FLAG_TEXT
from accuracy.estimation.reference_correction import CORRECTION_NOTE
from accuracy.reporting.assessment import SCHEMA_VERSION, Assessment
from accuracy.reporting.cells import make_plain_records


def build_json(a: Assessment, title: str, response: Sequence[str] = ()) -> dict[str, Any]:
    """Everything as plain values."""
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "sample",
        "title": title,
        "level": a.level,
        "primary_variance": a.primary,
        "weights": a.calibration_note,
        "design": a.design,
        "estimates": make_plain_records(a.estimates),
        "estimates_calibrated": None if a.calibrated is None else make_plain_records(a.calibrated),
        "cities": make_plain_records(a.cities),
        "resampling": None if a.checks is None else make_plain_records(a.checks),
        "error_matrix": {
            "rows": "map",
            "columns": "reference",
            "classes": list(a.matrix_counts.index),
            "counts": a.matrix_counts.to_numpy().tolist(),
            "share": a.matrix_share.to_numpy().tolist(),
            "share_se": a.matrix_se.to_numpy().tolist(),
        },
        "sensitivity": make_plain_records(a.sensitivity),
        "blocks": None if a.blocks is None else make_plain_records(a.blocks),
        "ground": None if a.ground is None else make_plain_records(a.ground.ground),
        "city_ground": None if a.ground is None or a.ground.cities is None else make_plain_records(a.ground.cities),
        "corrected": None
        if a.corrected is None
        else {
            "note": CORRECTION_NOTE,
            "measures": make_plain_records(a.corrected.frame),
            "interpreters": make_plain_records(a.corrected.interpreters),
            "shares": make_plain_records(a.corrected.shares),
        },
        "strata": make_plain_records(a.publication.strata),
        "areas": None if a.publication.areas is None else make_plain_records(a.publication.areas),
        "sizes": make_plain_records(a.publication.sizes),
        "response_design": list(response),
        "survey": None if a.context.survey is None else a.context.survey.as_dict(),
        "city_names": dict(a.context.names),
        "reference": {
            "interpreters": None if a.reference.interpreters is None else make_plain_records(a.reference.interpreters),
            "interpreters_in_errors": a.reference.panel is not None,
            "dates": None if a.reference.dates is None else make_plain_records(a.reference.dates),
            "dates_text": a.reference.dates_text,
            "limit": a.reference.limit,
        },
        "agreement": [p.as_dict() for p in a.context.agreements],
        "leakage": None if a.context.leakage is None else a.context.leakage.as_dict(),
        "autocorrelation": None if a.context.autocorrelation is None else _plain_likeness(a.context.autocorrelation),
        "notes": list(a.notes),
        "warnings": list(a.warnings),
        "limits": list(a.limits),
        "flags": FLAG_TEXT,
    }


def _plain_likeness(report: AutocorrelationReport) -> dict[str, Any]:
    return {
        "strata": make_plain_records(report.strata),
        "measures": make_plain_records(report.measures),
        "notes": list(report.notes),
    }
