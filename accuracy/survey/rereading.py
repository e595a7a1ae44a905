"""Which points another interpreter reads again, blind: single omissions far from the map, and answers that differ.

The rest stratum is nearly all of the ground, so each of its points stands for a large area: with 1.3 % of urban
village, half a per cent of false "urban village" answers there invents a third of the true villages as omissions. One
reading is therefore no omission: it is confirmed by a second, and what two readings leave open is read a third time.
False answers of the other kind (an omission overlooked) are as rare per point but only met at true omissions, so they
weigh little. The same holds in the candidate stratum where single readings err often (`omissions_of`).

Points without anything special are mixed in, so that the list itself tells the interpreter nothing; they also show how
much interpreters differ where nothing looked odd (`accuracy.estimation.interpreters`).
"""

from __future__ import annotations

from collections.abc import Sequence

import geopandas as gpd
import numpy as np
import pandas as pd

from accuracy.errors import LabelError
from accuracy.survey.design import as_text
from accuracy.survey.drawing import draw_growing, make_generator
from accuracy.survey.labels import LabelTable
from accuracy.survey.merging import MergeRules, merge_labels
from accuracy.survey.sample import YES

REST = "rest"
SINGLE_OMISSION, DIFFERENT, MIXED_IN = "omission read once", "answers differ", "mixed in"


def find_single_omissions(
    merged: pd.DataFrame,
    *,
    map_column: str = "map",
    ref_column: str = "ref",
    stratum_column: str = "map_stratum",
    strata: Sequence[str] = (REST,),
) -> pd.Series:
    """Bool per row of a merged table: an omission in the rest stratum that one interpreter alone has seen.

    An adjudicated answer counts as seen twice.

    False everywhere where the table lacks the columns of readings or strata.
    """
    if not {"readings", "n_answers", stratum_column, map_column, ref_column} <= set(merged.columns):
        return pd.Series(data=False, index=merged.index)
    mapped = as_text(merged[map_column]).str.lower().isin(YES)
    village = as_text(merged[ref_column]).str.lower().isin(YES)
    here = as_text(merged[stratum_column]).isin(list(strata))
    settled = (
        as_text(merged["adjudicated"]).str.lower().isin(YES)
        if "adjudicated" in merged.columns
        else pd.Series(data=False, index=merged.index)
    )
    return here & village & ~mapped & ~settled & (pd.to_numeric(merged["n_answers"]) < 2)


def order_rereading(
    design: gpd.GeoDataFrame,
    tables: Sequence[LabelTable],
    *,
    seed: int,
    mixed_in: float = 1.0,
    omissions_of: Sequence[str] = (REST,),
) -> pd.DataFrame:
    """Points to be read by an interpreter who has not read them yet.

    Args:
        design: The drawn points.
        tables: Answers so far.
        seed: Seed of the points that are mixed in.
        mixed_in: Points mixed in per point that needs reading, from the same strata.
        omissions_of: Strata whose omissions are read again.

    Returns:
        ``point_id``, ``reason`` (``omission read once``, ``answers differ``, ``mixed in``), ``readings`` so far; empty
        where nothing needs another reading.

    Raises:
        LabelError: The answers do not fit the design.
    """
    if mixed_in < 0:
        raise LabelError(f"--mixed-in {mixed_in:g} is negative: give points per point that needs reading")
    merged = merge_labels(design, tables, MergeRules(disagreement="unanswered", dates="keep"))
    if "map_stratum" in merged.columns:
        known = sorted(set(as_text(merged["map_stratum"])))
        unknown = [name for name in omissions_of if name not in (*known, REST)]
        if unknown:
            raise LabelError(f"--omissions {unknown[0]!r} is no stratum of the points (they have {', '.join(known)})")
    single = find_single_omissions(merged, strata=omissions_of).to_numpy(dtype=bool)
    apart = (merged["ref"].isna() & (merged["n_answers"] > 0)).to_numpy(dtype=bool)
    reason = np.where(single, SINGLE_OMISSION, np.where(apart, DIFFERENT, ""))
    strata = (
        as_text(merged["map_stratum"]) if "map_stratum" in merged.columns else pd.Series("all", index=merged.index)
    ).to_numpy()
    answered = (merged["n_answers"] > 0).to_numpy(dtype=bool)
    for name in sorted(set(strata)):
        here = strata == name
        pool = np.flatnonzero(here & answered & (reason == ""))
        wanted = min(len(pool), round(mixed_in * int((here & (reason != "")).sum())))
        pick = draw_growing(len(pool), wanted, make_generator(seed, "reread", str(name)))
        reason[pool[pick]] = MIXED_IN
    if not (single | apart).any():
        reason[:] = ""
    ordered = merged.assign(reason=reason)[reason != ""]
    return pd.DataFrame(ordered[["point_id", "reason", "readings"]]).reset_index(drop=True)
