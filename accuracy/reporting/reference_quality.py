"""What is known of the reference labels themselves: who read what, how often, on imagery of which time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from accuracy.estimation.interpreters import InterpreterPanel
from accuracy.survey.agreement import Agreement, measure_agreements
from accuracy.survey.labels import LabelTable
from accuracy.survey.merging import LATER, LONG_BEFORE, read_readings
from accuracy.survey.rereading import find_single_omissions
from accuracy.survey.sample import ReferenceSample

GAP_CLASSES: tuple[tuple[str, float, float], ...] = (
    ("more than 2 years before", -np.inf, -730),
    ("1 to 2 years before", -730, -365),
    ("91 to 365 days before", -365, -90),
    ("31 to 90 days before", -90, -30),
    ("within 30 days before, or the same time", -30, 1),
    ("1 to 30 days after", 1, 31),
    ("more than 30 days after", 31, np.inf),
)
"""Names of gaps in days between the labels' imagery and the map's, with lower (included) and upper bounds."""


@dataclass(frozen=True, kw_only=True)
class ReferenceQuality:
    """Tables and sentences on the labels.

    Attributes:
        interpreters: ``interpreter``, ``answers``, ``cannot_say``, ``read_by_others_too``; None where it is not known.
        dates: ``gap``, ``points``, ``share``; None where no label has a gap to the map's date.
        agreements: Agreement of every pair of interpreters.
        panel: The interpreters' answers where points were read twice, for their variance.
        dates_text: Quartiles of the gaps in words; empty where there are none.
        warnings: Why the labels must not be taken at their word.
        limit: What the standard errors do not hold.
    """

    interpreters: pd.DataFrame | None
    dates: pd.DataFrame | None
    agreements: tuple[Agreement, ...]
    panel: InterpreterPanel | None
    dates_text: str
    warnings: tuple[str, ...]
    limit: str


def describe_reference(sample: ReferenceSample) -> ReferenceQuality:
    """Read what a merged table says of its labels; a table without such columns gives no tables and says so."""
    table = sample.table
    panel = InterpreterPanel.of(sample)
    readings = _readings(sample) if "readings" in table.columns else None
    gaps = (
        pd.to_numeric(table["date_gap_days"], errors="coerce")
        if "date_gap_days" in table.columns
        else pd.Series(np.nan, index=table.index)
    )[sample.responded]
    known = gaps.dropna()
    return ReferenceQuality(
        interpreters=None if readings is None or readings.empty else _count_readings(readings),
        dates=_count_gaps(gaps) if len(known) else None,
        agreements=() if readings is None or readings.empty else tuple(measure_agreements([_as_labels(readings)])),
        panel=panel,
        dates_text=_describe_gaps(gaps) if len(known) else "",
        warnings=tuple(_warn(sample)),
        limit=_limit(sample, panel),
    )


def _readings(sample: ReferenceSample) -> pd.DataFrame:
    """``point_id``, ``interpreter``, ``label``: one row per reading."""
    rows = [
        (point, who, label)
        for point, text in enumerate(sample.table["readings"])
        for who, label in read_readings(text).items()
    ]
    return pd.DataFrame(rows, columns=["point_id", "interpreter", "label"])


def _as_labels(readings: pd.DataFrame) -> LabelTable:
    return LabelTable(frame=readings.assign(date_ref=None), source="readings")


def _count_readings(readings: pd.DataFrame) -> pd.DataFrame:
    others = readings.groupby("point_id")["interpreter"].transform("size") > 1
    told = readings.assign(silent=readings["label"].isna(), shared=others)
    grouped = told.groupby("interpreter")
    return pd.DataFrame(
        {
            "answers": grouped["label"].count(),
            "cannot_say": grouped["silent"].sum(),
            "read_by_others_too": grouped["shared"].sum(),
        }
    ).reset_index()


def _count_gaps(gaps: pd.Series) -> pd.DataFrame:
    rows = [(name, int(((gaps >= low) & (gaps < high)).sum())) for name, low, high in GAP_CLASSES]
    rows.append(("not known", int(gaps.isna().sum())))
    found = pd.DataFrame([r for r in rows if r[1]], columns=["gap", "points"])
    return found.assign(share=found["points"] / len(gaps))


def _describe_gaps(gaps: pd.Series) -> str:
    low, q1, middle, q3, high = (f"{v:g}" for v in gaps.dropna().quantile([0, 0.25, 0.5, 0.75, 1]).round())
    unknown = int(gaps.isna().sum())
    text = f"Days from the map's imagery to the labels' (negative: before it): {low} to {high}, median {middle}, "
    text += f"half of them {q1} to {q3}."
    return text + (f" Of {unknown} labels the gap is not known." if unknown else "")


def _warn(sample: ReferenceSample) -> list[str]:
    table = sample.table
    found = []
    single = int(
        find_single_omissions(table, map_column=sample.map_column, ref_column=sample.reference_column).sum()
        if sample.positive is None
        else 0
    )
    if single:
        found.append(
            f"{single} omissions of the rest stratum rest on one reading. Each stands for a large area, so that a few"
            " false ones decide recall and F1: have them read again (uvmap label reread)."
        )
    if "disagreed" in table.columns:
        apart = table["disagreed"].astype("string").str.lower().isin({"true", "1"}).to_numpy(dtype=bool)
        dropped = int((apart & ~sample.responded).sum())
        if dropped:
            found.append(
                f"{dropped} points on which interpreters differed have no answer. They are the hard ones: without them"
                " the map looks better than it is."
            )
    if "date_flag" in table.columns:
        flags = table["date_flag"].fillna("").astype(str)[sample.responded]
        for flag, words in ((LATER, "younger than the map's"), (LONG_BEFORE, "much older than the map's")):
            n = int((flags == flag).sum())
            if n:
                found.append(f"{n} labels are of imagery {words}: they may be about another state of the ground.")
    return found


def _limit(sample: ReferenceSample, panel: InterpreterPanel | None) -> str:
    if panel is None:
        return (
            "Errors of the reference: its labels are taken as the truth. No point is known to be read twice, so the"
            " standard errors hold nothing of what other interpreters would have said."
        )
    unseen = panel.unseen(sample.arrays.weight)
    text = (
        "Errors that all interpreters share: the labels are taken as the truth. What differs between interpreters is in"
        " the standard errors"
    )
    if unseen > 0:
        text += f", but for {unseen:.1%} of the ground, in strata of which no point was read twice"
    return text + "."
