"""`uvmap assess attributes`: values of the villages' columns against reference values."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.console import JsonFlag, say, show, table
from flows.sample_options import By, Level, LonelyPsu

if TYPE_CHECKING:
    import geopandas as gpd

    from accuracy.estimation.attributes import Field

ADMINISTRATIVE = {"uv_id", "status", "adcode", "name_zh", "name_en", "province", "region", "model_version", "release"}
SUFFIX = "_ref"


def assess_attributes(
    reference: Annotated[
        Path, typer.Argument(help="Villages with reference values: a table with uv_id, points, or outlines.")
    ],
    *,
    product: Annotated[
        list[Path],
        typer.Option(help="Product folder, folder of product folders, or file of villages; repeat for several."),
    ],
    out: Annotated[Path, typer.Option(help="Folder that receives report.html, report.json and tables.")] = Path(
        "out/attributes"
    ),
    field: Annotated[
        list[str] | None,
        typer.Option(
            help="Attribute to compare, NAME or NAME=REFERENCE_COLUMN; repeat for several. Else all attributes of which"
            " the reference has a column NAME or NAME_ref."
        ),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="NAME=number, category or date, where it shall not be as the data dictionary says."),
    ] = None,
    weight: Annotated[
        str | None, typer.Option(help="Column of weights (1 / probability of being drawn); none: all villages alike.")
    ] = None,
    stratum: Annotated[str | None, typer.Option(help="Column of strata that villages or cities were drawn in.")] = None,
    psu: Annotated[str | None, typer.Option(help="Column of cities, where these were drawn first.")] = None,
    by: By = None,
    least_iou: Annotated[
        float, typer.Option(help="With outlines: least intersection over union with the village they are of.")
    ] = 0.5,
    lonely_psu: LonelyPsu = "fail",
    level: Level = 0.95,
    title: Annotated[str, typer.Option(help="Title of the report.")] = "Accuracy of the villages' attributes",
    as_json: JsonFlag = False,
) -> None:
    """Assess attributes (height, coverage, floor area, counts, dates …) against reference values of drawn villages.

    Numbers get bias, MAE, RMSE, R2 and correlations, classes agreement and kappa, dates their error in days; all with
    weights and intervals that follow how villages were drawn.

    Example: uvmap assess attributes surveyed.csv --product out/china --field building_height_mean=height_m
    --weight weight --stratum region --psu city
    """
    from accuracy.choices import choose
    from accuracy.comparison.matched_villages import match_villages
    from accuracy.estimation.attributes import AttributeRules
    from accuracy.estimation.attributes import assess_attributes as measure
    from accuracy.estimation.variance import LONELY_RULES
    from accuracy.reporting.attributes_report import write_attributes_report
    from accuracy.reporting.cells import make_plain_records
    from accuracy.tables import read_table

    given = read_table(reference)
    villages = _read_villages(product)
    matched = match_villages(given, villages, least_iou=least_iou)
    fields = _choose_fields(given, villages, field or [], kind or [], source=str(reference))
    rules = AttributeRules(
        stratum=stratum,
        psu=psu,
        weight=weight,
        by=tuple(by or ()),
        level=level,
        lonely_psu=choose(lonely_psu, LONELY_RULES, "--lonely-psu"),
    )
    got = measure(matched.table, fields, rules)
    notes = []
    if matched.unmatched:
        notes.append(
            f"{matched.unmatched} of {len(given)} reference rows meet no village of the map: they are in no figure"
        )
    if weight is None:
        notes.append("All reference villages count alike: true only where each had the same chance of being drawn")
    design = {
        "reference": reference.name,
        "villages": f"{len(matched.table)} of {len(villages)} of the map, matched by {matched.how}",
        "weights": weight or "all alike",
        "strata": stratum or "none",
        "primary units": psu or "the villages",
        "variance": "with replacement between primary units",
    }
    files = write_attributes_report(
        got, matched.table, fields, out, title=title, level=level, design=design, notes=notes
    )  # fmt: skip
    for note in notes:
        say(f"note: {note}")
    rows = make_plain_records(got)
    columns = {"field": "attribute", "value": "where", "measure": "measure", "estimate": "estimate", "se": "se"}
    text = table(rows, columns | {"ci_low": "from", "ci_high": "to", "n_villages": "villages"})
    data: dict[str, Any] = {
        "report": str(files["report.html"]),
        "files": [str(f) for f in files.values()],
        "measures": rows,
    }
    data |= {"matched": len(matched.table), "unmatched": matched.unmatched, "by": matched.how}
    show(data, text=f"{text}\nnext: open {files['report.html']}", as_json=as_json)


def _read_villages(places: list[Path]) -> "gpd.GeoDataFrame":
    """The villages of all products, in the CRS of the first."""
    import geopandas as gpd
    import pandas as pd

    from accuracy.errors import ComparisonError
    from accuracy.tables import read_places

    parts = []
    for place in places:
        files = [place] if place.is_file() else sorted([*place.glob("*_uv.parquet"), *place.glob("*/*_uv.parquet")])
        if not files:
            raise ComparisonError(
                f"{place} holds no product: give the folder that `uvmap map` wrote, one of such folders, or a file of"
                " villages"
            )
        parts += [read_places(f) for f in files]
    whole = pd.concat([p.to_crs(parts[0].crs) for p in parts], ignore_index=True)
    return gpd.GeoDataFrame(whole, geometry=parts[0].geometry.name, crs=parts[0].crs)


def _choose_fields(given: Any, villages: Any, wanted: list[str], kinds: list[str], *, source: str) -> "list[Field]":
    """What is compared: as asked, or every attribute that both sides have."""
    from accuracy.choices import choose
    from accuracy.comparison.matched_villages import OF_MAP
    from accuracy.errors import ComparisonError
    from accuracy.estimation.attributes import KINDS, Field, guess_kind
    from pipeline.attributes.dictionary import ATTRIBUTES, REAL, WHOLE

    pairs = [text.partition("=") for text in wanted]
    columns = {name.strip(): (ref.strip() if sign else "") for name, sign, ref in pairs}
    own = [c for c in villages.columns if c != villages.geometry.name and c not in ADMINISTRATIVE]
    if not columns:
        columns = dict.fromkeys((c for c in own if {c, c + SUFFIX} & set(given.columns)), "")
    if not columns:
        raise ComparisonError(
            f"{source} has no column of an attribute (NAME or NAME{SUFFIX}; the product has {', '.join(own)}): name"
            " the columns with --field NAME=REFERENCE_COLUMN"
        )
    forced = {}
    for text in kinds:
        name, sign, value = text.partition("=")
        if not sign or name not in columns:
            raise ComparisonError(f"--kind {text!r}: write NAME=number, category or date, of {', '.join(columns)}")
        forced[name] = choose(value, KINDS, "--kind")
    known = {a.name: a for a in ATTRIBUTES}
    fields = []
    for name, ref in columns.items():
        column = ref or (name + SUFFIX if name + SUFFIX in given.columns else name)
        if name not in villages.columns or column not in given.columns:
            side, lacks = (source, column) if name in villages.columns else ("the product", name)
            raise ComparisonError(f"--field {name}: {side} has no column {lacks!r}")
        entry = known.get(name)
        kind = guess_kind(given[column])
        if entry is not None:
            kind = "number" if entry.dtype in {REAL, WHOLE} else "date" if entry.unit == "ISO 8601" else "category"
        kind = forced.get(name, kind)
        unit = "days" if kind == "date" else "" if entry is None or entry.unit in {"-", "1"} else entry.unit
        fields.append(Field(name=name, product=OF_MAP + name, reference=column, kind=kind, unit=unit))
    return fields
