"""`uvmap label`: pages for interpreters, and their answers back into the sample."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from flows.commands import label_active
from flows.console import JsonFlag, say, show, table

app = typer.Typer(
    no_args_is_help=True,
    help="Pages for interpreters, and their answers back into the sample.\n\nExample: uvmap label page --help",
)


@app.command("page")
def page(
    points: Annotated[Path, typer.Argument(help="points_to_label.gpkg of `uvmap sample points`.")],
    *,
    imagery: Annotated[
        list[Path], typer.Option(help="8-bit imagery that covers the points; repeat for several rasters.")
    ],
    out: Annotated[Path, typer.Option(help="Folder that receives labels_001.html and so on.")],
    city: Annotated[str | None, typer.Option(help="Only the points of this city.")] = None,
    image_date: Annotated[
        list[str] | None,
        typer.Option(help="ISO date of the imagery: one for all, or one per --imagery; else the files' own tags."),
    ] = None,
    half_side_m: Annotated[float, typer.Option(help="Half the side of a chip.")] = 100.0,
    pixel_m: Annotated[float, typer.Option(help="Side of the pixel that is judged.")] = 10.0,
    batch: Annotated[int, typer.Option(help="Points per page.")] = 200,
    title: Annotated[str, typer.Option(help="The question.")] = "Is the square urban village?",
    as_json: JsonFlag = False,
) -> None:
    """Write offline labelling pages: keys 1, 0 and ?; answers are saved to a CSV file.

    Points that no raster shows are on no page; points_without_picture.csv lists them.

    Example: uvmap label page sample/points_to_label.gpkg --city 440300 --imagery scene.tif --out labels/440300
    """
    from accuracy.errors import LabelError
    from accuracy.survey.chips import ChipSize
    from accuracy.survey.labelling_page import write_labelling_pages
    from accuracy.tables import read_places
    from flows.label_imagery import date_imagery

    frame = read_places(points)
    if city is not None:
        if "city" not in frame.columns:
            raise LabelError(f"{points} has no column 'city': leave --city out, or give points_to_label.gpkg")
        known = sorted(set(frame["city"].astype(str)))
        frame = frame[frame["city"].astype(str) == city]
        if frame.empty:
            raise LabelError(f"{points} has no points of --city {city} (it has {', '.join(known)}): choose one of them")
    written = write_labelling_pages(
        frame,
        out,
        imagery=date_imagery(imagery, image_date or []),
        size=ChipSize(half_side_m=half_side_m, pixel_m=pixel_m),
        batch=batch,
        title=title,
    )
    hidden = len(written.without_picture)
    if hidden:
        say(
            f"warning: {hidden} of {len(frame)} points are shown by no raster and are on no page; they are listed in"
            f" {written.list_file}: make pages of them with imagery that covers them"
        )
    if written.undated:
        say(
            f"note: {written.undated} points are shown on imagery without a date, so nothing says whether it is of the"
            " map's time: give --image-date"
        )
    for path in written.unused:
        say(f"note: {path} shows no point better than the rasters before it")
    text = (
        "\n".join(map(str, written.pages)) + f"\n{written.shown} points; open a page in any browser, no network needed"
    )
    data = {
        "pages": [str(p) for p in written.pages],
        "points": written.shown,
        "without_picture": [row["point_id"] for row in written.without_picture.to_dict("records")],
        "without_picture_file": None if written.list_file is None else str(written.list_file),
        "undated": written.undated,
    }
    show(data, text=text, as_json=as_json)


LabelColumn = Annotated[str | None, typer.Option(help="Column of answers, where it has another name.")]
IdColumn = Annotated[str | None, typer.Option(help="Column of point ids in the labels.")]
DateFormat = Annotated[
    str | None, typer.Option(help="How dates in the labels are written, such as %d/%m/%Y; else the year is first.")
]
Positive = Annotated[list[str] | None, typer.Option(help="Answer that means urban village.")]
Negative = Annotated[list[str] | None, typer.Option(help="Answer that means not.")]


@app.command("merge")
def merge(
    design: Annotated[Path, typer.Argument(help="points_design.parquet of `uvmap sample points`.")],
    labels: Annotated[list[Path], typer.Argument(help="Tables of answers; Collect Earth's are taken too.")],
    *,
    out: Annotated[Path, typer.Option(help="Labelled sample to write: .parquet, .gpkg or .csv.")],
    adjudicated: Annotated[Path | None, typer.Option(help="Table that settles disagreements.")] = None,
    disagreement: Annotated[
        str, typer.Option(help="Points whose answers differ evenly: fail, unanswered (flatters the map) or first.")
    ] = "fail",
    map_date: Annotated[
        str | None, typer.Option(help="ISO date or start/end of the map's imagery; else each city's own (map_date).")
    ] = None,
    dates: Annotated[
        str, typer.Option(help="Labels of later or much older imagery: fail, unanswered or keep (flagged).")
    ] = "fail",
    max_age_days: Annotated[
        int, typer.Option(min=0, help="Labels of imagery older than the map's by more days are of another time.")
    ] = 365,
    label_column: LabelColumn = None,
    id_column: IdColumn = None,
    date_format: DateFormat = None,
    positive: Positive = None,
    negative: Negative = None,
    as_json: JsonFlag = False,
) -> None:
    """Merge interpreters' answers into the sample, with their agreement; "cannot say" stays non-response.

    The majority's answer counts. Where answers differ evenly, `uvmap label reread` orders another reading.

    Example: uvmap label merge sample/points_design.parquet labels/*.csv --map-date 2024-06-30 --out labelled.parquet
    """
    from accuracy.choices import choose
    from accuracy.survey.agreement import measure_agreements
    from accuracy.survey.labels import read_labels
    from accuracy.survey.merging import DATE_POLICIES, DISAGREEMENTS, MergeRules, merge_labels
    from accuracy.survey.rereading import find_single_omissions
    from accuracy.tables import read_table, write_table

    read = partial(
        read_labels,
        id_column=id_column,
        label_column=label_column,
        positive=tuple(positive or ()),
        negative=tuple(negative or ()),
        date_format=date_format,
    )
    tables = [read(path) for path in labels]
    rules = MergeRules(
        disagreement=choose(disagreement, DISAGREEMENTS, "--disagreement"),
        dates=choose(dates, DATE_POLICIES, "--dates"),
        max_age_days=max_age_days,
        map_date=map_date,
    )
    merged = merge_labels(
        read_table(design), tables, rules, adjudicated=None if adjudicated is None else read(adjudicated)
    )
    write_table(merged, out)
    pairs = [a.as_dict() for a in measure_agreements(tables)]
    silent, apart = int(merged["ref"].isna().sum()), int(merged["disagreed"].sum())
    single, undated = int(find_single_omissions(merged).sum()), int(merged["date_gap_days"].isna().sum())
    data = {
        "points": len(merged),
        "answered": len(merged) - silent,
        "unanswered": silent,
        "disagreed": apart,
        "omissions_read_once": single,
        "other_dates": int((merged["date_flag"] != "").sum()),
        "undated": undated,
        "agreement": pairs,
        "file": str(out),
    }
    text = f"{len(merged)} points, {silent} without an answer, {apart} with different answers; written to {out}"
    if pairs:
        columns = {"first": "one", "second": "other", "overall": "agree", "on_uv": "on villages", "ac1": "AC1"}
        text += "\n" + table(pairs, columns)
    if silent:
        say(f"note: {silent} points have no answer; the estimate spreads their weight and the report bounds it")
    if single:
        say(
            f"warning: {single} omissions of the rest stratum rest on one reading; a few false ones there decide"
            " recall: `uvmap label reread` orders a second, blind one"
        )
    if undated:
        say(f"note: of {undated} points nothing says how far their imagery is from the map's date")
    show(data, text=text, as_json=as_json)


@app.command("reread")
def reread(
    design: Annotated[Path, typer.Argument(help="points_design.parquet of `uvmap sample points`.")],
    labels: Annotated[list[Path], typer.Argument(help="All tables of answers so far.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder that receives points_to_reread.gpkg and reread_order.csv.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the points that are mixed in and of the order.")],
    mixed_in: Annotated[
        float, typer.Option(min=0, help="Points mixed in per point that needs reading, so that the list tells nothing.")
    ] = 1.0,
    omissions: Annotated[
        list[str] | None,
        typer.Option(help="Stratum whose omissions are read again: rest; repeat to add candidate, where readings err."),
    ] = None,
    label_column: LabelColumn = None,
    id_column: IdColumn = None,
    date_format: DateFormat = None,
    positive: Positive = None,
    negative: Negative = None,
    as_json: JsonFlag = False,
) -> None:
    """Order another blind reading: omissions of the rest stratum read once, and points whose answers differ evenly.

    points_to_reread.gpkg goes to an interpreter who has not read these points; reread_order.csv says why each is on
    the list and is kept from interpreters. Merge all tables together afterwards, and order again until nothing is left.

    Example: uvmap label reread sample/points_design.parquet labels/*.csv --seed 7 --out sample/reread
    """
    from accuracy.survey.labels import read_labels
    from accuracy.survey.point_draw import blind
    from accuracy.survey.rereading import MIXED_IN, order_rereading
    from accuracy.tables import read_places, write_table

    tables = [
        read_labels(
            path,
            id_column=id_column,
            label_column=label_column,
            positive=tuple(positive or ()),
            negative=tuple(negative or ()),
            date_format=date_format,
        )
        for path in labels
    ]
    points = read_places(design)
    order = order_rereading(points, tables, seed=seed, mixed_in=mixed_in, omissions_of=tuple(omissions or ("rest",)))
    reasons = {str(k): int(v) for k, v in order["reason"].value_counts().sort_index().items()}
    if order.empty:
        show(
            {"points": 0, "reasons": reasons, "files": []},
            text="nothing needs another reading: go on with `uvmap label merge`",
            as_json=as_json,
        )
        return
    chosen = points[points["point_id"].astype(str).isin(set(order["point_id"].astype(str)))]
    files = [
        write_table(blind(chosen, seed=seed), out / "points_to_reread.gpkg"),
        write_table(order, out / "reread_order.csv"),
    ]
    why = "; ".join(f"{n} {reason}" for reason, n in reasons.items())
    needed = len(order) - reasons.get(MIXED_IN, 0)
    text = f"{len(order)} points, {needed} of which need another reading ({why})\n" + "\n".join(map(str, files))
    text += "\nnext: uvmap label page of points_to_reread.gpkg, for an interpreter who has not read them"
    show({"points": len(order), "reasons": reasons, "files": [str(f) for f in files]}, text=text, as_json=as_json)


app.command("select")(label_active.select)
app.command("squares")(label_active.squares)


def register(main: typer.Typer) -> None:
    """Add the commands."""
    main.add_typer(app, name="label")
