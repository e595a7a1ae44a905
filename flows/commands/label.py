"""`uvmap label`: pages for interpreters, and their answers back into the sample."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from flows.console import JsonFlag, say, show, table

app = typer.Typer(
    no_args_is_help=True,
    help="Pages for interpreters, and their answers back into the sample.\n\nExample: uvmap label page --help",
)


@app.command("page")
def page(
    points: Annotated[Path, typer.Argument(help="points_to_label.gpkg of `uvmap sample points`.")],
    *,
    imagery: Annotated[Path, typer.Option(help="8-bit imagery that covers the points.")],
    out: Annotated[Path, typer.Option(help="Folder that receives labels_001.html and so on.")],
    city: Annotated[str | None, typer.Option(help="Only the points of this city.")] = None,
    image_date: Annotated[str, typer.Option(help="ISO date of the imagery, written beside every answer.")] = "",
    half_side_m: Annotated[float, typer.Option(help="Half the side of a chip.")] = 100.0,
    pixel_m: Annotated[float, typer.Option(help="Side of the pixel that is judged.")] = 10.0,
    batch: Annotated[int, typer.Option(help="Points per page.")] = 200,
    title: Annotated[str, typer.Option(help="The question.")] = "Is the square urban village?",
    as_json: JsonFlag = False,
) -> None:
    """Write offline labelling pages: keys 1, 0 and ?; answers are saved to a CSV file.

    Example: uvmap label page sample/points_to_label.gpkg --city 440300 --imagery scene.tif --out labels/440300
    """
    from accuracy.errors import LabelError
    from accuracy.survey.labelling_page import write_labelling_pages
    from accuracy.tables import read_places

    frame = read_places(points)
    if city is not None:
        if "city" not in frame.columns:
            raise LabelError(f"{points} has no column 'city': leave --city out, or give points_to_label.gpkg")
        frame = frame[frame["city"].astype(str) == city]
    pages = write_labelling_pages(
        frame,
        out,
        imagery=imagery,
        image_date=image_date,
        half_side_m=half_side_m,
        pixel_m=pixel_m,
        batch=batch,
        title=title,
    )
    text = "\n".join(map(str, pages)) + f"\n{len(frame)} points; open a page in any browser, no network needed"
    show({"pages": [str(p) for p in pages], "points": len(frame)}, text=text, as_json=as_json)


@app.command("merge")
def merge(
    design: Annotated[Path, typer.Argument(help="points_design.parquet of `uvmap sample points`.")],
    labels: Annotated[list[Path], typer.Argument(help="Tables of answers; Collect Earth's are taken too.")],
    *,
    out: Annotated[Path, typer.Option(help="Labelled sample to write: .parquet, .gpkg or .csv.")],
    adjudicated: Annotated[Path | None, typer.Option(help="Table that settles disagreements.")] = None,
    disagreement: Annotated[
        str, typer.Option(help="Points with different answers: unanswered, first or fail.")
    ] = "unanswered",
    map_date: Annotated[str | None, typer.Option(help="ISO date of the map's imagery.")] = None,
    dates: Annotated[str, typer.Option(help="Labels of later imagery: fail, unanswered or keep.")] = "fail",
    label_column: Annotated[str | None, typer.Option(help="Column of answers, where it has another name.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Column of point ids in the labels.")] = None,
    date_format: Annotated[
        str | None, typer.Option(help="How dates in the labels are written, such as %d/%m/%Y; else the year is first.")
    ] = None,
    positive: Annotated[list[str] | None, typer.Option(help="Answer that means urban village.")] = None,
    negative: Annotated[list[str] | None, typer.Option(help="Answer that means not.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Merge interpreters' answers into the sample, with their agreement; "cannot say" stays non-response.

    Example: uvmap label merge sample/points_design.parquet labels/*.csv --map-date 2024-06-30 --out labelled.parquet
    """
    from accuracy.choices import choose
    from accuracy.survey.agreement import measure_agreements
    from accuracy.survey.labels import DATE_POLICIES, DISAGREEMENTS, merge_labels, read_labels
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
    merged = merge_labels(
        read_table(design),
        tables,
        disagreement=choose(disagreement, DISAGREEMENTS, "--disagreement"),
        adjudicated=None if adjudicated is None else read(adjudicated),
        map_date=map_date,
        dates=choose(dates, DATE_POLICIES, "--dates"),
    )
    write_table(merged, out)
    pairs = [a.as_dict() for a in measure_agreements(tables)]
    silent, apart = int(merged["ref"].isna().sum()), int(merged["disagreed"].sum())
    data = {
        "points": len(merged),
        "answered": len(merged) - silent,
        "unanswered": silent,
        "disagreed": apart,
        "agreement": pairs,
        "file": str(out),
    }
    text = f"{len(merged)} points, {silent} without an answer, {apart} with different answers; written to {out}"
    if pairs:
        columns = {"first": "one", "second": "other", "overall": "agree", "on_uv": "on villages", "ac1": "AC1"}
        text += "\n" + table(pairs, columns)
    if silent:
        say(f"note: {silent} points have no answer; the estimate spreads their weight and the report bounds it")
    show(data, text=text, as_json=as_json)


def register(main: typer.Typer) -> None:
    """Add the commands."""
    main.add_typer(app, name="label")
