"""Options of the commands that read a labelled sample: which columns hold its design, and how it is estimated."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from accuracy.survey.design import SamplingDesign
    from accuracy.survey.sample import ReferenceSample

SecondStage = Annotated[list[str] | None, typer.Option(help="Column that cuts a city into strata; repeat for several.")]
MapColumn = Annotated[str, typer.Option("--map", help="Column of what the map says.")]
RefColumn = Annotated[str, typer.Option("--ref", help="Column of what the reference says.")]
Weight = Annotated[str | None, typer.Option(help="Column of weights, in place of the sizes; needed by pps.")]
By = Annotated[list[str] | None, typer.Option(help="Further domain column; repeat for several.")]
MapTotals = Annotated[
    Path | None, typer.Option(help="Table of known sizes (stratum, map class, size) to calibrate to.")
]
Calibrated = Annotated[
    str, typer.Option("--calibrate", help="With --map-totals, what follows them: areas (F1, IoU … do worse), or all.")
]
CityTotals = Annotated[
    Path | None,
    typer.Option(help="city_totals.csv of `uvmap sample totals`: shows km² of the whole, regions and every city."),
]
CorrectReference = Annotated[
    bool,
    typer.Option(
        "--correct-reference",
        help="Also correct for interpreters' errors, by a model of the points that were read twice.",
    ),
]
UnitArea = Annotated[str, typer.Option(help="Column: area of a unit (pixel) in m²; cities count by their ground.")]
PsuProbability = Annotated[
    str, typer.Option(help="Column, for pps: a city's own probability of being drawn without replacement.")
]
PsuPopulation = Annotated[str, typer.Option(help="Column: cities of the region in the frame.")]
PsuSampled = Annotated[str, typer.Option(help="Column: cities drawn in the region.")]
SsuPopulation = Annotated[str, typer.Option(help="Column: pixels of city x stratum.")]
SsuSampled = Annotated[str, typer.Option(help="Column: points drawn there.")]
PositiveClass = Annotated[
    str | None, typer.Option(help="Class that is urban village, where map and ref hold class names.")
]
NoAnswer = Annotated[list[str] | None, typer.Option(help="Further value of the reference that means no answer.")]
Interval = Annotated[
    str, typer.Option(help="logit_t, wald_t, korn_graubard, wilson, clopper_pearson, likelihood or asin.")
]
Level = Annotated[float, typer.Option(help="Confidence level.")]
Survey = Annotated[
    Path | None, typer.Option(help="survey.json of `uvmap sample points`: frame, seed, city names, checksums.")
]
LonelyPsu = Annotated[str, typer.Option(help="A single unit in a stratum: fail, certainty, adjust or average.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")]


Stratum = Annotated[str, typer.Option(help="Column of regions; '' for none.")]
Psu = Annotated[str, typer.Option(help="Column of cities; '' for a single-stage sample.")]
Ssu = Annotated[str, typer.Option(help="Column of point ids.")]
Selection = Annotated[
    str, typer.Option(help="How the cities were chosen: probability, pps, purposive or census. No default.")
]


def build_sample(
    units: "pd.DataFrame", *, psu_selection: str, columns: "Mapping[str, Any]", answers: "Mapping[str, Any]"
) -> "ReferenceSample":
    """A labelled table as a sample.

    Args:
        units: The table.
        psu_selection: How its cities were chosen.
        columns: Columns of the design, by the names of `SamplingDesign`; '' for none. Without ``second_stage_strata``
            these are ``map_stratum`` where the table has it.
        answers: ``map_column``, ``reference_column``, ``positive``, ``unanswered``.
    """
    from accuracy.choices import choose
    from accuracy.survey.design import PSU_SELECTIONS, SamplingDesign
    from accuracy.survey.sample import ReferenceSample

    given = {name: column or None for name, column in columns.items() if name != "second_stage_strata"}
    strata = columns.get("second_stage_strata")
    if strata is None:
        strata = ["map_stratum"] if "map_stratum" in units.columns else []
    design = SamplingDesign(
        psu_selection=choose(psu_selection, PSU_SELECTIONS, "--psu-selection"),
        second_stage_strata=tuple(strata),
        **given,
    )
    return ReferenceSample(table=units, design=design, **answers)


def read_totals(path: Path | None, sample: "ReferenceSample") -> dict[tuple[str, ...], float] | None:
    """Known sizes by the sample's strata and map class, or None where no table was given."""
    from accuracy.estimation.table_estimates import read_map_totals
    from accuracy.tables import read_table

    if path is None:
        return None
    stratum = sample.design.stratum
    keys = [*([stratum] if stratum else []), sample.map_column]
    return read_map_totals(read_table(path), keys, in_m2=sample.arrays.in_m2, source=str(path))


def block_design(psu_selection: str) -> "SamplingDesign":
    """The design of `blocks_design.parquet`, whose cities were chosen as those of the points."""
    from accuracy.choices import choose
    from accuracy.survey.design import PSU_SELECTIONS, SamplingDesign

    return SamplingDesign(
        psu_selection=choose(psu_selection, PSU_SELECTIONS, "--psu-selection"),
        ssu="block_id",
        second_stage_strata=("block_stratum",),
        ssu_population="M_block",
        ssu_sampled="m_block",
        psu_probability="pi_city",
    )
